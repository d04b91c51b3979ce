"""Servers that somebody else runs (`PLAYGROUND_VLLM_URL`): asked whether they are there, never started or ended."""

from __future__ import annotations

import time
from dataclasses import replace

from playground.serving import asking
from playground.serving.reasons import Reason, ServerFailed
from playground.serving.state import Server, ServerState
from playground.serving.watched import Report, Watched
from playground.settings import Settings

LOOK_S = 10.0  # between two questions to each of them


class RemoteServers(Watched):
    """The same methods as `VllmServer`. `ready` means that at least one of them answers and serves a model.

    `server` gives those that answered at the last look.
    """

    _first_stage = "opening"

    def __init__(self, settings: Settings, look_s: float = LOOK_S) -> None:
        """Nothing is asked before `start`."""
        super().__init__(settings, ServerState("off", time.time(), urls=settings.vllm_url, external=True))
        self._look_s = look_s

    def stop(self, *, wait: bool = True) -> None:
        """Ask no more. The servers go on. `wait` is of no account: a question is short."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        self._set_off()

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

    def _run(self) -> None:
        while True:
            self._look()
            if self._ending.wait(self._look_s):
                return

    def _look(self) -> None:
        key = self._settings.vllm_key
        found: dict[str, tuple[str, ...]] = {}
        silent: list[str] = []
        for url in self._settings.vllm_url:
            try:
                found[url] = asking.models(url, key)
            except ServerFailed as error:
                silent.append(str(error))
        reason = Reason("unreachable", " ".join(silent)) if silent else None
        server = None
        if found:
            # What all of them serve: a request may go to any.
            first, *others = found.values()
            shared = tuple(name for name in first if all(name in names for names in others))
            server = Server(tuple(found), key, first[0], shared, {})
            state = replace(self._off, phase="ready", model=first[0], models=shared, urls=tuple(found), reason=reason)
        else:
            state = replace(self._off, phase="failed", reason=reason)
        with self._mutex:
            before = self._state
            since = before.since if before.phase == state.phase else time.time()
            self._set(replace(state, since=since), server)
