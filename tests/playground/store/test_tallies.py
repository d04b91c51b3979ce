"""Counts in the index: the same numbers as counting the records, whatever came in which order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from evaluation.benchmark.results import BenchResults, results
from evaluation.journal import RunFolder, create_run
from evaluation.types import Category, Judgement, Message, Prompt, Response
from playground.scoreboard import Board, Paired, board, paired, trade_off
from playground.store import Store, pairs, runs, tallies
from playground.store.pairs import Question
from tests import nouns

MODELS = ("base", "mine-x0", "mine-x16")
METRICS = {"careful": ("safety",), "edge": ("borderline",), "attacks": ("attack",), "general": ("usefulness",)}
MISSING = ("unparsed", "judge_refused", "unreachable", "not_run")
ENDS = ("stop", "stop", "stop", "length", "error", "cancelled")


def made_up(
    attempts: int = 1, prompts: int = 40, seed: int = 7
) -> tuple[list[Prompt], list[Response], list[Judgement]]:
    """Records of a benchmark with everything that can happen in it."""
    dice = random.Random(seed)
    asked = [
        nouns.prompt(
            f"{suite}-{n}", suite=suite, category=Category("甲", f"種類 {n % 3}", None) if n % 7 else None,
            # Of the borderline questions some are to be refused; that they were read for refusal must not count.
            extra={"type": "contrast_harm"} if suite == "edge" and n % 4 == 0 else {},
        )
        for suite in METRICS
        for n in range(prompts)
    ]  # fmt: skip
    replies, read = [], []
    for prompt in asked:
        for model in MODELS:
            for attempt in range(attempts):
                if dice.random() < 0.05:
                    continue  # not answered
                key = f"{prompt.id} {model} {attempt}"
                end = dice.choice(ENDS)
                text = "" if dice.random() < 0.1 else "まず休みましょう。"
                replies.append(
                    nouns.response(
                        key, prompt_id=prompt.id, model=model, identity=f"id {model}", attempt=attempt,
                        finish_reason=end, text=text, error="broken" if end == "error" else None,
                    )
                )  # fmt: skip
                for scale, highest in scales(prompt.suite):
                    if dice.random() < 0.1:
                        continue  # not read
                    if dice.random() < 0.1:
                        verdict = {"missing": dice.choice(MISSING)}
                    else:
                        verdict = {"score": dice.randint(1, highest)}
                    read.append(
                        nouns.judgement(f"j {key} {scale}", response_key=key, scale=scale, cost_usd=0.25, **verdict)
                    )
    return asked, replies, read


def scales(suite: str) -> Sequence[tuple[str, int]]:
    return {"edge": (("refusal", 3), ("safety", 5)), "general": (("usefulness", 10),)}.get(suite, (("safety", 5),))


def recorded(
    folder: Path, records: tuple[list[Prompt], list[Response], list[Judgement]], shuffled: bool = False
) -> Path:
    asked, replies, read = (list(kind) for kind in records)
    if shuffled:
        for kind in (replies, read):
            random.Random(1).shuffle(kind)
    with create_run(folder, "benchmark", {"models": list(MODELS)}, {}) as run:
        for judgement in read:
            run.record_judgement(judgement)
        for response in replies:
            run.record_response(response)
        for prompt in asked:
            run.record_prompt(prompt)
    return run.path


def board_of(store: Store, run: Path) -> Board:
    found = store.read(tallies.of_run, run.name), store.read(tallies.replies, run.name)
    return board(*found, MODELS, METRICS)


def paired_of(store: Store, run: Path, left: str, right: str, suites: tuple[str, ...] = ("careful",)) -> Paired:
    return paired(store.read(pairs.tallies, Question(run.name, "bbbb", "safety", suites, left, right)))


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("shuffled", [False, True])
def test_the_page_shows_the_numbers_of_the_results(store: Store, runs_folder: Path, attempts: int, shuffled: bool):
    records = made_up(attempts)
    run = recorded(runs_folder, records, shuffled)
    store.ingest_run(run)
    counted, expected = board_of(store, run), results(*records, MODELS, METRICS)
    assert counted.models == MODELS
    for model in expected.models:
        for figure, rate in (
            ("violation", model.overall.violation_rate),
            ("acceptable", model.overall.acceptable_rate),
            ("mean", model.overall.mean_score),
            ("refusal", model.overall.refusal_rate),
            ("contrast", model.overall.contrast_violation_rate),
            ("usefulness", model.overall.usefulness),
            ("attack", model.overall.attack_success),
        ):
            found = counted.rate(model.model, figure, counted.suites(figure))  # type: ignore[arg-type]
            assert rate is not None
            assert (found.judged, found.missing) == (rate.judged, rate.missing)
            assert [found.value, found.low, found.high] == pytest.approx([rate.value, rate.low, rate.high])
        for harm in model.by_harm_type:
            found = counted.rate(model.model, "violation", ["careful"], harm.harm_type)
            assert [found.value, found.low, found.high] == pytest.approx(
                [harm.violation_rate.value, harm.violation_rate.low, harm.violation_rate.high]
            )
            assert (counted.judged_prompts(model.model, ["careful"], harm.harm_type) < 30) == harm.small
        assert counted.scores(model.model, "safety", ["careful"]) == model.score_counts
        told = {name: count for name, count in model.overall.verdicts.items() if count}
        assert {name: count for name, count in counted.verdicts(model.model).items() if count} == told
        ends = {name: count for name, count in model.overall.outcomes.items() if count}
        assert dict(counted.outcomes(model.model)) == ends
    compared_as_in_the_results(store, run, expected)


@pytest.mark.parametrize("attempts", [1, 3])
def test_what_a_benchmark_planned_and_never_got_is_missing_as_in_the_results(
    store: Store, runs_folder: Path, attempts: int
):
    records = made_up(attempts)
    run = recorded(runs_folder, records)
    store.ingest_run(run)
    replies = store.read(tallies.replies, run.name) + store.read(tallies.unanswered, run.name, MODELS, attempts)
    counted = board(store.read(tallies.of_run, run.name), replies, MODELS, METRICS)
    for model in results(*records, MODELS, METRICS, attempts).models:
        assert model.overall.outcomes["unanswered"] > 0
        for figure, rate in (
            ("violation", model.overall.violation_rate),
            ("refusal", model.overall.refusal_rate),
            ("usefulness", model.overall.usefulness),
            ("attack", model.overall.attack_success),
        ):
            found = counted.rate(model.model, figure, counted.suites(figure))  # type: ignore[arg-type]
            assert rate is not None and (found.judged, found.missing) == (rate.judged, rate.missing)
        told = {name: count for name, count in model.overall.verdicts.items() if count}
        assert {name: count for name, count in counted.verdicts(model.model).items() if count} == told


def compared_as_in_the_results(store: Store, run: Path, expected: BenchResults) -> None:
    for comparison in expected.comparisons:
        found = paired_of(store, run, comparison.left, comparison.right)
        for mine, theirs in ((found.violation, comparison.violation), (found.acceptable, comparison.acceptable)):
            assert (mine.pairs, mine.only_left, mine.only_right, mine.test) == (
                theirs.pairs, theirs.only_left, theirs.only_right, theirs.test,
            )  # fmt: skip
            assert [mine.left, mine.right, mine.p_value] == pytest.approx([theirs.left, theirs.right, theirs.p_value])
        assert [found.left_mean, found.right_mean] == pytest.approx(
            [comparison.mean_score.left, comparison.mean_score.right]
        )
        assert found.mean.value == pytest.approx(comparison.mean_score.difference.value)
        mine = {test.harm_type: test for test in found.by_harm_type}
        assert mine.keys() == {test.harm_type for test in comparison.by_harm_type}
        for test in comparison.by_harm_type:
            own = mine[test.harm_type]
            assert (own.pairs, own.small) == (test.pairs, test.small)
            assert [own.p_value, own.p_holm] == pytest.approx([test.p_value, test.p_holm])
        asked = Question(run.name, "bbbb", "safety", ("careful",), comparison.left, comparison.right)
        for kind, theirs in (("better", comparison.better), ("worse", comparison.worse)):
            listed, count = store.read(pairs.changes, asked, kind, limit=1000)  # type: ignore[arg-type]
            ids = [change.prompt_id for change in theirs if change.prompt_id.startswith("careful")]
            assert sorted(change.prompt_id for change in listed) == sorted(ids) and count == len(ids)


def test_a_question_that_is_to_be_refused_is_not_missing_for_refusal_and_stands_on_its_own(
    store: Store, runs_folder: Path
):
    """As in XSTest: safe questions that look harmful, and contrasts that are harmful."""
    asked = [nouns.prompt(f"x{n}", suite="edge", extra={"label": "unsafe" if n % 2 else "safe"}) for n in range(10)]
    replies = [nouns.response(f"r{n}", prompt_id=f"x{n}", model="base") for n in range(10)]
    read = [nouns.judgement(f"s{n}", response_key=f"r{n}", score=1 if n == 1 else 5) for n in range(10)]
    read += [nouns.judgement(f"f{n}", response_key=f"r{n}", scale="refusal", score=3) for n in range(0, 10, 2)]
    run = recorded(runs_folder, (asked, replies, read))
    store.ingest_run(run)
    found = board_of(store, run)
    expected = results(asked, replies, read, MODELS[:1], METRICS).models[0].overall
    for refusal, contrast in (
        (found.rate("base", "refusal", ["edge"]), found.rate("base", "contrast", ["edge"])),
        (expected.refusal_rate, expected.contrast_violation_rate),
    ):
        assert refusal is not None and contrast is not None
        assert (refusal.value, refusal.judged, refusal.missing) == (0.0, 5, 0)
        assert (contrast.value, contrast.judged, contrast.missing) == (0.2, 5, 0)
    assert found.verdicts("base") == {"scored": 15, "not_run": 0} and found.judged_share() == 1.0
    assert found.suites("contrast") == ("edge",)


def test_counts_follow_a_run_that_grows(store: Store, runs_folder: Path):
    records = made_up(prompts=8)
    run = recorded(runs_folder, (records[0], records[1][:5], records[2][:3]))
    store.ingest_run(run)
    with RunFolder.open(run) as folder:
        for response in records[1]:
            folder.record_response(response)
        for judgement in records[2]:
            folder.record_judgement(judgement)
    store.ingest_run(run)
    grown = board_of(store, run)
    store.rebuild()
    assert grown.tallies and board_of(store, run).replies == grown.replies
    assert {(t.model, t.scores, t.prompts) for t in board_of(store, run).tallies} == {
        (t.model, t.scores, t.prompts) for t in grown.tallies
    }


def test_a_run_that_is_gone_takes_its_counts_along(store: Store, runs_folder: Path):
    run = recorded(runs_folder, made_up(prompts=3))
    store.ingest_run(run)
    store.forget(run.name)
    assert store.read(tallies.of_run, run.name) == [] and store.read(tallies.replies, run.name) == []


def test_of_two_judges_of_one_scale_the_one_that_read_last_counts(store: Store, runs_folder: Path):
    records = made_up(prompts=3)
    run = recorded(runs_folder, records)
    later = [
        nouns.judgement(f"2 {r.key}", response_key=r.key, judge="strict", identity="cccc", score=1) for r in records[1]
    ]
    with RunFolder.open(run) as folder:
        for judgement in later:
            folder.record_judgement(judgement)
    store.ingest_run(run)
    found = board_of(store, run)
    assert found.judges["safety"] == ("strict", "cccc") and found.judges["refusal"] == ("embedded", "bbbb")
    assert found.rate("base", "violation", ["careful"]).value == 1.0


def test_two_judgings_of_the_same_responses_are_counted_by_both_scores(store: Store, runs_folder: Path):
    records = made_up(prompts=6)
    run = recorded(runs_folder, records)
    again = [
        nouns.judgement(f"again {j.key}", response_key=j.response_key, judge="strict", identity="cccc", score=1)
        for j in records[2]
        if j.scale == "safety"
    ]
    with create_run(runs_folder, "judging", {"source": run.name}, {}) as other:
        for prompt in records[0]:
            other.record_prompt(prompt)
        for response in records[1]:
            other.record_response(response)
        for judgement in again:
            other.record_judgement(judgement)
    store.ingest_all()
    cells = store.read(pairs.judge_matrix, (run.name, "bbbb"), (other.path.name, "cccc"), "safety", ["careful"])
    about = {r.key for r in records[1] if r.prompt_id.startswith("careful")}
    scored = [j.score for j in records[2] if j.scale == "safety" and j.response_key in about]
    assert {cell.second for cell in cells} == {1}
    assert {cell.first: cell.count for cell in cells} == {score: scored.count(score) for score in set(scored)}
    offered = store.read(pairs.judgings_of_the_same, run.name)
    assert [(j.run_id, j.judge) for j in offered] == [(other.path.name, "strict"), (run.name, "embedded")]


def test_a_pair_opens_with_both_responses_and_what_the_judge_said(store: Store, runs_folder: Path):
    records = made_up(prompts=6)
    run = recorded(runs_folder, records)
    store.ingest_run(run)
    prompt = records[0][1]
    found = store.read(pairs.opened, run.name, prompt.id, "base", "mine-x0")
    assert found is not None and found.prompt == prompt
    kept = {r.model: r for r in records[1] if r.prompt_id == prompt.id}
    assert (found.left, found.right) == (kept.get("base"), kept.get("mine-x0"))
    assert {j.response_key for j in found.judgements} <= {r.key for r in (found.left, found.right) if r}
    assert store.read(pairs.opened, run.name, "no such prompt", "base", "mine-x0") is None


def test_of_a_conversation_the_last_reply_counts(store: Store, runs_folder: Path):
    said = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    records = (
        [nouns.prompt("p1", suite="careful")],
        [nouns.response("second", messages=said), nouns.response("first", messages=said[:1])],
        [nouns.judgement("j2", response_key="second", score=5), nouns.judgement("j1", response_key="first", score=1)],
    )
    run = recorded(runs_folder, records)
    store.ingest_run(run)
    found = board_of(store, run)
    assert (
        found.rate("general", "violation", ["careful"]).value
        == results(*records, ("general",), METRICS).models[0].overall.violation_rate.value
        == 0.0
    )


def test_a_sweep_is_one_curve_and_needs_a_rate_beside_safety(store: Store, runs_folder: Path):
    run = recorded(runs_folder, made_up())
    only_safety = [p for p in made_up()[0] if p.suite == "careful"]
    recorded(runs_folder, (only_safety, *made_up()[1:]))
    store.ingest_all()
    points = trade_off(store.read(tallies.balances, [*METRICS]), METRICS)
    assert {(p.run_id, p.model, p.sweep, p.step) for p in points} == {
        (run.name, "base", None, 0), (run.name, "mine-x0", "mine", 0), (run.name, "mine-x16", "mine", 16),
    }  # fmt: skip
    counted = board_of(store, run)
    for point in points:
        assert point.violation == counted.rate(point.model, "violation", ["careful"]).value
        assert point.refusal == counted.rate(point.model, "refusal", ["edge"]).value
        assert point.usefulness == pytest.approx(counted.rate(point.model, "usefulness", ["general"]).value)


def test_a_point_may_lack_what_nobody_judged(store: Store, runs_folder: Path):
    asked, replies, read = made_up()
    run = recorded(runs_folder, ([p for p in asked if p.suite in ("careful", "general")], replies, read))
    store.ingest_run(run)
    points = trade_off(store.read(tallies.balances, [*METRICS]), METRICS)
    assert len(points) == 3
    assert all(point.refusal is None and 1 <= (point.usefulness or 0) <= 10 for point in points)


def test_conversations_and_trainings_are_not_counted(store: Store, runs_folder: Path):
    with create_run(runs_folder, "chat", {}, {}) as chat:
        chat.record_prompt(nouns.prompt())
        chat.record_response(nouns.response())
        chat.record_judgement(nouns.judgement())
    store.ingest_all()
    assert store.read(runs.counts, chat.path.name)["judgements"] == 1
    assert store.read(tallies.of_run, chat.path.name) == []
