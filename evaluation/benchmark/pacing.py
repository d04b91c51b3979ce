"""How fast an endpoint is asked: as many calls at once as it bears, within its rate and within a spend cap.

One Pacer stands for one endpoint and key, whoever asks there: a judge's ChatEndpoint and the engine for models behind
an API take their turns at the same one. Each call that may fail or be billed is one Turn.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from evaluation.errors import SettingsRejected, UserFacingError

START = 8  # calls at once before anything is known of the endpoint
MOST = 64  # a hosted model answers in seconds: more at once only moves the queue to the server
_LEAST_EVIDENCE = 8  # answers looked at before a cut, or as many as are asked at once
_CUT_AT = 0.25  # share of those that were 429 or 5xx; a stray failure among good answers is no overload
_POLL_S = 0.2  # how soon a waiting call notices that it is no longer wanted
NOT_ASKED = "Not asked: "


class Stopped(Exception):
    """The call is no longer wanted; it was not made."""


class SpendCapReached(UserFacingError):
    """The next call could exceed the spend cap; it was not made. The text begins with NOT_ASKED."""


class Turn:
    """The right to make one call. Say how it went with `answered` or `failed`, and leave in any case."""

    def __init__(self, pacer: Pacer, epoch: int, worst_usd: float) -> None:
        self._pacer, self.epoch, self.worst_usd = pacer, epoch, worst_usd
        self._usd = worst_usd  # until it is known better: a call that broke off may have been billed
        self._open = True

    def answered(self, usd: float | None = None) -> None:
        """A whole answer came. `usd`: what it cost, None where the endpoint did not say."""
        self._usd = self.worst_usd if usd is None else usd
        self._pacer._healthy()

    def refused(self, retry_after: float | None = None) -> None:
        """The endpoint was overloaded (429 or 5xx) and billed nothing. `retry_after`: seconds that it asked for."""
        self._usd = 0.0
        self._pacer._overloaded(self.epoch, retry_after)

    def unbilled(self) -> None:
        """The call was turned down for a reason of its own, as by a 400."""
        self._usd = 0.0

    def leave(self) -> None:
        """Give the place free. Calling it again does nothing."""
        if self._open:
            self._open = False
            self._pacer._left(self.worst_usd, self._usd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave()


class Pacer:
    """Hands out turns. Methods may be called from any thread.

    The number of calls at once begins at `start`, grows by one with each good answer while there is demand, and is
    halved when two or more, and a quarter, of the last answers were 429 or 5xx; answers to calls made before a cut are
    not held against the new number. When two in a row ask for time (Retry-After), nobody calls until it has passed;
    a single one concerns its own call only. `cap_usd` bounds the sum of what calls cost, `spent_usd` included: a turn
    is given only when its worst case still fits. `clock` gives seconds.
    """

    def __init__(
        self,
        *,
        start: int = START,
        most: int = MOST,
        requests_per_minute: float | None = None,
        cap_usd: float | None = None,
        spent_usd: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if requests_per_minute is not None and requests_per_minute <= 0:
            raise SettingsRejected(f"requests per minute is {requests_per_minute}; it must be above 0.")
        self.most = most
        self.cap_usd = cap_usd
        self._clock = clock
        self._limit = float(min(start, most))
        self._gap_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._spent_usd, self._reserved_usd = spent_usd, 0.0
        self._changed = threading.Condition()
        self._at_once = 0
        self._wanted = 0  # calls that wait for their turn
        self._epoch = 0  # counts the cuts
        self._last: deque[bool] = deque(maxlen=max(most, _LEAST_EVIDENCE))  # True: overloaded; since the last cut
        self._in_a_row = 0  # overloaded answers without a good one in between
        self._next_start = self._held_until = clock()
        self._stopped = False
        self._wakes: set[threading.Event] = set()
        self._beside: list[Pacer] = []

    @property
    def limit(self) -> int:
        """Calls at once that are allowed now."""
        return int(self._limit)

    @property
    def spent_usd(self) -> float:
        """Dollars paid so far, worst cases for calls whose price was not told."""
        return self._spent_usd

    def enter(self, unwanted: threading.Event, worst_usd: float | None = 0.0) -> Turn:
        """Wait for a turn. `worst_usd` is what the call may cost at most, None where nobody knows.

        Raises Stopped once `unwanted` is set or the pacer is stopped, SpendCapReached when the call does not fit
        under the cap, SettingsRejected when there is a cap and no known price.
        """
        if worst_usd is None:
            if self.cap_usd is not None:
                raise SettingsRejected("A spend cap needs a price that is known; leave the cap out for this endpoint.")
            worst_usd = 0.0
        with self._changed:
            self._wanted += 1
            try:
                while (wait := self._wait_s(unwanted, worst_usd)) > 0:
                    self._changed.wait(min(wait, _POLL_S))
            finally:
                self._wanted -= 1
            self._at_once += 1
            self._reserved_usd += worst_usd
            self._next_start = max(self._next_start, self._clock()) + self._gap_s
            return Turn(self, self._epoch, worst_usd)

    def stop(self) -> None:
        """Give no more turns; calls under way go on, and whoever sleeps within `woken` wakes."""
        with self._changed:
            self._stopped = True
            for event in self._wakes:
                event.set()
            self._changed.notify_all()
            beside = list(self._beside)
        for other in beside:
            other.stop()

    def beside(self, *, start: int = START, most: int = MOST) -> Pacer:
        """A pacer for another endpoint of the same work: it has no rate or cap, and is stopped with this one."""
        other = Pacer(start=start, most=most, clock=self._clock)
        with self._changed:
            self._beside.append(other)
            stopped = self._stopped
        if stopped:
            other.stop()
        return other

    @contextmanager
    def woken(self, event: threading.Event) -> Iterator[None]:
        """Set `event` when the pacer is stopped, for who waits on it between two calls."""
        with self._changed:
            self._wakes.add(event)
            if self._stopped:
                event.set()
        try:
            yield
        finally:
            with self._changed:
                self._wakes.discard(event)

    def _wait_s(self, unwanted: threading.Event, worst_usd: float) -> float:
        """Seconds to wait before looking again; 0 when the call may be made."""
        if self._stopped or unwanted.is_set():
            raise Stopped
        if self.cap_usd is not None and self._spent_usd + self._reserved_usd + worst_usd > self.cap_usd:
            if self._reserved_usd == 0:
                raise SpendCapReached(
                    f"{NOT_ASKED}the next call may cost ${worst_usd:.4f}, and ${self._spent_usd:.4f} of the spend cap "
                    f"of ${self.cap_usd:g} are used; raise the cap to go on."
                )
            return _POLL_S  # calls under way mostly turn out cheaper than their worst case
        if self._at_once >= max(1, self.limit):
            return _POLL_S
        return max(0.0, max(self._next_start, self._held_until) - self._clock())

    def _healthy(self) -> None:
        with self._changed:
            self._last.append(False)
            self._in_a_row = 0
            if self._wanted or self._at_once >= self.limit:
                self._limit = min(self._limit + 1, self.most)
            self._changed.notify_all()

    def _overloaded(self, epoch: int, retry_after: float | None) -> None:
        with self._changed:
            self._in_a_row += 1
            if retry_after is not None and self._in_a_row > 1:
                self._held_until = max(self._held_until, self._clock() + retry_after)
            if epoch != self._epoch:
                return
            self._last.append(True)
            looked_at = max(_LEAST_EVIDENCE, self.limit)
            overloaded = sum(list(self._last)[-looked_at:])
            if overloaded >= max(2.0, _CUT_AT * looked_at):
                self._limit = max(1.0, self._limit / 2)
                self._epoch += 1
                self._last.clear()

    def _left(self, worst_usd: float, usd: float) -> None:
        with self._changed:
            self._at_once -= 1
            self._reserved_usd -= worst_usd
            if self._at_once == 0:
                self._reserved_usd = 0.0  # what rounding leaves must not look like a call under way
            self._spent_usd += usd
            self._changed.notify_all()
