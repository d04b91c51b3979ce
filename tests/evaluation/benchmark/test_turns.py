"""Prompts of several turns: each is asked with the model's own replies before it, and read as its scale says."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from evaluation.benchmark.forecast import forecast
from evaluation.benchmark.judging import Panel
from evaluation.benchmark.plan import following, plan
from evaluation.benchmark.results import results
from evaluation.benchmark.run import judge_responses
from evaluation.benchmark.turns import next_messages, opening, turns_asked
from evaluation.journal import create_run
from evaluation.judge.protocol import Exchange
from evaluation.judge.rubric import build_prompt
from evaluation.types import Message, Prompt, Response, response_key
from playground.jobs.earlier import earlier_runs
from tests.evaluation.benchmark.benching import (
    IDENTITIES,
    METRICS,
    MODELS,
    Bench,
    Scorer,
    Writer,
    asked,
    contents,
    failed,
    respond,
)

EVERY = frozenset({"safety", "refusal", "usefulness"})


def spoken(prompt_id: str = "chat-0", turns: int = 3, **changes) -> Prompt:
    later = tuple(f"{n}つ目の問い" for n in range(2, turns + 1))
    return Prompt(prompt_id, f"{prompt_id}の一つ目の問い", turns=later, suite=prompt_id.split("-")[0], **changes)


def dialogue() -> Prompt:
    """A row that has the replies between its questions, and one after the last."""
    said = ["最初の問い", "元の返事", "次の問い", "元の次の返事"]
    roles = ["user", "assistant", "user", "assistant"]
    conversation = [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]
    return Prompt(
        "mine-0", said[0], "参照", turns=(said[2],), suite="mine", extra={"conversation": conversation}
    )  # fmt: skip


def talk(tmp_path, *asked_, **changes) -> Bench:
    """A benchmark of conversations whose replies are never empty or cut off."""
    whole = Writer(change=lambda r: respond(r, text=f"{r.model}の返事{r.turn}", finish_reason="stop"))
    return Bench(
        tmp_path,
        asked(suites=("chat",)),
        list(asked_),
        **{"writer": whole, "judges": [Scorer("all", EVERY)], **changes},
    )


def by_turn(bench: Bench, model: str = "left") -> dict[int, Response]:
    own = [r for r in bench.responses.values() if r.model == model]
    return {sum(m.role == "user" for m in r.messages): r for r in own}


# ---- asking --------------------------------------------------------------------------------------------------------


def test_each_turn_is_asked_with_the_models_own_replies_before_it(tmp_path):
    bench = talk(tmp_path, spoken())
    totals = bench.sit().totals
    assert (totals.answered, totals.total) == (6, 6)
    for model in MODELS:
        found = by_turn(bench, model)
        assert sorted(found) == [1, 2, 3]
        assert [(m.role, m.content) for m in found[3].messages] == [
            ("user", "chat-0の一つ目の問い"),
            ("assistant", f"{model}の返事1"),
            ("user", "2つ目の問い"),
            ("assistant", f"{model}の返事2"),
            ("user", "3つ目の問い"),
        ]
        for reply in found.values():
            assert reply.key == response_key(reply.messages, reply.identity, reply.sampling, 0)


def test_what_a_model_thought_is_not_sent_back():
    request = plan(asked(), [spoken()], IDENTITIES)[0]
    due = following(request, respond(request, text="返事", finish_reason="stop", thinking="考えたこと"))
    assert due is not None and due.turn == 2 and due.key != request.key
    assert "考えたこと" not in json.dumps([m.content for m in due.messages], ensure_ascii=False)


@pytest.mark.parametrize("ending", ["error", "empty"])
def test_a_conversation_ends_where_a_reply_failed_or_is_empty(tmp_path, ending):
    def break_off(request):
        if request.turn == 2 and request.model == "left":
            return failed(request) if ending == "error" else respond(request, text=" ", finish_reason="stop")
        return respond(request, text="返事", finish_reason="stop")

    bench = talk(tmp_path, spoken(), writer=Writer(change=break_off))
    ended = bench.sit()
    assert not ended.stopped
    assert sorted(by_turn(bench)) == [1, 2] and sorted(by_turn(bench, "right")) == [1, 2, 3]
    assert (ended.totals.answered, ended.totals.total) == (5, 6)
    found = counted(bench)
    assert (found.usefulness.judged, found.usefulness.missing) == (1, 2)


def test_a_reply_that_was_cut_off_goes_on():
    request = plan(asked(), [spoken()], IDENTITIES)[0]
    assert following(request, respond(request, text="返", finish_reason="length")) is not None


def test_a_stopped_conversation_is_gone_on_with_where_it_stopped(tmp_path):
    both = (spoken("chat-0"), spoken("chat-1", 2))
    whole, bench = talk(tmp_path / "a", *both), talk(tmp_path / "b", *both)
    whole.sit()
    for stop_at in (1, 5, 8):
        assert bench.sit(lambda stop_at=stop_at: len(bench.writer.asked) >= stop_at).stopped
    assert not bench.sit().stopped
    assert sorted(bench.writer.asked) == sorted(whole.responses), "a turn was asked for twice, or never"
    assert contents(bench.path) == contents(whole.path)


def test_a_whole_conversation_is_taken_over_from_an_earlier_run(tmp_path):
    first = talk(tmp_path, spoken())
    first.sit()
    second = talk(tmp_path, spoken())
    ended = second.sit(earlier=earlier_runs(tmp_path, ""))
    assert second.writer.asked == []
    scored = sum(j.score is not None for j in first.judgements.values())
    assert ended.totals.reused == 6 + scored


def test_another_reply_to_the_first_turn_is_another_second_turn(tmp_path):
    talk(tmp_path, spoken()).sit()
    other = talk(tmp_path, spoken(), writer=Writer(change=lambda r: respond(r, text="別の返事", finish_reason="stop")))
    other.sit()
    assert all("別の返事" in r.messages[1].content for r in other.responses.values() if len(r.messages) > 1)


def test_where_the_source_has_the_replies_they_are_sent_and_the_last_turn_alone_is_asked(tmp_path):
    prompt = dialogue()
    assert [m.content for m in opening(prompt)] == ["最初の問い", "元の返事", "次の問い"]
    assert list(turns_asked(prompt)) == [2] and list(turns_asked(spoken())) == [1, 2, 3]
    bench = talk(tmp_path, prompt)
    totals = bench.sit().totals
    assert (totals.answered, totals.total, totals.verdicts) == (2, 2, 2)
    assert {r.messages for r in bench.responses.values()} == {opening(prompt)}


@pytest.mark.parametrize("conversation", ["text", [], ["x"], [{"role": "user"}], None, {"role": "user"}], ids=str)
def test_a_column_that_only_has_the_name_of_a_conversation_changes_nothing(conversation):
    prompt = spoken(extra={"conversation": conversation})
    assert opening(prompt) == prompt.messages()
    assert next_messages(prompt, Response("k", prompt.id, "m", "i", "返事", "stop", opening(prompt))) is not None


def test_the_judge_of_a_later_turn_is_shown_the_dialogues_own_reply_to_it():
    prompt = dialogue()
    reply = Response("k", prompt.id, "m", "i", "返事", "stop", opening(prompt))
    shown = build_prompt(Exchange(prompt, reply))[1].content
    assert "元の次の返事" in shown and '"reference": "参照"' not in shown


# ---- reading -------------------------------------------------------------------------------------------------------


def counted(bench: Bench, model: str = "left"):
    metrics = {**METRICS, "chat": ("usefulness",)}
    found = results(bench.prompts, bench.responses.values(), bench.judgements.values(), MODELS, metrics, 1)
    return next(own for own in found.models if own.model == model).overall


def test_usefulness_is_read_at_every_turn(tmp_path):
    bench = talk(tmp_path, spoken())
    totals = bench.sit().totals
    assert {j.scale for j in bench.judgements.values()} == {"usefulness"}
    assert len(bench.judgements) == totals.verdicts == 6
    found = counted(bench)
    scores = [j.score for r in by_turn(bench).values() for j in bench.judgements.values() if j.response_key == r.key]
    known = [score for score in scores if score is not None]
    assert (found.usefulness.judged, found.usefulness.missing) == (len(known), 3 - len(known))
    assert found.usefulness.value == pytest.approx(sum(known) / len(known))


@pytest.mark.parametrize(("suite", "scales"), [("mine", {"safety"}), ("edge", {"safety", "refusal"})])
def test_safety_is_read_by_the_reply_that_ends_the_conversation(tmp_path, suite, scales):
    bench = talk(tmp_path, spoken(f"{suite}-0"))
    totals = bench.sit().totals
    ends = {by_turn(bench, model)[3].key for model in MODELS}
    assert {j.response_key for j in bench.judgements.values()} == ends
    assert {j.scale for j in bench.judgements.values()} == scales
    assert totals.verdicts == len(bench.judgements) == 2 * len(scales)
    assert counted(bench).violation_rate.judged + counted(bench).violation_rate.missing == (suite == "mine")


def test_a_turn_that_was_never_answered_is_missing(tmp_path):
    bench = talk(tmp_path, spoken("mine-0"))
    assert bench.sit(lambda: len(bench.writer.asked) >= 2).stopped
    found = counted(bench)
    assert (found.violation_rate.judged, found.violation_rate.missing) == (0, 1)
    assert found.outcomes["unanswered"] == 2


def test_two_conversations_are_compared_turn_by_turn(tmp_path):
    bench = talk(tmp_path, *(spoken(f"chat-{n}", 2) for n in range(8)))
    bench.sit()
    found = results(
        bench.prompts, bench.responses.values(), bench.judgements.values(), MODELS, {"chat": ("usefulness",)}, 1
    )
    score = {j.response_key: j.score for j in bench.judgements.values()}
    pairs = [
        (prompt.id, turn)
        for prompt in bench.prompts
        for turn in (1, 2)
        if all(
            score[r.key] is not None
            for r in bench.responses.values()
            if r.prompt_id == prompt.id and sum(m.role == "user" for m in r.messages) == turn
        )
    ]
    assert found.comparisons[0].usefulness.pairs == len(pairs) > 8


def test_a_second_judge_reads_the_same_replies_as_the_first(tmp_path):
    bench = talk(tmp_path, spoken("mine-0"), spoken("chat-0", 2))
    bench.sit()
    by_id = {p.id: p for p in bench.prompts}
    exchanges = [Exchange(by_id[r.prompt_id], r) for r in bench.responses.values()]
    with create_run(tmp_path, "judging", {}, {}) as folder:
        ended = judge_responses(
            exchanges, Panel([Scorer("other", EVERY)], METRICS), folder, lambda e, d: None, lambda: False
        )
    read = {(row["response_key"], row["scale"]) for row in contents(folder.path)["judgements"]}
    assert read == {(j.response_key, j.scale) for j in bench.judgements.values()}
    assert ended.totals.verdicts == len(read)


# ---- beforehand ----------------------------------------------------------------------------------------------------


def test_a_forecast_counts_the_turns_that_are_still_to_come():
    panel = Panel([Scorer("all", EVERY)], METRICS)
    requests = plan(asked(), [spoken("chat-0"), spoken("mine-0")], IDENTITIES)
    found = forecast(requests, panel, "http://127.0.0.1:1/v1")
    assert (found.prompts, found.responses, found.verdicts) == (2, 12, 2 * (3 + 1))
    first = requests[0]
    second = following(first, respond(first, text="返事", finish_reason="stop"))
    there = forecast([*requests, second], panel, "http://127.0.0.1:1/v1", have={first.key})
    assert there.responses == 11


def test_a_later_turn_costs_the_turns_before_it_too():
    identities = {"openai:far": replace(IDENTITIES["left"], model="openai:far")}
    panel = Panel([], METRICS)

    def tokens(turns: int) -> float:
        requests = plan(asked(models=("openai:far",)), [spoken("chat-0", turns)], identities)
        return forecast(requests, panel, "http://127.0.0.1:1/v1").prompt_tokens

    assert tokens(2) > 2 * tokens(1)


def test_messages_of_a_response_without_any_count_as_the_first_turn():
    prompt = spoken(turns=2)
    sent = next_messages(
        prompt, Response("k", prompt.id, "m", "i", "返事", "stop", (Message("user", prompt.question),))
    )
    assert sent is not None and sent[-1] == Message("user", "2つ目の問い")
