"""The Compare page from a visitor's side, with fakes behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import gradio as gr
import pytest

from playground.pages import Services, asking, compare, screen
from playground.pages.conversation import SIDES
from playground.pages.lanes import Lanes
from playground.pages.text import say
from tests.fakes import REPLIES, FakeEngine, FakeReadiness, identity_of
from tests.playground.pages.visitor import LINE, SUITE_PROMPT, USUAL, Visitor, settings_sent

# ---- asking and streaming ----


def test_one_click_streams_both_sides_at_once_and_keeps_their_replies_apart(services: Services, engine: FakeEngine):
    visitor = Visitor(services)
    visitor.ask()
    assert visitor.texts() == (REPLIES["general"], REPLIES["answercarefully-sample"])
    assert [request.model for request in engine.requests] == ["general", "answercarefully-sample"]
    both = [panes for panes in visitor.panes if panes[0]["text"] and panes[1]["text"]]
    assert any(not left["after"].count("完了") and not right["after"].count("完了") for left, right in both)


def test_updates_are_coalesced_so_that_the_page_is_not_redrawn_per_token(serve: Callable[..., Services]):
    long = FakeEngine(replies={"general": "あ" * 3000, "answercarefully-sample": "い" * 3000})
    visitor = Visitor(serve(engine=long), values=(0.7, 0.95, 2048, 0, "") * 2)
    visitor.ask()
    tokens = 1000
    assert visitor.texts() == ("あ" * 3000, "い" * 3000)
    assert len(visitor.panes) < tokens / 2


def test_each_response_carries_the_identity_of_the_weights_that_answered(services: Services):
    turn = Visitor(services).ask()
    assert turn is not None
    assert [turn.responses[side].identity for side in SIDES] == [
        identity_of("general").digest,
        identity_of("answercarefully-sample").digest,
    ]


def test_a_reply_by_other_weights_than_the_chosen_ones_is_refused(serve: Callable[..., Services]):
    swapped = FakeEngine(answered_by={"answercarefully-sample": "general"})
    visitor = Visitor(serve(engine=swapped))
    assert visitor.ask() is None
    assert identity_of("general").digest in visitor.session.problem


def test_a_failing_side_leaves_the_other_side_whole(serve: Callable[..., Services]):
    visitor = Visitor(serve(engine=FakeEngine(failing=frozenset({"general"}))))
    turn = visitor.ask()
    assert turn is not None
    assert turn.responses["left"].finish_reason == "error"
    assert turn.responses["right"].text == REPLIES["answercarefully-sample"]
    left, right = visitor.shown[1:3]
    assert "メモリが足りなくなりました" in left["after"] and "problem" not in right["after"]


def test_stopping_one_side_lets_the_other_finish(services: Services):
    visitor = Visitor(services)
    visitor.begin()
    panes = compare.stream(visitor.services, visitor.lanes, visitor.session, "ja")
    next(panes)
    compare.stop(visitor.services, ("left",), visitor.session)
    list(panes)
    visitor.settle()
    left, right = visitor.texts()
    assert visitor.session.conversation.last.responses["left"].finish_reason == "cancelled"  # type: ignore[union-attr]
    assert REPLIES["general"].startswith(left) and left != REPLIES["general"]
    assert right == REPLIES["answercarefully-sample"]
    assert say("ja", "status.cancelled") in visitor.shown[1]["after"]


def test_a_stop_pressed_before_the_engine_knows_the_request_still_stops_it(serve: Callable[..., Services]):
    visitor = Visitor(serve(engine=FakeEngine(delay_s=0.005)))
    visitor.begin()
    compare.stop(visitor.services, ("right",), visitor.session)
    visitor.stream()
    turn = visitor.session.conversation.last
    assert turn is not None
    assert turn.responses["right"].finish_reason == "cancelled"
    assert turn.responses["left"].finish_reason == "stop"


def test_both_sides_stopped_while_the_model_loads_give_the_question_back(serve: Callable[..., Services], monkeypatch):
    monkeypatch.setattr(asking, "READY_POLL_S", 0.01)
    engine = FakeEngine()
    visitor = Visitor(serve(engine=engine, readiness=FakeReadiness(loading=10_000)))
    visitor.begin()
    threading.Timer(0.1, compare.stop, [visitor.services, SIDES, visitor.session]).start()
    visitor.stream()
    visitor.settle()
    assert engine.requests == []
    assert visitor.box == LINE


def test_a_question_sent_while_the_model_loads_waits_and_is_then_answered(serve: Callable[..., Services], monkeypatch):
    monkeypatch.setattr(asking, "READY_POLL_S", 0.01)
    visitor = Visitor(serve(readiness=FakeReadiness(loading=3)))
    visitor.ask()
    assert "40%" in visitor.panes[0][0]["before"]
    assert visitor.texts()[0] == REPLIES["general"]


def test_closing_the_page_in_the_middle_frees_the_engine(serve: Callable[..., Services]):
    engine = FakeEngine(delay_s=0.005)
    visitor = Visitor(serve(engine=engine))
    visitor.begin()
    panes = compare.stream(visitor.services, visitor.lanes, visitor.session, "ja")
    next(panes)
    assert engine.active == 1
    panes.close()  # what Gradio does when the browser has gone
    assert engine.active == 0
    assert not visitor.session.running.active
    assert Visitor(visitor.services).ask() is not None


def test_a_second_question_is_refused_while_one_is_being_answered(services: Services):
    visitor = Visitor(services)
    visitor.begin()
    visitor.box = "もうひとつ"
    with pytest.raises(gr.Error, match="生成中"):
        visitor.begin()


def test_a_reply_is_cut_at_the_chosen_number_of_tokens_and_says_so(services: Services):
    visitor = Visitor(services, values=(0.7, 0.95, 5, 0, "", *USUAL))
    visitor.ask()
    assert visitor.texts() == (REPLIES["general"][:15], REPLIES["answercarefully-sample"][:15])
    assert say("ja", "status.length", count=5) in visitor.shown[1]["after"]


# ---- what is refused, and what is not lost ----


def test_a_prompt_past_the_context_is_explained_in_place_and_stays_in_the_box(serve: Callable[..., Services]):
    visitor = Visitor(serve(engine=FakeEngine(longest=100)))
    visitor.ask("長" * 150)
    assert visitor.box == "長" * 150
    assert "100 字以内" in visitor.session.problem
    assert any(isinstance(part, str) and "100 字以内" in part for part in visitor.shown)


def test_a_refused_follow_up_leaves_the_earlier_answers_on_the_page(serve: Callable[..., Services]):
    visitor = Visitor(serve(engine=FakeEngine(longest=300)))
    visitor.ask()
    visitor.ask("続" * 200)
    assert visitor.texts() == (REPLIES["general"], REPLIES["answercarefully-sample"])
    assert visitor.shown[1]["text"] == REPLIES["general"]


def test_what_was_typed_meanwhile_is_not_replaced_by_a_refused_question(serve: Callable[..., Services]):
    visitor = Visitor(serve(engine=FakeEngine(longest=100)))
    visitor.box = "長" * 150
    visitor.begin()
    visitor.stream()
    visitor.box = "次の質問"
    visitor.settle()
    assert visitor.box == "次の質問"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"box": "  \n "}, "空", id="empty question"),
        pytest.param({"box": "字" * (asking.LONGEST_QUESTION + 1)}, "8,001", id="question over the limit"),
        pytest.param({"left": "unknown"}, "unknown", id="model that is not here"),
        pytest.param({"values": (9, 0.95, 256, 0, "", *USUAL)}, "temperature", id="temperature too high"),
        pytest.param(
            {"values": (float("nan"), 0.95, 256, 0, "", *USUAL)}, "temperature", id="temperature not a number"
        ),
        pytest.param({"values": (0.7, 0, 256, 0, "", *USUAL)}, "top_p", id="top_p zero"),
        pytest.param({"values": (0.7, 0.95, 10**9, 0, "", *USUAL)}, "最大トークン数", id="too many tokens"),
        pytest.param({"values": (0.7, 0.95, 256, None, "", *USUAL)}, "乱数シードの値「」", id="no seed"),
        pytest.param({"values": (0.7, 0.95, 256, 0, "字" * 2001, *USUAL)}, "2,001", id="system prompt over the limit"),
    ],
)
def test_what_a_browser_may_send_is_checked_here(services: Services, engine: FakeEngine, change: dict, words: str):
    visitor = Visitor(services, **change)
    with pytest.raises(gr.Error, match=words):
        visitor.begin()
    assert engine.requests == []
    assert visitor.session.conversation.turns == ()


def test_an_alert_cannot_carry_html_of_a_visitor(services: Services):
    with pytest.raises(gr.Error) as caught:
        Visitor(services, left="<img src=x onerror=alert(1)>").begin()
    assert "<img" not in str(caught.value)


def test_an_unexpected_failure_keeps_its_traceback_in_the_log_and_shows_one_line(
    services: Services, monkeypatch, caplog
):
    def explode(*_: object) -> None:
        raise RuntimeError("secret internals")

    monkeypatch.setattr(services.engine, "stream", explode)
    visitor = Visitor(services)
    visitor.ask()
    assert visitor.session.problem == say("ja", "error.unexpected")
    assert "secret internals" in caplog.text and "Traceback" in caplog.text


# ---- sampling ----


def test_both_sides_get_the_same_settings_while_they_are_locked(services: Services):
    visitor = Visitor(services, values=(0.3, 0.9, 64, 7, "丁寧に", 1.5, 0.5, 32, 9, "乱暴に"))
    left, right = settings_sent(visitor.ask())  # type: ignore[arg-type]
    assert left == right
    assert (left.temperature, left.top_p, left.max_tokens, left.seed, left.system_prompt) == (0.3, 0.9, 64, 7, "丁寧に")


def test_unlocked_settings_differ_by_side(services: Services):
    visitor = Visitor(services, unlocked=True, values=(0.3, 0.9, 64, 7, "", 1.5, 0.5, 32, 9, "別"))
    left, right = settings_sent(visitor.ask())  # type: ignore[arg-type]
    assert (left.temperature, right.temperature) == (0.3, 1.5)
    assert (left.system_prompt, right.system_prompt) == (None, "別")


# ---- several turns ----


def test_user_turns_are_shared_and_each_side_remembers_its_own_replies(services: Services, engine: FakeEngine):
    visitor = Visitor(services)
    visitor.ask()
    visitor.ask("もっと詳しく")
    left, right = engine.requests[2:]
    assert [m.content for m in left.messages] == [LINE, REPLIES["general"], "もっと詳しく"]
    assert [m.content for m in right.messages] == [LINE, REPLIES["answercarefully-sample"], "もっと詳しく"]


def test_a_turn_that_one_side_did_not_answer_is_in_neither_history(serve: Callable[..., Services]):
    engine = FakeEngine(replies={"general": "", "answercarefully-sample": "答え"})
    visitor = Visitor(serve(engine=engine))
    visitor.ask()
    visitor.ask("次")
    assert [[m.content for m in request.messages] for request in engine.requests[2:]] == [["次"], ["次"]]
    assert visitor.session.problem == ""


def test_a_question_asked_anew_after_it_was_not_answered_is_kept_with_its_answers(serve: Callable[..., Services]):
    engine = FakeEngine(replies={**REPLIES, "general": ""})
    visitor = Visitor(serve(engine=engine))
    visitor.ask()
    engine.replies = REPLIES
    visitor.ask(LINE)
    assert [request.sampling.seed for request in engine.requests] == [0, 0, 0, 0]
    kept = visitor.services.chat.page().entries
    assert [entry.left.response.text for entry in kept] == [REPLIES["general"], ""]


def test_answering_again_is_a_new_attempt_with_another_seed(services: Services, engine: FakeEngine):
    visitor = Visitor(services)
    first = visitor.ask()
    visitor.begin(repeat=True)
    visitor.stream()
    visitor.settle()
    second = visitor.session.conversation.last
    assert first is not None and second is not None
    assert len(visitor.session.conversation.turns) == 1
    assert first.responses["left"].key != second.responses["left"].key
    assert [request.sampling.seed for request in engine.requests] == [0, 0, 1, 1]
    assert [m.content for m in engine.requests[2].messages] == [LINE]


def test_a_question_of_a_suite_starts_a_new_conversation(services: Services, engine: FakeEngine):
    visitor = Visitor(services)
    visitor.ask()
    visitor.box = asking.pick(visitor.session, SUITE_PROMPT)
    turn = visitor.ask()
    assert turn is not None and turn.prompt is SUITE_PROMPT
    assert [m.content for m in engine.requests[-1].messages] == [SUITE_PROMPT.question]


def test_an_edited_question_of_a_suite_is_no_longer_that_prompt(services: Services):
    visitor = Visitor(services)
    asking.pick(visitor.session, SUITE_PROMPT)
    turn = visitor.ask(SUITE_PROMPT.question + "理由も。")
    assert turn is not None
    assert (turn.prompt.suite, turn.prompt.reference) == ("", None)


def test_a_new_conversation_stops_what_runs_and_forgets_what_was_said(serve: Callable[..., Services]):
    engine = FakeEngine()
    visitor = Visitor(serve(engine=engine))
    visitor.begin()
    panes = compare.stream(visitor.services, visitor.lanes, visitor.session, "ja")
    next(panes)
    compare.new_conversation(visitor.services, visitor.session, "ja")
    assert [*panes][-1] == compare.NO_CHANGE
    visitor.settle()
    assert visitor.session.conversation.turns == ()
    assert engine.active == 0
    assert visitor.session.problem == ""


@pytest.mark.parametrize("press", ["stop", "new"])
def test_a_question_sent_before_a_stopped_one_has_ended_is_answered(serve: Callable[..., Services], press: str):
    visitor = Visitor(serve(engine=FakeEngine(delay_s=0.05)))
    visitor.ask("最初の質問")
    visitor.box = "止める質問"
    visitor.begin()
    stopped = compare.stream(visitor.services, visitor.lanes, visitor.session, "ja")
    next(stopped)
    if press == "stop":
        compare.stop(visitor.services, SIDES, visitor.session)
    else:
        compare.new_conversation(visitor.services, visitor.session, "ja")
    visitor.box = "次の質問"
    visitor.begin()
    assert [*stopped][-1] == compare.NO_CHANGE
    shown = compare.settle(visitor.session, "ja", False)
    assert shown[0] == shown[1] == gr.skip() and len(shown) == len(visitor.shown) - 1
    visitor.stream()
    visitor.settle()
    turns = visitor.session.conversation.turns
    before = ["最初の質問"] if press == "stop" else []
    assert [turn.prompt.question for turn in turns] == [*before, "次の質問"]
    assert visitor.texts() == (REPLIES["general"], REPLIES["answercarefully-sample"]) and visitor.box == ""


def test_a_question_sent_anew_from_the_line_waits_in_it_once_more(serve: Callable[..., Services], monkeypatch):
    monkeypatch.setattr(compare, "LINE_S", 0.01)
    engine = FakeEngine()
    visitor = Visitor(serve(engine=engine), lanes=Lanes(1))
    with visitor.lanes.place():
        visitor.begin()
        waiting = compare.stream(visitor.services, visitor.lanes, visitor.session, "ja")
        next(waiting)
        compare.stop(visitor.services, SIDES, visitor.session)
        visitor.box = "次の質問"
        visitor.begin()
        assert [*waiting] == [compare.NO_CHANGE] and engine.requests == []
    visitor.stream()
    assert [request.messages[-1].content for request in engine.requests] == ["次の質問"] * 2


def test_a_question_is_streamed_once_however_often_its_event_is_sent(services: Services, engine: FakeEngine):
    visitor = Visitor(services)
    visitor.stream()
    assert engine.requests == [] and visitor.panes == [compare.NO_CHANGE], "nothing was asked"
    visitor.begin()
    first = compare.stream(services, visitor.lanes, visitor.session, "ja")
    next(first)
    first.close()  # as Gradio's cancel does
    asked = len(engine.requests)
    visitor.stream()
    assert visitor.panes[-1] == compare.NO_CHANGE and len(engine.requests) == asked


# ---- what is shown ----


def test_a_page_that_stays_open_holds_on_to_its_own_conversation_only(services: Services):
    visitor = Visitor(services)
    session = visitor.session
    for question in ("最初の質問", "次の質問"):
        visitor.ask(question)
        visitor.judge()
        visitor.vote("left")
    assert (len(session.pairs), len(session.choices), len(session.judgements)) == (2, 2, 4)
    compare.new_conversation(services, session, "ja")
    assert not (session.pairs or session.choices or session.judgements or session.before.turns)
    turn = visitor.ask("別の質問")
    assert turn is not None and list(session.pairs) == [turn.id]


def test_differences_are_marked_only_when_asked_for(services: Services):
    visitor = Visitor(services)
    visitor.ask()
    assert "<mark" not in screen.answers(visitor.session, False, "ja")[0]["text"]
    left, right = screen.answers(visitor.session, True, "ja")
    assert 'class="only-left"' in left["text"] and 'class="only-right"' in right["text"]


def test_the_page_in_english_has_no_japanese_but_the_texts_of_models(services: Services):
    visitor = Visitor(services, language="en")
    visitor.ask()
    left, _ = visitor.judge()[-1]
    shown = compare.redraw(visitor.session, "en", False)
    status = shown[1]["after"]
    assert "complete" in status and "完了" not in status
    assert "Mild or moderate violation" in left


def test_a_badge_waits_for_the_engine_and_then_names_the_adapter(serve: Callable[..., Services]):
    loading = serve(readiness=FakeReadiness(loading=1))
    assert say("ja", "identity.pending") in screen.badge(loading, "general", "ja")
    badge = screen.badge(loading, "general", "ja")
    adapter = identity_of("general").adapter_sha256
    assert adapter is not None and adapter[:8] in badge and identity_of("general").digest in badge


def test_the_default_pair_is_untuned_against_tuned(services: Services, serve: Callable[..., Services]):
    assert [screen.default_model(services, side) for side in SIDES] == ["general", "answercarefully-sample"]
    other = replace(services, engine=FakeEngine(replies={"openai:a": "x", "openai:b": "y"}))
    assert [screen.default_model(other, side) for side in SIDES] == ["openai:a", "openai:b"]


def test_the_chips_come_from_different_harm_types_of_the_test_set(services: Services):
    kinds = [prompt.category.harm_type for prompt in screen.chip_prompts(services) if prompt.category]
    assert len(kinds) == len(set(kinds)) == len(screen.CHIP_HARMS)
