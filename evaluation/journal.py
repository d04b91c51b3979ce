"""The run folder: append-only JSON lines that are the truth about a Run.

`runs/<run id>/` holds `run.json` (kind, frozen settings, identities, versions, seed), one journal per
noun (`responses.jsonl`, `judgements.jsonl`, ...), `events.jsonl` and `lock`. A folder has one writer,
which holds an flock on `lock` for life; anybody may read at any time. A line that was cut off by a
crash is not a record: readers stop before it and the next writer removes it. `process.json` says who
the writer is or was, `cancel.json` that somebody asked it to stop: how a Run stands follows from these
files and the lock, never from anybody's memory.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import threading
from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from platform import python_version
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError

from evaluation.disk import DiskRefused, LockHeld, lock_held, sync_folder, take_lock, told_to_people, write_json
from evaluation.errors import SettingsRejected, UserFacingError
from evaluation.records import (
    LIFECYCLE,
    BadLine,
    Event,
    EventName,
    Journal,
    Record,
    encode_record,
    last_event,
    one_line,
    read_records,
)
from evaluation.types import Judgement, Pair, Prompt, Rating, Response

__all__ = [
    "CANCEL_FILE",
    "ENDED",
    "LIFECYCLE",
    "PROCESS_FILE",
    "BadLine",
    "DiskRefused",
    "Event",
    "RunBusy",
    "RunFolder",
    "RunInfo",
    "RunUnreadable",
    "create_run",
    "finish_removals",
    "last_event",
    "parse_run",
    "read_records",
    "read_run",
    "remove_run",
    "run_status",
    "utc_now",
]

SCHEMA_VERSION = 1
SYNC_SECONDS = 1.0  # how much of a run a power cut may take when nobody asked for durability

RunKind = Literal["chat", "benchmark", "training", "judging"]
RunStatus = Literal["queued", "running", "stopping", "finished", "failed", "cancelled", "lost"]
ENDED = frozenset({"finished", "failed", "cancelled", "lost"})
CANCEL_FILE = "cancel.json"  # asks the writer to stop; it looks once a second
PROCESS_FILE = "process.json"  # the process that works, or worked, on the Run

# Kept in run.json so that a number can be traced to the software that made it.
_LIBRARIES = ("torch", "transformers", "peft", "openai", "vllm", "gradio", "duckdb", "scipy", "statsmodels")

_SECRET_NAME = re.compile(
    r"(?i)(^|[^a-z])(pass(word|wd|phrase)|secret|credentials?|authorization|bearer|cookie)([^a-z]|$)"
    r"|(api|access|private|secret)[_-]?key|(^|(hf|auth|access|api|refresh|session|bearer)[_-]?)token$"
)
_SECRET_VALUE = re.compile(r"\b(sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{16,}|Bearer\s+\S{16,})")


class RunBusy(UserFacingError):
    """Another process or thread is writing this run folder."""


class RunUnreadable(UserFacingError):
    """run.json is missing, damaged, or of a newer version of this project."""


@dataclass(frozen=True)
class RunInfo:
    """What run.json says: fixed when the Run is created, never changed after.

    `settings` holds what the work was asked to do, `identities` maps a model or judge id to its
    identity as a dict, `versions` a library to its version. `seed` is None where every Response
    carries its own.
    """

    run_id: str
    kind: RunKind
    created_at: str  # ISO 8601, UTC
    settings: Mapping[str, Any]
    identities: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]
    seed: int | None
    schema_version: int


_RUN_INFO = TypeAdapter(RunInfo)


def utc_now() -> str:
    """The time as ISO 8601 in UTC with milliseconds, so that text order is time order."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class RunFolder:
    """A run folder open for writing. Methods may be called from several threads.

    Close it, or use it as a context manager: closing syncs and lets the lock go. A child that was
    forked keeps the lock until it ends too, so a free lock means that the whole group is gone.
    """

    def __init__(self, path: Path, lock: int | None = None) -> None:
        """Take the folder's lock, or take over the inherited descriptor `lock`, which holds it.

        Raises RunUnreadable, RunBusy or DiskRefused.
        """
        self.path = path
        self.info = read_run(path)
        try:
            with told_to_people(path / "lock"):
                self._lock_fd = take_lock(path / "lock", lock)
        except LockHeld as held:
            raise RunBusy(
                f"{path} is being written by process {held.holder or 'unknown'}. "
                "Wait until that run ends or cancel it, then try again."
            ) from None
        self._journals: dict[str, Journal] = {}
        self._mutex = threading.Lock()
        self._closing = threading.Event()
        self._syncer: threading.Thread | None = None
        self._sync_error: DiskRefused | None = None
        self._last_seq: int | None = None

    @classmethod
    def open(cls, path: Path, lock: int | None = None) -> Self:
        """Open an existing run folder for append, to start it or to resume it."""
        return cls(path, lock)

    def keys(self, journal: str) -> frozenset[Hashable]:
        """Keys that are already there. Resume is what is planned minus these."""
        with self._mutex:
            return frozenset(self._journal(journal).keys)

    def record_prompt(self, prompt: Prompt, *, durable: bool = False) -> bool:
        """Write a Prompt once per id. Returns whether it was new."""
        return self._append("prompts", prompt, durable)

    def record_response(self, response: Response, *, durable: bool = False) -> bool:
        """Write a Response once per key. Returns whether it was new."""
        return self._append("responses", response, durable)

    def record_judgement(self, judgement: Judgement, *, durable: bool = False) -> bool:
        """Write a Judgement once per key. Returns whether it was new."""
        return self._append("judgements", judgement, durable)

    def record_pair(self, pair: Pair, *, durable: bool = False) -> bool:
        """Write a Pair once per key. Returns whether it was new."""
        return self._append("pairs", pair, durable)

    def record_rating(self, rating: Rating, *, durable: bool = False) -> bool:
        """Write a Rating once per key. Returns whether it was new."""
        return self._append("ratings", rating, durable)

    def event(self, name: EventName, /, **data: Any) -> int:
        """Number and write an event; return its `seq`. The first and the last of a Run are durable at once."""
        with self._mutex:
            journal = self._journal("events")
            if self._last_seq is None:
                self._last_seq = max((int(str(key)) for key in journal.keys), default=0)
            seq = self._last_seq + 1
            self._append_locked("events", Event(seq, name, utc_now(), data), name in LIFECYCLE)
            self._last_seq = seq
        return seq

    def reopen(self) -> None:
        """Go on after DiskRefused: what the files hold counts from here, not what was believed to be written."""
        with self._mutex:
            if self._sync_error is not None:
                self._sync_error, self._syncer = None, None  # its thread has ended
            for journal in self._journals.values():
                with suppress(DiskRefused):  # told before; that is why we are here
                    journal.close()
            self._journals.clear()
            self._last_seq = None

    def _append(self, journal: str, record: Record, durable: bool) -> bool:
        with self._mutex:
            return self._append_locked(journal, record, durable)

    def _append_locked(self, journal: str, record: Record, durable: bool) -> bool:
        if self._sync_error is not None:
            raise self._sync_error
        fresh = self._journal(journal).append(record, durable=durable)
        if not durable and self._syncer is None:
            self._syncer = threading.Thread(target=self._sync_every_second, name="journal-sync", daemon=True)
            self._syncer.start()
        return fresh

    def _journal(self, name: str) -> Journal:
        if self._closing.is_set():
            raise RuntimeError(f"{self.path} is closed.")
        if name not in self._journals:
            self._journals[name] = Journal(self.path / f"{name}.jsonl")
        return self._journals[name]

    def _sync_every_second(self) -> None:
        while not self._closing.wait(SYNC_SECONDS):
            with self._mutex:
                try:
                    for journal in self._journals.values():
                        journal.sync()
                except DiskRefused as error:
                    # Raised by the next append: nobody waits for this thread, and after a failed fsync
                    # a second one may report success for pages that are lost.
                    self._sync_error = error
                    return

    def close(self) -> None:
        """Bring everything to disk and let the lock go. Raises DiskRefused after letting it go."""
        if self._closing.is_set():
            return
        self._closing.set()
        if self._syncer is not None:
            self._syncer.join()
        errors = [] if self._sync_error is None else [self._sync_error]
        with self._mutex:
            for journal in self._journals.values():
                try:
                    journal.close()
                except DiskRefused as error:
                    errors.append(error)
            os.close(self._lock_fd)
        if errors:
            raise errors[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def create_run(
    runs: Path,
    kind: RunKind,
    settings: Mapping[str, Any],
    identities: Mapping[str, Mapping[str, Any]],
    *,
    seed: int | None = None,
    queued: Mapping[str, Any] | None = None,
) -> RunFolder:
    """Create a run folder under `runs` and return it open for writing.

    It appears whole or not at all, with `queued` as the data of its first event where that is given. Its id
    sorts by time. Raises SettingsRejected when `settings` or `identities` hold what looks like a secret,
    DiskRefused when the disk refuses.
    """
    refuse_secrets(settings, "settings")
    refuse_secrets(identities, "identities")
    now = datetime.now(UTC)
    run_id = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}-{secrets.token_hex(3)}"
    info = RunInfo(run_id, kind, utc_now(), settings, identities, library_versions(), seed, SCHEMA_VERSION)
    staged, path = runs / f".new-{run_id}", runs / run_id
    with told_to_people(path):
        staged.mkdir(parents=True)
        write_json(staged / "run.json", asdict(info))
        if queued is not None:
            with (staged / "events.jsonl").open("wb") as events:
                events.write(encode_record("events", Event(1, "queued", utc_now(), queued)))
                events.flush()
                os.fsync(events.fileno())
        # Ours before anybody can see it: a supervisor that did would start a queued run, and we would find it busy.
        lock = take_lock(staged / "lock")
        try:
            staged.rename(path)
            sync_folder(runs)
        except BaseException:
            os.close(lock)
            raise
    return RunFolder.open(path, lock)


