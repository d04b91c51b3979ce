"""Models on a device that others may want: they come with a question, and leave whole when somebody waits for it."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluation.errors import UserFacingError
from playground.engine import tenancy
from playground.engine.loading import UNLOADED
from playground.engine.local import LocalEngine, identify
from playground.engine.protocol import Chunk
from playground.engine.router import Router
from playground.engine.tenancy import Tenancy
from tests.playground.engine.serving import finishes, request, wait_until, whole, within
from tests.playground.engine.test_router import FakeEngine


class Taken(UserFacingError):
    """What the claim of these tests refuses with."""


class FakeClaim:
    """A device that `other` has, or waits for as soon as `wanted_by_other` is set."""

    def __init__(self) -> None:
        self.ours = False
        self.taken_by_other = threading.Event()
        self.wanted_by_other = threading.Event()
        self.log: list[str] = []

    def take(self) -> None:
        if self.wanted_by_other.is_set() or self.taken_by_other.is_set():
            raise Taken("cuda:0 is in use by another run.")
        if not self.ours:
            self.log.append("taken")
        self.ours = True

    def wanted(self) -> bool:
        return self.wanted_by_other.is_set()

    def let_go(self) -> None:
        self.ours = False
        self.log.append("let go")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenancy, "POLL_S", 0.01)


@pytest.fixture
def claim() -> Iterator[FakeClaim]:
    claim = FakeClaim()
    yield claim
    claim.wanted_by_other.set()  # so that the watching thread ends
    wait_until(lambda: not claim.ours)


class House:
    """A router over tiny models with a claim, and what it has loaded."""

    def __init__(
        self, tiny: Path, adapters: dict[str, Path], claim: FakeClaim, served: FakeEngine | None = None
    ) -> None:
        self.loads: list[weakref.ref[Any]] = []

        def load(report: Any) -> LocalEngine:
            time.sleep(0.05)  # so that two who ask at once could both find nothing
            engine = LocalEngine(tiny, adapters)
            self.loads.append(weakref.ref(next(engine._decoder.model.parameters())))
            return engine

        def identity(model: str) -> Any:
            return identify(tiny, model, adapters.get(model))

        self.remote = FakeEngine("openai:a")
        self.router = Router(
            lambda: ["base", *adapters],
            load,
            [self.remote],
            load_other=lambda model: LocalEngine(tiny, {}, base_id=model),
            adapters=lambda: adapters,
            served=served,  # type: ignore[arg-type]
            claim=lambda: claim,
            identify=identity,
        )

    def answer(self, tokens: int = 8, model: str = "first") -> str:
        chunks = within(lambda: list(self.router.stream([request("r", model, tokens=tokens)])))
        assert finishes(chunks) == {"r": "length"}
        return whole(chunks, "r")


@pytest.fixture
def house(tiny: Path, tiny_adapters: dict[str, Path], claim: FakeClaim) -> House:
    return House(tiny, tiny_adapters, claim)


def test_two_who_ask_at_once_load_once(house: House, claim: FakeClaim):
    said: list[str] = []
    threads = [threading.Thread(target=lambda: said.append(house.answer()), daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(said) == 2 and said[0] == said[1]
    assert len(house.loads) == 1 and claim.log == ["taken"]


def test_when_somebody_waits_everything_leaves_and_comes_again_with_the_next_question(house: House, claim: FakeClaim):
    before = house.answer()
    house.answer(model="path:other")
    identity = house.router.identity("first")
    claim.wanted_by_other.set()
    wait_until(lambda: not claim.ours)
    assert claim.log == ["taken", "let go"]
    gc.collect()
    assert house.loads[0]() is None, "the weights are still in memory"
    assert house.router.load_state().stage == UNLOADED and house.router.load_state().ready
    assert "path:other" in house.router.model_ids(), "what was opened stays on offer"
    with pytest.raises(Taken):
        house.answer()
    claim.wanted_by_other.clear()
    assert house.answer() == before
    assert (len(house.loads), claim.log) == (2, ["taken", "let go", "taken"])
    assert house.router.identity("first") == identity


def test_an_idle_device_is_kept_while_nobody_asks(house: House, claim: FakeClaim):
    house.answer()
    time.sleep(20 * tenancy.POLL_S)
    assert claim.ours and claim.log == ["taken"]


def test_an_answer_in_flight_is_not_cut_and_nobody_new_comes_before_who_waits(house: House, claim: FakeClaim):
    whole_answer = house.answer(tokens=200)
    stream = house.router.stream([request("r", "first", tokens=200)])
    chunks: list[Chunk] = [next(stream)]
    claim.wanted_by_other.set()
    with pytest.raises(Taken):
        house.router.stream([request("late", "first")])
    assert claim.ours
    chunks += within(lambda: list(stream))
    assert finishes(chunks) == {"r": "length"} and whole(chunks, "r") == whole_answer
    wait_until(lambda: not claim.ours)


def test_who_waits_no_more_takes_nothing(house: House, claim: FakeClaim):
    stream = house.router.stream([request("r", "first", tokens=50)])
    next(stream)
    claim.wanted_by_other.set()
    time.sleep(5 * tenancy.POLL_S)
    claim.wanted_by_other.clear()
    within(lambda: list(stream))
    time.sleep(5 * tenancy.POLL_S)
    assert claim.ours and len(house.loads) == 1


@pytest.mark.parametrize("way", ["closed", "forgotten", "closed before it began", "refused"])
def test_a_stream_that_nobody_reads_to_its_end_does_not_keep_the_device(house: House, claim: FakeClaim, way: str):
    if way == "refused":
        with pytest.raises(UserFacingError, match="no model nobody"):
            house.router.stream([request("r", "nobody")])
    else:
        stream = house.router.stream([request("r", "first", tokens=800)])
        if way != "closed before it began":
            next(stream)
        if way.startswith("closed"):
            stream.close()  # type: ignore[attr-defined]
        del stream
    claim.wanted_by_other.set()
    wait_until(lambda: not claim.ours)


def test_a_judge_uses_the_models_like_a_question(house: House, claim: FakeClaim):
    found = house.router.pooled_states(["問"], ["答"], 1)
    claim.wanted_by_other.set()
    wait_until(lambda: not claim.ours)
    with pytest.raises(Taken):
        house.router.pooled_states(["問"], ["答"], 1)
    claim.wanted_by_other.clear()
    assert (house.router.pooled_states(["問"], ["答"], 1) == found).all()


def test_beside_a_server_that_has_the_device_a_judge_reads_and_stays(tiny, tiny_adapters, claim: FakeClaim):
    house = House(tiny, tiny_adapters, claim, served=FakeEngine("first"))
    claim.taken_by_other.set()
    house.router.pooled_states(["問"], ["答"], 1)
    assert claim.log == [] and len(house.loads) == 1
    claim.taken_by_other.clear()
    house.answer(model="path:tiny")  # a model of this process, which has to leave again
    claim.wanted_by_other.set()
    wait_until(lambda: not claim.ours)
    house.router.pooled_states(["問"], ["答"], 1)
    assert len(house.loads) == 1


def test_what_a_model_is_can_be_told_without_the_device(house: House, claim: FakeClaim, tiny, tiny_adapters):
    claim.taken_by_other.set()
    told = {model: house.router.identity(model) for model in ("base", "first", "openai:a")}
    assert house.loads == []
    claim.taken_by_other.clear()
    house.answer()
    engine = house.router.embedded()
    assert {model: engine.identity(model) for model in ("base", "first")} == {m: told[m] for m in ("base", "first")}
    assert told["base"].digest != told["first"].digest


def test_an_app_that_starts_while_another_has_the_device_loads_with_the_first_question_after(
    house: House, claim: FakeClaim
):
    claim.taken_by_other.set()
    house.router.start()
    wait_until(lambda: house.router.load_state().stage == UNLOADED)
    assert house.router.load_state().ready and house.loads == []
    with pytest.raises(Taken):
        house.answer()
    claim.taken_by_other.clear()
    assert house.answer()
    assert len(house.loads) == 1


def test_models_elsewhere_answer_whoever_has_the_device(house: House, claim: FakeClaim):
    claim.taken_by_other.set()
    chunks = within(lambda: list(house.router.stream([request("r", "openai:a")])))
    assert finishes(chunks) == {"r": "stop"} and claim.log == []


def test_a_device_that_is_nobodys_to_take_is_never_left():
    unloaded: list[str] = []
    shared = Tenancy(lambda: None, lambda: unloaded.append("!"))
    with shared.use():
        assert not shared.may_end()
    assert unloaded == []


def test_models_that_cannot_be_unloaded_do_not_keep_the_lease(claim: FakeClaim, caplog):
    def unload() -> None:
        raise ZeroDivisionError

    held = Tenancy(lambda: claim, unload)
    with held.use():
        claim.wanted_by_other.set()
    wait_until(lambda: not claim.ours)
    assert "taking the models off the device failed" in caplog.text
