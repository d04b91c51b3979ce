"""Brings an adapter in from a folder, a zip or the hub: its two files and its card, nothing else, checked as a stranger's.

Never pickle, never code, never a link: the files are copied first and only the copies are read. The base must be the
embedded one, told by the hash in the adapter's card or, with a warning, by the name in its settings; and every layer
must fit it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO

from evaluation.disk import sync_folder, told_to_people, write_json
from evaluation.journal import utc_now
from evaluation.prompts.files import shown
from playground.adapters import CARD, CONFIG, FILES, WEIGHTS, AdapterRefused, check_free, hub_told
from playground.jobs.workers import ORIGIN_FILE
from playground.settings import Settings
from training.embedded import MANIFEST, embedded_folder, ensure_embedded, weights_sha256

# Names under which people know the embedded base; its weights here went through 4 bits on the way.
BASE_NAMES = frozenset({"google/gemma-3-270m", "gemma-3-270m", "unsloth/gemma-3-270m"})
# Bytes. The highest rank that is read, on every layer of the embedded base in float32, comes to 0.25 GB.
LARGEST = {WEIGHTS: 512 << 20, CONFIG: 1 << 20, CARD: 1 << 20}
LONGEST_LIST = 1 << 17  # bytes of an archive's list of entries; a thousand of them
_END, _END_BYTES, _END_64 = b"PK\x05\x06", 22, b"PK\x06\x07"  # how a zip ends, before a comment of at most 64 KiB
_BASE_HASH = re.compile(r"base weights sha256: `([0-9a-f]{64})`")
_HUB_ID = re.compile(r"(?:hub:)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)")


@dataclass(frozen=True)
class ImportedAdapter:
    """An adapter that is here now, and what should be known about it."""

    name: str
    warnings: tuple[str, ...]


def import_adapter(settings: Settings, source: str, name: str = "", run_id: str | None = None) -> ImportedAdapter:
    """Bring in the adapter that `source` names: a folder, a .zip, or `hub:ORG/NAME`. It appears whole or not at all.

    Without `name` it is called what it is called there. `run_id`: the run of this home that made it. Raises AdapterRefused or ModelUnavailable for one that cannot
    be used, AccessMissing, DiskRefused.
    """
    source = source.strip()
    if not source:
        raise AdapterRefused("Nothing is named to import; give a folder, a .zip file or hub:ORG/NAME.")
    path, there = _path_of(source)
    hub = None if there else _HUB_ID.fullmatch(source)
    name = name.strip() or _usual_name(hub[1] if hub else path.resolve().name if there else path.name)
    destination = check_free(settings, name)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with _staging(destination) as staged:
        if hub:
            _fetch(hub[1], settings, staged)
        elif there and path.is_symlink():
            raise AdapterRefused(f"{shown(source, 200)} is a link; name the folder itself.")
        elif there and path.is_dir():
            _copy_folder(path, staged)
        elif there and path.is_file() and path.suffix == ".zip":
            _unpack(path, staged)
        else:
            raise AdapterRefused(
                f"{shown(source, 200)} is neither a folder nor a .zip file nor a hub id (hub:ORG/NAME)."
            )
        warnings = _check(staged, name, settings)
        made = {"run_id": run_id} if run_id else {"source": f"hub:{hub[1]}" if hub else path.name}
        origin = {"at": utc_now(), **made, "warnings": list(warnings)}
        with told_to_people(destination):
            write_json(staged / ORIGIN_FILE, origin)
            try:
                staged.rename(destination)
            except OSError:
                if destination.exists():  # somebody was faster
                    check_free(settings, name)
                raise
            sync_folder(destination.parent)
    return ImportedAdapter(name, warnings)


def _path_of(source: str) -> tuple[Path, bool]:
    """The path that was typed, and whether there is something."""
    try:
        path = Path(source).expanduser()
        return path, path.exists()
    except (OSError, RuntimeError, ValueError):  # too long, somebody's home that is not here, a NUL
        return Path(source), False


def _usual_name(found: str) -> str:
    """A name that can be one here, made of the one it has there."""
    return re.sub(r"[^a-z0-9._-]+", "-", found.rpartition("/")[2].removesuffix(".zip").lower()).strip(".-")[:64]


@contextmanager
def _staging(destination: Path) -> Iterator[Path]:
    staged = Path(tempfile.mkdtemp(prefix=".importing-", dir=destination.parent))
    staged.chmod(0o755)  # the app may run as another user than the command line
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


# ---- the files, from wherever they are ----


def _copy_folder(folder: Path, staged: Path) -> None:
    for name in FILES:
        try:
            descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise AdapterRefused(
                f"{folder / name} is a link or cannot be read ({error.strerror}); put the file itself there."
            ) from error
        with ExitStack() as opened:
            opened.callback(os.close, descriptor)
            told = os.fstat(descriptor)
            if not stat.S_ISREG(told.st_mode):
                raise AdapterRefused(f"{folder / name} is no plain file.")
            if told.st_nlink > 1:  # it may be another's file, under a second name
                raise AdapterRefused(f"{folder / name} is a hard link; put a copy of the file there.")
            _write(opened.enter_context(os.fdopen(descriptor, "rb", closefd=False)), staged, name)
    _refuse_pickle(staged, {entry.name for entry in folder.iterdir()})


def _unpack(archive: Path, staged: Path) -> None:
    try:
        _check_directory(archive)
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            if any(entry.header_offset < 0 for entry in entries):
                raise zipfile.BadZipFile("an entry lies before the file's beginning")
            for entry in entries:
                path = PurePosixPath(entry.filename.replace("\\", "/"))
                outside = not path.parts or path.is_absolute() or ".." in path.parts
                if outside or stat.S_ISLNK(entry.external_attr >> 16):
                    raise AdapterRefused(f"{shown(archive.name)} holds a link or a path that leads outside it.")
                if path.name in FILES and len(path.parts) <= 2 and not entry.is_dir():
                    if (staged / path.name).exists():
                        raise AdapterRefused(f"{shown(archive.name)} holds {path.name} twice; pack one adapter alone.")
                    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise AdapterRefused(f"{shown(archive.name)} is packed in a rare way; pack it as a usual zip.")
                    with opened.open(entry) as file:
                        _write(file, staged, path.name)
    # Damaged, or with a password: what zipfile raises for what it meets.
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise AdapterRefused(
            f"{shown(archive.name)} cannot be unpacked ({shown(error, 100)}); pack it again, without password."
        ) from error
    _refuse_pickle(staged, {PurePosixPath(entry.filename).name for entry in entries})


def _check_directory(archive: Path) -> None:
    """Refuse an archive whose list of entries is longer than any adapter's: zipfile reads all of it at once."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END_BYTES - (1 << 16)))
        tail = file.read()
    # As zipfile looks for it: at the very end, else before a comment.
    end = len(tail) - _END_BYTES
    if end < 0 or not tail.startswith(_END, end) or tail[-2:] != b"\0\0":
        end = tail.rfind(_END)
    listed = int.from_bytes(tail[end + 12 : end + 16], "little")  # bytes of the list
    if end < 0 or listed > LONGEST_LIST or tail[max(0, end - 20) : max(0, end - 16)] == _END_64:
        raise AdapterRefused(
            f"{shown(archive.name)} cannot be unpacked: it is no plain zip, or its list of entries is over "
            f"{LONGEST_LIST >> 10} KiB. Pack the adapter's files alone."
        )


