"""How long conversations are kept: those that are older than a number of days are deleted, folder and rows."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from evaluation.errors import UserFacingError
from evaluation.journal import RunUnreadable, finish_removals, read_run

log = logging.getLogger(__name__)


def expired(runs: Path, days: float, now: datetime | None = None) -> list[Path]:
    """Conversations under `runs` that were begun more than `days` days ago. What cannot be read is none."""
    before = (now or datetime.now(UTC)) - timedelta(days=days)
    found = []
    for folder in sorted(runs.glob("[!.]*/")):
        try:
            info = read_run(folder)
            if info.kind == "chat" and datetime.fromisoformat(info.created_at) < before:
                found.append(folder)
        except (RunUnreadable, ValueError) as error:
            log.debug("%s: %s", folder, error)  # `runs list` says so to people
    return found


def purge(runs: Path, days: float, delete: Callable[[str], None], now: datetime | None = None) -> list[str]:
    """Delete them with `delete`, which takes a run id; the ids. One that cannot be deleted now is left for the next time."""
    finish_removals(runs)
    gone = []
    for folder in expired(runs, days, now):
        try:
            delete(folder.name)
        except UserFacingError as error:
            log.warning("conversation %s is not deleted: %s", folder.name, error)
        else:
            gone.append(folder.name)
    return gone
