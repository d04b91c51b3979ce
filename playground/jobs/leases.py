"""One lease for each device, so that trainings, benchmarks and chat do not fight over it, visible to everybody.

A lease is an flock on `<home>/leases/<device>`, held by the working process and what it forked: it cannot outlive
them, and no crash leaves one behind. The file names who holds it.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from evaluation.disk import LockHeld, lock_held, take_lock, told_to_people
from evaluation.errors import SettingsRejected, UserFacingError
from evaluation.journal import utc_now

ELSEWHERE = "elsewhere"  # devices that torchrun or a cluster hands out: no app starts such a run
_DEVICE = re.compile(rf"cpu|cuda:\d{{1,3}}|{ELSEWHERE}")
_SIGNS_OF_A_GPU = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, and either under WSL
_RECORD_BYTES = 512  # fixed, written by one call: a reader sees the old record or the new one
POLL_S = 0.5


class DeviceBusy(UserFacingError):
    """Another run has the device."""


@dataclass(frozen=True)
class Holder:
    """Who has a device. Fields are None in the moment before the holder has written its name."""

    device: str
    run_id: str | None = None
    kind: str | None = None
    pid: int | None = None
    since: str | None = None  # ISO 8601, UTC

    def __str__(self) -> str:
        what = " ".join(part for part in (self.kind, self.run_id and f"run {self.run_id}") if part) or "another run"
        return f"{what}{f', process {self.pid}' if self.pid else ''}{f', since {self.since}' if self.since else ''}"


@cache
def default_device() -> str:
    """Where work goes when nobody says: the first GPU that torch can use, else the CPU."""
    if not any(Path(sign).exists() for sign in _SIGNS_OF_A_GPU):
        return "cpu"  # without importing torch, which takes seconds
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def visible_gpus(device: str) -> str:
    """The value of CUDA_VISIBLE_DEVICES that leaves only `device`, counted as this process counts them."""
    if device == "cpu":
        return ""
    number = int(device.partition(":")[2])
    ours = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return ours[number] if number < len(ours) else str(number)


def check_device(device: str) -> str:
    """`device` itself. Raises SettingsRejected unless it is `cpu`, ELSEWHERE, or like `cuda:0`."""
    if not _DEVICE.fullmatch(device):
        raise SettingsRejected(f"Device {device[:40]!r} is not known; use cpu or cuda:0, cuda:1, ...")
    return device


def _file(home: Path, device: str) -> Path:
    return home / "leases" / check_device(device).replace(":", "-")


class Lease:
    """A device held by this process, and by the children that inherit `fd`, until the last of them closes it."""

    def __init__(self, home: Path, device: str, inherited: int | None = None) -> None:
        """Take the device, or take over the inherited descriptor. Raises DeviceBusy, DiskRefused."""
        self.device = device
        path = _file(home, device)
        with told_to_people(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.fd = take_lock(path, inherited)
            except LockHeld:
                raise DeviceBusy(f"{device} is in use by {holder(home, device) or 'another run'}.") from None

    def describe(self, run_id: str, kind: str, pid: int) -> None:
        """Write who holds it. Raises DiskRefused."""
        record = json.dumps(asdict(Holder(self.device, run_id, kind, pid, utc_now())))
        with told_to_people(Path("leases") / self.device):
            os.pwrite(self.fd, record.ljust(_RECORD_BYTES).encode(), 0)

    def close(self) -> None:
        """Let it go in this process."""
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def holder(home: Path, device: str) -> Holder | None:
    """Who has the device now, or None. Cheap: one file is opened."""
    path = _file(home, device)
    if not lock_held(path):
        return None
    try:
        return Holder(**json.loads(path.read_bytes()))
    except (ValueError, TypeError):  # its holder has not written its name yet
        return Holder(device)


def wait_for(home: Path, device: str, waiting: Callable[[Holder], None]) -> Lease:
    """Take the device, however long its holder needs. `waiting` is called once for each holder it waits for."""
    told: str | None = None
    while True:
        held = holder(home, device)
        if held is None:
            try:
                return Lease(home, device)
            except DeviceBusy:
                continue
        if held.run_id is not None and held.run_id != told:
            told = held.run_id
            waiting(held)
        time.sleep(POLL_S)
