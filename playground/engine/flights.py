"""Requests under way at a server, each of which can be ended from another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from typing import Generic, Protocol, TypeVar

from playground.engine.merge import in_lanes
from playground.engine.protocol import Chunk, GenerationRequest


class Flight(Protocol):
    """A request under way. Compared by identity."""

    @property
    def request(self) -> GenerationRequest: ...

    def cancel(self) -> None:
        """End it, at whatever point it waits. Calling it again is fine."""


F = TypeVar("F", bound=Flight)


class Flights(Generic[F]):
    """Those of one engine. Methods may be called from any thread."""

    def __init__(self) -> None:
        self._flights: list[F] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._flights)

    def follow(self, flights: Sequence[F], one: Callable[[F], Generator[Chunk]], most: int) -> Generator[Chunk]:
        """`one` of each, `most` at a time, merged. Closing the generator cancels what still runs."""

        def stop() -> None:
            for flight in flights:
                flight.cancel()

        with self._lock:
            self._flights += flights
        try:
            yield from in_lanes(flights, one, most, stop)
        finally:
            with self._lock:
                ours = {id(flight) for flight in flights}
                self._flights = [flight for flight in self._flights if id(flight) not in ours]

    def cancel(self, request_id: str | None = None) -> None:
        """End the request of that id, or all of them."""
        with self._lock:
            named = [flight for flight in self._flights if request_id in (None, flight.request.id)]
        for flight in named:
            flight.cancel()
