"""The adapters part of the Train page."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from evaluation.journal import create_run
from playground import adapter_imports
from playground.adapters import find
from playground.pages import Services, adapters, train_watch
from playground.pages.text import say
from playground.pages.train_watch import Desk
from tests.playground.pages.test_train import HOSTILE, Seen
from tests.tiny import tiny_adapter, tiny_folder
from training.embedded import MANIFEST, weights_sha256


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_folder(tmp_path_factory.mktemp("embedded") / "tiny")
    (folder / MANIFEST).write_text("{}")
    return folder


@pytest.fixture(scope="session")
def made(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_adapter(tmp_path_factory.mktemp("made") / "theirs", base)
    (folder / "README.md").write_text(f"- base weights sha256: `{weights_sha256(base)}`\n{HOSTILE}")
    return folder


@pytest.fixture(autouse=True)
def embedded(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_imports, "embedded_folder", lambda home: base)


@pytest.fixture
def desk() -> Desk:
    return Desk(here=True)


def shown(outputs: list[Any]) -> dict[str, Any]:
    return dict(zip(("rows", "note", "any", "own", "confirm", "file"), outputs[-6:], strict=True))


def test_a_shipped_adapter_can_be_exported_but_not_renamed_or_deleted(services: Services, desk: Desk):
    pieces = shown(adapters.pick(services, desk, "ja", "general"))
    assert pieces["any"]["visible"] and not pieces["own"]["visible"]
    assert say("ja", "adapters.shipped") in pieces["rows"] and "aria-current" in pieces["rows"]
    exporting = adapters.export(services, desk, "ja")
    file = next(exporting)["value"]
    assert {Path(name).name for name in zipfile.ZipFile(file).namelist()} >= {"README.md"}
    assert not [*exporting] and not Path(file).parent.exists(), "Gradio has its own copy; ours would fill the disk"
    with pytest.raises(gr.Error, match="同梱"):
        adapters.rename(services, desk, "ja", "mine")


def test_an_imported_adapter_is_renamed_and_deleted_after_a_question(services: Services, desk: Desk, made: Path):
    pieces = shown(adapters.bring_in(services, desk, "ja", str(made), "mine"))
    assert desk.adapter == "mine" and pieces["own"]["visible"] and "取り込み（theirs）" in pieces["rows"]
    adapters.rename(services, desk, "ja", " ours ")
    assert desk.adapter == "ours"
    with pytest.raises(gr.Error):
        adapters.delete(services, desk, "ja")
    assert shown(adapters.ask_to_delete(services, True, desk, "ja"))["confirm"]["visible"]
    pieces = shown(adapters.delete(services, desk, "ja"))
    assert "ours" not in pieces["rows"] and not pieces["any"]["visible"]


def test_a_question_is_forgotten_when_another_adapter_is_chosen(services: Services, desk: Desk, made: Path):
    adapters.bring_in(services, desk, "ja", str(made), "mine")
    adapters.ask_to_delete(services, True, desk, "ja")
    assert not shown(adapters.pick(services, desk, "ja", "general"))["confirm"]["visible"]


def test_refusals_are_told_and_change_nothing(services: Services, desk: Desk):
    for attempt in (
        lambda: adapters.bring_in(services, desk, "ja", "/nowhere", "mine"),
        lambda: adapters.pick(services, desk, "ja", "../general"),
        lambda: next(adapters.export(services, desk, "ja")),
        lambda: adapters.push(services, desk, "ja", "org/name", False),
    ):
        with pytest.raises(gr.Error):
            attempt()
    assert desk.adapter is None


def test_an_adapter_is_opened_in_compare(services: Services, desk: Desk):
    adapters.pick(services, desk, "ja", "general")
    _, right, tabs = adapters.compare_adapter(services, desk, "ja")
    assert right["value"] == "general" and tabs.selected == "compare"


def test_the_adapter_of_a_run_that_was_stopped_can_be_kept(services: Services, desk: Desk, made: Path):
    runs = services.settings.runs
    with create_run(runs, "training", {"name": "mine", "base": "embedded"}, {}) as folder:
        folder.event("started", command="c")
        copied = folder.path / "adapter"
        copied.mkdir()
        for file in made.iterdir():
            (copied / file.name).write_bytes(file.read_bytes())
        folder.event("cancelled", reason="enough", step=3)
    outputs = train_watch.arrive(services, desk, "ja")
    assert outputs[train_watch.NAMES.index("keep")]["visible"]
    train_watch.keep(services, desk, "ja")
    train_watch.keep(services, desk, "ja")  # under the next free name
    rows = shown(adapters.show(services, desk, "ja"))["rows"]
    assert f"ここで学習（{folder.path.name}）" in rows and "mine-2" in rows


def test_hostile_origins_add_no_element(services: Services, desk: Desk, made: Path):
    def drawn(words: str) -> list[tuple[str, tuple[str, ...]]]:
        found = find(services.settings, "general")
        info = replace(
            found, name=words, shipped=False, source=words, warnings=(words,), data=((words, 1),), made_at=words
        )
        return Seen(adapters.listing([info], None, "ja")).tags

    assert drawn(HOSTILE) == drawn("無害")
