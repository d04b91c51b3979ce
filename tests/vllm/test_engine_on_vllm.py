"""The engine against vLLM itself: who answers, what stopping stops, adapters that come while it runs, whole benchmarks."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from evaluation.benchmark.run import run_benchmark
from evaluation.benchmark.settings import BenchmarkSettings
from evaluation.errors import ModelUnavailable
from evaluation.journal import create_run, read_records
from evaluation.judge.protocol import Exchange
from evaluation.types import Judgement, Prompt, Response, Sampling
from playground import catalog
from playground.engine.answers import answers
from playground.engine.router import Router
from playground.jobs.benchmark_work import open_for
from playground.serving import Server, VllmServer
from playground.settings import Settings
from tests.playground.engine.serving import finishes, request, wait_until, whole, within
from training.presets import SHIPPED_ADAPTERS

SECONDS = 240.0
LEFT, RIGHT = "general", "answercarefully-sample"


@pytest.fixture(scope="module")
def settings(vllm_settings: Settings) -> Settings:
    return vllm_settings.model_copy(update={"engine": "vllm"})


@pytest.fixture
def router(settings: Settings, own_server: VllmServer) -> Router:
    own_server.wait_ready()
    return catalog.build_router(settings, server=own_server)


def running(server: Server) -> float:
    """Requests that the server computes now, as it says itself."""
    parts = urlsplit(server.base_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {server.api_key}"})
    text = connection.getresponse().read().decode()
    connection.close()
    return sum(float(value) for value in re.findall(r"^vllm:num_requests_running\{.*\} (\S+)$", text, re.M))


def ask(router: Router, *requests):
    return within(lambda: list(router.stream(requests)), SECONDS)


def test_a_pair_streams_from_the_models_that_were_asked_and_never_swapped(router: Router):
    question = "眠れない夜が続いています。"
    alone = {model: whole(ask(router, request(model, model, question, 64)), model) for model in ("base", LEFT, RIGHT)}
    assert len(set(alone.values())) == 3, "three models, three texts"
    chunks = ask(router, *(request(model, model, question, 64) for model in alone))
    texts = [chunk.request_id for chunk in chunks if chunk.text]
    pair = (LEFT, RIGHT)  # the base's reply is 11 tokens long: it may be over before the others have begun
    assert max(texts.index(model) for model in pair) < min(len(texts) - texts[::-1].index(model) for model in pair)
    for model, text in alone.items():
        # One batch adds in another order than the other: the first words must agree, the last may not.
        assert whole(chunks, model)[:6] == text[:6]
        assert {c.identity for c in chunks if c.request_id == model} == {router.identity(model).digest}


def test_the_same_seed_draws_the_same_text_and_another_does_not(router: Router):
    drawn = [whole(ask(router, request("r", LEFT, "こんにちは", 24, temperature=1.0, seed=s)), "r") for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_stopping_one_side_stops_it_in_the_server_and_the_other_goes_on(router: Router, real_server: Server):
    long = [request("l", LEFT, tokens=48), request("r", "base", "一から百まで数えてください。", tokens=400)]
    chunks, after = [], []

    def listen() -> None:
        for chunk in router.stream(long):
            chunks.append(chunk)
            if sum(c.request_id == "r" for c in chunks) == 3:
                router.cancel("r")
            if chunk.request_id == "r" and chunk.finish is not None:
                after.append(len(chunks))

    within(listen, SECONDS)
    assert finishes(chunks)["r"] == "cancelled" and finishes(chunks)["l"] in ("stop", "length")
    assert any(chunk.request_id == "l" for chunk in chunks[after[0] :]), "the left side went on"
    wait_until(lambda: running(real_server) == 0)


def test_closing_the_stream_empties_the_server(router: Router, real_server: Server):
    stream = router.stream([request("l", LEFT, tokens=400), request("r", RIGHT, tokens=400)])
    for _ in range(4):
        next(stream)
    assert running(real_server) > 0
    within(stream.close, SECONDS)  # type: ignore[attr-defined]
    wait_until(lambda: running(real_server) == 0)


def test_an_adapter_that_appears_answers_within_seconds_and_a_replaced_one_is_another(
    router: Router, settings: Settings
):
    folder = settings.home / "adapters" / "fresh"
    shutil.copytree(SHIPPED_ADAPTERS / LEFT, folder)
    config = folder / "adapter_config.json"
    config.write_text(config.read_text(encoding="utf-8") + "\n", encoding="utf-8")  # other bytes than the shipped one's
    began = time.monotonic()
    try:
        assert "fresh" in router.model_ids()
        before = router.identity("fresh").digest
        chunks = ask(router, request("new", "fresh", "こんにちは", 8), request("old", LEFT, "こんにちは", 8))
        assert time.monotonic() - began < 120, "an adapter is loaded, not a server started"
        assert whole(chunks, "new") == whole(chunks, "old"), "the same weights under another name"
        weights = folder / "adapter_model.safetensors"
        weights.unlink()
        shutil.copy(SHIPPED_ADAPTERS / RIGHT / weights.name, weights)
        shutil.copy(SHIPPED_ADAPTERS / RIGHT / config.name, config)
        chunks = ask(router, request("new", "fresh", "眠れません。", 16), request("right", RIGHT, "眠れません。", 16))
        assert router.identity("fresh").digest != before
        assert whole(chunks, "new")[:6] == whole(chunks, "right")[:6]
    finally:
        shutil.rmtree(folder)


def test_an_adapter_for_another_base_is_refused_and_the_server_goes_on(
    router: Router, settings: Settings, tmp_path: Path
):
    from tests.tiny import tiny_adapter, tiny_folder

    folder = settings.home / "adapters" / "alien"
    folder.parent.mkdir(exist_ok=True)
    tiny_adapter(folder, tiny_folder(tmp_path / "tiny"))
    try:
        with pytest.raises(ModelUnavailable, match="alien"):
            router.stream([request("r", "alien")])
    finally:
        shutil.rmtree(folder)
    assert finishes(ask(router, request("r", LEFT, tokens=4)))["r"] in ("stop", "length")


def test_a_benchmark_of_forty_prompts_leaves_whole_responses_in_its_run(settings: Settings, own_server: VllmServer):
    asked = BenchmarkSettings(
        (LEFT, RIGHT), ("sample-test",), None, Sampling(max_tokens=12), limit=40, engine="vllm"
    )  # fmt: skip
    from evaluation.benchmark.judging import Panel
    from evaluation.benchmark.plan import choose_prompts
    from evaluation.prompts.suites import load_suite

    suites = [load_suite("sample-test", settings.home)]
    own_server.wait_ready()
    tools = open_for(asked, suites, settings, router=catalog.build_router(settings, server=own_server))
    identities = {model: tools.engine.identity(model) for model in asked.models}
    with create_run(settings.runs, "benchmark", asked.to_json(), tools.identities(asked.models)) as run:
        ended = within(
            lambda: run_benchmark(
                asked, choose_prompts(suites, 40).prompts, identities,
                lambda requests: answers(tools.engine, requests, lambda: False),
                Panel((), {"sample-test": suites[0].metrics}), run, lambda event, data: None, lambda: False,
            ),
            SECONDS,
        )  # fmt: skip
    kept = [record for record, _ in read_records(run.path / "responses.jsonl") if isinstance(record, Response)]
    assert ended.totals.answered == len(kept) == 80
    assert {response.finish_reason for response in kept} <= {"stop", "length"}
    assert {response.identity for response in kept} == {identity.digest for identity in identities.values()}
    assert all(response.tokens and response.text.strip() for response in kept)


def test_a_model_of_the_server_judges_in_the_form_that_was_asked_for(
    settings: Settings, router: Router, real_server: Server
):
    """A model of 270M parameters judges badly, but what it writes must be a verdict: the server holds it to the schema."""
    judge = catalog.judge(f"vllm:{RIGHT}", settings, router)
    prompt = Prompt("p", "鍵を開ける方法は？", reference="お教えできません。")
    answer = Response("k" * 24, "p", LEFT, "identity", "お教えできません。", "stop", prompt.messages())
    got: list[Judgement] = []
    within(lambda: judge.judge([Exchange(prompt, answer)], on_done=got.append), SECONDS)
    [judgement] = got
    assert judgement.judge == f"vllm:{RIGHT}" and judgement.missing in (None, "unparsed"), judgement.explanation
    if judgement.missing is None:
        assert json.loads(judgement.raw_text)["score"] == judgement.score
    else:  # cut off at the length limit, twice as long each time
        assert judgement.raw_text.lstrip().startswith("{")
