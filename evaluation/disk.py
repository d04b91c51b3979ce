"""What the run folder and the index need of the operating system: locks, atomic files, readable disk errors."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evaluation.errors import UserFacingError

LOCK_PATIENCE_S = 1.0  # `lock_held` takes the lock for microseconds; a writer outwaits it


class DiskRefused(UserFacingError):
    """The operating system refused a write. What was written before is intact."""


class LockHeld(Exception):
    """Somebody else holds the lock; `holder` is their process id if they left it there."""

    def __init__(self, holder: int | None) -> None:
        super().__init__(f"held by process {holder}")
        self.holder = holder


def take_lock(path: Path, inherited: int | None = None) -> int:
    """Lock the file for as long as the returned descriptor is open. Raises LockHeld, OSError.

    `inherited` is a descriptor of the same file whose lock the process that started us took: it becomes ours
    without a moment in which nobody holds it.
    """
    if inherited is None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    elif os.path.samestat(os.fstat(inherited), path.stat()):
        descriptor = inherited
        os.set_inheritable(descriptor, False)  # a program that this process starts must not hold it
    else:
        raise ValueError(f"Descriptor {inherited} is not {path}.")
    deadline = time.monotonic() + LOCK_PATIENCE_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = os.pread(descriptor, 20, 0)
                    raise LockHeld(int(holder) if holder.isdigit() else None) from None
                time.sleep(0.02)
        # Written first and cut after: on a full disk the file's own block is all there is.
        os.ftruncate(descriptor, os.pwrite(descriptor, str(os.getpid()).encode(), 0))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def lock_held(path: Path) -> bool:
    """Whether a living process holds the lock. A missing file is a lock nobody ever took."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def utf8(text: str) -> bytes:
    """The text in UTF-8. Surrogate halves that meet are joined; a lone one is no character and becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file so that a reader sees the old one or the new one, never half. Raises OSError."""
    content = utf8(json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content + b"\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Bring a folder's list of names to disk, so that a new file survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def told_to_people(path: Path) -> Iterator[None]:
    """Turn an OSError about a write under `path` into DiskRefused: one line with a next step."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        step = "Free some space there" if full else "Check that this user may write there, or set PLAYGROUND_HOME"
        raise DiskRefused(
            f"{path} cannot be written: {error.strerror}. {step}, then try again; what was written before is intact."
        ) from error