def remove_run(path: Path) -> None:
    """Remove a run folder and everything in it. Raises RunBusy while it is being written."""
    gone = path.with_name(f".removed-{path.name}")
    with RunFolder.open(path), told_to_people(path):
        path.rename(gone)  # first, so that a crash in between leaves no half run behind
    with told_to_people(path), suppress(FileNotFoundError):  # `finish_removals` was there too
        shutil.rmtree(gone)


def finish_removals(runs: Path) -> None:
    """Remove what removals that were cut off have left: nobody sees it any more, and all of its text is there."""
    for gone in runs.glob(".removed-*"):
        shutil.rmtree(gone, ignore_errors=True)  # the next time tries again


def parse_run(text: str | bytes) -> RunInfo:
    """The RunInfo in the text of a run.json. Raises ValueError, in one line, if it is not one."""
    try:
        info: RunInfo = _RUN_INFO.validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(one_line(error)) from None
    return info


def read_run(path: Path) -> RunInfo:
    """What run.json in the folder says. Raises RunUnreadable."""
    file = path / "run.json"
    try:
        info = parse_run(file.read_bytes())
        json.dumps((info.settings, info.identities), allow_nan=False)  # what is made of NaN could not be written
        if not info.run_id.isprintable() or len(info.run_id) > 255:
            raise ValueError("run_id could not be the name of a folder")
    except OSError as error:
        raise RunUnreadable(f"{file} cannot be read: {error.strerror}. Check the folder's name and rights.") from None
    except ValueError as error:
        raise RunUnreadable(f"{file} is damaged ({error}). Restore it or remove the folder.") from None
    if info.schema_version > SCHEMA_VERSION:
        version = info.schema_version if info.schema_version < 1_000_000 else "of over six digits"
        raise RunUnreadable(f"{file} has schema version {version}, newer than {SCHEMA_VERSION}. Update this program.")
    return info


