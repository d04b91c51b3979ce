"""The embedded model served by vLLM: the same ids, adapters as they come, and judges on the servers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation.benchmark.pacing import Pacer
from evaluation.errors import ModelUnavailable, UserFacingError
from evaluation.judge.protocol import Exchange
from evaluation.types import Prompt, Response
from playground import benchmarks, catalog, served
from playground.cli.work import router_for_names
from playground.serving.lending import LENT
from playground.settings import Settings
from tests.playground.engine.serving import finishes, request, whole, within
from tests.tiny import tiny_adapter, tiny_folder
from tests.vllm_server import KEY, VllmServer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("served") / "tiny", seed=5)


@pytest.fixture
def shipped(tmp_path, tiny, monkeypatch) -> Path:
    root = tmp_path / "shipped"
    for seed, name in enumerate(catalog.DEFAULT_PAIR, start=1):
        tiny_adapter(root / name, tiny, seed)
    monkeypatch.setattr(catalog, "SHIPPED_ADAPTERS", root)
    monkeypatch.setattr(served, "ensure_embedded", lambda home, report=None: tiny)
    return root


@pytest.fixture
def server(tiny) -> Iterator[VllmServer]:
    with VllmServer(tiny) as running:
        yield running


def settings_for(home: Path, *urls: str, **more: object) -> Settings:
    return Settings(home=home, _env_file=None, vllm_url=urls, vllm_api_key=KEY, **more)


def ask(router, *requests):
    return within(lambda: list(router.stream(requests)))


def test_with_the_engine_vllm_the_embedded_ids_are_answered_by_the_server(tmp_path, shipped, server):
    router = catalog.build_router(settings_for(tmp_path / "home", server.url, engine="vllm"))
    assert router.model_ids()[:3] == ["base", *catalog.DEFAULT_PAIR]
    chunks = ask(router, *(request(model, model) for model in ("base", *catalog.DEFAULT_PAIR)))
    assert whole(chunks, "base").startswith("base:")
    for name in catalog.DEFAULT_PAIR:
        assert whole(chunks, name).startswith(f"{name}@")
    assert "(vLLM)" in router.identity("base").base


def test_an_adapter_that_was_trained_meanwhile_is_found_and_one_that_was_replaced_is_loaded_anew(
    tmp_path, shipped, server
):
    settings = settings_for(tmp_path / "home", server.url, engine="vllm")
    router = catalog.build_router(settings)
    ask(router, request("r", "base"))
    mine = settings.home / "adapters" / "mine"
    shutil.copytree(shipped / catalog.DEFAULT_PAIR[0], mine)
    assert finishes(ask(router, request("r", "mine"))) == {"r": "length"}
    before, loads = router.identity("mine").digest, len(server.loads)
    ask(router, request("r", "mine"))
    assert len(server.loads) == loads, "it is loaded once"
    shutil.rmtree(mine)
    shutil.copytree(shipped / catalog.DEFAULT_PAIR[1], mine)
    ask(router, request("r", "mine"))
    assert router.identity("mine").digest != before
    shutil.rmtree(mine)
    with pytest.raises(ModelUnavailable, match="no model mine"):
        router.stream([request("r", "mine")])


def test_without_a_server_the_reason_is_told_and_asked_again_it_may_work(tmp_path, shipped, tiny):
    with VllmServer(tiny) as gone:
        url, port = gone.url, int(gone.url.rsplit(":", 1)[1].partition("/")[0])
    router = catalog.build_router(settings_for(tmp_path / "home", url, engine="vllm"))
    with pytest.raises(UserFacingError) as refused:
        router.stream([request("r", "base")])
    assert "\n" not in str(refused.value) and KEY not in str(refused.value)
    assert router.load_state().stage == "failed"
    with VllmServer(tiny, port=port):
        assert finishes(ask(router, request("r", "base"))) == {"r": "length"}
    assert router.load_state().ready


def test_the_servers_of_the_settings_offer_their_own_models_beside(tmp_path, shipped, server):
    settings = settings_for(tmp_path / "home", server.url)
    assert "vllm:base" in [entry.id for entry in catalog.models(settings)]
    router = catalog.build_router(settings)
    assert finishes(ask(router, request("r", "vllm:base"))) == {"r": "length"}
    assert router.served is None, "the embedded model stays in this process unless the settings say otherwise"


def judged(judge) -> str:
    prompt = Prompt("p", "質問")
    response = Response("k" * 24, "p", "general", "identity", "答え", "stop", prompt.messages())
    [judgement] = within(lambda: judge.judge([Exchange(prompt, response)]))
    return f"{judgement.judge} {judgement.score or judgement.missing}"


def verdict(body) -> str:
    assert body["response_format"]["type"] == "json_schema"
    return json.dumps({"explanation": "理由", "score": 4})


def test_a_judge_on_the_server_is_held_to_a_schema_and_named_by_it(tmp_path, shipped, tiny):
    with VllmServer(tiny, reply=verdict, template=True, max_model_len=4096) as server:
        settings = settings_for(tmp_path / "home", server.url)
        router = catalog.build_router(settings)
        assert "vllm:base" in catalog.judges(settings, router), "the page offers it too"
        judge = catalog.judge("vllm:base", settings, router, Pacer())
        assert judged(judge) == "vllm:base 4"
        assert server.completions[-1].body["max_tokens"] == 1024, "a quarter of what the server takes"


def test_a_judge_may_have_a_server_of_its_own(tmp_path, shipped, server, tiny):
    with VllmServer("org/judge", name="org/judge", reply=verdict, template=True) as second:
        settings = settings_for(tmp_path / "home", server.url, judge_url=second.url, judge_api_key=KEY)
        router = catalog.build_router(settings)
        assert "vllm:org/judge" in catalog.judges(settings, router)
        assert judged(catalog.judge("vllm:org/judge", settings, router)) == "vllm:org/judge 4"
        assert not server.completions


def test_a_judge_without_any_server_says_what_to_set(tmp_path, shipped):
    settings = Settings(home=tmp_path / "home", _env_file=None)
    with pytest.raises(ModelUnavailable, match="PLAYGROUND_JUDGE_URL"):
        catalog.judge("vllm:base", settings, catalog.build_router(settings))
    benchmarks.check_judge("vllm:base")


def test_a_judges_server_that_is_silent_is_told_before_anything_is_judged(tmp_path, shipped, tiny):
    with VllmServer(tiny) as gone:
        url = gone.url
    settings = Settings(home=tmp_path / "home", _env_file=None, judge_url=url)
    with pytest.raises(ModelUnavailable, match="No vLLM server answers"):
        catalog.judge("vllm:base", settings, catalog.build_router(settings))


def test_a_runs_process_asks_the_server_that_the_app_has_lent_to_it(tmp_path, shipped, tiny, server, monkeypatch):
    document = {"base_url": server.url, "api_key": KEY, "model": "base", "folder": str(tiny)}
    monkeypatch.setenv(LENT, json.dumps({**document, "max_model_len": 4096, "max_lora_rank": 16}))
    router = catalog.build_router(Settings(home=tmp_path / "home", _env_file=None, engine="vllm"), Pacer())
    chunks = ask(router, request("b", "base"), request("g", "general"))
    assert finishes(chunks) == {"b": "length", "g": "length"} and len(server.completions) == 2
    assert router.load_state().ready
    router.served.close()  # type: ignore[union-attr]
    assert finishes(ask(router, request("b", "base"))) == {"b": "length"}, "the app's server goes on"


@pytest.mark.parametrize("urls", [0, 1], ids=["own", "theirs"])
def test_a_run_that_is_only_queued_or_forecast_starts_no_server(tmp_path, shipped, tiny, server, monkeypatch, urls):
    """What is told from the files is what the server's engine says of itself."""
    answering = settings_for(tmp_path / "home", server.url, engine="vllm")
    asked = settings_for(tmp_path / "home", *([server.url] * urls), engine="vllm")
    monkeypatch.setattr("training.embedded.ensure_embedded", lambda home, report=None: tiny)
    monkeypatch.setattr("playground.serving.vllm_server", lambda settings: pytest.fail("it started a server"))
    names = router_for_names(asked)
    found = [names.identity(model) for model in ("base", "general")]
    assert not server.requests and not server.loads
    router = catalog.build_router(answering)
    assert found == [router.identity(model) for model in ("base", "general")]
    with pytest.raises(ModelUnavailable, match="no model nobody"):
        names.served.identity("nobody")  # type: ignore[union-attr]


def test_a_judge_is_found_on_whichever_of_several_servers_has_it(tmp_path, shipped, server):
    with VllmServer("org/judge", name="org/judge", reply=verdict, template=True) as second:
        settings = settings_for(tmp_path / "home", server.url, second.url)
        router = catalog.build_router(settings)
        assert {"vllm:base", "vllm:org/judge"} <= catalog.judges(settings, router).keys()
        assert judged(catalog.judge("vllm:org/judge", settings, router)) == "vllm:org/judge 4"
        assert not server.completions


def test_the_address_of_a_judges_server_needs_no_v1_as_those_of_servers_need_none(tmp_path):
    for url in ("http://localhost:8001", "http://localhost:8001/", "http://localhost:8001/v1"):
        assert Settings(home=tmp_path, _env_file=None, judge_url=url).judge_url == "http://localhost:8001/v1"
    with pytest.raises(ValueError, match="must begin with http"):
        Settings(home=tmp_path, _env_file=None, judge_url="localhost:8001")
