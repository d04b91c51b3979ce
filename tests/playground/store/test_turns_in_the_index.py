"""Conversations in the index: the numbers of `evaluation.benchmark.results`, and each turn in the drill-down."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.benchmark.results import BenchResults, results
from evaluation.journal import create_run
from evaluation.types import Prompt
from playground.scoreboard import Board, board, paired
from playground.store import Store, pairs, tallies
from playground.store.pairs import Question
from tests import nouns
from tests.evaluation.benchmark.benching import METRICS, MODELS, Bench, Scorer, Writer, asked, respond

SUITES = tuple(METRICS)
EVERY = frozenset({"safety", "refusal", "usefulness"})


def spoken(suite: str, n: int) -> Prompt:
    turns = tuple(f"{suite}{n}の{turn}つ目の問い" for turn in range(2, 2 + n % 3))
    return Prompt(f"{suite}-{n}", f"{suite}{n}の一つ目の問い", turns=turns, suite=suite)


@pytest.fixture
def bench(runs_folder: Path) -> Bench:
    """Conversations of one to three turns on every scale; some end before their last turn, some attempts are unread."""

    def reply(request):
        broken = request.prompt.id.endswith("5") and request.turn == 2
        return respond(request, text="" if broken else f"{request.key}の返事", finish_reason="stop")

    prompts = [spoken(suite, n) for suite in SUITES for n in range(12)]
    settings = asked(suites=SUITES, attempts=2)
    made = Bench(runs_folder, settings, prompts, Writer(change=reply), [Scorer("all", EVERY)])
    made.sit()
    return made


def counted(store: Store, bench: Bench) -> tuple[Board, BenchResults]:
    assert bench.path is not None
    store.ingest_run(bench.path)
    run_id = bench.path.name
    found = store.read(tallies.of_run, run_id), store.read(tallies.replies, run_id)
    expected = results(bench.prompts, bench.responses.values(), bench.judgements.values(), MODELS, METRICS)
    return board(*found, MODELS, METRICS), expected


def test_conversations_have_the_numbers_of_the_results(store: Store, bench: Bench):
    found, expected = counted(store, bench)
    for model in expected.models:
        overall = model.overall
        for figure, rate in (
            ("violation", overall.violation_rate), ("acceptable", overall.acceptable_rate),
            ("refusal", overall.refusal_rate), ("usefulness", overall.usefulness),
        ):  # fmt: skip
            mine = found.rate(model.model, figure, found.suites(figure))  # type: ignore[arg-type]
            assert rate is not None and (mine.judged, mine.missing) == (rate.judged, rate.missing)
            assert [mine.value, mine.low, mine.high] == pytest.approx([rate.value, rate.low, rate.high])
        assert dict(found.outcomes(model.model)) == {name: n for name, n in overall.outcomes.items() if n}
        assert +found.verdicts(model.model) == {name: n for name, n in overall.verdicts.items() if n}


@pytest.mark.parametrize(("scale", "suite"), [("usefulness", "chat"), ("refusal", "edge"), ("safety", "mine")])
def test_conversations_are_paired_as_in_the_results(store: Store, bench: Bench, scale: str, suite: str):
    _, expected = counted(store, bench)
    (comparison,) = expected.comparisons
    theirs = {"usefulness": comparison.usefulness, "refusal": comparison.refusal, "safety": comparison.violation}[scale]
    assert bench.path is not None and theirs is not None
    question = Question(bench.path.name, bench.judges[0].identity, scale, (suite,), *MODELS)  # type: ignore[arg-type]
    mine = paired(store.read(pairs.tallies, question))
    assert mine.violation.pairs == theirs.pairs > 0
    if scale == "usefulness":
        assert [mine.left_mean, mine.right_mean] == pytest.approx([theirs.left, theirs.right])
    else:
        assert [mine.violation.left, mine.violation.p_value] == pytest.approx([theirs.left, theirs.p_value])


def test_a_conversation_opens_with_every_turn_and_what_the_judge_said_of_it(store: Store, bench: Bench):
    assert bench.path is not None
    store.ingest_run(bench.path)
    found = store.read(pairs.opened, bench.path.name, "chat-2", *MODELS)
    assert found is not None and found.left is not None and len(found.left.messages) == 5
    for model, end in zip(MODELS, (found.left, found.right), strict=True):
        assert end is not None
        before = found.earlier[model]
        assert [len(reply.messages) for reply in before] == [1, 3]
        assert [m.content for m in end.messages if m.role == "assistant"] == [reply.text for reply in before]
        assert {reply.key for reply in (*before, end)} <= {said.response_key for said in found.judgements}


@pytest.mark.parametrize("doubled", ["nothing", "a reply", "a reading"])
def test_of_replies_to_one_turn_and_of_readings_of_one_reply_the_last_counts(
    store: Store, runs_folder: Path, doubled: str
):
    """What has nothing twice is counted on a shorter way; the numbers are the same."""
    prompt = nouns.prompt("mine-0", suite="mine")
    replies = [nouns.response("first", prompt_id=prompt.id, model="left", messages=prompt.messages())]
    read = [nouns.judgement("of the first", response_key="first", score=1)]
    if doubled == "a reply":
        replies.append(nouns.response("second", prompt_id=prompt.id, model="left", messages=prompt.messages()))
        read.append(nouns.judgement("of the second", response_key="second", score=5))
    if doubled == "a reading":
        read.append(nouns.judgement("again", response_key="first", score=5, attempt=1))
    with create_run(runs_folder, "benchmark", {"models": ["left"]}, {}) as run:
        run.record_prompt(prompt)
        for reply in replies:
            run.record_response(reply)
        for judgement in read:
            run.record_judgement(judgement)
    store.ingest_run(run.path)
    counts = store.read(tallies.of_run, run.path.name)
    expected = results([prompt], replies, read, ["left"], METRICS).models[0].overall.mean_score
    assert [(tally.scores, tally.prompts) for tally in counts] == [((int(expected.value or 0),), 1)]
    assert sum(reply.count for reply in store.read(tallies.replies, run.path.name)) == 1
