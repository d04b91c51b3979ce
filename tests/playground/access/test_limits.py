"""What strangers may use: requests a minute, and tokens and dollars a day."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from playground.limits import Budget, Rates, TooOften, UsedUp


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_user_who_asks_too_often_is_told_when_to_come_back():
    clock = Clock()
    rates = Rates(clock)
    for _ in range(3):
        rates.take("answer", "a", "192.0.2.1", 3, 10)
        clock.now += 10
    with pytest.raises(TooOften) as refused:
        rates.take("answer", "a", "192.0.2.1", 3, 10)
    assert (refused.value.whose, refused.value.wait_s) == ("user", 31)
    clock.now += 31
    rates.take("answer", "a", "192.0.2.1", 3, 10)


def test_an_address_has_a_bound_of_its_own_however_many_users_it_makes_up():
    rates = Rates(Clock())
    for number in range(4):
        rates.take("answer", f"user-{number}", "192.0.2.1", 3, 4)
    with pytest.raises(TooOften) as refused:
        rates.take("answer", "user-new", "192.0.2.1", 3, 4)
    assert refused.value.whose == "address"
    rates.take("answer", "user-new", "192.0.2.2", 3, 4)


def test_answers_and_verdicts_are_counted_apart_and_refused_ones_not_at_all():
    clock = Clock()
    rates = Rates(clock)
    rates.take("answer", "a", "192.0.2.1", 1, None)
    for _ in range(5):
        with pytest.raises(TooOften):
            rates.take("answer", "a", "192.0.2.1", 1, None)
    rates.take("verdict", "a", "192.0.2.1", 1, None)
    clock.now += 60
    rates.take("answer", "a", "192.0.2.1", 1, None)


def test_users_that_somebody_makes_up_are_forgotten_again(monkeypatch):
    monkeypatch.setattr("playground.limits.MOST_KEYS", 10)
    clock = Clock()
    rates = Rates(clock)
    for number in range(200):
        rates.take("answer", f"user-{number}", f"address-{number}", 1, 1)
        clock.now += 61
    assert len(rates._times) <= 14


class Day:
    def __init__(self) -> None:
        self.now = datetime(2026, 5, 1, 20, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def test_a_budget_counts_what_was_taken_and_not_what_was_set_aside(tmp_path):
    budget = Budget(tmp_path / "visitors.json", 1000, 1.0, Day())
    with budget.hold(600, 0.5) as hold:
        hold.tokens, hold.usd = 100, 0.1
    assert (budget.used.tokens, budget.used.usd) == (100, 0.1)


def test_what_is_set_aside_is_not_given_twice(tmp_path):
    budget = Budget(tmp_path / "visitors.json", 1000, None, Day())
    with budget.hold(600), pytest.raises(UsedUp) as refused, budget.hold(600):
        raise AssertionError("the budget was given twice")
    assert (refused.value.what, refused.value.minutes) == ("tokens", 211)


def test_work_that_failed_counts_as_all_that_was_set_aside(tmp_path):
    budget = Budget(tmp_path / "visitors.json", 1000, None, Day())
    with pytest.raises(RuntimeError), budget.hold(700):
        raise RuntimeError
    assert budget.used.tokens == 700


def test_a_restart_gives_nothing_back_and_a_new_day_gives_all(tmp_path):
    path, day = tmp_path / "visitors.json", Day()
    with Budget(path, 1000, 1.0, day).hold(900, 0.9):
        pass
    again = Budget(path, 1000, 1.0, day)
    assert again.used.tokens == 900
    with pytest.raises(UsedUp), again.hold(200):
        pass
    day.now = datetime(2026, 5, 2, 0, 0, 1, tzinfo=UTC)
    with again.hold(200):
        pass
    assert again.used.tokens == 200
    assert json.loads(path.read_text())["day"] == "2026-05-02"


def test_what_costs_nothing_goes_on_when_the_money_is_gone(tmp_path):
    budget = Budget(tmp_path / "visitors.json", None, 0.0, Day())
    with budget.hold(100, 0.0):
        pass
    with pytest.raises(UsedUp) as refused, budget.hold(100, 0.001):
        pass
    assert refused.value.what == "spend"


def test_a_file_that_cannot_be_read_is_counted_from_zero_and_said(tmp_path, caplog):
    path = tmp_path / "visitors.json"
    path.write_text("{")
    assert Budget(path, 10, None, Day()).used.tokens == 0
    assert "counted from zero" in caplog.text
