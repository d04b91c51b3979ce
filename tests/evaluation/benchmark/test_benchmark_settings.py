"""What a benchmark may be asked, and what it takes: settings, prompts, forecast."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from evaluation.benchmark.forecast import VERDICT_TOKENS, Pace, forecast
from evaluation.benchmark.judging import Panel
from evaluation.benchmark.plan import choose_prompts, plan
from evaluation.benchmark.settings import BenchmarkSettings, JudgingSettings, from_json, judging_from_json
from evaluation.errors import SettingsRejected
from evaluation.judge.openai_judge import OpenAIJudge
from evaluation.prompts.suites import Suite, load_suite
from evaluation.types import ModelIdentity, Prompt, Sampling
from tests.evaluation.benchmark.benching import IDENTITIES, METRICS, Scorer, asked, prompts

OPENAI = "https://api.openai.com/v1"


def suite(name: str, *rows: Prompt) -> Suite:
    return Suite(name, rows, ("safety",), False, name, name)


@pytest.mark.parametrize(
    "settings",
    [
        asked(),
        BenchmarkSettings(("a",), ("s",), None, Sampling(0.0, 1.0, 8, 1, "規則"), 1, 5, False, 2.5, False, "名"),
    ],
    ids=["usual", "everything said"],
)
def test_settings_come_back_from_json(settings):
    assert from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_judging_settings_come_back_from_json():
    settings = JudgingSettings("run", "embedded", ("a",), ("s",), 3, {"s": ("safety", "attack")}, False, 1.0)
    assert judging_from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": []}, "models"),
        ({"models": ["a", "a"]}, "each once"),
        ({"suites": [""]}, "suites"),
        ({"judge": " "}, "judge"),
        ({"attempts": 0}, "attempts is 0"),
        ({"attempts": 1.5}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"limit": 0}, "limit is 0"),
        ({"spend_cap_usd": -1.0}, "spend_cap_usd"),
        ({"sampling": {"temperature": 9.0}}, "temperature is 9"),
        ({"sampling": {"max_tokens": 0}}, "max_tokens is 0"),
        ({"attempts": 2, "sampling": {"temperature": 0.0}}, "same response"),
        ({"modles": ["a"]}, "no setting 'modles'"),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_named(changes, words):
    with pytest.raises(SettingsRejected, match=words):
        from_json({**asked().to_json(), **changes})


def test_of_a_suite_with_a_test_split_only_that_is_asked(tmp_path):
    general = load_suite("sample-general", tmp_path)
    chosen = choose_prompts([general], None)
    assert 0 < len(chosen.prompts) < len(general.prompts)
    assert {prompt.extra["split"] for prompt in chosen.prompts} == {"test"}


def test_a_limit_is_spread_over_each_suite():
    chosen = choose_prompts([suite("mine", *prompts(10)), suite("edge", *prompts(4, "edge"))], 2)
    assert [p.id for p in chosen.prompts] == ["mine-0", "mine-5", "edge-0", "edge-2"]


def test_a_question_that_stands_twice_is_asked_once_and_that_is_told():
    twice = [*prompts(3), Prompt("again", prompts(1)[0].question)]
    chosen = choose_prompts([suite("mine", *twice)], None)
    assert len(chosen.prompts) == 3
    assert "1 prompts repeat a question" in chosen.notes[0]


def test_of_two_prompts_that_begin_alike_the_second_is_left_out_and_that_is_told():
    first = prompts(1)[0]
    chosen = choose_prompts([suite("mine", first, replace(first, id="other", turns=("次は？",)))], None)
    assert [p.id for p in chosen.prompts] == [first.id]
    assert "or begin with it" in chosen.notes[0]


def test_one_id_for_two_questions_is_refused():
    with pytest.raises(SettingsRejected, match="both have a prompt 'mine-0'"):
        choose_prompts([suite("mine", *prompts(1)), suite("other", Prompt("mine-0", "別の質問"))], None)


def test_nothing_to_ask_is_refused():
    with pytest.raises(SettingsRejected, match="no prompt in empty"):
        choose_prompts([suite("empty")], None)


# ---- forecast ----


def test_work_in_this_process_costs_nothing():
    requests = plan(asked(), prompts(10), IDENTITIES)
    found = forecast(requests, Panel([Scorer()], METRICS), OPENAI, pace=Pace(2.0, 0.5))
    assert (found.prompts, found.responses, found.verdicts, found.calls, found.cost_usd) == (10, 20, 20, 0, 0)
    assert found.seconds == 40


def test_calls_of_a_judge_are_counted_with_their_price():
    requests = plan(asked(), prompts(10), IDENTITIES)
    judge = OpenAIJudge("gpt-4o-mini", api_key="sk-none")
    found = forecast(requests, Panel([judge], METRICS), OPENAI)
    assert (found.calls, found.completion_tokens) == (20, 20 * VERDICT_TOKENS)
    assert found.cost_usd == pytest.approx(
        (found.prompt_tokens * 0.15 + found.completion_tokens * 0.60) / 1e6, rel=0.01
    )
    assert found.seconds is None


def test_a_model_without_a_price_makes_the_cost_unknown():
    identities = {"openai:own": ModelIdentity("openai:own", "b", "w", None, "t")}
    requests = plan(asked(models=("openai:own",)), prompts(2), identities)
    found = forecast(requests, Panel([], METRICS), OPENAI)
    assert (found.calls, found.cost_usd) == (2, None)


def test_what_is_there_already_is_not_counted():
    requests = plan(asked(), prompts(10), IDENTITIES)
    panel = Panel([Scorer()], METRICS)
    have = {requests[0].key, *panel.keys(requests[1].key, requests[1].prompt).values()}
    found = forecast(requests, panel, OPENAI, have=have)
    assert (found.responses, found.verdicts) == (19, 19)


def test_a_verdict_that_nobody_can_give_is_no_call():
    requests = plan(asked(), prompts(3, "chat"), IDENTITIES)
    assert forecast(requests, Panel([Scorer()], METRICS), OPENAI).verdicts == 0
