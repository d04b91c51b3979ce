"""One engine in front of several: which engine is asked, and how the embedded one loads behind the page."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from evaluation.errors import ModelUnavailable
from evaluation.types import ModelIdentity
from playground.engine.protocol import Chunk, Finish, GenerationRequest
from playground.engine.router import Router
from tests.playground.engine.serving import finishes, request, wait_until, whole, within


class FakeEngine:
    """Answers each request in two chunks that name the model."""

    def __init__(self, *models: str) -> None:
        self._models, self.requests = models, list[GenerationRequest]()

    def model_ids(self) -> list[str]:
        return list(self._models)

    def identity(self, model: str) -> ModelIdentity:
        return ModelIdentity(model, "fake", model, None, "template")

    def cancel(self, request_id: str) -> None:
        """Its replies are over before anybody could."""

    def stream(self, requests: Sequence[GenerationRequest]) -> Iterator[Chunk]:
        self.requests += requests
        return self._chunks(requests)

    def _chunks(self, requests: Sequence[GenerationRequest]) -> Iterator[Chunk]:
        for one in requests:
            yield Chunk(one.id, one.model, f"{one.model}の", 1)
            yield Chunk(one.id, one.model, "返事です。", 2, Finish("stop", 2, 1, 0.0))


def router_of(local: FakeEngine, *endpoints: FakeEngine, **more) -> Router:
    return Router(local.model_ids, lambda report: local, list(endpoints), **more)


def test_each_request_goes_to_the_engine_that_knows_its_model_and_one_engine_gets_its_requests_together():
    local, remote = FakeEngine("base", "general"), FakeEngine("openai:a")
    router = router_of(local, remote)
    assert router.model_ids() == ["base", "general", "openai:a"]
    requests = [request("1", "base"), request("2", "openai:a"), request("3", "general")]
    chunks = within(lambda: list(router.stream(requests)))
    assert [whole(chunks, one.id) for one in requests] == [f"{one.model}の返事です。" for one in requests]
    assert [one.id for one in local.requests] == ["1", "3"]


def test_the_page_is_there_before_the_model_and_a_request_waits_for_it():
    loaded, local = threading.Event(), FakeEngine("base")

    def load(report):
        report("loading")
        assert loaded.wait(30)
        return local

    router = Router(local.model_ids, load)
    router.start()
    assert router.model_ids() == ["base"]
    wait_until(lambda: router.load_state().stage == "loading")
    assert not router.load_state().ready
    chunks: list[Chunk] = []
    asking = threading.Thread(target=lambda: chunks.extend(router.stream([request("r", "base")])), daemon=True)
    asking.start()
    loaded.set()
    asking.join(30)
    assert finishes(chunks) == {"r": "stop"}
    assert router.load_state().ready


def test_the_model_is_loaded_once_however_many_ask_first():
    loads, local = [], FakeEngine("base")

    def load(report):
        loads.append(1)
        time.sleep(0.05)
        return local

    router = Router(local.model_ids, load)
    threads = [threading.Thread(target=router.identity, args=("base",), daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert loads == [1]


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        pytest.param(ModelUnavailable("The package is absent; install it."), "The package is absent", id="explained"),
        pytest.param(ZeroDivisionError("secret detail"), "ZeroDivisionError", id="a-bug"),
    ],
)
def test_a_model_that_does_not_load_says_why_and_endpoints_go_on(failure, told):
    def load(report):
        raise failure

    remote = FakeEngine("openai:a")
    router = Router(lambda: ["base"], load, [remote])
    with pytest.raises(ModelUnavailable, match=told) as refused:
        within(lambda: router.stream([request("r", "base")]))
    assert "secret detail" not in str(refused.value) and "\n" not in str(refused.value)
    state = router.load_state()
    assert (state.ready, state.stage) == (False, "failed")
    assert state.error and told in state.error
    assert finishes(within(lambda: list(router.stream([request("r", "openai:a")])))) == {"r": "stop"}


def test_an_unknown_model_is_refused_without_loading_anything():
    def load(report):
        raise AssertionError("nobody asked for the embedded model")

    router = Router(lambda: ["base"], load, [FakeEngine("openai:a")])
    with pytest.raises(ModelUnavailable, match="no model nobody here; choose one of base, openai:a"):
        router.stream([request("r", "nobody")])
    assert router.load_state().stage == "starting"


def test_another_checkpoint_is_opened_once_and_then_listed():
    opened: list[str] = []

    def open_other(model: str) -> FakeEngine:
        opened.append(model)
        return FakeEngine(model)

    router = router_of(FakeEngine("base"), load_other=open_other)
    for _ in range(2):
        assert finishes(within(lambda: list(router.stream([request("r", "path:/models/x")])))) == {"r": "stop"}
    assert opened == ["path:/models/x"]
    assert "path:/models/x" in router.model_ids()


def test_a_checkpoint_that_cannot_be_opened_may_be_tried_again():
    answers = iter([ModelUnavailable("no config.json"), FakeEngine("hub:a/b")])

    def open_other(model: str) -> FakeEngine:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    router = router_of(FakeEngine("base"), load_other=open_other)
    with pytest.raises(ModelUnavailable):
        router.stream([request("r", "hub:a/b")])
    assert finishes(within(lambda: list(router.stream([request("r", "hub:a/b")])))) == {"r": "stop"}


class LateEngine(FakeEngine):
    """Knows a request only from when it was told to begin, as an engine does whose thread was not scheduled yet."""

    def __init__(self) -> None:
        super().__init__("openai:late")
        self.begin, self.closed, self.cancels = threading.Event(), threading.Event(), 0

    def cancel(self, request_id: str) -> None:
        self.cancels += 1

    def _chunks(self, requests: Sequence[GenerationRequest]) -> Iterator[Chunk]:
        assert self.begin.wait(30)
        try:
            for number in range(100_000):  # minutes
                time.sleep(0.002)
                yield Chunk(requests[0].id, "late", "遅", number)
        finally:
            self.closed.set()


def test_closing_reaches_an_engine_that_had_not_begun():
    late = LateEngine()
    router = router_of(FakeEngine("base"), late)
    stream = router.stream([request("l", "base"), request("r", "openai:late")])
    next(stream)
    within(stream.close)
    assert late.cancels == 1
    late.begin.set()
    assert late.closed.wait(20), "the late side computed on for nobody"


def test_checkpoints_that_are_not_open_yet_are_offered_once():
    router = Router(
        embedded_ids=lambda: ["base"], load_embedded=lambda _: None, other_ids=["path:a", "path:a", "hub:b"]
    )  # type: ignore[arg-type,return-value]
    assert router.model_ids() == ["base", "path:a", "hub:b"]


# ---- adapters that come, change and go while the engine runs ----


class Growing(FakeEngine):
    """A local engine that takes adapters in, as LocalEngine does; `refused` names one that it cannot use."""

    def __init__(self, *models: str, refused: str = "") -> None:
        super().__init__(*models)
        self.added: list[tuple[str, Path]] = []
        self._refused = refused

    def add_adapter(self, name: str, folder: Path) -> None:
        if name == self._refused:
            raise ModelUnavailable(f"Adapter {name} is damaged.")
        self.added.append((name, folder))
        self._models = (*self._models, name)


def adapter_in(home: Path, name: str, weights: bytes = b"1") -> Path:
    folder = home / name
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(weights)
    return folder


def growing_router(home: Path, local: Growing) -> Router:
    def found() -> dict[str, Path]:
        return {folder.name: folder for folder in sorted(home.iterdir())}

    return Router(lambda: ["base", *found()], lambda report: local, adapters=found)  # type: ignore[arg-type, return-value]


def test_an_adapter_that_came_after_the_engine_is_loaded_when_it_is_first_asked_for(tmp_path: Path):
    adapter_in(tmp_path, "old")
    local = Growing("base", "old")
    router = growing_router(tmp_path, local)
    within(lambda: router.identity("old"))
    assert local.added == []
    folder = adapter_in(tmp_path, "new")
    for _ in range(2):
        assert router.identity("new").model == "new"
    assert local.added == [("new", folder)]


def test_an_adapter_that_was_replaced_under_its_name_is_loaded_anew(tmp_path: Path):
    folder = adapter_in(tmp_path, "mine")
    local = Growing("base", "mine")
    router = growing_router(tmp_path, local)
    within(lambda: router.identity("mine"))
    adapter_in(tmp_path, "mine", b"other weights")
    router.identity("mine")
    assert local.added == [("mine", folder)]


def test_an_adapter_that_is_gone_is_no_model_any_more(tmp_path: Path):
    folder = adapter_in(tmp_path, "mine")
    router = growing_router(tmp_path, Growing("base", "mine"))
    within(lambda: router.identity("mine"))
    folder.rename(tmp_path / "ours")
    assert router.model_ids() == ["base", "ours"]
    with pytest.raises(ModelUnavailable, match="no model mine"):
        router.identity("mine")


def test_an_adapter_that_cannot_be_used_says_why_and_the_others_answer(tmp_path: Path):
    local = Growing("base", refused="bad")
    router = growing_router(tmp_path, local)
    within(lambda: router.identity("base"))
    adapter_in(tmp_path, "bad")
    with pytest.raises(ModelUnavailable, match="bad is damaged"):
        router.identity("bad")
    assert router.identity("base").model == "base"
