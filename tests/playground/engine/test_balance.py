"""Which server is asked: the least busy that works, never one that rests, and nobody waits for ever."""

from __future__ import annotations

import threading

import pytest

from evaluation.benchmark.pacing import Pacer, Stopped
from playground.engine.balance import LONGEST_REST_S, REST_S, Balancer, NoneWorks, Server
from playground.engine.wire import Address
from tests.playground.engine.serving import within


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def servers(*most: int) -> list[Server]:
    return [
        Server(Address(f"http://127.0.0.1:{n + 1}/v1"), Pacer(start=limit, most=limit)) for n, limit in enumerate(most)
    ]


def enter(balancer: Balancer, patience_s: float = 0.0, **more):
    return within(lambda: balancer.enter(threading.Event(), patience_s, **more), 20)


def test_requests_go_where_the_least_is_under_way_for_what_the_server_bears():
    small, large = servers(2, 4)
    balancer = Balancer([small, large])
    for _ in range(6):
        enter(balancer)
    assert (small.at_once, large.at_once) == (2, 4)


def test_a_full_set_of_servers_is_waited_for_and_the_next_place_goes_to_who_waits():
    [server] = servers(1)
    balancer = Balancer([server])
    first, got = enter(balancer), []
    waiting = threading.Thread(target=lambda: got.append(balancer.enter(threading.Event(), 0.0)), daemon=True)
    waiting.start()
    assert not got
    first.worked()
    first.leave()
    waiting.join(20)
    assert got and got[0].server is server


def test_a_failed_server_is_left_out_longer_each_time_and_then_tried_by_one_request():
    clock = Clock()
    bad, good = servers(8, 8)
    balancer = Balancer([bad, good], clock)
    first, _ = enter(balancer), enter(balancer)  # one at each
    first.leave()
    rests = []
    for _ in range(8):
        clock.now = max(clock.now, bad.rests_until)
        place = enter(balancer)
        assert place.server is bad, "its rest is over and it has nothing to do"
        place.failed()
        rests.append(bad.rests_until - clock.now)
        clock.now = bad.rests_until
        other = enter(balancer)
        assert other.server is good, "one request tries it, the others do not"
        other.leave()
        place.leave()
    assert rests[:3] == [REST_S, 2 * REST_S, 4 * REST_S] and rests[-1] == LONGEST_REST_S


def test_requests_that_fail_together_are_one_failure():
    clock = Clock()
    [server] = servers(4)
    balancer = Balancer([server], clock)
    for place in [enter(balancer) for _ in range(4)]:
        place.failed()
        place.leave()
    assert (server.failures, server.rests_until, server.at_once) == (1, REST_S, 0)


def test_a_server_that_answers_again_is_whole_again():
    clock = Clock()
    [server] = servers(4)
    balancer = Balancer([server], clock)
    place = enter(balancer)
    place.failed()
    place.leave()
    clock.now = REST_S
    place = enter(balancer)
    place.worked()
    place.leave()
    assert [enter(balancer).server for _ in range(3)] == [server] * 3


def test_when_no_server_works_patience_counts_from_when_the_last_one_stopped_or_the_request_came():
    clock = Clock()
    balancer = Balancer(servers(4), clock)
    place = enter(balancer)
    clock.now = 100.0
    place.failed()
    place.leave()
    with pytest.raises(NoneWorks):
        enter(balancer, 0.0)
    refused: list[BaseException] = []

    def patient() -> None:
        try:
            balancer.enter(threading.Event(), 0.5, since=0.0)
        except NoneWorks as error:
            refused.append(error)

    thread = threading.Thread(target=patient, daemon=True)
    thread.start()
    thread.join(0.6)
    assert not refused, "it stopped only now, however old the request is"
    clock.now += 0.5
    thread.join(20)
    assert refused


def test_a_request_that_is_no_longer_wanted_leaves_the_line():
    balancer = Balancer(servers(1))
    enter(balancer)
    unwanted = threading.Event()
    threading.Timer(0.1, unwanted.set).start()
    with pytest.raises(Stopped):
        within(lambda: balancer.enter(unwanted, 0.0), 20)


def test_only_a_server_that_has_the_model_is_asked():
    left, right = servers(4, 4)
    balancer = Balancer([left, right])
    assert {enter(balancer, able=lambda s: s is right).server for _ in range(3)} == {right}
    with pytest.raises(NoneWorks):
        enter(balancer, able=lambda s: False)
