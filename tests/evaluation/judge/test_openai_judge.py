"""What a judge records: scores, reasons, identity, money. The server is local and scripted."""

from __future__ import annotations

import json
import threading

import pytest

from evaluation.errors import SettingsRejected
from evaluation.judge.openai_judge import OpenAIJudge
from evaluation.judge.prices import OPENAI_ORIGIN, cost_usd
from tests.evaluation.judge.asking import FOUR, KEY, ask, judge_at
from tests.evaluation.judge.exchanges import HARMFUL, SAFE, exchange
from tests.openai_server import OpenAIServer, ok, refusal, status, without_usage

# What a judgement holds


def test_a_verdict_is_recorded_with_what_was_sent_and_what_came_back():
    judged, server = ask()
    assert (judged.score, judged.missing, judged.explanation) == (4, None, "相談先がある。")
    assert judged.raw_text == FOUR
    assert (judged.prompt_tokens, judged.completion_tokens) == (100, 20)
    assert (judged.response_key, judged.judge, judged.scale) == ("r1", "openai:test-model", "safety")
    assert judged.created_at.endswith("+00:00")
    body = server.requests[0].body
    assert (body["temperature"], body["seed"], body["model"]) == (0, 0, "test-model")
    assert body["response_format"]["type"] == "json_schema"


def test_judgements_come_in_the_order_of_the_exchanges_and_each_is_handed_over():
    def reply(body):
        return json.dumps({"explanation": "", "score": 1 if HARMFUL in body["messages"][1]["content"] else 5})

    exchanges = [exchange(HARMFUL if number % 3 else SAFE, key=f"r{number}") for number in range(30)]
    done = []
    with OpenAIServer(reply=reply) as server:
        judged = judge_at(server).judge(exchanges, on_done=done.append)
    assert [judgement.response_key for judgement in judged] == [f"r{number}" for number in range(30)]
    assert [judgement.score for judgement in judged] == [1 if number % 3 else 5 for number in range(30)]
    assert sorted(judgement.key for judgement in done) == sorted(judgement.key for judgement in judged)
    assert len({judgement.key for judgement in judged}) == 30


def test_on_done_is_called_in_the_callers_thread():
    threads = set()
    with OpenAIServer(reply=lambda body: FOUR) as server:
        judge_at(server).judge(
            [exchange(key=f"r{number}") for number in range(5)],
            on_done=lambda _: threads.add(threading.current_thread()),
        )
    assert threads == {threading.current_thread()}


def test_no_more_than_the_agreed_number_of_requests_are_under_way():
    gate = threading.Barrier(3, timeout=5)

    def reply(body):
        gate.wait()  # opens only when three requests are under way at once
        return FOUR

    with OpenAIServer(reply=reply) as server:
        judge_at(server, concurrency=3).judge([exchange(key=f"r{number}") for number in range(9)])
        assert server.most_at_once == 3


def test_the_refusal_scale_has_its_own_prompt_schema_and_key():
    with OpenAIServer(reply=lambda body: '{"explanation": "", "score": 3}') as server:
        judge = judge_at(server)
        (safety,), (refused,) = judge.judge([exchange()]), judge.judge([exchange()], scale="refusal")
    assert safety.key != refused.key
    assert refused.scale == "refusal"
    schema = server.requests[1].body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["score"]["enum"] == [1, 2, 3]


def test_usefulness_is_asked_from_1_to_10_with_its_own_words_key_and_reference():
    with OpenAIServer(reply=lambda body: '{"explanation": "正確です。", "score": 9}') as server:
        judge = judge_at(server)
        made = exchange(reference="参考の答え")
        (safety,), (useful,) = judge.judge([made], "refusal"), judge.judge([made], "usefulness")
    assert (useful.score, useful.scale, useful.with_reference) == (9, "usefulness", True)
    assert (useful.identity, useful.key != safety.key) == (safety.identity, True)
    body = server.requests[-1].body
    assert body["response_format"]["json_schema"]["schema"]["properties"]["score"]["enum"] == list(range(1, 11))
    assert "役に立つか" in body["messages"][0]["content"]
    assert "参考の答え" in body["messages"][1]["content"]


def test_an_endpoint_scores_no_multiple_choice_and_says_who_does():
    with OpenAIServer(reply=lambda body: FOUR) as server:
        with pytest.raises(SettingsRejected, match="rule:choice"):
            judge_at(server).judge([exchange()], "choice")
        assert server.requests == []


def test_a_judge_that_would_ask_nobody_is_refused_at_the_door():
    with pytest.raises(SettingsRejected, match="concurrency is 0"):
        OpenAIJudge("m", base_url="https://one.example/v1", api_key=KEY, concurrency=0)


def test_nothing_to_judge_is_nothing_to_ask():
    with OpenAIServer() as server:
        assert judge_at(server).judge([]) == []


@pytest.mark.parametrize(
    "response",
    [
        {"text": ""},
        {"text": " \n\u3000"},
        {"text": "途中まで", "finish_reason": "error", "error": "out of memory"},
    ],
    ids=["empty", "blank", "failed"],
)
def test_a_failed_or_empty_response_is_not_run_and_never_sent(response):
    with OpenAIServer() as server:
        (judged,) = judge_at(server).judge([exchange(**response)])
        assert server.requests == []
    assert (judged.score, judged.missing) == (None, "not_run")
    assert judged.explanation.startswith("Not judged: ")


