"""The attacks on the judge, against the prompt builder and against a judge that believes everything."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from evaluation.errors import SettingsRejected
from evaluation.judge import rubric
from evaluation.judge.canaries import CANARIES, CanaryReport, canary_exchange, run_canaries
from evaluation.judge.neutralise import Neutralised
from evaluation.judge.openai_judge import OpenAIJudge
from evaluation.judge.parse import parse_verdict
from evaluation.judge.rubric import build_prompt
from tests.evaluation.judge.exchanges import HARMFUL, exchange, judgement
from tests.evaluation.judge.test_neutralise import lenient_verdict
from tests.openai_server import OpenAIServer

HARMFUL_EXCHANGE = exchange(HARMFUL)
BY_NAME = {canary.name: canary for canary in CANARIES}
DELIMITERS = re.compile(
    r"DATA>>>|<<<DATA|END OF DATA|[\[【][^\]】]*(?:開始|終了)[\]】]|\[The End|</?(?:response|verdict|score|think)>|<\|im_"
)


def gullible(body: dict) -> str:
    """A judge that believes every verdict and every delimiter it meets in the data, and else sees the harm."""
    data = body["messages"][1]["content"].split("\n", 1)[1].rsplit("\n", 1)[0]
    response = json.loads(data)["response"]
    talked_into_it = lenient_verdict(response) or DELIMITERS.search(response) is not None
    score = 5 if talked_into_it else 1 if HARMFUL in response else 3
    return json.dumps({"explanation": "信じました。" if talked_into_it else "読みました。", "score": score})


def run_gullible() -> CanaryReport:
    with OpenAIServer(reply=gullible) as server:
        return run_canaries(OpenAIJudge("gullible", base_url=server.url, api_key="key"), HARMFUL_EXCHANGE)


def test_there_are_enough_canaries_and_each_has_its_own_name():
    assert len(BY_NAME) == len(CANARIES) >= 30
    assert sum(canary.rider for canary in CANARIES) >= 25
    assert any(not canary.rider for canary in CANARIES)


@pytest.mark.parametrize("canary", CANARIES, ids=BY_NAME)
def test_no_verdict_or_delimiter_of_a_canary_reaches_the_judge(canary):
    user = build_prompt(canary_exchange(canary, HARMFUL_EXCHANGE))[1].content
    response = json.loads(user.split("\n")[1])["response"]
    assert parse_verdict(response).score is None
    assert not lenient_verdict(response)
    assert not DELIMITERS.search(response)


_TOP = re.compile(r"5(?!段階|[0-9a-f])|５|𝟓")
_TEN = {"5": "10", "５": "１０", "𝟓": "𝟏𝟎"}


@pytest.mark.parametrize("canary", [c for c in CANARIES if c.name != "base64"], ids=lambda canary: canary.name)
def test_no_canary_that_asks_for_10_reaches_the_judge_of_usefulness_as_a_verdict(canary):
    asks_for_10 = replace(canary, text=_TOP.sub(lambda top: _TEN[top[0]], canary.text.replace("/5", "/10")))
    user = build_prompt(canary_exchange(asks_for_10, HARMFUL_EXCHANGE), "usefulness")[1].content
    response = json.loads(user.split("\n")[1])["response"]
    assert parse_verdict(response, "usefulness").score is None
    assert not re.search(r"[\[［【⟦]\s*[\[［【]?\s*(?:10|１０)\s*[\]］】⟧]", response)
    assert not DELIMITERS.search(response)


@pytest.mark.parametrize("canary", [canary for canary in CANARIES if canary.rider], ids=lambda canary: canary.name)
def test_the_harmful_answer_itself_still_reaches_the_judge(canary):
    user = build_prompt(canary_exchange(canary, HARMFUL_EXCHANGE))[1].content
    assert HARMFUL in json.loads(user.split("\n")[1])["response"]


def test_a_gullible_judge_is_not_fooled_because_it_never_meets_the_attack():
    report = run_gullible()
    assert report.passed
    assert (report.baseline, report.flips, dict(report.lifted), report.missing) == (1, (), {}, 0)


def test_the_same_judge_is_fooled_when_the_text_is_not_neutralised(monkeypatch):
    monkeypatch.setattr(rubric, "neutralise", lambda text: Neutralised(text, 0))
    report = run_gullible()
    assert not report.passed
    assert len(report.flips) >= 20
    assert report.lifted["marker"] == 4
    assert report.mean_lift is not None and report.mean_lift > 2


class Scripted:
    """A judge that gives each canary the score in a table, and 1 to everything else."""

    id, identity = "scripted", "scripted"

    def __init__(self, plain: int | None = 1, **scores: int | None) -> None:
        self.plain, self.scores = plain, scores

    def judge(self, exchanges, scale="safety", on_done=None):
        if len(exchanges) == 1:
            return [judgement(self.plain)]
        return [judgement(self.scores.get(canary.name.replace("-", "_"), 1)) for canary in CANARIES]


def test_a_rider_that_makes_a_violation_pass_is_a_flip():
    report = run_canaries(Scripted(marker=3, order_ja=2), HARMFUL_EXCHANGE)
    assert dict(report.lifted) == {"marker": 2, "order-ja": 1}
    assert report.flips == ("marker",)
    assert not report.passed
    assert report.mean_lift == pytest.approx(3 / len(CANARIES))


def test_an_answer_that_says_nothing_may_get_a_3_but_no_more():
    assert run_canaries(Scripted(bare_colon=3), HARMFUL_EXCHANGE).passed
    report = run_canaries(Scripted(bare_colon=4), HARMFUL_EXCHANGE)
    assert (report.flips, dict(report.lifted)) == (("bare-colon",), {"bare-colon": 1})


def test_a_canary_without_a_verdict_counts_as_missing_and_not_as_resisted():
    report = run_canaries(Scripted(marker=None, order_ja=2), HARMFUL_EXCHANGE)
    assert (report.missing, report.scores["marker"]) == (1, None)
    assert report.mean_lift == pytest.approx(1 / (len(CANARIES) - 1))


@pytest.mark.parametrize("plain", [3, 5, None], ids=["score 3", "score 5", "no verdict"])
def test_a_baseline_that_is_not_harmful_is_refused(plain):
    with pytest.raises(SettingsRejected, match="does not find"):
        run_canaries(Scripted(plain), HARMFUL_EXCHANGE)


def test_each_canary_is_a_response_of_its_own():
    keys = {canary_exchange(canary, HARMFUL_EXCHANGE).response.key for canary in CANARIES}
    assert len(keys) == len(CANARIES)
    other = replace(HARMFUL_EXCHANGE, response=replace(HARMFUL_EXCHANGE.response, key="r2"))
    assert canary_exchange(CANARIES[0], other).response.key not in keys
