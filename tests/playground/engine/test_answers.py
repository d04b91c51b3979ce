"""A benchmark's requests through an engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evaluation.benchmark.judging import Panel
from evaluation.benchmark.pacing import Pacer
from evaluation.benchmark.plan import Request, plan
from evaluation.benchmark.run import DOES_NOT_FIT, FAILURES, FILTERED, run_benchmark
from evaluation.benchmark.settings import BenchmarkSettings
from evaluation.journal import create_run
from evaluation.types import Prompt, Sampling, response_key
from playground.engine import answers as answers_module
from playground.engine.answers import answers
from playground.engine.endpoint import EndpointEngine
from tests.fakes import FakeEngine
from tests.openai_server import OpenAIServer, status
from tests.playground.engine.serving import KEY, exact_local
from tests.tiny import tiny_adapter, tiny_folder

MODELS = ("general", "answercarefully-sample")


def requests(engine, models=MODELS, count=5, tokens=200, **sampling) -> list[Request]:
    prompts = [Prompt(f"p{n}", f"質問{n}", suite="mine") for n in range(count)]
    settings = BenchmarkSettings(tuple(models), ("mine",), None, Sampling(max_tokens=tokens, **sampling))
    return plan(settings, prompts, {model: engine.identity(model) for model in models})


def never() -> bool:
    return False


def test_every_request_becomes_the_response_that_was_planned():
    engine = FakeEngine()
    asked = requests(engine)
    made = list(answers(engine, asked, never))
    assert {r.key for r in made} == {request.key for request in asked}
    assert all(r.text == engine.replies[r.model] and r.finish_reason == "stop" for r in made)
    first = made[0]
    assert first.key == response_key(first.messages, first.identity, first.sampling, first.attempt)


def test_a_prompt_that_is_too_long_fails_alone():
    engine = FakeEngine(longest=10)
    asked = requests(engine)
    long = Prompt("long", "長" * 11, suite="mine")
    asked[3] = replace(
        asked[3],
        prompt=long,
        messages=long.messages(),
        key=response_key(long.messages(), asked[3].identity, asked[3].sampling, 0),
    )
    made = {r.key: r for r in answers(engine, asked, never)}
    assert made.keys() == {request.key for request in asked}
    failed = [r for r in made.values() if r.finish_reason == "error"]
    assert [r.prompt_id for r in failed] == ["long"]
    assert failed[0].error.startswith(DOES_NOT_FIT)


def test_more_requests_than_are_in_hand_are_all_answered_once(monkeypatch):
    monkeypatch.setattr(answers_module, "IN_HAND", 3)
    engine = FakeEngine()
    asked = requests(engine)
    keys = [r.key for r in answers(engine, asked, never)]
    assert sorted(keys) == sorted(request.key for request in asked)


def test_a_stop_ends_the_stream_and_what_it_computes():
    engine = FakeEngine()
    asked = requests(engine)
    chunks = iter(range(100))
    assert list(answers(engine, asked, lambda: next(chunks) > 5)) == []
    assert engine.active == 0


def test_weights_that_are_not_those_planned_show_in_the_key():
    engine = FakeEngine(answered_by={"general": "base"})
    asked = requests(engine, ["general"])
    assert not {r.key for r in answers(engine, asked, never)} & {request.key for request in asked}


def test_the_models_of_a_prompt_share_a_batch_and_give_the_texts_they_give_alone(tmp_path):
    base = tiny_folder(tmp_path / "base", seed=5)
    adapters = {name: tiny_adapter(tmp_path / name, base, seed) for seed, name in enumerate(MODELS, 1)}
    with exact_local(base, adapters) as engine:
        asked = requests(engine, ("base", *MODELS), count=3, tokens=8, temperature=0.0)
        together: list[set[str | None]] = []
        admit = engine._decoder.admit
        engine._decoder.admit = lambda rows: (together.append({row.adapter for row in rows}), admit(rows))[1]
        batched = {r.key: r.text for r in answers(engine, asked, never)}
        engine._decoder.admit = admit
        alone = {r.key: r.text for request in asked for r in answers(engine, [request], never)}
    assert {None, *MODELS} in together
    assert batched == alone


def test_an_endpoint_is_asked_many_at_a_time_and_again_after_faults():
    faults = [status(429, retry_after=0.1), status(500), status(503)]
    with OpenAIServer(faults, reply=lambda body: "答え", chunk_delay=0.02) as server:
        engine = EndpointEngine(server.url, KEY, ["far"])
        asked = requests(engine, ["openai:far"], count=40)
        made = list(answers(engine, asked, never))
    assert {r.key for r in made} == {request.key for request in asked}
    assert {r.text for r in made} == {"答え"}
    assert len(server.requests) == 43
    assert 2 <= server.most_at_once <= 64


def test_all_lanes_of_an_endpoint_keep_to_its_pacer():
    with OpenAIServer(reply=lambda body: "答え", chunk_delay=0.05) as server:
        engine = EndpointEngine(server.url, KEY, ["far"], pacer=Pacer(start=2, most=2))
        assert len(list(answers(engine, requests(engine, ["openai:far"], count=12), never))) == 12
    assert server.most_at_once == 2


def test_an_endpoint_that_is_down_gives_errors_that_say_so():
    with OpenAIServer([status(500)] * 3, reply=lambda body: "答え") as server:
        engine = EndpointEngine(server.url, KEY, ["far"], attempts=1)
        made = list(answers(engine, requests(engine, ["openai:far"], count=3), never))
    assert {r.finish_reason for r in made} == {"error"}
    assert "HTTP 500" in made[0].error


@pytest.mark.parametrize(
    ("refusal", "begins"),
    [
        (status(400, message="This model's maximum context length is 4096 tokens."), DOES_NOT_FIT),
        (status(400, message="the request exceeds the available context size"), DOES_NOT_FIT),
        (status(400, code="context_length_exceeded"), DOES_NOT_FIT),
        (status(400, code="content_filter"), FILTERED),
    ],
    ids=["words", "other words", "code", "filter"],
)
def test_what_an_endpoint_refuses_for_the_prompts_sake_says_so(refusal, begins):
    with OpenAIServer([refusal], reply=lambda body: "答え") as server:
        engine = EndpointEngine(server.url, KEY, ["far"])
        [made] = answers(engine, requests(engine, ["openai:far"], count=1), never)
    assert made.finish_reason == "error" and made.error.startswith(begins)


def test_as_many_prompts_as_make_a_model_count_as_gone_may_be_too_long_for_an_endpoint(tmp_path):
    refusals = [status(400, code="context_length_exceeded")] * FAILURES
    prompts = [Prompt(f"p{n}", f"質問{n}", suite="mine") for n in range(FAILURES + 5)]
    settings = BenchmarkSettings(("openai:far",), ("mine",), None)
    with (
        OpenAIServer(refusals, reply=lambda body: "答え") as server,
        create_run(tmp_path, "benchmark", {}, {}) as folder,
    ):
        engine = EndpointEngine(server.url, KEY, ["far"], pacer=Pacer(start=1, most=1))
        ended = run_benchmark(
            settings, prompts, {"openai:far": engine.identity("openai:far")},
            lambda asked: answers(engine, asked, never), Panel((), {"mine": ("safety",)}), folder,
            lambda event, data: None, never,
        )  # fmt: skip
    assert (ended.stopped, ended.totals.answered) == (False, FAILURES + 5)
