"""One lease for each device, so that trainings, benchmarks and chat do not fight over it, visible to everybody.

A lease is an flock on `<home>/leases/<device>`, held by the working process and what it forked: it cannot outlive
them, and no crash leaves one behind. The file names who holds it. Who waits says so in `waiting.py`: chat, which
works for seconds and then only keeps its weights there, gives a GPU back when somebody waits for it.
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
from playground.jobs.waiting import Waiter, Want, named, waiters

CHAT = "chat"  # the kind of a holder that answers questions: it gives the device back when it is asked
CHAT_KEEPS = "PLAYGROUND_CHAT_KEEPS_GPU"
ELSEWHERE = "elsewhere"  # devices that torchrun or a cluster hands out: no app starts such a run
_DEVICE = re.compile(rf"cpu|cuda:\d{{1,3}}|{ELSEWHERE}")
_SIGNS_OF_A_GPU = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, and either under WSL
_RECORD_BYTES = 512  # fixed, written by one call: a reader sees the old record or the new one
POLL_S = 0.5


@dataclass(frozen=True)
class Holder:
    """Who has a device. Fields are None in the moment before the holder has written its name.

    `run_id` is None for chat; `keeps` says that its owner wants chat to give the device to nobody.
    """

    device: str
    run_id: str | None = None
    kind: str | None = None
    pid: int | None = None
    since: str | None = None  # ISO 8601, UTC
    keeps: bool = False

    def __str__(self) -> str:
        return f"{named(self)}{f'; it keeps the device ({CHAT_KEEPS})' if self.keeps else ''}"


class DeviceBusy(UserFacingError):
    """Another has the device, or waits for it and comes first. `who` says which; None where nobody has said so."""

    def __init__(self, words: str, who: Holder | Waiter | None = None) -> None:
        super().__init__(words)
        self.who = who


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
                raise busy(home, device) from None

    def describe(self, run_id: str | None, kind: str, pid: int, *, keeps: bool = False) -> None:
        """Write who holds it. Raises DiskRefused."""
        record = json.dumps(asdict(Holder(self.device, run_id, kind, pid, utc_now(), keeps)))
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


def busy(home: Path, device: str) -> DeviceBusy:
    """The refusal that names who has the device now."""
    found = holder(home, device)
    return DeviceBusy(f"{device} is in use by {found or 'another run'}.", found)


@dataclass(frozen=True)
class DeviceUse:
    """A device that somebody has or waits for. `waiting` is in the order of arrival."""

    device: str
    holder: Holder | None
    waiting: tuple[Waiter, ...]

    def __str__(self) -> str:
        waiting = f"; waiting: {', '.join(map(str, self.waiting))}" if self.waiting else ""
        return f"{f'in use by {self.holder}' if self.holder else 'free'}{waiting}"


def devices_in_use(home: Path) -> list[DeviceUse]:
    """Every device that somebody has or waits for, by name. Cheap: a few small files."""
    folder = home / "leases"
    names = sorted(path.name.replace("-", ":") for path in folder.iterdir()) if folder.is_dir() else []
    found = [DeviceUse(d, holder(home, d), tuple(waiters(home, d))) for d in names if _DEVICE.fullmatch(d)]
    return [use for use in found if use.holder is not None or use.waiting]


def wait_for(home: Path, device: str, waiting: Callable[[Holder], None], kind: str, run_id: str | None = None) -> Lease:
    """Take the device, however long its holder needs; chat is asked to give it back.

    `waiting` is called once for each holder it waits for; `kind` and `run_id` tell others who waits. Raises
    DiskRefused.
    """
    told: tuple[str | None, int | None] | None = None
    try:
        return take_now(home, device)
    except DeviceBusy:
        pass
    with Want(home, check_device(device), kind, run_id):
        while True:
            try:
                return take_now(home, device)
            except DeviceBusy as error:
                held = error.who
            if isinstance(held, Holder) and held.kind is not None and (held.run_id, held.pid) != told:
                told = (held.run_id, held.pid)
                waiting(held)
            time.sleep(POLL_S)


def take_from_chat(home: Path, device: str, kind: str, limit_s: float) -> Lease:
    """Take the device if it is free, or if chat gives it back within `limit_s` seconds. Raises DeviceBusy, DiskRefused."""
    give_up = time.monotonic() + limit_s
    with Want(home, check_device(device), kind):
        while True:
            try:
                return take_now(home, device)
            except DeviceBusy as error:
                yields = isinstance(error.who, Holder) and error.who.kind == CHAT and not error.who.keeps
                if not yields or time.monotonic() > give_up:
                    raise
            time.sleep(POLL_S)


def take_now(home: Path, device: str) -> Lease:
    """Take the device if it is free. Raises DeviceBusy at once, without the patience of `Lease`; DiskRefused."""
    found = holder(home, device)
    if found is not None:
        raise DeviceBusy(f"{device} is in use by {found}.", found)
    return Lease(home, device)
