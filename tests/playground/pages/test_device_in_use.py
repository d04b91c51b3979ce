"""While a run has the device: on a GPU an answer waits and says for what, on the CPU it only says so."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.jobs.leases import Lease
from playground.pages import Services, asking
from tests.fakes import FakeEngine, fake_services
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


@pytest.mark.parametrize(
    ("language", "words"),
    [("ja", "cuda:0 を学習が使っているため"), ("en", "Waiting for cuda:0, which a training is using")],
)
def test_on_a_gpu_the_answer_waits_for_the_run_and_says_so(services, tmp_path, monkeypatch, language, words):
    monkeypatch.setattr(asking, "default_device", lambda: "cuda:0")
    lease = taken(tmp_path, "cuda:0")
    threading.Timer(0.3, lease.close).start()
    visitor = Visitor(services, language=language)
    turn = visitor.ask()
    assert words in first_words(visitor)[0] and RUN in first_words(visitor)[0]
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
        ("chat", "en", "because other work is running"),
    ],
)
def test_on_the_cpu_it_answers_and_says_why_it_is_slow(services, tmp_path, monkeypatch, kind, language, words):
    monkeypatch.setattr(asking, "default_device", lambda: "cpu")
    with taken(tmp_path, "cpu", kind):
        visitor = Visitor(services, language=language)
        turn = visitor.ask()
    assert words in first_words(visitor)[0]
    assert turn is not None and turn.responses["left"].text == "はい"


def test_without_a_run_nothing_is_said(services, monkeypatch):
    monkeypatch.setattr(asking, "default_device", lambda: "cpu")
    visitor = Visitor(services)
    visitor.ask()
    assert not any("学習" in words for words in first_words(visitor))
