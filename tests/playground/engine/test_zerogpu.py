"""Answers on a borrowed GPU, with a stand-in for the package that lends it."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from evaluation.errors import ModelUnavailable
from evaluation.types import Message, Sampling
from playground.engine import zerogpu
from playground.engine.protocol import GenerationRequest
from tests.fakes import REPLIES, FakeEngine


@pytest.fixture
def lent(monkeypatch, tmp_path):
    """An engine on the stand-in, the durations it asked for, and how often a GPU was borrowed for what."""
    asked: list[int] = []
    calls: list[str] = []

    def borrow(duration: int):
        asked.append(duration)

        def around(function):
            def there(*values):
                calls.append(function.__name__)
                return function(*values)

            return there

        return around

    spaces = ModuleType("spaces")
    spaces.GPU = borrow  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    monkeypatch.setattr(zerogpu, "_here", {})
    loaded = []

    def load(folder, adapters):
        loaded.append(folder)
        return FakeEngine()

    adapters = {name: tmp_path / name for name in REPLIES if name != "base"}
    engine = zerogpu.BorrowedGpu(lambda report: tmp_path, lambda: adapters, load, 30)
    return engine, asked, calls, loaded


def request(id_: str, model: str) -> GenerationRequest:
    return GenerationRequest(id_, model, (Message("user", "問い"),), Sampling())


def test_a_pair_is_answered_in_one_borrowed_call_of_bounded_time(lent):
    engine, asked, calls, loaded = lent
    chunks = list(engine.stream([request("l", "general"), request("r", "answercarefully-sample")]))
    texts = {side: "".join(c.text for c in chunks if c.request_id == side) for side in ("l", "r")}
    assert texts == {"l": REPLIES["general"], "r": REPLIES["answercarefully-sample"]}
    assert sum(chunk.finish is not None for chunk in chunks) == 2
    assert calls.count("answer") == 1 and set(asked) == {30}
    assert len(loaded) == 1, "the model stays where the GPU is"


def test_what_answers_is_what_the_gpu_holds(lent):
    engine, _, calls, _ = lent
    assert engine.identity("general") == engine.identity("general") == FakeEngine().identity("general")
    assert calls == ["identify"], "the GPU is borrowed once for it"
    with pytest.raises(ModelUnavailable, match="choose one of base"):
        engine.identity("hub:somebody/else")


def test_a_cancelled_side_ends_at_once_and_the_other_goes_on(lent):
    engine, *_ = lent
    stream = engine.stream([request("l", "general"), request("r", "answercarefully-sample")])
    next(stream)
    engine.cancel("l")
    finished = {chunk.request_id: chunk.finish.reason for chunk in stream if chunk.finish}
    assert finished == {"l": "cancelled", "r": "stop"}


def test_the_folder_is_prepared_in_the_background_and_a_failure_is_said(lent, monkeypatch):
    engine, *_ = lent
    assert not engine.load_state().ready
    engine.identity("base")
    assert engine.load_state().ready

    def broken(report):
        raise ModelUnavailable("The disk is full; free 2 GB.")

    other = zerogpu.BorrowedGpu(broken, dict, lambda folder, adapters: FakeEngine(), 30)
    with pytest.raises(ModelUnavailable, match="free 2 GB"):
        other.identity("base")
    assert other.load_state().error == "The disk is full; free 2 GB."


def test_without_the_package_the_profile_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "spaces", None)
    with pytest.raises(ModelUnavailable, match="package spaces") as refused:
        zerogpu.BorrowedGpu(lambda report: None, dict, lambda folder, adapters: None, 30)
    assert "\n" not in str(refused.value)
