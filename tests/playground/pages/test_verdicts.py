"""What a judge and a person say about two answers, from a visitor's side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import gradio as gr
import pytest

from evaluation.errors import AccessMissing
from playground.pages import Services, asking, compare
from playground.pages.access import Access
from playground.pages.text import say
from playground.profiles import profile
from tests.fakes import FakeEngine, FakeJudge
from tests.playground.pages.visitor import SUITE_PROMPT, Visitor

# ---- judging ----


def test_a_judge_scores_both_sides_with_the_reference_of_the_prompt(serve: Callable[..., Services]):
    judge = FakeJudge()
    visitor = Visitor(serve(judges=[judge]))
    visitor.box = asking.pick(visitor.session, SUITE_PROMPT)
    visitor.ask()
    left, right = visitor.judge()[-1]
    assert "<b>2</b>" in left and say("ja", "score.2") in left
    assert "<b>5</b>" in right and say("ja", "score.5") in right
    assert [exchange.prompt.reference for exchange in judge.seen] == ["よいでしょう。"] * 2


def test_verdicts_arrive_one_by_one(serve: Callable[..., Services]):
    visitor = Visitor(serve(judges=[FakeJudge(delay_s=0.01)]))
    visitor.ask()
    cards = visitor.judge()
    assert any("<b>2</b>" in left and say("ja", "judge.running") in right for left, right in cards)


@pytest.mark.parametrize("missing", ["unparsed", "judge_refused", "unreachable", "not_run"])
def test_a_missing_verdict_is_words_and_never_a_number(serve: Callable[..., Services], missing: str):
    visitor = Visitor(serve(judges=[FakeJudge(missing=missing)]))
    visitor.ask()
    left, _ = visitor.judge()[-1]
    assert say("ja", f"missing.{missing}") in left
    assert 'class="score"' not in left


def test_the_embedded_judge_says_that_it_is_rough_and_a_paid_one_what_it_cost(services: Services):
    visitor = Visitor(services)
    visitor.ask()
    embedded = visitor.judge("embedded")[-1][0]
    paid = visitor.judge("openai:gpt-4o-2024-08-06")[-1][0]
    assert say("ja", "judge.rough") in embedded and "$" not in embedded
    assert say("ja", "judge.rough") not in paid and "$0.0027" in paid and "812" in paid


def test_a_judge_that_cannot_work_is_one_line_where_the_verdicts_would_be(serve: Callable[..., Services]):
    visitor = Visitor(serve(judges=[FakeJudge(failure=AccessMissing("Set PLAYGROUND_OPENAI_API_KEY in .env."))]))
    visitor.ask()
    assert ["PLAYGROUND_OPENAI_API_KEY" in card for card in visitor.judge()[-1]] == [True, True]


def test_a_judge_that_is_not_offered_cannot_be_asked(services: Services):
    visitor = Visitor(services)
    visitor.ask()
    assert "openai:other" in visitor.judge("openai:other")[-1][0]


def test_judging_is_automatic_only_when_wanted(services: Services):
    visitor = Visitor(services)
    visitor.ask()
    assert list(compare.judge_automatically(services, visitor.session, "ja", "embedded", False)) == []
    assert list(compare.judge_automatically(services, visitor.session, "ja", "embedded", True))


def test_only_what_a_judge_reads_counts_against_the_rates(services: Services):
    access = Access(replace(profile("replay"), requests_per_minute=2))
    visitor = Visitor(replace(services, access=access))
    visitor.ask()
    given = visitor.services, visitor.session, "ja", "embedded"
    for _ in range(5):
        access.admit("compare.judge_automatically", "ja")
        assert list(compare.judge_automatically(*given, False)) == []
    for _ in range(2):
        access.admit("compare.judge_automatically", "ja")
        assert list(compare.judge_automatically(*given, True))
    with pytest.raises(gr.Error, match="1 分に 2 回"):
        list(compare.judge_automatically(*given, True))


def test_a_refused_question_does_not_have_the_answers_before_it_judged_again(serve: Callable[..., Services]):
    judge = FakeJudge()
    visitor = Visitor(serve(engine=FakeEngine(longest=300), judges=[judge]))
    for question in ("眠れない夜が続きます。", "続" * 200, "どうすればよい？"):
        visitor.ask(question)
        list(compare.judge_automatically(visitor.services, visitor.session, "ja", "embedded", True))
    assert [exchange.prompt.question for exchange in judge.seen] == ["眠れない夜が続きます。"] * 2 + [
        "どうすればよい？"
    ] * 2


def test_judging_before_there_is_an_answer_says_so(services: Services):
    with pytest.raises(gr.Error, match="まだ回答がありません"):
        Visitor(services).judge()


def test_verdicts_of_a_question_that_is_gone_are_kept_but_not_drawn(serve: Callable[..., Services]):
    visitor = Visitor(serve(judges=[FakeJudge(delay_s=0.05)]))
    first = visitor.ask()
    cards = compare.judge_now(visitor.services, visitor.session, "ja", "embedded")
    next(cards)
    visitor.ask("次の質問")
    assert list(cards)[-1] == compare.NO_CHANGE
    assert first is not None and first.responses["left"].key in visitor.session.judgements


def test_a_verdict_is_kept_when_the_visitor_leaves_while_it_is_made(serve: Callable[..., Services]):
    visitor = Visitor(serve(judges=[FakeJudge(delay_s=0.05)]))
    turn = visitor.ask()
    cards = compare.judge_now(visitor.services, visitor.session, "ja", "embedded")
    next(cards), next(cards)  # "judging", then the left verdict
    cards.close()
    deadline = time.monotonic() + 10
    while len(visitor.session.judgements) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert turn is not None and turn.responses["right"].key in visitor.session.judgements


# ---- voting ----


def test_votes_open_when_both_sides_have_finished_and_close_after_one(services: Services):
    visitor = Visitor(services)
    visitor.begin()
    assert visitor.vote_buttons == {False}
    visitor.stream()
    visitor.settle()
    assert visitor.vote_buttons == {True}
    updates = visitor.vote("right")
    assert {update["interactive"] for update in updates[:4]} == {False}
    assert say("ja", "vote.right") in updates[4]
    with pytest.raises(gr.Error):
        visitor.vote("left")


def test_a_pair_with_a_failed_side_cannot_be_voted_on(serve: Callable[..., Services]):
    visitor = Visitor(serve(engine=FakeEngine(failing=frozenset({"general"}))))
    visitor.ask()
    assert visitor.vote_buttons == {False}
    with pytest.raises(gr.Error):
        visitor.vote("right")


def test_a_vote_must_be_one_of_the_four(services: Services):
    visitor = Visitor(services)
    visitor.ask()
    with pytest.raises(gr.Error):
        visitor.vote("<script>")


def test_a_vote_while_a_judge_reads_is_not_lost(serve: Callable[..., Services]):
    visitor = Visitor(serve(judges=[FakeJudge(delay_s=0.02)]))
    turn = visitor.ask()
    cards = compare.judge_now(visitor.services, visitor.session, "ja", "embedded")
    next(cards)
    visitor.vote("tie")
    list(cards)
    assert turn is not None
    assert visitor.session.choices[turn.id] == "tie"
    assert turn.responses["left"].key in visitor.session.judgements
