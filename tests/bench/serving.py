"""What the app costs in front of vLLM, and how one benchmark grows with the number of servers.

`python -m tests.bench.serving` prints everything; `... scaling` the simulation only, which needs no vLLM. The stub
servers compute nothing and share the machine with the client, so it is the client's cost that limits the last rows.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from evaluation.benchmark.judging import Panel
from evaluation.benchmark.plan import Request, choose_prompts, plan
from evaluation.benchmark.run import run_benchmark
from evaluation.benchmark.settings import BenchmarkSettings
from evaluation.journal import create_run, read_records
from evaluation.prompts.suites import load_suite
from evaluation.types import Message, Prompt, Response, Sampling
from playground.engine.answers import answers
from playground.engine.protocol import GenerationRequest
from playground.engine.vllm import VllmEngine, our_models
from playground.engine.wire import Address, Call
from playground.serving.command import CPU_OPERATIONS, INSIDE, settings_on_cpu
from tests.tiny import tiny_folder

ROOT = Path(__file__).resolve().parents[2]
SERVERS = (1, 2, 4, 8, 16)
LATENCY_S, AT_ONCE, EACH = 2.0, 8, 64  # of a stub: a reply takes about 2 s, 8 at once; 64 requests for each server
MUST_SCALE, MUST_SCALE_UP_TO = 0.9, 8
PAIR = ("general", "answercarefully-sample")
PROMPTS, TOKENS = 16, 64  # of both models: 32 requests at once
PAIR_TOKENS = 64
OFFLINE = ROOT / "tests" / "bench" / "offline_vllm.py"


# ---- many servers ----


@contextmanager
def stub_servers(count: int, root: Path) -> Iterator[list[Address]]:
    """So many stubs, each a process of its own, ended with the block."""
    command = [sys.executable, "-m", "tests.bench.stub_server", str(root), str(LATENCY_S), str(AT_ONCE)]
    children = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    try:
        ports = [int(child.stdout.readline()) for child in children if child.stdout is not None]
        yield [Address(f"http://127.0.0.1:{port}/v1", "none") for port in ports]
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.wait()


def scaling(counts: Sequence[int] = SERVERS, each: int = EACH) -> list[dict[str, float]]:
    """One benchmark over 1, 2, ... servers, `each` requests for every one of them, written as a run folder.

    A row per count: servers, seconds, responses/s, efficiency (responses/s over those of one server times the count),
    and the client's CPU seconds.
    """
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as home:
        folder = tiny_folder(Path(home) / "tiny")
        for count in counts:
            with stub_servers(count, folder) as addresses:
                engine = our_models(addresses, folder, long_work=True)
                rows.append(_scaled(engine, count, count * each, Path(home)))
            rows[-1]["efficiency"] = rows[-1]["per_s"] / (rows[0]["per_s"] * count)
    return rows


def _scaled(engine: VllmEngine, servers: int, total: int, home: Path) -> dict[str, float]:
    prompts = [Prompt(f"p{n}", f"質問{n}：安全な答え方を教えてください。", suite="mine") for n in range(total)]
    asked = BenchmarkSettings(("base",), ("mine",), None, Sampling(max_tokens=256))
    identities = {"base": engine.identity("base")}
    with create_run(home, "benchmark", asked.to_json(), {}) as run:
        began, cpu = time.perf_counter(), time.process_time()
        ended = run_benchmark(
            asked, prompts, identities, lambda requests: answers(engine, requests, lambda: False),
            Panel([], {"mine": ("safety",)}), run, lambda event, data: None, lambda: False,
        )  # fmt: skip
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    kept = [record for record, _ in read_records(run.path / "responses.jsonl") if isinstance(record, Response)]
    assert len(kept) == len({response.key for response in kept}) == total, "a response was lost or doubled"
    assert all(response.finish_reason == "length" for response in kept) and not ended.stopped
    return {"servers": servers, "seconds": seconds, "per_s": total / seconds, "cpu_s": cpu, "efficiency": 1.0}


# ---- one real server ----


def measure(home: Path, repeats: int = 3, prompts: int = PROMPTS, tokens: int = TOKENS) -> dict[str, list[float]]:
    """All figures of one real server with the embedded model; each list holds one value per repeat.

    vLLM's own `LLM.generate` runs first, alone, then the server; our transformers engine last.
    """
    from playground import catalog
    from playground.serving import running_server
    from playground.settings import load_settings
    from training.embedded import ensure_embedded
    from training.presets import SHIPPED_ADAPTERS

    settings = load_settings().model_copy(update={"home": home, "vllm_url": ()})
    folder = ensure_embedded(home)
    sampling = Sampling(temperature=0.0, max_tokens=tokens)
    asked = BenchmarkSettings(PAIR, ("sample-test",), None, sampling, limit=prompts)
    chosen = choose_prompts([load_suite("sample-test", home)], prompts).prompts
    found: dict[str, list[float]] = {}
    with running_server(settings, lambda words: print(words, file=sys.stderr)) as server:
        engine = our_models([Address(url, server.api_key) for url in server.base_urls], folder)
        long_engine = our_models([Address(url, server.api_key) for url in server.base_urls], folder, long_work=True)
        for one in (engine, long_engine):
            for name in PAIR:
                one.add_adapter(name, SHIPPED_ADAPTERS / name)
        requests = plan(asked, chosen, {model: engine.identity(model) for model in PAIR})
        bodies = [long_engine._models.prepare(_asked(request)).body for request in requests]
        _tokens_per_s(long_engine, requests)  # warm-up, and both prefix caches filled
        found["server_tok_s"] = [_tokens_per_s(long_engine, _reseeded(requests, n)) for n in range(repeats)]
        found["drawn_tok_s"] = [_tokens_per_s(long_engine, _drawn(requests, n)) for n in range(repeats)]
        found |= _pairs(engine, server.base_url, server.api_key, repeats)
        found["hot_load_s"] = [
            _hot_load_s(engine, SHIPPED_ADAPTERS / PAIR[1], home / "adapters", n) for n in range(repeats)
        ]
    found["offline_tok_s"] = _offline_tok_s(folder, SHIPPED_ADAPTERS, requests, bodies, repeats, INSIDE)
    found["bare_offline_tok_s"] = _offline_tok_s(folder, SHIPPED_ADAPTERS, requests, bodies, repeats)
    torch.set_num_threads(os.cpu_count() or 1)  # tests.tiny has left it one
    local = catalog.build_router(settings.model_copy(update={"engine": "transformers"})).embedded()
    ours = plan(asked, chosen, {model: local.identity(model) for model in PAIR})
    _tokens_per_s(local, ours[:4])
    found["transformers_tok_s"] = [_tokens_per_s(local, _reseeded(ours, n)) for n in range(repeats)]
    found["transformers_drawn_tok_s"] = [_tokens_per_s(local, _drawn(ours, n)) for n in range(repeats)]
    local.close()
    found["over_offline"] = _ratios(found["server_tok_s"], found["offline_tok_s"])
    found["over_transformers"] = _ratios(found["server_tok_s"], found["transformers_tok_s"])
    return found


def _ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


def _reseeded(requests: Sequence[Request], seed: int) -> list[Request]:
    return [replace(request, sampling=replace(request.sampling, seed=seed)) for request in requests]


def _drawn(requests: Sequence[Request], seed: int) -> list[Request]:
    """The same with the usual temperature and top_p, which costs a server on a CPU more than the likeliest token does."""
    usual = Sampling()
    drawn = {"temperature": usual.temperature, "top_p": usual.top_p, "seed": seed}
    return [replace(request, sampling=replace(request.sampling, **drawn)) for request in requests]


def _asked(request: Request) -> GenerationRequest:
    return GenerationRequest(request.key, request.model, request.messages, request.sampling)


def _tokens_per_s(engine: Any, requests: Sequence[Request]) -> float:
    began = time.perf_counter()
    tokens = 0
    for response in answers(engine, requests, lambda: False):
        assert response.finish_reason in ("stop", "length"), response.error
        tokens += response.tokens or 0
    return tokens / (time.perf_counter() - began)


def _offline_tok_s(
    folder: Path,
    adapters: Path,
    requests: Sequence[Request],
    bodies: Sequence[dict[str, Any]],
    repeats: int,
    plugins: Path | None = None,
) -> list[float]:
    """What vLLM itself makes of the same prompts, with the options of the app's servers and nothing else running.

    With `plugins`, those that the servers load, it computes as they do.
    """
    work = {
        "folder": str(folder),
        "adapters": {name: str(adapters / name) for name in PAIR},
        "repeats": repeats,
        "compilation_config": CPU_OPERATIONS,
        "requests": [
            {"adapter": request.model, **{name: body[name] for name in ("prompt", "max_tokens", "stop", "stop_token_ids")}}
            for request, body in zip(requests, bodies, strict=True)
        ],
    }  # fmt: skip
    python = ROOT / ".venv-vllm" / "bin" / "python"
    environment = {**os.environ, **settings_on_cpu(), "PYTHONPATH": str(plugins or "")}
    with tempfile.TemporaryDirectory() as scratch:
        given, got = Path(scratch) / "work.json", Path(scratch) / "out.json"
        given.write_text(json.dumps(work), encoding="utf-8")
        command = [str(python), str(OFFLINE), str(given), str(got)]
        subprocess.run(command, check=True, timeout=1800, cwd=scratch, env=environment)
        return [float(value) for value in json.loads(got.read_text(encoding="utf-8"))]


def _pairs(engine: VllmEngine, base_url: str, key: str | None, repeats: int) -> dict[str, list[float]]:
    """A streamed pair against one side, and the first tokens of both against two bare requests at once."""
    found: dict[str, list[float]] = {name: [] for name in ("pair_over_one", "first_over_direct", "first_s", "direct_s")}
    for n in range(-1, repeats):  # the first is warm-up
        sampling = Sampling(temperature=0.0, max_tokens=PAIR_TOKENS, seed=max(n, 0))
        messages = (Message("user", f"眠れない夜が続いています。{n + 2}つの助言をください。"),)
        pair = [GenerationRequest(f"{model}{n}", model, messages, sampling) for model in PAIR]
        one_s, _ = _streamed(engine, pair[1:])
        pair_s, first_s = _streamed(engine, pair)
        direct_s = _direct_first_s(engine, pair, Address(base_url, key))
        if n >= 0:
            found["pair_over_one"].append(pair_s / one_s)
            found["first_over_direct"].append(first_s / direct_s)
            found["first_s"].append(first_s)
            found["direct_s"].append(direct_s)
    return found


def _streamed(engine: VllmEngine, requests: Sequence[GenerationRequest]) -> tuple[float, float]:
    """Seconds until all are done, and until each has begun."""
    began, begun, first = time.perf_counter(), set[str](), 0.0
    for chunk in engine.stream(requests):
        if chunk.text and chunk.request_id not in begun:
            begun.add(chunk.request_id)
            first = time.perf_counter() - began
    return time.perf_counter() - began, first


def _direct_first_s(engine: VllmEngine, requests: Sequence[GenerationRequest], address: Address) -> float:
    """Seconds until two bare requests, made at once, have both given a first token."""
    bodies = [{**engine._models.prepare(request).body, "stream": True} for request in requests]
    took: list[float] = []

    def ask(body: dict[str, Any], began: float) -> None:
        call = Call(address)
        for event in call.events("completions", body):
            if event.get("choices") and event["choices"][0].get("text"):
                took.append(time.perf_counter() - began)
                break
        call.hang_up()

    began = time.perf_counter()
    threads = [threading.Thread(target=ask, args=(body, began)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(took)


def _hot_load_s(engine: VllmEngine, adapter: Path, home: Path, number: int) -> float:
    """Seconds from an adapter that stands in its place, as a training leaves it, to its first token."""
    name = f"bench-{number}"
    folder = home / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(adapter, folder)
    # Other bytes, so that the server cannot have it already.
    config = folder / "adapter_config.json"
    config.write_text(config.read_text(encoding="utf-8") + "\n" * (number + 1), encoding="utf-8")
    began = time.perf_counter()
    try:
        engine.add_adapter(name, folder)
        request = GenerationRequest(name, name, (Message("user", "こんにちは"),), Sampling(max_tokens=8))
        with ExitStack() as stack:
            stream = engine.stream([request])
            stack.callback(stream.close)
            next(chunk for chunk in stream if chunk.text)
            return time.perf_counter() - began
    finally:
        shutil.rmtree(folder)


def main(asked: Sequence[str]) -> int:
    """Print what was asked for: `scaling`, or everything."""
    for row in scaling():
        print(json.dumps({name: round(value, 3) for name, value in row.items()}), flush=True)
    if "scaling" not in asked:
        from playground.settings import load_settings

        for name, values in measure(load_settings().home).items():
            print(name, [round(value, 3) for value in values])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
