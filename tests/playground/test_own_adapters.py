"""Adapters: list, rename, delete, export, push, and what is refused at the door when one is imported."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from pydantic import SecretStr

from evaluation.errors import AccessMissing, ModelUnavailable
from playground import adapter_imports, adapters
from playground.adapter_imports import import_adapter
from playground.adapters import CARD, CONFIG, FILES, WEIGHTS, AdapterRefused, list_adapters
from playground.jobs.workers import ORIGIN_FILE
from playground.settings import Settings
from tests.playground.calling import Call, refused
from tests.tiny import edit_config, tiny_adapter, tiny_folder
from training.embedded import MANIFEST, weights_sha256


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that stands for the embedded one."""
    folder = tiny_folder(tmp_path_factory.mktemp("embedded") / "tiny")
    (folder / MANIFEST).write_text("{}")
    return folder


@pytest.fixture(scope="session")
def made(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_adapter(tmp_path_factory.mktemp("made") / "Theirs-V1", base)


@pytest.fixture
def settings(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(adapter_imports, "embedded_folder", lambda home: base)
    return Settings.model_construct(home=tmp_path / "home")


@pytest.fixture
def theirs(tmp_path: Path, made: Path, base: Path) -> Path:
    """A stranger's adapter for our base, which its card names by hash."""
    folder = tmp_path / "Theirs-V1"
    folder.mkdir()
    for name in (CONFIG, WEIGHTS):
        (folder / name).write_bytes((made / name).read_bytes())
    card = f"# theirs\n| sample-general | 600 | 75 | 43 |\n- base weights sha256: `{weights_sha256(base)}`\n"
    (folder / CARD).write_text(card)
    return folder


def own(settings: Settings) -> list[str]:
    return sorted(path.name for path in (settings.home / "adapters").glob("*"))


# ---- the list ----


def test_the_list_tells_size_data_date_identity_and_origin(settings: Settings, theirs: Path):
    import_adapter(settings, str(theirs), "mine")
    *shipped, mine = list_adapters(settings)
    assert [info.name for info in shipped] == ["general", "answercarefully-sample"]
    assert all(info.shipped and info.data and len(info.sha256) == 64 for info in shipped)
    assert mine.data == (("sample-general", 600),) and mine.size_bytes == (theirs / WEIGHTS).stat().st_size
    assert (mine.source, mine.run_id, mine.shipped, mine.warnings) == ("Theirs-V1", None, False, ())
    assert mine.made_at is not None and mine.made_at.endswith("Z")


def test_an_adapter_without_card_or_origin_is_listed_with_what_is_known(settings: Settings, theirs: Path):
    folder = settings.home / "adapters" / "old"
    folder.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS):
        (folder / name).write_bytes((theirs / name).read_bytes())
    (folder / ORIGIN_FILE).write_text("[torn")
    info = adapters.find(settings, "old")
    assert (info.data, info.made_at, info.run_id, info.source) == ((), None, None, None)


# ---- rename and delete ----


def test_an_own_adapter_is_renamed_and_deleted(settings: Settings, theirs: Path):
    import_adapter(settings, str(theirs), "mine")
    before = adapters.find(settings, "mine").sha256
    assert adapters.rename(settings, "mine", "better").sha256 == before
    assert own(settings) == ["better"]
    adapters.delete(settings, "better")
    assert own(settings) == []


def test_a_shipped_adapter_is_neither_renamed_nor_deleted(settings: Settings):
    for attempt in (lambda: adapters.rename(settings, "general", "mine"), lambda: adapters.delete(settings, "general")):
        with pytest.raises(AdapterRefused, match="shipped"):
            attempt()


@pytest.mark.parametrize("name", ["", "base", "general", "../x", "a/b", ".hidden", "大文字", "A", "x" * 65, "mine"])
def test_a_name_that_is_taken_or_could_lead_elsewhere_is_refused(settings: Settings, theirs: Path, name: str):
    import_adapter(settings, str(theirs), "mine")
    with pytest.raises(AdapterRefused):
        adapters.rename(settings, "mine", name)
    assert own(settings) == ["mine"]


@pytest.mark.parametrize("name", ["../adapters/mine", "nobody", ""])
def test_only_what_is_listed_can_be_named(settings: Settings, theirs: Path, name: str):
    import_adapter(settings, str(theirs), "mine")
    with pytest.raises(AdapterRefused, match="no adapter"):
        adapters.delete(settings, name)


# ---- import ----


def test_three_files_come_in_and_nothing_else(settings: Settings, theirs: Path):
    (theirs / "modeling.py").write_text("raise SystemExit")
    (theirs / "optimizer.pt").write_bytes(pickle.dumps({}))
    found = import_adapter(settings, str(theirs))
    assert (found.name, found.warnings) == ("theirs-v1", ())
    assert {path.name for path in (settings.home / "adapters" / "theirs-v1").iterdir()} == {*FILES, ORIGIN_FILE}
    assert own(settings) == ["theirs-v1"]


def test_a_base_told_by_its_name_alone_is_taken_with_a_warning(settings: Settings, theirs: Path):
    (theirs / CARD).unlink()
    edit_config(theirs, base_model_name_or_path="google/gemma-3-270m")
    found = import_adapter(settings, str(theirs), "mine")
    assert "name alone" in found.warnings[0]
    assert adapters.find(settings, "mine").warnings == found.warnings


@pytest.mark.parametrize("named", ["google/gemma-3-270m-it", "llm-jp/llm-jp-3-1.8b", None])
def test_another_base_is_refused(settings: Settings, theirs: Path, named: str | None):
    (theirs / CARD).write_text(f"- base weights sha256: `{'0' * 64}`")
    edit_config(theirs, base_model_name_or_path=named)
    with pytest.raises(AdapterRefused, match=named or "unknown base"):
        import_adapter(settings, str(theirs))
    assert own(settings) == []


def test_a_card_that_lies_about_the_base_does_not_help_layers_that_do_not_fit(
    settings: Settings, theirs: Path, tmp_path: Path
):
    other = tiny_adapter(tmp_path / "other", tiny_folder(tmp_path / "qwen", "gemma3"))
    (other / CARD).write_bytes((theirs / CARD).read_bytes())
    tensors = other / WEIGHTS
    assert tensors.is_file()
    edit_config(other, base_model_name_or_path="google/gemma-3-270m")
    import torch
    from safetensors.torch import load_file, save_file

    grown = {name: torch.cat([t, t], dim=1) if "lora_A" in name else t for name, t in load_file(tensors).items()}
    save_file(grown, tensors)
    with pytest.raises(AdapterRefused, match="in that shape"):
        import_adapter(settings, str(other))


def test_an_adapter_that_was_never_trained_is_refused(settings: Settings, theirs: Path, base: Path, tmp_path: Path):
    nothing = tiny_adapter(tmp_path / "nothing", base, scale=0.0)
    (nothing / CARD).write_bytes((theirs / CARD).read_bytes())
    with pytest.raises(AdapterRefused, match="changes nothing"):
        import_adapter(settings, str(nothing))


def test_pickle_is_refused_and_never_read(settings: Settings, theirs: Path):
    (theirs / WEIGHTS).unlink()
    (theirs / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(AdapterRefused, match="pickle"):
        import_adapter(settings, str(theirs))


@pytest.mark.parametrize(
    "changes", [{"auto_mapping": {"base": "x"}}, {"use_dora": True}, {"modules_to_save": ["lm_head"]}]
)
def test_settings_that_run_code_or_change_the_base_are_refused(
    settings: Settings, theirs: Path, changes: dict[str, Any]
):
    edit_config(theirs, **changes)
    with pytest.raises(ModelUnavailable):
        import_adapter(settings, str(theirs))
    assert own(settings) == []


def test_links_are_refused(settings: Settings, theirs: Path, tmp_path: Path):
    link = tmp_path / "link"
    link.symlink_to(theirs)
    with pytest.raises(AdapterRefused, match="link"):
        import_adapter(settings, str(link), "mine")
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (theirs / CARD).unlink()
    (theirs / CARD).symlink_to(secret)
    with pytest.raises(AdapterRefused, match="link"):
        import_adapter(settings, str(theirs))


def test_a_pipe_is_no_file(settings: Settings, theirs: Path):
    (theirs / CARD).unlink()
    os.mkfifo(theirs / CARD)
    with pytest.raises(AdapterRefused, match="plain file"):
        import_adapter(settings, str(theirs))


def test_a_card_of_any_size_does_not_fill_the_disk(settings: Settings, theirs: Path, monkeypatch):
    monkeypatch.setitem(adapter_imports.LARGEST, CARD, 1 << 10)
    (theirs / CARD).write_text("x" * 2000)
    with pytest.raises(AdapterRefused, match=r"README\.md is over"):
        import_adapter(settings, str(theirs))


def zipped(to: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(to, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return to


def entries_of(folder: Path, prefix: str = "") -> dict[str, bytes]:
    return {f"{prefix}{name}": (folder / name).read_bytes() for name in FILES}


def test_a_zip_comes_in_with_or_without_a_folder_in_it(settings: Settings, theirs: Path, tmp_path: Path):
    for number, prefix in enumerate(("", "theirs/")):
        archive = zipped(tmp_path / f"packed-{number}.zip", entries_of(theirs, prefix))
        assert import_adapter(settings, str(archive)).name == f"packed-{number}"


@pytest.mark.parametrize("name", ["../escape.txt", "/etc/escape", "a/../../escape", "..\\escape"])
def test_a_zip_that_leads_outside_is_refused(settings: Settings, theirs: Path, tmp_path: Path, name: str):
    archive = zipped(tmp_path / "packed.zip", {**entries_of(theirs), name: b"x"})
    with pytest.raises(AdapterRefused, match="outside"):
        import_adapter(settings, str(archive))
    assert own(settings) == []


def test_links_in_a_zip_are_refused(settings: Settings, theirs: Path, tmp_path: Path):
    archive = zipped(tmp_path / "packed.zip", entries_of(theirs))
    with zipfile.ZipFile(archive, "a") as opened:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(AdapterRefused, match="link"):
        import_adapter(settings, str(archive))


def test_two_adapters_in_one_zip_and_a_damaged_one_are_refused(settings: Settings, theirs: Path, tmp_path: Path):
    both = zipped(tmp_path / "both.zip", {**entries_of(theirs, "a/"), **entries_of(theirs, "b/")})
    with pytest.raises(AdapterRefused, match="twice"):
        import_adapter(settings, str(both))
    torn = tmp_path / "torn.zip"
    torn.write_bytes(both.read_bytes()[:100])
    with pytest.raises(AdapterRefused, match="cannot be unpacked"):
        import_adapter(settings, str(torn))


@pytest.mark.parametrize("source", ["", "  ", "nowhere", "/nowhere/at/all", "hub:", "https://example.com/x"])
def test_what_names_nothing_is_refused(settings: Settings, source: str):
    with pytest.raises(AdapterRefused):
        import_adapter(settings, source, "mine")


def hub_with(folder: Path, seen: dict[str, Any]) -> Callable[..., str]:
    def snapshot_download(repository: str, **options: Any) -> str:
        seen.update(options, repository=repository)
        for name in options["allow_patterns"]:
            (Path(options["local_dir"]) / name).write_bytes((folder / name).read_bytes())
        return str(options["local_dir"])

    return snapshot_download


def hub_told_of(folder: Path, monkeypatch: pytest.MonkeyPatch, larger: int = 0) -> None:
    """The hub's list of the files, each `larger` bytes larger than it is."""
    files = [SimpleNamespace(rfilename=name, size=(folder / name).stat().st_size + larger) for name in FILES]
    told = SimpleNamespace(sha="c0ffee", siblings=files)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda self, repository, files_metadata: told)


def test_a_hub_id_brings_the_three_files_alone_with_the_token(settings: Settings, theirs: Path, monkeypatch):
    seen: dict[str, Any] = {}
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub_with(theirs, seen))
    hub_told_of(theirs, monkeypatch)
    with_token = settings.model_copy(update={"hf_token": SecretStr("t")})
    assert import_adapter(with_token, "hub:Some-Org/Their.Adapter").name == "their.adapter"
    assert (seen["repository"], seen["token"]) == ("Some-Org/Their.Adapter", "t")
    assert seen["revision"] == "c0ffee"  # the commit whose files were looked at
    assert set(seen["allow_patterns"]) == set(FILES)
    assert adapters.find(settings, "their.adapter").source == "hub:Some-Org/Their.Adapter"
    assert own(settings) == ["their.adapter"]


def test_a_file_on_the_hub_that_is_too_large_is_not_fetched(settings: Settings, theirs: Path, monkeypatch):
    seen: dict[str, Any] = {}
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub_with(theirs, seen))
    hub_told_of(theirs, monkeypatch, larger=1 << 30)
    with pytest.raises(AdapterRefused, match="is over"):
        import_adapter(settings, "hub:org/name")
    assert seen == {} and own(settings) == []


def hub_error(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    request = httpx2.Request("GET", "https://huggingface.co/x")
    return kind("no", response=httpx2.Response(status, request=request))


@pytest.mark.parametrize(
    ("failure", "error", "words"),
    [
        (hub_error(RepositoryNotFoundError, 404), ModelUnavailable, "no org/name"),
        (hub_error(HfHubHTTPError, 403), AccessMissing, "HF_TOKEN"),
        (hub_error(HfHubHTTPError, 500), ModelUnavailable, "later"),
        (httpx2.ConnectError("dead"), ModelUnavailable, "network"),
    ],
)
def test_a_hub_that_fails_is_one_line(settings: Settings, monkeypatch, failure, error, words: str):
    def model_info(*arguments: Any, **options: Any) -> None:
        raise failure

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    with pytest.raises(error, match=words):
        import_adapter(settings, "hub:org/name")
    assert own(settings) == []


# ---- export and push ----


def test_an_exported_adapter_comes_in_again_and_is_the_same(settings: Settings, theirs: Path, tmp_path: Path):
    import_adapter(settings, str(theirs), "mine")
    for to in (tmp_path / "out" / "mine.zip", tmp_path / "folder"):
        adapters.export(settings, "mine", to)
        again = import_adapter(settings, str(to), f"again-{to.suffix[1:] or 'folder'}")
        assert adapters.find(settings, again.name).sha256 == adapters.find(settings, "mine").sha256


def test_an_export_holds_the_card_and_nothing_of_this_machine(settings: Settings, theirs: Path, tmp_path: Path):
    import_adapter(settings, str(theirs), "mine")
    folder = adapters.export(settings, "mine", tmp_path / "out")
    assert {path.name for path in folder.iterdir()} == set(FILES)
    card = (folder / CARD).read_text()
    assert card.startswith("---\nlibrary_name: peft\n") and "# theirs" in card


def test_an_export_never_overwrites(settings: Settings, tmp_path: Path):
    there = tmp_path / "there.zip"
    there.write_text("precious")
    with pytest.raises(AdapterRefused, match="there already"):
        adapters.export(settings, "general", there)
    assert there.read_text() == "precious"


class FakeHub:
    def __init__(self, failure: Exception | None = None) -> None:
        self.created: list[tuple[str, bool]] = []
        self.files: dict[str, bytes] = {}
        self.failure = failure

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        if self.failure is not None:
            raise self.failure
        assert exist_ok
        self.created.append((repo_id, private))
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        assert self.created[-1][0] == repo_id and commit_message
        self.files = {path.name: path.read_bytes() for path in folder_path.iterdir()}


def test_a_push_creates_a_private_repository_and_uploads_the_three_files(settings: Settings):
    hub = FakeHub()
    address = adapters.push(settings, "general", "org/name", hub=hub)
    assert address == "https://huggingface.co/org/name"
    assert hub.created == [("org/name", True)] and set(hub.files) == set(FILES)
    assert hub.files[CARD].startswith(b"---\n")


def test_a_push_that_cannot_be_is_one_line(settings: Settings):
    with pytest.raises(AccessMissing, match="HF_TOKEN"):
        adapters.push(settings, "general", "org/name")
    with pytest.raises(AdapterRefused, match="ORG/NAME"):
        adapters.push(settings, "general", "../name", hub=FakeHub())
    with pytest.raises(AccessMissing, match="HF_TOKEN"):
        adapters.push(settings, "general", "org/name", hub=FakeHub(hub_error(HfHubHTTPError, 403)))


# ---- the command line ----


@pytest.fixture
def embedded(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_imports, "embedded_folder", lambda home: base)


@pytest.mark.usefixtures("embedded")
def test_every_command_has_its_json(call: Call, theirs: Path, tmp_path: Path):
    assert call("adapters", "import", str(theirs), "--as", "mine", "--json").document["source"] == "Theirs-V1"
    assert [row["name"] for row in call("adapters", "list", "--json").document][-1] == "mine"
    assert call("adapters", "rename", "mine", "ours", "--json").document["name"] == "ours"
    to = str(tmp_path / "ours.zip")
    assert call("adapters", "export", "ours", to, "--json").document == {"name": "ours", "to": to}
    assert call("adapters", "delete", "ours", "--yes", "--json").document == {"name": "ours", "deleted": True}
    assert json.dumps(call("adapters", "list", "--json").document).count('"ours"') == 0


@pytest.mark.usefixtures("embedded")
def test_deleting_asks_first(call: Call, theirs: Path, monkeypatch):
    assert call("adapters", "import", str(theirs), "--as", "mine").status == 0
    monkeypatch.setattr("builtins.input", lambda question: "n")
    refused(call("adapters", "delete", "mine"), 2, "not deleted")
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert "deleted" in call("adapters", "delete", "mine").out


def test_an_adapter_that_was_trained_here_names_its_run(
    call: Call, home: Path, tmp_path: Path, base: Path, monkeypatch
):
    monkeypatch.setattr("training.base.ensure_embedded", lambda home, say: base)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"question": f"問{n}", "reference": "断る。"}) for n in range(4)))
    assert call("data", "import", str(rows), "--as", "mine").status == 0
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"name": "tuned", "sources": [{"suite": "mine"}], "lora_rank": 2, "checks": 0}))
    run_id = call("train", str(file), "--json").document["run_id"]
    tuned = call("adapters", "list", "--json").document[-1]
    assert (tuned["name"], tuned["run_id"], tuned["data"]) == ("tuned", run_id, {"mine": 4})


def test_refusals_on_the_command_line_are_one_line(call: Call):
    refused(call("adapters", "delete", "general"), 1, "shipped")
    refused(call("adapters", "import", "/nowhere"), 1, "neither a folder")
    refused(call("adapters", "push", "general", "org/name"), 1, "HF_TOKEN")
    assert "shipped" in call("adapters", "list").out
