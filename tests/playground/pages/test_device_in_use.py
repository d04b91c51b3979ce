"""Who has which device: on a GPU an answer waits and says for whom, on the CPU it only says so; two pages list it all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from playground.jobs.chat import ChatClaim
from playground.jobs.leases import DeviceBusy, Holder, Lease
from playground.jobs.waiting import Want
from playground.pages import Services, asking, compare, results, train_watch
from playground.pages.conversation import Turn
from tests.fakes import FakeEngine, FakeJudge, fake_services
from tests.playground.pages.visitor import Visitor

REPLIES = {"general": "はい", "answercarefully-sample": "いいえ", "openai:gpt": "はい", "vllm:llm": "いいえ"}
RUN = "20260101T000000000-abcdef"


@pytest.fixture
def services(tmp_path: Path, monkeypatch) -> Iterator[Services]:
    monkeypatch.setattr(asking, "READY_POLL_S", 0.01)
    services = fake_services(tmp_path, FakeEngine(dict(REPLIES)))
    yield services
    services.store.close()


def taken(home: Path, device: str, kind: str = "training") -> Lease:
    lease = Lease(home, device)
    lease.describe(RUN, kind, os.getpid())
    return lease


def first_words(visitor: Visitor) -> list[str]:
    return [left["before"] for left, _ in visitor.panes if left.get("before")]


def ask_until_told(visitor: Visitor, then: Callable[[], object]) -> Turn | None:
    """Ask; `then` is done once the page has said what the question waits for."""
    visitor.begin()
    panes = compare.stream(visitor.services, visitor.lanes, visitor.session, visitor.language)
    visitor.panes = [next(panes)]
    then()
    visitor.panes += panes
    visitor.settle()
    return visitor.session.conversation.last


@pytest.mark.parametrize(
    ("language", "words"),
    [("ja", f"cuda:0 は学習（実行 {RUN}、"), ("en", f"A training (run {RUN}, since ")],
)
def test_on_a_gpu_the_answer_waits_for_the_run_and_says_so(services, tmp_path, monkeypatch, language, words):
    monkeypatch.setattr(asking, "default_device", lambda: "cuda:0")
    lease = taken(tmp_path, "cuda:0")
    visitor = Visitor(services, language=language)
    turn = ask_until_told(visitor, lease.close)
    assert words in first_words(visitor)[0]
    assert turn is not None and turn.responses["left"].text == "はい"


def test_who_waits_can_stop(services, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "default_device", lambda: "cuda:0")
    visitor = Visitor(services)
    with taken(tmp_path, "cuda:0"):
        visitor.begin()
        threading.Timer(0.2, lambda: visitor.session.running.stop(services.engine, ("left", "right"))).start()
        visitor.stream()
    assert services.engine.requests == []


def test_a_model_that_computes_elsewhere_waits_for_nobody(services, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "default_device", lambda: "cuda:0")
    with taken(tmp_path, "cuda:0"):
        visitor = Visitor(services, left="openai:gpt", right="vllm:llm")
        turn = visitor.ask()
    assert turn is not None and turn.responses["left"].text == "はい"
    assert not any(RUN in words for words in first_words(visitor))


@pytest.mark.parametrize(
    ("kind", "language", "words"),
    [
        ("training", "ja", "学習が動いているため"),
        ("benchmark", "en", "because a benchmark is running"),
        ("moonshine", "en", "because other work is running"),
    ],
)
def test_on_the_cpu_it_answers_and_says_why_it_is_slow(services, tmp_path, monkeypatch, kind, language, words):
    monkeypatch.setattr(asking, "default_device", lambda: "cpu")
    with taken(tmp_path, "cpu", kind):
        visitor = Visitor(services, language=language)
        turn = visitor.ask()
    assert words in first_words(visitor)[0]
    assert turn is not None and turn.responses["left"].text == "はい"


def test_on_a_gpu_a_question_lets_a_run_that_waits_go_first(services, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "default_device", lambda: "cuda:0")
    want = Want(tmp_path, "cuda:0", "training", RUN)
    visitor = Visitor(services, language="en")
    turn = ask_until_told(visitor, want.close)
    assert f"A training (run {RUN}" in first_words(visitor)[0] and "is next on cuda:0" in first_words(visitor)[0]
    assert turn is not None and turn.responses["left"].text == "はい"


def test_chat_of_this_app_is_not_in_its_own_way(services, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "default_device", lambda: "cuda:0")
    chat = ChatClaim(tmp_path, "cuda:0")
    chat.take()
    turn = Visitor(services).ask()
    assert turn is not None and turn.responses["left"].text == "はい"
    chat.let_go()


def test_another_chat_is_waited_for_by_name(services, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "default_device", lambda: "cuda:0")
    lease = Lease(tmp_path, "cuda:0")
    lease.describe(None, "chat", 1)
    visitor = Visitor(services, language="en")
    ask_until_told(visitor, lease.close)
    assert "Another chat (process 1, since " in first_words(visitor)[0]


def test_when_a_run_was_faster_the_question_is_given_back_with_the_reason(services, tmp_path, monkeypatch):
    def taken_meanwhile(requests):
        raise DeviceBusy("cuda:0 is in use.", Holder("cuda:0", RUN, "training", 7, "2026-01-01T00:00:00+00:00"))

    monkeypatch.setattr(services.engine, "stream", taken_meanwhile)
    visitor = Visitor(services, language="en")
    asked = visitor.box
    visitor.ask()
    assert f"A training (run {RUN}" in visitor.session.problem
    assert visitor.box == asked


def test_a_verdict_that_a_run_prevented_says_so_and_can_be_asked_for_again(services, monkeypatch):
    busy = DeviceBusy("cuda:0 goes to a run.", Holder("cuda:0", RUN, "training", 7, "2026-01-01T00:00:00+00:00"))
    judge = FakeJudge(failure=busy)
    monkeypatch.setitem(services.judges, "embedded", lambda: judge)
    visitor = Visitor(services, language="en")
    visitor.ask()
    cards = visitor.judge()[-1]
    assert all(f"the GPU went to a training (run {RUN}" in card for card in cards)
    judge.failure = None
    assert "the GPU went" not in visitor.judge()[-1][0]


@pytest.mark.parametrize(
    ("language", "words"),
    [
        (
            "ja",
            [
                f"cuda:0: 学習（実行 {RUN}、",
                "待っているもの: ベンチマーク（プロセス ",
                "cuda:1: チャット（",
                "実行が待てば譲ります",
            ],
        ),
        (
            "en",
            [f"cuda:0: in use by a training (run {RUN}, since ", "waiting: a benchmark (process ", "makes room when"],
        ),
    ],
)
def test_the_pages_of_runs_say_who_has_each_device_and_who_waits(services, tmp_path, language, words):
    chat = Lease(tmp_path, "cuda:1")
    chat.describe(None, "chat", os.getpid())
    with taken(tmp_path, "cuda:0"), chat, Want(tmp_path, "cuda:0", "benchmark"):
        trainings = train_watch.look(services, train_watch.Desk(here=True), language)[0]
        benchmarks = results.look(services, results.Desk(here=True), language)[0]
    assert all(word in trainings and word in benchmarks for word in words)


def test_chat_that_keeps_its_device_is_said_to(services, tmp_path):
    with Lease(tmp_path, "cuda:0") as lease:
        lease.describe(None, "chat", os.getpid(), keeps=True)
        shown = train_watch.look(services, train_watch.Desk(here=True), "en")[0]
    assert "set to keep it (PLAYGROUND_CHAT_KEEPS_GPU)" in shown


def test_a_run_in_the_queue_names_chat_where_chat_has_the_device(services, tmp_path):
    with Lease(tmp_path, "cuda:0") as lease:
        lease.describe(None, "chat", 7)
        services.jobs.submit("training", {"name": "mine"}, {}, device="cuda:0")
        shown = train_watch.look(services, train_watch.Desk(here=True), "ja")[0]
    assert "cuda:0 の 1 番目。いまはチャット（プロセス 7" in shown


def test_without_a_run_nothing_is_said(services, monkeypatch):
    monkeypatch.setattr(asking, "default_device", lambda: "cpu")
    visitor = Visitor(services)
    visitor.ask()
    assert not any("学習" in words for words in first_words(visitor))