def _fetch(repository: str, settings: Settings, staged: Path) -> None:
    from huggingface_hub import HfApi, snapshot_download

    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    with tempfile.TemporaryDirectory(dir=staged.parent, prefix=".fetching-") as scratch:
        with hub_told(repository):
            told = HfApi(token=token).model_info(repository, files_metadata=True)
            for file in told.siblings or ():
                if file.rfilename in LARGEST and (file.size or 0) > LARGEST[file.rfilename]:
                    raise _too_large(file.rfilename)
            # What was looked at, and not what may have come since.
            snapshot_download(repository, revision=told.sha, token=token, local_dir=scratch, allow_patterns=list(FILES))
        _copy_folder(Path(scratch), staged)


def _write(file: IO[bytes], staged: Path, name: str) -> None:
    with told_to_people(staged / name), (staged / name).open("xb") as copy:
        left = LARGEST[name]
        while block := file.read(1 << 20):
            left -= len(block)
            if left < 0:
                raise _too_large(name)
            copy.write(block)
        copy.flush()
        os.fsync(copy.fileno())


def _too_large(name: str) -> AdapterRefused:
    return AdapterRefused(f"{name} is over {LARGEST[name] >> 10:,} KiB; that is not a LoRA adapter's.")


def _refuse_pickle(staged: Path, there: set[str]) -> None:
    if not (staged / WEIGHTS).exists() and "adapter_model.bin" in there:
        raise AdapterRefused(
            "It has adapter_model.bin, a pickle, which can run code when it is read; only safetensors are taken. "
            "Ask its maker for adapter_model.safetensors."
        )


# ---- what is in them ----


def _check(staged: Path, name: str, settings: Settings) -> tuple[str, ...]:
    """Raise AdapterRefused or ModelUnavailable unless it can be used on the embedded base; return the warnings."""
    from playground.engine.adapters import read_adapter

    adapter = read_adapter(staged, name)
    base = embedded_folder(settings.home)
    if not (base / MANIFEST).is_file():
        base = ensure_embedded(settings.home)
    card = staged / CARD
    told = _BASE_HASH.search(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None
    warnings: tuple[str, ...] = ()
    if told is None or told[1] != _weights_of(base, (base / "model.safetensors").stat().st_mtime_ns):
        named = json.loads((staged / CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
        if not isinstance(named, str) or named not in BASE_NAMES:
            theirs = f"another base ({shown(named)})" if named else "an unknown base"
            raise AdapterRefused(
                f"Adapter {name} is for {theirs}; only adapters of the embedded Gemma 3 270M can be used here. If it "
                f"is one, say so: base_model_name_or_path in its {CONFIG}, like google/gemma-3-270m."
            )
        warnings = (
            f"Its base was told by its name alone ({named}). The embedded base went through 4 bits, so it may answer "
            "a little differently here than where it was made.",
        )
    shapes = _shapes(base)
    for layer, pair in adapter.layers.items():
        if shapes.get(f"{layer}.weight") != (pair.b.shape[1], pair.a.shape[0]):
            raise AdapterRefused(
                f"Adapter {name} changes {layer}, which the embedded base does not have in that shape."
            )
    if not adapter.layers or not any(pair.b.any() for pair in adapter.layers.values()):
        raise AdapterRefused(f"Adapter {name} changes nothing: it was never trained.")
    return warnings


@lru_cache(maxsize=2)
def _weights_of(base: Path, changed: int) -> str:
    """Hash of the base as it was at `changed`: half a gigabyte to read."""
    return weights_sha256(base)


def _shapes(base: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the base's tensors by name, from the head of its file."""
    from safetensors import safe_open

    with safe_open(str(base / "model.safetensors"), framework="pt") as tensors:
        names = tensors.keys()
        return {name: tuple(tensors.get_slice(name).get_shape()) for name in names}
