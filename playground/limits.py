"""What strangers may use: requests a minute of a user and of an address, and tokens and dollars a day of all of them.

Rates are kept in memory. The day's use is a small file beside the index, so a restart does not give it back.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from evaluation.disk import write_json
from evaluation.errors import UserFacingError

log = logging.getLogger(__name__)

WINDOW_S = 60.0
MOST_KEYS = 20_000  # users and addresses remembered before the quiet ones are forgotten


class TooOften(UserFacingError):
    """A user or an address asks too often. `wait_s`: when to come back; `limit`: requests a minute."""

    def __init__(self, whose: Literal["user", "address"], limit: int, wait_s: float) -> None:
        self.whose, self.limit, self.wait_s = whose, limit, max(1, int(wait_s) + 1)
        super().__init__(f"Only {limit} requests a minute for each {whose}; try again in {self.wait_s} s.")


class UsedUp(UserFacingError):
    """The day's budget does not cover this. `minutes`: until it begins anew."""

    def __init__(self, what: Literal["tokens", "spend"], minutes: int) -> None:
        self.what, self.minutes = what, minutes
        super().__init__(
            f"Today's {what} budget for visitors is used up; it begins anew in {minutes} minutes (00:00 UTC)."
        )


class Rates:
    """How often each key was used in the last minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._times: dict[tuple[str, str, str], deque[float]] = {}

    def take(self, kind: str, user: str, address: str, per_user: int | None, per_address: int | None) -> None:
        """Count one request of that kind. Raises TooOften, for the user first; a refused request does not count."""
        now = self._clock()
        with self._mutex:
            mine = self._recent((kind, "user", user), now)
            theirs = self._recent((kind, "address", address), now)
            if per_user is not None and len(mine) >= per_user:
                raise TooOften("user", per_user, mine[0] + WINDOW_S - now)
            if per_address is not None and len(theirs) >= per_address:
                raise TooOften("address", per_address, theirs[0] + WINDOW_S - now)
            mine.append(now)
            theirs.append(now)

    def _recent(self, key: tuple[str, str, str], now: float) -> deque[float]:
        if len(self._times) > MOST_KEYS:
            self._times = {k: times for k, times in self._times.items() if times and now - times[-1] < WINDOW_S}
        times = self._times.setdefault(key, deque())
        while times and now - times[0] >= WINDOW_S:
            times.popleft()
        return times


@dataclass
class Hold:
    """What is set aside for one piece of work; `tokens` and `usd` become what it really took."""

    tokens: int
    usd: float


class Budget:
    """What visitors have used today (UTC), together. Safe to use from several threads; one process owns the file."""

    def __init__(
        self,
        path: Path,
        tokens_per_day: int | None,
        usd_per_day: float | None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._path = path
        self._tokens_per_day, self._usd_per_day = tokens_per_day, usd_per_day
        self._clock = clock
        self._mutex = threading.Lock()
        self._day, self._used, self._held = self._read()

    def _read(self) -> tuple[str, Hold, Hold]:
        today = f"{self._clock():%Y-%m-%d}"
        try:
            document = json.loads(self._path.read_bytes())
            used = Hold(int(document["tokens"]), float(document["usd"]))
            if document["day"] == today:
                return today, used, Hold(0, 0.0)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is not readable (%s); today's use is counted from zero", self._path, error)
        return today, Hold(0, 0.0), Hold(0, 0.0)

    @property
    def used(self) -> Hold:
        """Tokens and dollars of today so far, without what is set aside."""
        with self._mutex:
            self._turn_day()
            return Hold(self._used.tokens, self._used.usd)

    @contextmanager
    def hold(self, tokens: int = 0, usd: float = 0.0) -> Iterator[Hold]:
        """Set aside the most that the block can take; what it says it took is counted. Raises UsedUp.

        A block that changes nothing is counted as all that was set aside: never less than was used.
        """
        asked, held = (tokens, usd), Hold(tokens, usd)
        with self._mutex:
            self._turn_day()
            if (
                self._tokens_per_day is not None
                and tokens
                and self._used.tokens + self._held.tokens + tokens > self._tokens_per_day
            ):
                raise UsedUp("tokens", self._minutes_left())
            # One that costs nothing is not refused when the money is gone.
            if self._usd_per_day is not None and usd > 0 and self._used.usd + self._held.usd + usd > self._usd_per_day:
                raise UsedUp("spend", self._minutes_left())
            self._held.tokens += tokens
            self._held.usd += usd
        try:
            yield held
        finally:
            with self._mutex:
                self._held.tokens -= asked[0]
                self._held.usd -= asked[1]
                self._turn_day()
                self._used.tokens += held.tokens
                self._used.usd += held.usd
                self._save()

    def _turn_day(self) -> None:
        today = f"{self._clock():%Y-%m-%d}"
        if today != self._day:
            self._day, self._used = today, Hold(0, 0.0)

    def _minutes_left(self) -> int:
        now = self._clock()
        tomorrow = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
        return int((tomorrow - now).total_seconds() // 60) + 1

    def _save(self) -> None:
        document = {"day": self._day, "tokens": self._used.tokens, "usd": round(self._used.usd, 6)}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, document)
        except OSError as error:
            # The count in memory still holds; only a restart would forget it.
            log.warning("%s cannot be written (%s)", self._path, error)
