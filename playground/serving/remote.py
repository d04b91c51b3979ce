"""Servers that somebody else runs (`PLAYGROUND_VLLM_URL`): asked whether they are there, never started or ended."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from playground.serving import asking
from playground.serving.reasons import Reason, ServerFailed
from playground.serving.server import Report
from playground.serving.state import Server, ServerState
from playground.settings import Settings

LOOK_S = 10.0  # between two questions to each of them


class RemoteServers:
    """The same methods as `VllmServer`. `ready` means that at least one of them answers and serves a model."""

    def __init__(self, settings: Settings, look_s: float = LOOK_S) -> None:
        """Nothing is asked before `start`."""
        self._settings = settings
        self._look_s = look_s
        self._mutex = threading.Condition()
        self._state = ServerState("off", time.time(), urls=settings.vllm_url, external=True)
        self._server: Server | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def settings(self) -> Settings:
        return self._settings

    def state(self) -> ServerState:
        """How they stand, as of the last look."""
        with self._mutex:
            return self._state

    def server(self) -> Server:
        """Those that answered at the last look. Raises ServerFailed when none did."""
        with self._mutex:
            if self._server is None:
                raise ServerFailed(self._state.reason or Reason("unreachable", "No vLLM server was asked yet."))
            return self._server

    def start(self) -> None:
        """Begin to ask them, and go on. Does nothing while that goes on."""
        with self._mutex:
            if self._thread is not None and self._thread.is_alive():
                return
            self._closing.clear()
            self._state = ServerState("starting", time.time(), "opening", urls=self._settings.vllm_url, external=True)
            self._thread = threading.Thread(target=self._watch, name="vllm-urls", daemon=True)
            self._thread.start()

    def stop(self, *, wait: bool = True) -> None:
        """Ask no more. The servers go on. `wait` is of no account: a question is short."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        with self._mutex:
            self._server = None
            self._state = ServerState("off", time.time(), urls=self._settings.vllm_url, external=True)
            self._mutex.notify_all()

    def close(self) -> None:
        """Ask no more."""
        self.stop()

    def wait_ready(self, report: Report = lambda words: None) -> Server:
        """Wait for the first look. Raises ServerFailed when none of them answered."""
        with self._mutex:
            while self._state.phase == "starting":
                self._mutex.wait(5.0)
        return self.server()

    def log_tail(self, lines: int = 80) -> str:
        """Their logs are where they run."""
        return ""

    def _watch(self) -> None:
        while True:
            self._look()
            if self._closing.wait(self._look_s):
                return

    def _look(self) -> None:
        key = self._settings.vllm_api_key.get_secret_value() if self._settings.vllm_api_key else None
        found: dict[str, tuple[str, ...]] = {}
        silent: list[str] = []
        for url in self._settings.vllm_url:
            try:
                found[url] = asking.models(url, key)
            except ServerFailed as error:
                silent.append(str(error))
        reason = Reason("unreachable", " ".join(silent)) if silent else None
        with self._mutex:
            before = self._state
            if found:
                # What all of them serve: a request may go to any.
                first, *others = found.values()
                shared = tuple(name for name in first if all(name in names for names in others))
                self._server = Server(tuple(found), key, first[0], shared, {})
                state = ServerState(
                    "ready", time.time(), None, first[0], shared, tuple(found), external=True, reason=reason
                )
            else:
                self._server = None
                state = ServerState("failed", time.time(), urls=self._settings.vllm_url, external=True, reason=reason)
            since = before.since if before.phase == state.phase else state.since
            self._state = replace(state, since=since)
            self._mutex.notify_all()
