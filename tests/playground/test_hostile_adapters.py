"""What a stranger's adapter may try: settings that run code, second names of other files, heads and archives that grow."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from evaluation.errors import ModelUnavailable, UserFacingError
from playground import adapter_imports
from playground.adapter_imports import import_adapter
from playground.adapters import CARD, CONFIG, FILES, WEIGHTS, AdapterRefused
from playground.settings import Settings
from tests.tiny import edit_config, tiny_adapter, tiny_folder
from training.embedded import MANIFEST


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_folder(tmp_path_factory.mktemp("embedded") / "tiny")
    (folder / MANIFEST).write_text("{}")
    return folder


@pytest.fixture(scope="module")
def made(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_adapter(tmp_path_factory.mktemp("made") / "theirs", base, rank=2)
    edit_config(folder, base_model_name_or_path="google/gemma-3-270m")
    return folder


@pytest.fixture
def settings(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(adapter_imports, "embedded_folder", lambda home: base)
    return Settings.model_construct(home=tmp_path / "home")


@pytest.fixture
def theirs(tmp_path: Path, made: Path) -> Path:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name in (CONFIG, WEIGHTS):
        (folder / name).write_bytes((made / name).read_bytes())
    (folder / CARD).write_text("# theirs\n")
    return folder


def refused(settings: Settings, source: Path) -> str:
    """The one line it is refused with; nothing of it may have stayed."""
    with pytest.raises(UserFacingError) as error:
        import_adapter(settings, str(source), "theirs")
    assert len(str(error.value).splitlines()) == 1
    assert not list((settings.home / "adapters").glob("*"))
    return str(error.value)


def test_an_adapter_as_peft_saves_it_is_taken(settings: Settings, theirs: Path):
    assert import_adapter(settings, str(theirs), "theirs").name == "theirs"


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_mapping": {"base_model_class": "X", "parent_library": "os"}}, {"megatron_config": {"a": 1}},
        {"layer_replication": [[0, 2]]}, {"custom_code": "import os"}, {"tokenizer_kwargs": {"trust_remote_code": True}},
        {"trust_remote_code": True}, {"auto_map": {"AutoModel": "x.Y"}}, {"a setting of tomorrow": 1}, {"use_dora": True},
        {"modules_to_save": ["lm_head"]}, {"lora_bias": True}, {"init_lora_weights": "pissa"}, {"r": 257}, {"r": True},
        {"lora_alpha": 1e9}, {"peft_type": "IA3"}, {"base_model_name_or_path": ["google/gemma-3-270m"]},
        {"base_model_name_or_path": "../../elsewhere"},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_a_setting_that_is_not_plain_lora_or_not_known_is_refused(
    settings: Settings, theirs: Path, changes: dict[str, Any]
):
    edit_config(theirs, **changes)
    refused(settings, theirs)


def test_unknown_settings_that_say_nothing_are_no_reason_to_refuse(settings: Settings, theirs: Path):
    edit_config(theirs, of_a_later_peft=None, another=False, third=[], fourth={})
    assert import_adapter(settings, str(theirs), "theirs").name == "theirs"


@pytest.mark.parametrize(
    "text", ["[" * 200_000, "{", "[]", "null", '{"r": NaN}', "\ufeff{}", '{"r": ' + "9" * 5000 + "}"]
)
def test_settings_that_are_no_json_object_are_refused(settings: Settings, theirs: Path, text: str):
    (theirs / CONFIG).write_text(text)
    refused(settings, theirs)


def test_a_hard_link_could_be_anybodys_file_and_is_refused(settings: Settings, theirs: Path, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("canary")
    (theirs / CARD).unlink()
    os.link(secret, theirs / CARD)
    assert "hard link" in refused(settings, theirs)


def with_head(theirs: Path, length: int, head: bytes, body: bytes = b"") -> None:
    (theirs / WEIGHTS).write_bytes(struct.pack("<Q", length) + head + body)


@pytest.mark.parametrize("length", [0, 1, 5 << 20, 100_000_000, 2**63, 2**64 - 1])
def test_a_head_that_lies_about_its_length_is_refused(settings: Settings, theirs: Path, length: int):
    with_head(theirs, length, b"{}")
    refused(settings, theirs)


def test_a_head_of_megabytes_is_refused_before_it_is_read(settings: Settings, theirs: Path):
    head = json.dumps({f"tensor-{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(100_000)})
    with_head(theirs, len(head), head.encode())
    assert "does not begin" in refused(settings, theirs)


@pytest.mark.parametrize("dtype", ["I64", "BOOL", "F64", "F8_E4M3"])
def test_tensors_of_other_types_than_peft_saves_are_refused(settings: Settings, theirs: Path, dtype: str):
    size = {"I64": 8, "BOOL": 1, "F64": 8, "F8_E4M3": 1}[dtype]
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    head = json.dumps({name: {"dtype": dtype, "shape": [2, 32], "data_offsets": [0, 64 * size]}}).encode()
    with_head(theirs, len(head), head, bytes(64 * size))
    assert "plain LoRA" in refused(settings, theirs)


def packed(to: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return to


def test_a_small_archive_that_grows_is_stopped_at_the_bound(settings: Settings, tmp_path: Path):
    bomb = packed(tmp_path / "bomb.zip", **{CONFIG: b"{}", CARD: bytes(64 << 20)})
    assert bomb.stat().st_size < 200_000
    assert "is over" in refused(settings, bomb)


def test_an_archive_of_very_many_entries_is_refused_before_they_are_listed(
    settings: Settings, theirs: Path, tmp_path: Path
):
    many = packed(
        tmp_path / "many.zip",
        **{f"{n}.txt": b"" for n in range(3_000)},
        **{n: (theirs / n).read_bytes() for n in FILES},
    )
    assert "list of entries" in refused(settings, many)


def test_an_archive_with_a_second_end_for_large_files_is_refused(settings: Settings, theirs: Path, tmp_path: Path):
    plain = packed(tmp_path / "plain.zip", **{name: (theirs / name).read_bytes() for name in FILES}).read_bytes()
    end = plain.rfind(b"PK\x05\x06")
    large = tmp_path / "large.zip"
    large.write_bytes(plain[:end] + b"PK\x06\x07" + bytes(16) + plain[end:])
    assert "no plain zip" in refused(settings, large)


def test_a_damaged_stream_is_one_line(settings: Settings, theirs: Path, tmp_path: Path):
    content = bytearray(
        packed(tmp_path / "a.zip", **{name: (theirs / name).read_bytes() for name in FILES}).read_bytes()
    )
    content[80:120] = b"\xff" * 40
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(content)
    assert "cannot be unpacked" in refused(settings, damaged)


def test_an_archive_in_a_rare_compression_is_refused(settings: Settings, theirs: Path, tmp_path: Path):
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w", zipfile.ZIP_LZMA) as archive:
        for name in FILES:
            archive.writestr(name, (theirs / name).read_bytes())
    rare = tmp_path / "rare.zip"
    rare.write_bytes(to.getvalue())
    assert "usual zip" in refused(settings, rare)


@pytest.mark.parametrize(
    "source", ["\0", "~nobody-of-this-name/x", "x" * 5000, "a\nb", "file:///etc/passwd", "http://127.0.0.1/x.zip"]
)
def test_a_source_that_is_no_path_and_no_hub_id_is_one_line(settings: Settings, source: str):
    with pytest.raises(AdapterRefused) as error:
        import_adapter(settings, source, "theirs")
    assert len(str(error.value).splitlines()) == 1


def test_nothing_in_this_project_lets_a_model_bring_its_own_code():
    """transformers runs a repository's Python only when told to; nobody here tells it, and pickles are never read."""
    root = Path(__file__).parents[2]
    said = {
        f"{file.relative_to(root)}: {line.strip()}"
        for folder in ("evaluation", "training", "playground")
        for file in (root / folder).rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(r"trust_remote_code['\"]?\s*[=:](?!\s*False)", line)
        or ("torch.load(" in line and "weights_only=True" not in line)
    }
    assert said == set()


def test_read_adapter_refuses_what_the_importer_refuses(theirs: Path):
    """An adapter that somebody put into the folder by hand meets the same reader."""
    from playground.engine.adapters import read_adapter

    edit_config(theirs, of_tomorrow=1)
    with pytest.raises(ModelUnavailable, match="not a setting that is known"):
        read_adapter(theirs, "theirs")