def run_status(path: Path) -> RunStatus:
    """Where the Run stands, from its events and whether a writer lives. Raises RunUnreadable.

    A Run that has neither an end, nor a writer, nor a place in the queue is lost: it was killed, and may be
    resumed. A conversation has no end to wait for; it counts as finished.
    """
    if read_run(path).kind == "chat":
        return "finished"
    held = lock_held(path / "lock")
    # After the lock: a writer that ends between the two looks has written its last event by now.
    last = last_event(path / "events.jsonl")
    match last.event if last is not None else None:
        case "finished" | "failed" | "cancelled" as end:
            return end
        case _ if held:
            return "stopping" if (path / CANCEL_FILE).exists() else "running"
        # With a process.json it left the queue, and its process died before it could say so.
        case "queued" if not (path / PROCESS_FILE).exists():
            return "queued"
        case _:
            return "lost"


def refuse_secrets(value: object, where: str) -> None:
    """Raise SettingsRejected if a key's name or a text in `value` looks like a secret; the text is not repeated."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if _SECRET_NAME.search(str(name)):
                raise SettingsRejected(f"{where}.{name} looks like a secret. Keep keys in the environment or in .env.")
            refuse_secrets(inner, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            refuse_secrets(inner, f"{where}[{number}]")
    elif isinstance(value, str) and _SECRET_VALUE.search(value):
        raise SettingsRejected(f"{where} holds what looks like a key. Keep keys in the environment or in .env.")


@cache
def library_versions() -> Mapping[str, str]:
    """Versions of Python and of the installed libraries that shape a result."""
    versions = {"python": python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # not every worker has every library, and absence is shown by absence
    return versions
