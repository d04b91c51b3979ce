"""Engines for the contract tests, each with two models, what they will say, and how to see that they stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.types import Message, Sampling
from playground.engine import local
from playground.engine.decoder import Decoder
from playground.engine.endpoint import EndpointEngine
from playground.engine.local import LocalEngine
from playground.engine.protocol import Chunk, Engine, GenerationRequest
from playground.engine.router import Router
from playground.engine.vllm import our_models
from playground.engine.wire import Address
from tests import vllm_server
from tests.openai_server import OpenAIServer, reset
from tests.vllm_server import VllmServer

KEY = "sk-never-to-be-seen-0123456789"
SECONDS = 60.0  # to wait for what must happen; generous, since the machine may be busy


@dataclass
class Served:
    """An engine under test. `left` and `right` are model ids; `idle()` says whether nothing is computed any more."""

    engine: Engine
    left: str
    right: str
    idle: Callable[[], bool]
    break_next: Callable[[], object]  # the next request of `right` fails after it was accepted


def request(id: str, model: str, text: str = "こんにちは", tokens: int = 12, **sampling: Any) -> GenerationRequest:
    settings = Sampling(**{"temperature": 0.0, "max_tokens": tokens, **sampling})
    return GenerationRequest(id, model, (Message("user", text),), settings)


def whole(chunks: list[Chunk], id: str) -> str:
    return "".join(chunk.text for chunk in chunks if chunk.request_id == id)


def finishes(chunks: list[Chunk]) -> dict[str, str]:
    """Reason by request id. Fails when a request finished twice, or said something after its finish."""
    found: dict[str, str] = {}
    for chunk in chunks:
        assert chunk.request_id not in found, f"{chunk.request_id} goes on after its finish"
        if chunk.finish is not None:
            found[chunk.request_id] = chunk.finish.reason
    return found


def within(work: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """Run `work` and give its value; fail instead of hanging when it takes longer."""
    done: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), f"not done within {seconds:.0f} s"
    if failed:
        raise failed[0]
    return done[0]


def wait_until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    assert OpenAIServer().wait_for(condition, seconds), f"it did not happen within {seconds:.0f} s"


def echo(body: dict[str, Any]) -> str:
    """The model's name and what the user typed, over and over, one piece of four characters per token asked for."""
    said = f"{body['model']}:{body['messages'][-1]['content']}|"
    return (said * body["max_tokens"])[: 4 * body["max_tokens"]]


@contextmanager
def exact_local(folder: Path, adapters: dict[str, Path], **options: Any) -> Iterator[LocalEngine]:
    """A LocalEngine in float32 without int8, so that its text does not depend on who shares the batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "preferred_dtype", lambda device: torch.float32)
        patch.setattr(local, "Decoder", lambda model, int8: Decoder(model, int8=False))
        engine = LocalEngine(folder, adapters, **options)
    try:
        yield engine
    finally:
        within(engine.close)


@contextmanager
def serve(kind: str, folder: Path, adapters: dict[str, Path]) -> Iterator[Served]:
    """The engine of that kind: local, endpoint, router (a local side and an endpoint side), vllm, or two such servers."""
    if kind.startswith("vllm"):
        with serve_vllm(folder, adapters, servers=2 if kind == "vllm-pair" else 1) as found:
            yield found
        return
    with OpenAIServer(reply=echo, chunk_delay=0.01) as server, exact_local(folder, adapters) as engine:
        endpoint = EndpointEngine(server.url, KEY, ["alpha", "beta"])

        def break_endpoint() -> None:
            server.behaviours.append(reset(after_chunks=0))

        def local_idle() -> bool:
            return not engine._decoder.rows

        def endpoint_idle() -> bool:
            return server._at_once == 0

        match kind:
            case "local":
                yield Served(engine, "first", "base", local_idle, partial(break_admission, engine))
            case "endpoint":
                yield Served(endpoint, "openai:alpha", "openai:beta", endpoint_idle, break_endpoint)
            case "router":
                router = Router(engine.model_ids, lambda report: engine, [endpoint])
                yield Served(router, "first", "openai:beta", lambda: local_idle() and endpoint_idle(), break_endpoint)


@contextmanager
def serve_vllm(folder: Path, adapters: dict[str, Path], *, servers: int) -> Iterator[Served]:
    """VllmEngine before servers that pretend to have loaded the tiny model."""
    with ExitStack() as stack:
        running = [stack.enter_context(VllmServer(folder, chunk_delay=0.01)) for _ in range(servers)]
        engine = our_models([Address(server.url, vllm_server.KEY) for server in running], folder)
        for name, adapter in adapters.items():
            engine.add_adapter(name, adapter)

        for server in running:
            server.behaviours = running[0].behaviours  # of one queue: the next fault meets whoever is asked next

        def break_next() -> None:
            running[0].behaviours.append(reset(after_chunks=1))

        yield Served(engine, "first", "second", lambda: not any(server._at_once for server in running), break_next)


def break_admission(engine: LocalEngine) -> None:
    """Make the next prompt fail to be read, as when memory is short."""
    admit = engine._decoder.admit

    def fail(rows: Any) -> None:
        engine._decoder.admit = admit  # type: ignore[method-assign]
        raise MemoryError("a long\nstory")

    engine._decoder.admit = fail  # type: ignore[method-assign]
