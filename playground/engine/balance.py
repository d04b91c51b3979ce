"""Which of several servers is asked next: the least busy one that works, each as much at once as it bears.

Each server has a Pacer of its own, so a slow one gets less. One that failed is left out for a while, longer each time,
and then tried with a single request; meanwhile its requests go to the others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from evaluation.benchmark.pacing import Pacer, Stopped, Turn
from playground.engine.wire import Address

START, MOST = 32, 128  # requests at once of one server: it batches them, so many are what it is for
REST_S, LONGEST_REST_S = 1.0, 30.0  # a failed server is left out; doubled with each failure in a row
_POLL_S = 0.2  # how soon a waiting request notices that it is no longer wanted, or that a rest is over


class NoneWorks(Exception):
    """No server has taken the request within its patience."""


class Server:
    """One server and what is known of it. Fields but `address` and `adapters` are the Balancer's."""

    def __init__(self, address: Address, pacer: Pacer | None = None) -> None:
        self.address = address
        self.pacer = pacer or Pacer(start=START, most=MOST)
        self.adapters: set[str] = set()  # names under which it has loaded adapters for us
        self.loading = threading.Lock()  # one adapter at a time
        self.at_once = 0
        self.failures = 0  # in a row
        self.rests_until = self.stopped_at = float("-inf")

    def busy(self) -> float:
        """Share of what it bears that is under way."""
        return self.at_once / max(1, self.pacer.limit)


class Place:
    """The right to make one request of `server`. Say how it went, and leave in any case."""

    def __init__(self, balancer: Balancer, server: Server, turn: Turn) -> None:
        self._balancer, self.server, self._turn = balancer, server, turn

    def worked(self) -> None:
        """The server answered as it should, or refused a request for the request's own sake."""
        self._turn.answered(0.0)
        self._balancer._heard_from(self.server)

    def overloaded(self, retry_after: float | None) -> None:
        """The server works but takes no more for now."""
        self._turn.refused(retry_after)

    def failed(self) -> None:
        """The server cannot be reached, or broke off."""
        self._turn.unbilled()
        self._balancer._rest(self.server)

    def leave(self) -> None:
        """Give the place free."""
        self._turn.leave()
        self._balancer._left(self.server)


class Balancer:
    """Hands out places. Methods may be called from any thread. `clock` gives seconds."""

    def __init__(self, servers: Sequence[Server], clock: Callable[[], float] = time.monotonic) -> None:
        self.servers = list(servers)
        self._clock = clock
        self._changed = threading.Condition()

    def add(self, server: Server) -> None:
        """One more, which the requests that wait may go to."""
        with self._changed:
            self.servers.append(server)
            self._changed.notify_all()

    @property
    def most(self) -> int:
        """Requests at once that all servers together may ever get."""
        return sum(server.pacer.most for server in self.servers)

    def enter(
        self,
        unwanted: threading.Event,
        patience_s: float,
        since: float | None = None,
        able: Callable[[Server], bool] = lambda server: True,
    ) -> Place:
        """Wait for a place at a server that is `able`. Busy servers are waited for, as long as it takes.

        While none of them works, `patience_s` counts from when the last one stopped working, or from `since`, when
        the request was first made (on the balancer's clock), if that was later. Raises Stopped once `unwanted` is set,
        NoneWorks.
        """
        since = self._clock() if since is None else since
        with self._changed:
            while True:
                if unwanted.is_set():
                    raise Stopped
                servers = [server for server in self.servers if able(server)]
                server = self._free(servers)
                if server is not None:
                    server.at_once += 1
                    break
                if all(server.failures for server in servers):
                    stopped = max([server.stopped_at for server in servers], default=float("-inf"))
                    if self._clock() - max(stopped, since) >= patience_s:
                        raise NoneWorks
                self._changed.wait(_POLL_S)
        try:
            return Place(self, server, server.pacer.enter(unwanted))
        except BaseException:
            self._left(server)
            raise

    def _works(self, server: Server) -> bool:
        """Whether it is asked at all: not while it rests, and by one request only until it has answered again."""
        return self._clock() >= server.rests_until and (server.failures == 0 or server.at_once == 0)

    def _free(self, servers: Sequence[Server]) -> Server | None:
        free = [s for s in servers if self._works(s) and s.at_once < max(1, s.pacer.limit)]
        return min(free, key=lambda server: (server.busy(), server.failures), default=None)

    @property
    def clock(self) -> Callable[[], float]:
        """What its times are on."""
        return self._clock

    def _heard_from(self, server: Server) -> None:
        with self._changed:
            back = server.failures > 0
            server.failures, server.rests_until = 0, float("-inf")
            self._changed.notify_all() if back else self._changed.notify()  # it may bear one more now

    def _rest(self, server: Server) -> None:
        with self._changed:
            # Requests that were under way together fail together: that is one failure.
            if self._clock() >= server.rests_until:
                if server.failures == 0:
                    server.stopped_at = self._clock()
                server.failures += 1
                rest = min(REST_S * 2 ** (server.failures - 1), LONGEST_REST_S)
                server.rests_until = self._clock() + rest

    def _left(self, server: Server) -> None:
        with self._changed:
            server.at_once -= 1
            self._changed.notify()
