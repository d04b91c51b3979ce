"""The folders of servers, and an end for what a server has left when its app and its guard were killed at once.

Every process of a server has the name of its folder in its environment: numbers of processes and groups are given out
again, such a name is not.
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from evaluation.disk import told_to_people, write_json
from playground.jobs.process import Process, identify, is_alive, send
from playground.serving.command import SERVER_MARK

GUARD_FILE = "guard.json"
KEPT = 5  # folders of servers that have ended, for their logs
STARTING_S = 60.0  # in which a new folder may have no guard yet


def new_folder(home: Path) -> Path:
    """A folder for one start of a server, readable by this user alone. Raises DiskRefused."""
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
    folder = home / "vllm" / "servers" / name
    with told_to_people(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700)
    return folder


def remember(folder: Path, guard: int) -> None:
    """Note the guard, as long as which the server lives. Raises DiskRefused."""
    process = identify(guard)
    if process is not None:  # else it has ended already
        with told_to_people(folder / GUARD_FILE):
            write_json(folder / GUARD_FILE, asdict(process))


def sweep(home: Path) -> None:
    """Kill what servers without a guard have left, and throw the older of their folders away."""
    ended = []
    for folder in sorted((home / "vllm" / "servers").glob("[0-9]*")):
        if not _is_in_use(folder):
            kill_marked(folder.name)
            ended.append(folder)
    for folder in ended[:-KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


def _is_in_use(folder: Path) -> bool:
    """Whether the guard lives, which ends its server itself, or may just be starting."""
    try:
        return is_alive(Process(**json.loads((folder / GUARD_FILE).read_text(encoding="utf-8"))))
    except (FileNotFoundError, ValueError, TypeError):
        return folder.exists() and time.time() - folder.stat().st_mtime < STARTING_S


def kill_marked(mark: str) -> int:
    """SIGKILL every process of that server; return how many there were."""
    wanted = f"{SERVER_MARK}={mark}".encode()
    killed = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            marked = wanted in (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended while we looked, or is another user's
            continue
        found = identify(int(entry.name)) if marked else None
        if found is not None and send(found, signal.SIGKILL):
            killed += 1
    return killed
