"""Checkpoints of a run: `checkpoints/step-000120/`, complete or not there at all. The last two are kept."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evaluation.disk import DiskRefused, sync_folder, told_to_people

KEPT = 2
STAGING = ".saving"
_STEP = re.compile(r"step-(\d{6,})")
_FULL_BYTES = 1 << 20  # with less than this left, a failed write failed because the disk is full


def step_of(checkpoint: Path) -> int:
    """The step a checkpoint's folder is named after."""
    found = _STEP.fullmatch(checkpoint.name)
    if found is None:
        raise ValueError(f"{checkpoint} is not a checkpoint")
    return int(found[1])


def checkpoint_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is, or would be."""
    return folder / f"step-{step:06d}"


def complete_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _STEP.fullmatch(path.name)), key=step_of)


def clear_staging(folder: Path) -> None:
    """Remove what a killed process left half written."""
    for leftover in (folder / STAGING, *folder.glob(".old-*")):
        shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def disk_told(folder: Path, written: Path) -> Iterator[None]:
    """Turn a failed write under `folder` into DiskRefused, after removing `written` to give its room back.

    torch and safetensors raise errors of their own when a disk is full, so the room left decides what it was.
    """
    from safetensors import SafetensorError

    try:
        with told_to_people(folder):
            yield
    except (DiskRefused, RuntimeError, SafetensorError) as error:
        full = shutil.disk_usage(folder).free < _FULL_BYTES
        shutil.rmtree(written, ignore_errors=True)
        if isinstance(error, DiskRefused) or not full:
            raise
        raise DiskRefused(
            f"{folder} cannot be written: no space left on device. Free some space there, then try again; "
            "what was written before is intact."
        ) from error


def publish(staged: Path, folder: Path, step: int) -> Path:
    """Bring a staged checkpoint to disk, give it its name, and remove all but the last `KEPT`. Raises OSError."""
    for path in [*staged.rglob("*"), staged]:
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    final = checkpoint_of(folder, step)
    if final.exists():  # written before an interruption; this run has reached the same step again
        _remove(final)
    staged.rename(final)
    sync_folder(folder)
    for old in complete_checkpoints(folder)[:-KEPT]:
        _remove(old)
    return final


def _remove(checkpoint: Path) -> None:
    gone = checkpoint.with_name(f".old-{checkpoint.name}")
    shutil.rmtree(gone, ignore_errors=True)  # of a process that was killed while it removed one of that name
    checkpoint.rename(gone)  # first, so that a crash leaves no half checkpoint under its name
    shutil.rmtree(gone)


def replace_folder(staged: Path, final: Path) -> None:
    """Put a finished folder in the place of an earlier one, as nearly at once as a file system can."""
    if final.exists():
        _remove(final)
    staged.rename(final)
    sync_folder(final.parent)
