"""Who may stream now, and who stands where in the line: first come, first served, shared by all visitors.

Gradio's own queue has a line too, but tells a visitor's place only in English and only over its own progress display.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Lanes:
    """At most `most` at once; everybody else waits in a line that has no end and forgets nobody."""

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError(f"most is {most}; it must be 1 or more.")
        self.most = most
        self._going: set[Place] = set()
        self._line: list[Place] = []
        self._mutex = threading.Lock()

    @contextmanager
    def place(self) -> Iterator[Place]:
        """A place at the end of the line, or a lane at once when one is free; given back at the end of the block."""
        mine = Place(self)
        with self._mutex:
            self._line.append(mine)
            self._admit()
        try:
            yield mine
        finally:
            with self._mutex:
                self._going.discard(mine)
                if mine in self._line:
                    self._line.remove(mine)
                self._admit()

    def _admit(self) -> None:
        while self._line and len(self._going) < self.most:
            first = self._line.pop(0)
            self._going.add(first)
            first.admitted.set()

    def number(self, place: Place) -> int:
        """1 for the first in the line; 0 for one that is no longer in it."""
        with self._mutex:
            return self._line.index(place) + 1 if place in self._line else 0


class Place:
    """One visitor's place."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self.admitted = threading.Event()

    def number(self) -> int:
        """1 for the next to be let in, 0 once it has a lane."""
        return self._lanes.number(self)

    def wait(self, seconds: float) -> None:
        """Until there is a lane, or so long."""
        self.admitted.wait(seconds)