def test_the_reference_is_recorded_only_when_the_judge_saw_it():
    with OpenAIServer(reply=lambda body: FOUR) as server:
        shown, absent = judge_at(server).judge([exchange(reference="参考"), exchange(key="r2")])
        (hidden,) = judge_at(server, with_reference=False).judge([exchange(reference="参考")])
    assert (shown.with_reference, absent.with_reference, hidden.with_reference) == (True, False, False)


# Identity


def test_the_identity_changes_with_everything_that_can_change_a_verdict():
    base = {"model": "m", "base_url": "https://one.example/v1", "api_key": KEY}
    variants = [
        {},
        {"model": "n"},
        {"base_url": "https://two.example/v1"},
        {"language": "en"},
        {"with_reference": False},
        {"seed": 1},
        {"max_tokens": 99},
    ]
    assert len({OpenAIJudge(**(base | variant)).identity for variant in variants}) == len(variants)


def test_the_identity_does_not_depend_on_the_key_or_on_speed():
    one = OpenAIJudge("m", base_url="https://one.example/v1", api_key=KEY)
    two = OpenAIJudge("m", base_url="https://one.example/v1", api_key="sk-other", concurrency=1)
    assert one.identity == two.identity


# Replies without a verdict


def test_an_unreadable_reply_is_asked_for_again_with_a_note_and_another_seed():
    judged, server = ask(ok("読めません"), ok("評価：[[9]]"), ok(FOUR))
    assert judged.score == 4
    assert [request.body["seed"] for request in server.requests] == [0, 1, 2]
    first, second, third = (request.body["messages"][0]["content"] for request in server.requests)
    assert second.startswith(first)
    assert second == third != first
    assert (judged.prompt_tokens, judged.completion_tokens) == (300, 60)


def test_after_two_more_tries_an_unreadable_reply_is_unparsed():
    judged, server = ask(reply=lambda body: "良い回答だと思います。")
    assert (judged.score, judged.missing, len(server.requests)) == (None, "unparsed", 3)
    assert judged.raw_text == "良い回答だと思います。"
    assert judged.prompt_tokens == 300


def test_a_reply_cut_off_at_the_length_limit_has_no_verdict_and_gets_more_room():
    judged, server = ask(ok("回答は次のように終わる。\n評価：[[5]]", finish_reason="length"), ok(FOUR))
    assert judged.score == 4
    assert [request.body["max_tokens"] for request in server.requests] == [2048, 4096]
    cut, _ = ask(*[ok(FOUR, finish_reason="length")] * 3)
    assert (cut.score, cut.missing) == (None, "unparsed")


@pytest.mark.parametrize(
    "behaviour",
    [
        refusal("I can't help with that."),
        ok("", finish_reason="content_filter"),
        ok("申し訳ありませんが、この内容は評価できません。"),
        status(400, code="content_filter", message="The prompt was filtered."),
    ],
    ids=["refusal field", "filtered reply", "refusing words", "filtered request"],
)
def test_a_judge_that_refuses_is_not_asked_again_and_gives_no_score(behaviour):
    judged, server = ask(behaviour)
    assert (judged.score, judged.missing, len(server.requests)) == (None, "judge_refused", 1)
    assert judged.explanation


def test_a_prompt_that_does_not_fit_concerns_that_sample_only():
    too_long = status(400, message="This model's maximum context length is 4096 tokens.")
    with OpenAIServer([too_long], reply=lambda body: FOUR) as server:
        judged = judge_at(server, concurrency=1).judge([exchange(key="r1"), exchange(key="r2")])
    assert [(judgement.score, judgement.missing) for judgement in judged] == [(None, "not_run"), (4, None)]
    assert "does not fit" in judged[0].explanation


# Money


def test_cost_counts_cached_prompt_tokens_at_their_own_price():
    assert cost_usd("gpt-4o-2024-08-06", OPENAI_ORIGIN, 1_000_000, 100_000) == pytest.approx(2.5 + 1.0)
    assert cost_usd("gpt-4o-2024-08-06", OPENAI_ORIGIN, 1_000_000, 0, cached_tokens=400_000) == pytest.approx(1.5 + 0.5)


@pytest.mark.parametrize(
    ("model", "origin"),
    [("gpt-9", OPENAI_ORIGIN), ("gpt-4o-2024-05-13", OPENAI_ORIGIN), ("gpt-4o", "https://other.example")],
    ids=["unknown model", "unlisted snapshot", "another origin"],
)
def test_an_unknown_price_is_none_and_never_zero(model, origin):
    assert cost_usd(model, origin, 1000, 1000) is None


def test_a_sample_s_cost_adds_up_over_its_asks(monkeypatch):
    monkeypatch.setattr("evaluation.judge.prices.OPENAI_ORIGIN", "http://127.0.0.1")
    monkeypatch.setattr("evaluation.judge.endpoint.origin_of", lambda url: "http://127.0.0.1")
    used = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 600}}
    judged, _ = ask(ok("読めません", usage=used), ok(FOUR, usage=used), model="gpt-4o-mini")
    once = (400 * 0.15 + 600 * 0.075 + 100 * 0.60) / 1e6
    assert judged.cost_usd == pytest.approx(2 * once)


def test_tokens_that_are_not_reported_are_unknown_and_not_zero():
    judged, _ = ask(ok("読めません"), without_usage(FOUR))
    assert (judged.score, judged.prompt_tokens, judged.completion_tokens, judged.cost_usd) == (4, None, None, None)


def test_a_judge_that_was_never_reached_cost_an_unknown_amount():
    judged, _ = ask(*[status(500)] * 6)
    assert (judged.prompt_tokens, judged.cost_usd) == (None, None)
