"""The line in front of the models."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from playground.pages.lanes import Lanes


def test_as_many_as_there_are_lanes_go_at_once_and_the_others_know_their_place():
    lanes = Lanes(2)
    with ExitStack() as stack:
        places = [stack.enter_context(lanes.place()) for _ in range(5)]
        assert [place.number() for place in places] == [0, 0, 1, 2, 3]


def test_a_lane_that_is_given_back_goes_to_the_first_in_the_line():
    lanes = Lanes(1)
    first, second, third = (lanes.place() for _ in range(3))
    one, two, three = first.__enter__(), second.__enter__(), third.__enter__()
    first.__exit__(None, None, None)
    assert (one.number(), two.number(), three.number()) == (0, 0, 1)
    assert two.admitted.is_set() and not three.admitted.is_set()
    second.__exit__(None, None, None)
    third.__exit__(None, None, None)


def test_one_that_leaves_the_line_lets_the_others_move_up():
    lanes = Lanes(1)
    with lanes.place(), ExitStack() as stack:
        leaving = lanes.place()
        leaving.__enter__()
        behind = stack.enter_context(lanes.place())
        assert behind.number() == 2
        leaving.__exit__(None, None, None)
        assert behind.number() == 1


def test_a_lane_comes_back_when_its_holder_fails():
    lanes = Lanes(1)
    with pytest.raises(ZeroDivisionError), lanes.place():
        raise ZeroDivisionError
    with lanes.place() as place:
        assert place.number() == 0


def test_never_more_than_the_lanes_go_at_once_however_many_threads_ask():
    lanes, going, most = Lanes(3), [0], [0]
    mutex = threading.Lock()

    def visit() -> None:
        for _ in range(20):
            with lanes.place() as place:
                while place.number():
                    place.wait(10)
                with mutex:
                    going[0] += 1
                    most[0] = max(most[0], going[0])
                with mutex:
                    going[0] -= 1

    threads = [threading.Thread(target=visit) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert 1 <= most[0] <= 3


def test_there_is_at_least_one_lane():
    with pytest.raises(ValueError, match="1 or more"):
        Lanes(0)
