"""LoRA adapters as folders and archives, spoiled, for the importer. Their base is a tiny model that stands for the embedded one."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zipfile
from pathlib import Path
from random import Random
from typing import Any

from playground import adapter_imports, adapters
from playground.adapter_imports import import_adapter
from playground.adapters import CARD, CONFIG, FILES, WEIGHTS
from playground.settings import Settings
from tests.fuzz.mutations import as_json, damaged, spoiled
from tests.tiny import tiny_adapter, tiny_folder
from training.embedded import MANIFEST, weights_sha256

PATHS = (
    "../escape", "../../escape", "/tmp/escape", "a/../../escape", "..\\escape", "C:\\escape", "\x00", "a\x00b", "./" * 50 + "x", "x" * 300,
    f"deep/{WEIGHTS}/", f"../{WEIGHTS}", f"a/b/{WEIGHTS}", f"a//{WEIGHTS}", f"./{CONFIG}", "", "/", ".", "..", "con", "‮", f"a/{CONFIG}",
)  # fmt: skip


class Adapters:
    """Import under a name of its own, list what came, delete it."""

    def __init__(self, work: Path) -> None:
        self.inputs, self.home = work / "inputs", work / "home"
        self.allowed = (self.home,)
        base = tiny_folder(work / "base")
        (base / MANIFEST).write_text("{}")
        made = tiny_adapter(work / "made", base, rank=2)
        adapter_imports.embedded_folder = lambda home: base  # type: ignore[assignment]
        self._config = json.loads((made / CONFIG).read_text()) | {"base_model_name_or_path": "google/gemma-3-270m"}
        self._weights = (made / WEIGHTS).read_bytes()
        self._card = f"# a\n| s | 1 | 2 | 3 |\n- base weights sha256: `{weights_sha256(base)}`\n".encode()
        self._secret = work / "secret"
        self._secret.write_text("canary")
        self._settings = Settings.model_construct(home=self.home)

    def write(self, rng: Random) -> str:
        """Put a spoiled adapter into `inputs`, as a folder or as an archive."""
        which = rng.choice(("config", "config", "head", "head", "weights", "card", "way", "way"))
        config = as_json(rng, spoiled(rng, self._config) if which == "config" else self._config)
        files = {
            CONFIG: damaged(rng, config) if which == "config" and rng.random() < 0.2 else config,
            WEIGHTS: self._weights,
            CARD: self._card,
        }
        if which == "head":
            files[WEIGHTS] = _spoiled_head(rng, self._weights)
        elif which == "weights":
            files[WEIGHTS] = damaged(rng, self._weights)
        elif which == "card":
            files[CARD] = damaged(rng, self._card)
        for name in rng.sample(FILES, rng.choice((0,) * 6 + (1, 2))):
            del files[name]
        self._source = self.inputs / ("packed.zip" if (packed := rng.random() < 0.5) else "Their Adapter")
        if packed:
            self._source.write_bytes(_packed(rng, files, which == "way"))
        else:
            self._source.mkdir()
            for name, content in files.items():
                (self._source / name).write_bytes(content)
            if which == "way":
                self._twist(rng, self._source / rng.choice(FILES))
        return f"{which} {self._source.name}"

    def _twist(self, rng: Random, file: Path) -> None:
        """Something else than a plain file where one belongs."""
        file.unlink(missing_ok=True)
        way = rng.randrange(6)
        if way == 0:
            file.symlink_to(self._secret)
        elif way == 1:
            os.link(self._secret, file)
        elif way == 2:
            os.mkfifo(file)
        elif way == 3:
            file.mkdir()
        elif way == 4:
            file.symlink_to("/dev/zero")
        else:
            file.symlink_to(file.name)

    def read(self) -> None:
        """Raises what importing raises."""
        found = import_adapter(self._settings, str(self._source), "fuzzed")
        try:
            info = adapters.find(self._settings, "fuzzed")
            assert "canary" not in "".join(
                f.read_text(errors="replace") for f in info.folder.iterdir() if f.name != WEIGHTS
            )
        finally:
            shutil.rmtree(self.home / "adapters" / found.name)

    def close(self) -> None:
        """Nothing is held."""


def _spoiled_head(rng: Random, weights: bytes) -> bytes:
    """safetensors: eight bytes of length, that much JSON, the tensors. The JSON, the length or both are spoiled."""
    (length,) = struct.unpack("<Q", weights[:8])
    head: Any = json.loads(weights[8 : 8 + length])
    body = weights[8 + length :]
    text = as_json(rng, spoiled(rng, head))
    if rng.random() < 0.1:
        text = damaged(rng, text)
    if rng.random() < 0.02:
        text = b"[" * rng.choice((5_000, 2_000_000))
    if rng.random() < 0.3:
        body = body[: rng.randrange(len(body) + 1)] + bytes(rng.choice((0, 0, 8, 4096)))
    said = rng.choice((len(text),) * 12 + (0, 1, 100_000_000, 2**31, 2**63, 2**64 - 1))
    return struct.pack("<Q", said) + text + body


def _packed(rng: Random, files: dict[str, bytes], twisted: bool) -> bytes:
    to = io.BytesIO()
    prefix = rng.choice(("", "", "theirs/", "a/b/"))
    with zipfile.ZipFile(to, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in files.items():
            archive.writestr(prefix + name, content)
        if twisted:
            entry = zipfile.ZipInfo(rng.choice(PATHS))
            entry.external_attr = rng.choice((0o100644, 0o120777, 0o020666, 0o010644)) << 16
            archive.writestr(entry, rng.choice((b"x", b"/etc/passwd", bytes(1 << 20))))
    content = to.getvalue()
    if twisted and rng.random() < 0.3:  # a bomb: a small archive with a card of many megabytes
        to = io.BytesIO()
        with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr(rng.choice((CARD, CONFIG)), bytes(3 << 20))
        return to.getvalue()
    return damaged(rng, content) if rng.random() < 0.4 else content
