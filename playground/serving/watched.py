"""What a server of our own and somebody else's have in common: a thread that looks after it, and how it stands."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

from playground.serving.reasons import Reason, ServerFailed, Stage
from playground.serving.state import Server, ServerState
from playground.settings import Settings

Report = Callable[[str], None]


class Watched(ABC):
    """Methods may be called from any thread; `state` is cheap enough to poll. Subclasses do the work in `_run`."""

    _first_stage: Stage = "preparing"

    def __init__(self, settings: Settings, off: ServerState) -> None:
        """Nothing is started or asked before `start`. `off`: how it stands until then."""
        self._settings = settings
        self._off = off
        self._state = off
        self._server: Server | None = None
        self._mutex = threading.Condition()
        self._ending = threading.Event()  # asked to stop
        self._thread: threading.Thread | None = None

    @property
    def settings(self) -> Settings:
        return self._settings

    def state(self) -> ServerState:
        """How it stands."""
        with self._mutex:
            return self._state

    def server(self) -> Server:
        """What is needed to speak to it. Raises ServerFailed unless it is ready."""
        with self._mutex:
            if self._server is None:
                raise self._none_there()
            return self._server

    def start(self) -> None:
        """Begin, and return. Does nothing while it starts, runs or ends."""
        with self._mutex:
            if self._is_watched():
                return
            self._ending.clear()
            self._set(replace(self._off, phase="starting", since=time.time(), stage=self._first_stage))
            self._thread = threading.Thread(target=self._run, name="vllm", daemon=True)
            self._thread.start()

    @abstractmethod
    def _run(self) -> None:
        """Look after it until `_ending` is set, or for as long as there is use in it."""

    def _is_watched(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _none_there(self) -> ServerFailed:
        return ServerFailed(self._state.reason or Reason("unreachable", "The vLLM server is not running."))

    def _set(self, state: ServerState, server: Server | None = None) -> None:
        """How it stands from now on; what was asked to stop is stopping, whatever it has become meanwhile."""
        with self._mutex:
            if self._ending.is_set() and state.phase in ("starting", "ready"):
                state, server = replace(state, phase="stopping"), None
            self._state, self._server = state, server
            self._mutex.notify_all()

    def _set_off(self) -> None:
        self._set(replace(self._off, since=time.time()))
