"""What can be chosen, and how each id is opened."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx2
import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

from evaluation.errors import AccessMissing, ModelUnavailable
from playground import catalog
from playground.engine.protocol import GenerationRequest
from playground.settings import Settings
from tests.openai_server import OpenAIServer
from tests.playground.engine.serving import finishes, request, whole, within
from tests.tiny import tiny_adapter, tiny_folder

KEY = "sk-never-to-be-seen-0123456789"


def settings_for(home: Path, **more: object) -> Settings:
    return Settings(home=home, _env_file=None, **more)


def put_adapter(root: Path, name: str) -> Path:
    (root / name).mkdir(parents=True)
    (root / name / "adapter_config.json").write_text("{}")
    return root / name


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> Path:
    root = tmp_path / "shipped"
    for name in ("answercarefully-sample", "general"):
        put_adapter(root, name)
    monkeypatch.setattr(catalog, "SHIPPED_ADAPTERS", root)
    return root


@pytest.fixture
def settings(tmp_path, shipped) -> Settings:
    return settings_for(tmp_path / "home")


def test_the_default_pair_leads_and_the_users_own_adapters_follow_by_name(settings):
    for name in ("zeta", "alpha"):
        put_adapter(settings.home / "adapters", name)
    assert list(catalog.adapters(settings)) == [*catalog.DEFAULT_PAIR, "alpha", "zeta"]


def test_a_users_adapter_never_takes_a_shipped_ones_name(settings, shipped):
    put_adapter(settings.home / "adapters", "general")
    assert catalog.adapters(settings)["general"] == shipped / "general"


def test_a_half_copied_adapter_is_not_offered(settings):
    put_adapter(settings.home / "adapters", ".new-mine")
    (settings.home / "adapters" / "empty").mkdir()
    assert list(catalog.adapters(settings)) == list(catalog.DEFAULT_PAIR)


def test_models_are_listed_without_loading_anything_and_endpoints_only_where_named(tmp_path, settings):
    assert [(e.id, e.kind) for e in catalog.models(settings)] == [
        ("base", "base"), ("general", "adapter"), ("answercarefully-sample", "adapter"),
    ]  # fmt: skip
    named = settings_for(tmp_path / "home", openai_models="a,b", openai_api_key=KEY)
    assert [e.id for e in catalog.models(named)][-2:] == ["openai:a", "openai:b"]
    assert catalog.build_router(named).model_ids() == [e.id for e in catalog.models(named)]


def test_an_adapter_that_appears_is_offered_without_a_restart(settings):
    router = catalog.build_router(settings)
    put_adapter(settings.home / "adapters", "mine")
    assert "mine" in router.model_ids()


def test_models_named_without_a_key_are_refused_with_the_variable(tmp_path):
    with pytest.raises(AccessMissing, match="PLAYGROUND_OPENAI_API_KEY"):
        catalog.build_router(settings_for(tmp_path, openai_models="a"))


def test_an_endpoint_of_the_settings_answers_through_the_router(tmp_path):
    with OpenAIServer(reply=lambda body: "はい。") as server:
        settings = settings_for(tmp_path, openai_models="a", openai_api_key=KEY, openai_base_url=server.url)
        chunks = within(lambda: list(catalog.build_router(settings).stream([request("r", "openai:a")])))
    assert whole(chunks, "r") == "はい。"


def test_a_folder_is_opened_by_path_and_bounded_by_the_settings(tmp_path):
    folder = tiny_folder(tmp_path / "tiny")
    router = catalog.build_router(settings_for(tmp_path / "home", max_context=300))
    model = f"path:{folder}"
    chunks = within(lambda: list(router.stream([request("r", model, tokens=3)])))
    assert set(finishes(chunks).values()) <= {"length", "stop"}
    assert model in router.model_ids()
    assert router.identity(model).model == model
    engine = router._others[model]
    assert engine.context == 300
    engine.close()


def test_a_path_without_a_model_is_refused(tmp_path):
    router = catalog.build_router(settings_for(tmp_path))
    with pytest.raises(ModelUnavailable, match=r"config\.json"):
        router.stream([request("r", f"path:{tmp_path}")])


def answer(status: int) -> httpx2.Response:
    return httpx2.Response(status, request=httpx2.Request("GET", "https://huggingface.co/org/name"))


@pytest.mark.parametrize(
    ("failure", "error", "told"),
    [
        pytest.param(lambda: GatedRepoError("gated", response=answer(403)), AccessMissing, "is gated", id="gated"),
        pytest.param(
            lambda: RepositoryNotFoundError("gone", response=answer(404)),
            ModelUnavailable,
            "no model org/name",
            id="gone",
        ),
        pytest.param(lambda: HFValidationError("name"), ModelUnavailable, "no model org/name", id="no-name"),
        pytest.param(
            lambda: HfHubHTTPError("down", response=answer(500)), ModelUnavailable, "cannot be fetched", id="hub-down"
        ),
        pytest.param(lambda: OSError("no route"), ModelUnavailable, "cannot be fetched", id="no-network"),
        pytest.param(lambda: httpx2.ConnectError("no route"), ModelUnavailable, "cannot be fetched", id="no-dns"),
    ],
)
def test_a_hub_model_that_cannot_be_had_is_told_in_one_line(tmp_path, monkeypatch, failure, error, told):
    def download(*_: object, **__: object) -> str:
        raise failure()

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    router = catalog.build_router(settings_for(tmp_path, HF_TOKEN=KEY))
    with pytest.raises(error, match=told) as refused:
        router.stream([request("r", "hub:org/name")])
    assert "\n" not in str(refused.value) and KEY not in str(refused.value)


def test_a_hub_model_is_fetched_without_code_and_with_the_token(tmp_path, monkeypatch):
    asked: dict[str, object] = {}

    def download(name: str, **more: object) -> str:
        asked.update(more, name=name)
        return str(tiny_folder(tmp_path / "tiny"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    router = catalog.build_router(settings_for(tmp_path / "home", HF_TOKEN=KEY))
    assert router.identity("hub:org/name").base.startswith("tiny")
    router._others["hub:org/name"].close()
    assert (asked["name"], asked["token"]) == ("org/name", KEY)
    patterns = asked["allow_patterns"]
    assert isinstance(patterns, list)
    assert not any(".py" in pattern or ".bin" in pattern or pattern == "*" for pattern in patterns)


def test_judges_are_the_embedded_one_and_with_a_key_the_named_one(tmp_path, settings):
    router = catalog.build_router(settings)
    assert list(catalog.judges(settings, router)) == ["embedded"]
    keyed = settings_for(tmp_path, openai_api_key=KEY)
    offered = catalog.judges(keyed, router)
    assert list(offered) == ["embedded", f"openai:{keyed.judge_model}"]
    assert offered[f"openai:{keyed.judge_model}"]().id == f"openai:{keyed.judge_model}"


@pytest.mark.parametrize("judge_id", ["nobody", "openai:", "", "gpt-4o"])
def test_an_unknown_judge_is_answered_with_what_there_is(settings, judge_id):
    with pytest.raises(ModelUnavailable, match="use embedded, openai:MODEL or vllm:NAME"):
        catalog.judge(judge_id, settings, catalog.build_router(settings))


def test_the_shipped_pair_is_there_and_is_plain_lora():
    from playground.engine.adapters import read_adapter

    for name in catalog.DEFAULT_PAIR:
        if not (catalog.SHIPPED_ADAPTERS / name).is_dir():
            pytest.skip("the shipped adapters are not trained yet")
        assert read_adapter(catalog.SHIPPED_ADAPTERS / name, name).layers


def test_suites_are_the_samples_and_everything_imported(settings):
    from evaluation.prompts.imports import Imported
    from evaluation.prompts.suites import save_imported
    from evaluation.types import Prompt

    before = [suite.name for suite in catalog.suites(settings)]
    save_imported(Imported("mine", [Prompt("p1", "質問")], [], [], []), settings.home)
    assert [suite.name for suite in catalog.suites(settings)] == [*before, "mine"]
    shutil.rmtree(settings.home)
    assert [suite.name for suite in catalog.suites(settings)] == before


def test_a_request_names_what_it_wants_and_nothing_is_implied(settings):
    """A router without adapters must not answer for one."""
    router = catalog.build_router(settings)
    with pytest.raises(ModelUnavailable):
        router.stream([GenerationRequest("r", "", (), request("r", "base").sampling)])


def test_one_damaged_adapter_of_ones_own_does_not_take_the_engine_with_it(tmp_path, monkeypatch):
    base = tiny_folder(tmp_path / "base")
    shipped = tmp_path / "shipped"
    tiny_adapter(shipped / "general", base)
    settings = settings_for(tmp_path / "home")
    tiny_adapter(settings.home / "adapters" / "good", base, seed=2)
    tiny_adapter(settings.home / "adapters" / "empty", base, scale=0.0)
    monkeypatch.setattr(catalog, "SHIPPED_ADAPTERS", shipped)
    monkeypatch.setattr(catalog, "ensure_embedded", lambda home, report: base)
    router = catalog.build_router(settings)
    within(lambda: router.identity("general"))
    assert router.identity("good").adapter_sha256 is not None
    with pytest.raises(ModelUnavailable, match="empty changes nothing"):
        router.identity("empty")
    assert router.identity("general").model == "general"
    (shipped / "general" / "adapter_model.safetensors").write_bytes(b"damaged")
    broken = catalog.build_router(settings_for(tmp_path / "elsewhere"))
    with pytest.raises(ModelUnavailable, match="general"):
        within(broken.embedded)


@pytest.mark.parametrize(("engine", "device"), [("transformers", None), ("vllm", "cpu")])
def test_beside_the_apps_vllm_server_the_embedded_judge_computes_on_the_cpu(tmp_path, monkeypatch, engine, device):
    from playground.engine import local

    opened: list[dict[str, object]] = []
    monkeypatch.setattr(local, "LocalEngine", lambda *_, **options: opened.append(options) or FakeLocal())
    monkeypatch.setattr(catalog, "ensure_embedded", lambda *_: tmp_path)
    router = catalog.build_router(settings_for(tmp_path, engine=engine))
    router.embedded()
    assert [options["device"] for options in opened] == [device]


class FakeLocal:
    """A model that was opened and serves nothing."""

    def model_ids(self) -> list[str]:
        return []
