"""Who waits for a device: one small file for each, locked by the process that waits, so that no crash leaves one behind.

Chat looks here whether it should give its GPU back, and people see here who is next.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from evaluation.disk import lock_held, take_lock, told_to_people
from evaluation.journal import utc_now


@dataclass(frozen=True)
class Waiter:
    """Who waits for a device. `run_id` is None for a run that is made when the device is free, and for a question."""

    device: str
    kind: str
    run_id: str | None
    pid: int
    since: str  # ISO 8601, UTC

    def __str__(self) -> str:
        return named(self)


class Named(Protocol):
    """What holders and waiters have in common."""

    @property
    def kind(self) -> str | None: ...
    @property
    def run_id(self) -> str | None: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def since(self) -> str | None: ...


def named(who: Named) -> str:
    """`training run ID, process N, since TIME`, as far as it is known."""
    what = " ".join(part for part in (who.kind, who.run_id and f"run {who.run_id}") if part) or "another run"
    return f"{what}{f', process {who.pid}' if who.pid else ''}{f', since {who.since}' if who.since else ''}"


class Want:
    """This process waits for a device, until this is closed or the process ends."""

    def __init__(self, home: Path, device: str, kind: str, run_id: str | None = None) -> None:
        """Say so to everybody. Raises DiskRefused."""
        self.waiter = Waiter(device, kind, run_id, os.getpid(), utc_now())
        folder = _folder(home)
        name = f"{_prefix(device)}{time.time_ns():020d}-{secrets.token_hex(4)}"
        self._path = folder / name
        with told_to_people(folder):
            folder.mkdir(parents=True, exist_ok=True)
            hidden = folder / f".{name}"
            self._fd = take_lock(hidden)  # before it can be seen: a file that is not locked is a dead process's
            os.pwrite(self._fd, json.dumps(asdict(self.waiter)).encode(), 0)
            hidden.rename(self._path)

    def close(self) -> None:
        """Wait no more."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def waiters(home: Path, device: str) -> list[Waiter]:
    """Who waits for the device, first come first. What dead processes left is taken away. Cheap."""
    found = []
    for path in sorted(_folder(home).glob(f"{_prefix(device)}*")):
        if not lock_held(path):
            path.unlink(missing_ok=True)
            continue
        try:
            found.append(Waiter(**json.loads(path.read_bytes())))
        except FileNotFoundError:  # it waits no more
            continue
    return found


def _folder(home: Path) -> Path:
    return home / "leases" / "waiting"


def _prefix(device: str) -> str:
    return f"{device.replace(':', '-')}."
