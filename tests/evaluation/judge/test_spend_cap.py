"""A judge with a spend cap: it stops before the call that could exceed it, and says so in each verdict that is missing."""

from __future__ import annotations

import pytest

from evaluation.benchmark.pacing import Pacer
from evaluation.errors import SettingsRejected
from evaluation.judge import prices
from evaluation.judge.endpoint import origin_of
from tests.evaluation.judge.asking import FOUR, judge_at
from tests.evaluation.judge.exchanges import exchange
from tests.openai_server import OpenAIServer, malformed, status, without_usage

MODEL = "gpt-4o-mini"
PRICE_USD = (100 * 0.15 + 20 * 0.60) / 1e6  # of what the server says each call used


@pytest.fixture
def priced(monkeypatch):
    """Make the server's origin the one whose prices are known."""

    def at(server: OpenAIServer) -> None:
        monkeypatch.setattr(prices, "OPENAI_ORIGIN", origin_of(server.url))

    return at


def judged(server: OpenAIServer, cap_usd: float, count: int = 60):
    pacer = Pacer(cap_usd=cap_usd)
    judge = judge_at(server, model=MODEL, pacer=pacer)
    return judge.judge([exchange(key=f"r{number}") for number in range(count)]), pacer


def test_calls_stop_before_the_cap_and_the_rest_is_not_run(priced):
    with OpenAIServer(reply=lambda body: FOUR) as server:
        priced(server)
        worst = 0.0013 + 0.0004  # 2,048 tokens of a reply and the longest prompt
        found, pacer = judged(server, worst + 10 * PRICE_USD)
    scored = [judgement for judgement in found if judgement.score == 4]
    rest = [judgement for judgement in found if judgement.score is None]
    assert 1 <= len(scored) < 60 and len(scored) + len(rest) == 60
    assert len(server.requests) == len(scored)
    assert pacer.spent_usd == pytest.approx(len(scored) * PRICE_USD)
    assert pacer.spent_usd <= worst + 10 * PRICE_USD
    assert {judgement.missing for judgement in rest} == {"not_run"}
    assert "spend cap" in rest[0].explanation


def test_with_room_for_all_nothing_is_left_out(priced):
    with OpenAIServer([status(429), malformed(), without_usage(FOUR)], reply=lambda body: FOUR) as server:
        priced(server)
        found, pacer = judged(server, 5.0)
    assert {judgement.score for judgement in found} == {4}
    assert 60 * PRICE_USD < pacer.spent_usd < 0.02, "what broke off or told no usage counts with its worst case"


def test_a_cap_of_nothing_asks_nothing(priced):
    with OpenAIServer(reply=lambda body: FOUR) as server:
        priced(server)
        found, _ = judged(server, 0.0, 3)
    assert server.requests == []
    assert {judgement.missing for judgement in found} == {"not_run"}


def test_a_cap_on_a_price_that_is_not_known_is_refused():
    with OpenAIServer(reply=lambda body: FOUR) as server, pytest.raises(SettingsRejected, match="price"):
        judged(server, 1.0, 2)
    assert server.requests == []


def test_a_stop_waits_for_the_calls_under_way_and_makes_no_more():
    pacer = Pacer(most=2)
    done = []

    def stop_after_three(judgement):
        done.append(judgement)
        if len(done) == 3:
            pacer.stop()

    with OpenAIServer(reply=lambda body: FOUR) as server:
        judge = judge_at(server, pacer=pacer)
        found = judge.judge([exchange(key=f"r{number}") for number in range(50)], on_done=stop_after_three)
    assert 3 <= len(found) == len(done) == len(server.requests) <= 8
