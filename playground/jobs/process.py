"""Which process works on a run. A number alone is not enough: numbers are given out again.

A process is its number, the moment it started and the boot it started in (all from /proc). Where there is no /proc
the run's lock still says whether somebody lives, and a signal goes by the number alone.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from evaluation.disk import told_to_people, write_json
from evaluation.journal import PROCESS_FILE

EXIT_FILE = "exit.json"
_PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """`start_time` is in clock ticks since the boot `boot_id`."""

    pid: int
    start_time: int
    boot_id: str
    leads_group: bool  # it has a session, and so a process group, of its own


@cache
def _boot_id() -> str:
    file = _PROC / "sys/kernel/random/boot_id"
    return file.read_text().strip() if file.exists() else ""


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third on: state, parent, group, session, ...; None when there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()  # the name before it may hold spaces and brackets


def identify(pid: int) -> Process | None:
    """The living process of that number, or None."""
    if not _PROC.joinpath("self/stat").exists():
        try:
            return Process(pid, 0, "", os.getsid(pid) == pid)
        except ProcessLookupError:
            return None
    fields = _stat(pid)
    if fields is None or fields[0] in "ZX":  # a zombie works no more
        return None
    return Process(pid, int(fields[19]), _boot_id(), int(fields[3]) == pid)


def identify_child(pid: int) -> Process:
    """A child of ours that we have not waited for: it has its number even when it has ended already."""
    fields = _stat(pid)
    return Process(pid, int(fields[19]) if fields else 0, _boot_id(), leads_group=True)


def is_alive(process: Process) -> bool:
    """Whether this very process lives, not another that got its number."""
    found = identify(process.pid)
    return found is not None and (found.start_time, found.boot_id) == (process.start_time, process.boot_id)


def descriptor(process: Process) -> int | None:
    """A pidfd of this very process, readable when it ends; None when it is gone or the system has no pidfd."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        found = os.pidfd_open(process.pid)
    except OSError:
        return None
    if is_alive(process):  # asked after the descriptor is there: from now on it names one process for good
        return found
    os.close(found)
    return None


def send(process: Process, number: signal.Signals) -> bool:
    """Send a signal to this very process; return whether it was there to get it."""
    if not hasattr(os, "pidfd_open"):
        if is_alive(process):
            os.kill(process.pid, number)
            return True
        return False
    found = descriptor(process)
    if found is None:
        return False
    try:
        signal.pidfd_send_signal(found, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(found)
    return True


def kill_all(process: Process, lock: Path) -> None:
    """SIGKILL the process, its group where it leads one, and what is left of its session and still holds `lock`."""
    if process.leads_group and is_alive(process):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
    else:
        send(process, signal.SIGKILL)
    if process.leads_group:
        for pid in orphans(process, lock):
            orphan = identify(pid)
            if orphan is not None:
                send(orphan, signal.SIGKILL)


def orphans(process: Process, lock: Path) -> list[int]:
    """Processes of the session that `process` led which hold its lock open, itself excepted.

    The number of a session is not given out again while one of its processes lives, and a session of another
    process with that number would not have this file open.
    """
    found = []
    for entry in _PROC.glob("[0-9]*"):
        pid = int(entry.name)
        fields = None if pid == process.pid else _stat(pid)
        if fields is not None and int(fields[3]) == process.pid and _has_open(entry, lock):
            found.append(pid)
    return found


def _has_open(entry: Path, file: Path) -> bool:
    try:
        return any(link.samefile(file) for link in (entry / "fd").iterdir() if link.exists())
    except OSError:  # it ended while we looked
        return False


def write_process(run: Path, process: Process) -> None:
    """Say in the run folder who works on it. Call it while the run's lock is held. Raises DiskRefused."""
    with told_to_people(run / PROCESS_FILE):
        write_json(run / PROCESS_FILE, asdict(process))


def read_process(run: Path) -> Process | None:
    """Who works, or worked last, on the run; None when nobody has said so."""
    try:
        found = Process(**json.loads((run / PROCESS_FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError, RecursionError):  # absent, or not written by this program
        return None
    right = type(found.pid) is int and type(found.start_time) is int and 0 < found.pid < 1 << 31
    return found if right and isinstance(found.boot_id, str) else None


def write_exit(run: Path, pid: int, exit_code: int) -> None:
    """Say how that process ended; negative: by that signal. Raises DiskRefused.

    A file of its own, and without the run's lock: whoever looked while we held it would think that somebody works.
    """
    with told_to_people(run / EXIT_FILE):
        write_json(run / EXIT_FILE, {"pid": pid, "exit_code": exit_code})


def read_exit(run: Path, process: Process) -> int | None:
    """How that process ended, if its parent lived to be told."""
    try:
        found = json.loads((run / EXIT_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("pid") != process.pid:
        return None
    code = found.get("exit_code")
    return code if type(code) is int else None
