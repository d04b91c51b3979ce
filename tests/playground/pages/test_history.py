"""The History page over a true chat log and index."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import pytest

from evaluation.journal import DiskRefused
from playground.pages import Services, asking, browse, build_app, history
from playground.pages.conversation import Session
from playground.pages.history import ANY, Desk
from playground.pages.text import say
from tests.fakes import REPLIES, FakeEngine
from tests.playground.pages.visitor import LINE, Visitor

NO_FILTER = ("", ANY, ANY, "ja")


def listed(services: Services, *where: str) -> str:
    return history.show(services, Desk(), *(where or NO_FILTER))[0]


def chat(services: Services, question: str = LINE, vote: str | None = None, judge: bool = False) -> Visitor:
    visitor = Visitor(services)
    visitor.ask(question)
    if judge:
        visitor.judge()
    if vote:
        visitor.vote(vote)
    return visitor


def opened(services: Services, run_id: str | None) -> str:
    return history.show(services, Desk(run_id=run_id), *NO_FILTER)[4]


def test_a_model_that_came_after_the_page_was_drawn_can_be_filtered_by(serve: Callable[..., Services]):
    replies = {**REPLIES}
    app = build_app(serve(engine=FakeEngine(replies=replies)))
    replies["mine"] = "答え"
    drawn = [(event, [getattr(part, "elem_id", "") for part in event.outputs]) for event in app.fns.values()]
    (event,) = (event for event, outputs in drawn if outputs == ["history-model"])
    assert {str(kind) for _, kind in event.targets} == {"select"}
    assert ("mine", "mine") in event.fn("ja")["choices"]  # type: ignore[misc]


def test_an_empty_history_says_how_to_fill_it(services: Services):
    assert say("ja", "history.empty") in listed(services)


def test_a_finished_turn_is_listed_with_both_scores_and_the_vote(services: Services):
    chat(services, judge=True, vote="right")
    row = listed(services)
    assert LINE in row and "2 / 5" in row and "5 / 5" in row and say("ja", "vote.right") in row


def test_history_is_there_after_a_restart(serve: Callable[..., Services]):
    before = serve()
    visitor = chat(before, judge=True, vote="tie")
    run_id = visitor.session.conversation.log_id
    after = serve()
    assert after.store is not before.store
    conversation = opened(after, run_id)
    assert REPLIES["general"] in conversation and REPLIES["answercarefully-sample"] in conversation
    assert say("ja", "score.5") in conversation and say("ja", "vote.tie") in conversation


def test_a_conversation_shows_every_turn_in_order(services: Services):
    visitor = chat(services)
    visitor.ask("もっと詳しく")
    conversation = opened(services, visitor.session.conversation.log_id)
    assert conversation.index(LINE) < conversation.index("もっと詳しく")
    assert say("ja", "history.turns", count=2) in conversation


def test_both_sides_failing_is_kept_too(serve: Callable[..., Services]):
    services = serve(engine=FakeEngine(failing=frozenset({"general", "answercarefully-sample"})))
    visitor = chat(services)
    assert "メモリが足りなくなりました" in opened(services, visitor.session.conversation.log_id)


@pytest.mark.parametrize(
    ("where", "there"),
    [
        pytest.param(("勝手に読", ANY, ANY, "ja"), True, id="part of the question"),
        pytest.param(("不正アクセス", ANY, ANY, "ja"), True, id="part of a reply"),
        pytest.param(("見当たらない語", ANY, ANY, "ja"), False, id="no such words"),
        pytest.param(("", "general", ANY, "ja"), True, id="model"),
        pytest.param(("", "base", ANY, "ja"), False, id="model that did not answer"),
        pytest.param(("", ANY, "right", "ja"), True, id="vote"),
        pytest.param(("", ANY, "left", "ja"), False, id="other vote"),
    ],
)
def test_search_and_filters_narrow_the_list(services: Services, where: tuple[str, ...], there: bool):
    chat(services, vote="right")
    assert (LINE in listed(services, *where)) is there
    assert (say("ja", "history.none") in listed(services, *where)) is not there


def test_a_long_history_is_shown_in_pages(services: Services, monkeypatch):
    monkeypatch.setattr(history, "PER_PAGE", 2)
    for number in range(3):
        chat(services, f"質問その{number}")
    desk = Desk()
    first = history.show(services, desk, *NO_FILTER)[0]
    second = history.turn_page(services, 1, desk, *NO_FILTER)[0]
    assert "質問その2" in first and "質問その1" in first and "質問その0" not in first  # the newest first
    assert "質問その0" in second


def test_a_conversation_that_is_gone_cannot_be_opened(services: Services):
    with pytest.raises(gr.Error, match="もうありません"):
        history.open_conversation(services, Desk(), *NO_FILTER, "../../etc")


def test_deleting_takes_two_steps_and_leaves_nothing(services: Services, tmp_path: Path):
    visitor = chat(services)
    run_id = visitor.session.conversation.log_id
    assert run_id is not None
    desk = Desk(run_id=run_id)
    with pytest.raises(gr.Error):
        history.delete(services, visitor.session, desk, *NO_FILTER)
    history.ask_to_delete(services, True, desk, *NO_FILTER)
    history.delete(services, visitor.session, desk, *NO_FILTER)
    assert LINE not in listed(services)
    assert not (tmp_path / "runs" / run_id).exists()


def test_keeping_it_after_all_deletes_nothing(services: Services):
    visitor = chat(services)
    desk = Desk(run_id=visitor.session.conversation.log_id)
    history.ask_to_delete(services, True, desk, *NO_FILTER)
    history.ask_to_delete(services, False, desk, *NO_FILTER)
    with pytest.raises(gr.Error):
        history.delete(services, visitor.session, desk, *NO_FILTER)
    assert LINE in listed(services)


def test_after_deleting_the_conversation_on_compare_the_next_turn_is_kept_anew(services: Services):
    visitor = chat(services)
    desk = Desk(run_id=visitor.session.conversation.log_id, confirming=True)
    history.delete(services, visitor.session, desk, *NO_FILTER)
    visitor.ask("続きの質問")
    assert "続きの質問" in listed(services)
    assert visitor.session.problem == ""


def test_after_deleting_it_while_a_question_is_refused_the_next_turn_is_kept_anew(serve: Callable[..., Services]):
    services = serve(engine=FakeEngine(longest=300))
    visitor = chat(services)
    visitor.box = "長" * 400
    visitor.begin()
    desk = Desk(run_id=visitor.session.conversation.log_id, confirming=True)
    history.delete(services, visitor.session, desk, *NO_FILTER)
    visitor.stream()
    visitor.settle()
    visitor.ask("続きの質問")
    assert "続きの質問" in listed(services)


def test_a_past_question_goes_back_to_compare_with_its_reference(services: Services):
    session = Session()
    shelf = browse.Shelf(prompt_id="sample-test-01-a")
    visitor = Visitor(services)
    visitor.box = browse.use(services, shelf, visitor.session, "sample-test", "ja")[0]
    visitor.ask()
    box, tabs = history.use(services, Desk(run_id=visitor.session.conversation.log_id), session, "ja")
    assert session.prompt is not None
    assert (session.prompt.id, session.prompt.question) == ("sample-test-01-a", box)
    assert session.prompt.reference and tabs.selected == "compare"


def test_a_full_disk_does_not_take_the_answer_from_the_screen(services: Services, tmp_path: Path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(asking.gr, "Warning", lambda words, **_: said.append(words))
    visitor = chat(services)
    shutil.rmtree(tmp_path / "runs")  # as a folder removed behind our back
    visitor.ask("続き")
    assert visitor.texts() == (REPLIES["general"], REPLIES["answercarefully-sample"])
    assert len(said) == 1
    with pytest.raises(gr.Error, match="保存できなかった"):
        visitor.vote("left")


def test_a_vote_that_could_not_be_written_can_be_given_again(services: Services, monkeypatch):
    visitor = chat(services)
    add_rating = services.chat.add_rating
    monkeypatch.setattr(services.chat, "add_rating", lambda *_: (_ for _ in ()).throw(DiskRefused("The disk is full.")))
    with pytest.raises(gr.Error, match="disk is full"):
        visitor.vote("left")
    monkeypatch.setattr(services.chat, "add_rating", add_rating)
    visitor.vote("right")
    assert say("ja", "vote.right") in listed(services)


@pytest.mark.parametrize("created_at", ["", "yesterday", "<b>"])
def test_a_time_that_is_none_is_shown_as_it_is(created_at: str):
    assert history.when(created_at) == created_at
