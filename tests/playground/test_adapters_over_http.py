"""Adapters pushed to a hub and fetched from it again, with the hub's own client, over a local server shaped like it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from evaluation.errors import AccessMissing, ModelUnavailable
from playground import adapter_imports, adapters
from playground.adapter_imports import import_adapter
from playground.adapters import CARD, CONFIG, FILES, WEIGHTS
from playground.settings import Settings
from tests.hub_server import HubServer
from tests.tiny import tiny_adapter, tiny_folder
from training.embedded import MANIFEST, weights_sha256

TOKEN = "hf_of_this_test"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that stands for the embedded one."""
    folder = tiny_folder(tmp_path_factory.mktemp("embedded") / "tiny")
    (folder / MANIFEST).write_text("{}")
    return folder


@pytest.fixture
def settings(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """With an adapter `mine`."""
    monkeypatch.setattr(adapter_imports, "embedded_folder", lambda home: base)
    made = tiny_adapter(tmp_path / "made", base)
    (made / CARD).write_text(f"# mine\n- base weights sha256: `{weights_sha256(base)}`\n")
    found = Settings.model_construct(home=tmp_path / "home", hf_token=SecretStr(TOKEN))
    import_adapter(found, str(made), "mine")
    return found


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer(TOKEN) as server:
        server.stands_in(monkeypatch)
        yield server


def test_what_is_pushed_is_fetched_again_as_it_was(settings: Settings, hub: HubServer, tmp_path: Path):
    assert adapters.push(settings, "mine", "org/name") == f"{hub.url}/org/name"
    kept = hub.repositories["org/name"]
    assert kept.private and kept.commits == ["Adapter mine"]
    exported = adapters.export(settings, "mine", tmp_path / "out")
    assert kept.files == {name: (exported / name).read_bytes() for name in FILES}
    assert kept.files[CARD].startswith(b"---\n")
    assert any(method == "PUT" for method, _ in hub.asked)  # the weights went the way of large files

    kept.files["adapter_model.bin"] = kept.files["run_me.py"] = b"not ours"
    again = import_adapter(settings, "hub:org/name", "again")
    assert again.warnings == ()
    assert adapters.find(settings, "again").sha256 == adapters.find(settings, "mine").sha256
    fetched = {path.rpartition("/")[2] for _, path in hub.asked if "/resolve/" in path}
    assert fetched == {CONFIG, WEIGHTS, CARD}


def test_a_second_push_makes_a_commit_in_the_same_repository(settings: Settings, hub: HubServer):
    adapters.push(settings, "mine", "org/name", private=False)
    adapters.push(settings, "general", "org/name")
    kept = hub.repositories["org/name"]
    assert kept.commits == ["Adapter mine", "Adapter general"] and not kept.private


@pytest.mark.parametrize(("token", "writes"), [("hf_of_somebody_else", True), (TOKEN, False)])
def test_a_token_that_may_not_push_is_told_in_one_line(settings: Settings, hub: HubServer, token: str, writes: bool):
    hub.writes = writes
    other = settings.model_copy(update={"hf_token": SecretStr(token)})
    with pytest.raises(AccessMissing, match="HF_TOKEN"):
        adapters.push(other, "mine", "org/name")
    assert hub.repositories == {}


def test_a_repository_that_is_not_there_or_no_hub_at_all_is_told_in_one_line(
    settings: Settings, hub: HubServer, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(ModelUnavailable, match="There is no org/other"):
        import_adapter(settings, "hub:org/other")
    hub.url = "http://127.0.0.1:9"  # the port that discards: nobody listens
    hub.stands_in(monkeypatch)
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        adapters.push(settings, "mine", "org/name")
