"""How many calls at once, how fast, and for how much money."""

from __future__ import annotations

import threading

import pytest

from evaluation.benchmark.pacing import NOT_ASKED, Pacer, SpendCapReached, Stopped
from evaluation.errors import SettingsRejected

WANTED = threading.Event()
PATIENCE_S = 30.0


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def overload(pacer: Pacer, count: int, retry_after: float | None = None) -> None:
    for turn in [pacer.enter(WANTED) for _ in range(count)]:
        with turn:
            turn.refused(retry_after)


def enters(pacer: Pacer, usd: float = 0.0) -> bool:
    """Whether a call would be made now, without waiting."""
    got: list[bool] = []
    unwanted = threading.Event()

    def go() -> None:
        try:
            pacer.enter(unwanted, usd).leave()
            got.append(True)
        except Stopped:
            got.append(False)

    thread = threading.Thread(target=go)
    thread.start()
    thread.join(0.3)
    unwanted.set()
    thread.join(PATIENCE_S)
    return got == [True]


def test_no_more_calls_are_under_way_than_the_limit():
    pacer = Pacer(start=2)
    turns = [pacer.enter(WANTED), pacer.enter(WANTED)]
    assert not enters(pacer)
    turns[0].leave()
    turns[0].leave()
    assert enters(pacer)


def test_each_good_answer_allows_one_more_while_there_is_demand_and_up_to_the_most():
    pacer = Pacer(start=2, most=4)
    for expected in (3, 4, 4):
        turns = [pacer.enter(WANTED) for _ in range(pacer.limit)]
        turns[0].answered()
        assert pacer.limit == expected
        for turn in turns:
            turn.leave()


def test_without_demand_the_limit_stays():
    pacer = Pacer(start=8)
    for _ in range(20):
        with pacer.enter(WANTED) as turn:
            turn.answered()
    assert pacer.limit == 8


def test_a_stray_failure_among_good_answers_cuts_nothing():
    pacer = Pacer(start=8, most=8)
    for n in range(40):
        with pacer.enter(WANTED) as turn:
            turn.refused() if n % 10 == 9 else turn.answered()
    assert pacer.limit == 8


def test_a_quarter_of_failures_halves_the_limit_once_for_calls_that_began_before_the_cut():
    pacer = Pacer(start=16)
    turns = [pacer.enter(WANTED) for _ in range(16)]
    for turn in turns:
        turn.refused()
        turn.leave()
    assert pacer.limit == 8
    overload(pacer, 2)
    assert pacer.limit == 4


def test_the_limit_never_falls_below_one():
    pacer = Pacer(start=1)
    for _ in range(20):
        overload(pacer, 1)
    assert pacer.limit == 1
    assert enters(pacer)


def test_two_in_a_row_that_ask_for_time_hold_everybody_until_it_has_passed():
    clock = Clock()
    pacer = Pacer(clock=clock)
    overload(pacer, 1, retry_after=30)
    assert enters(pacer), "one call's wait is its own affair"
    overload(pacer, 1, retry_after=30)
    assert not enters(pacer)
    clock.now += 29
    assert not enters(pacer)
    clock.now += 2
    assert enters(pacer)


def test_a_good_answer_in_between_is_no_row():
    clock = Clock()
    pacer = Pacer(clock=clock)
    for _ in range(3):
        overload(pacer, 1, retry_after=30)
        with pacer.enter(WANTED) as turn:
            turn.answered()
    assert enters(pacer)


def test_calls_keep_the_rate():
    clock = Clock()
    pacer = Pacer(requests_per_minute=60, clock=clock)
    pacer.enter(WANTED).leave()
    assert not enters(pacer)
    clock.now += 1
    assert enters(pacer)
    assert not enters(pacer)


def test_a_call_that_could_exceed_the_cap_is_not_made():
    pacer = Pacer(cap_usd=1.0, spent_usd=0.5)
    with pacer.enter(WANTED, 0.4) as turn:
        turn.answered(0.25)
    assert pacer.spent_usd == 0.75
    with pytest.raises(SpendCapReached, match="spend cap of") as refused:
        pacer.enter(WANTED, 0.4)
    assert str(refused.value).startswith(NOT_ASKED)
    assert enters(pacer, 0.2)


def test_a_call_waits_for_those_whose_price_is_still_open():
    pacer = Pacer(cap_usd=1.0)
    open_call = pacer.enter(WANTED, 0.8)
    assert not enters(pacer, 0.5)
    open_call.answered(0.1)
    open_call.leave()
    assert enters(pacer, 0.5)


def test_the_sum_of_all_calls_stays_within_the_cap_whoever_makes_them():
    pacer = Pacer(cap_usd=1.0, start=16)
    paid: list[float] = []

    def ask() -> None:
        while True:
            try:
                with pacer.enter(WANTED, 0.03) as turn:
                    turn.answered(0.02)
                    paid.append(0.02)
            except SpendCapReached:
                return

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert 0.95 < sum(paid) <= 1.0


@pytest.mark.parametrize(("how", "usd"), [("answered", 0.5), ("refused", 0.0), ("unbilled", 0.0), ("leave", 0.5)])
def test_a_call_of_unknown_price_counts_with_its_worst_case_unless_it_was_turned_down(how, usd):
    pacer = Pacer()
    with pacer.enter(WANTED, 0.5) as turn:
        getattr(turn, how)()
    assert pacer.spent_usd == usd


def test_a_cap_without_a_price_is_refused():
    with pytest.raises(SettingsRejected, match="price"):
        Pacer(cap_usd=1.0).enter(WANTED, None)


def test_stopping_wakes_who_waits_and_gives_no_more_turns():
    pacer = Pacer(start=1)
    sleeping = threading.Event()
    with pacer.woken(sleeping):
        pacer.stop()
        assert sleeping.is_set()
    with pytest.raises(Stopped):
        pacer.enter(WANTED)


def test_a_pacer_for_another_endpoint_of_the_same_work_has_no_cap_and_stops_with_it():
    pacer = Pacer(cap_usd=1.0, requests_per_minute=1.0)
    other = pacer.beside(start=3, most=5)
    for _ in range(3):
        other.enter(threading.Event(), None)
    pacer.stop()
    for stopped in (other, pacer.beside()):
        with pytest.raises(Stopped):
            stopped.enter(threading.Event())


def test_a_call_that_is_no_longer_wanted_is_not_made():
    pacer, unwanted = Pacer(), threading.Event()
    unwanted.set()
    with pytest.raises(Stopped):
        pacer.enter(unwanted)


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(SettingsRejected, match="above 0"):
        Pacer(requests_per_minute=rate)
