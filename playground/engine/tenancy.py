"""Models on a device that others may want: they come when somebody asks, and go when somebody waits for the device.

Knows no lease and no model: it asks a `Claim`, counts what runs, and calls `unload` when nothing does.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Protocol

from playground.engine.protocol import Chunk

log = logging.getLogger(__name__)

POLL_S = 0.25  # how soon somebody who waits is noticed


class Claim(Protocol):
    """What this process may do with a device."""

    def take(self) -> None:
        """Make the device ours, or keep it. Raises a UserFacingError at once when another has it or comes first."""

    def wanted(self) -> bool:
        """Whether somebody else waits for it and may have it. Cheap."""

    def let_go(self) -> None:
        """Give it to who waits."""


class Tenancy:
    """Who works on the device now. Safe to call from several threads."""

    def __init__(self, claim: Callable[[], Claim | None], unload: Callable[[], None]) -> None:
        """`claim` is called once, when the device is first used: None means that it is nobody's to take, as a CPU.

        `unload` takes every model off the device; nothing works there meanwhile.
        """
        self._make_claim = claim
        self._claims: list[Claim | None] = []  # one, once it was made
        self._unload = unload
        self._changing = threading.RLock()  # a forgotten stream may end in the middle of our own work
        self._users = 0
        self._watched = False

    def may_end(self) -> bool:
        """Whether models may have to go while the process lives."""
        return self._claim() is not None

    @contextmanager
    def use(self) -> Iterator[None]:
        """Keep the device for the body. Raises what `Claim.take` does."""
        leave = self.enter()
        try:
            yield
        finally:
            leave()

    def enter(self) -> Callable[[], None]:
        """Keep the device until the returned function is called, once. Raises what `Claim.take` does."""
        claim = self._claim()
        if claim is None:
            return lambda: None
        with self._changing:
            claim.take()  # also when it is ours already: who waits must not wait for ever new questions
            self._users += 1
            if not self._watched:
                self._watched = True
                threading.Thread(target=self._watch, args=(claim,), name="watch-device", daemon=True).start()
        return self._leave

    def streaming(self, chunks: Generator[Chunk], leave: Callable[[], None]) -> Iterator[Chunk]:
        """The same chunks; `leave` is called when they are over, closed or forgotten."""
        return chunks if self._claim() is None else _Streaming(chunks, leave)

    def _claim(self) -> Claim | None:
        with self._changing:
            if not self._claims:
                self._claims.append(self._make_claim())
            return self._claims[0]

    def _leave(self) -> None:
        with self._changing:
            self._users -= 1

    def _watch(self, claim: Claim) -> None:
        """Give the device back when somebody waits for it and nothing runs. Runs while the device is ours."""
        while True:
            time.sleep(POLL_S)
            with self._changing:
                if self._users or not claim.wanted():
                    continue
                try:
                    self._unload()
                except Exception:  # a bug; who waits finds the memory taken, and the log says why
                    log.exception("taking the models off the device failed")
                claim.let_go()
                self._watched = False
                return


class _Streaming(Iterator[Chunk]):
    """A generator with an end that is noticed even if it never begins."""

    def __init__(self, chunks: Generator[Chunk], leave: Callable[[], None]) -> None:
        self._chunks = chunks
        self._leave = weakref.finalize(self, leave)  # once, whoever comes first
        self._leave.atexit = False

    def __next__(self) -> Chunk:
        try:
            return next(self._chunks)
        except BaseException:
            self._leave()
            raise

    def close(self) -> None:
        """Cancel what still runs."""
        self._chunks.close()
        self._leave()
