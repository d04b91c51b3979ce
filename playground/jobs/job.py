"""How a run stands, read from its folder alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

from evaluation.errors import SettingsRejected
from evaluation.journal import ENDED, RunInfo, RunKind, RunStatus, last_event, read_run, run_status
from playground.jobs.leases import ELSEWHERE, Holder
from playground.jobs.process import Process, read_exit, read_process

LOG_FILE = "log.txt"
_WAITS_ELSEWHERE = "Starts with `python -m playground work {}`, under torchrun or by a cluster."
_LOG_LINES = 4
_LOG_BYTES = 4096


@dataclass(frozen=True)
class Job:
    """A run that is, was or will be worked on.

    `position` is the place in its device's queue from 1, and `waits_for` who has the device; both are None unless it
    is queued. `reason` says why it failed, was cancelled or is lost, or why a queued run cannot be started.
    """

    run_id: str
    kind: RunKind
    name: str  # of the adapter or the suite; the kind where the settings name neither
    status: RunStatus
    device: str | None = None  # None: it was never queued, but run on the command line
    key: str | None = None
    queued_at: str | None = None  # ISO 8601, UTC
    started_at: str | None = None
    pid: int | None = None
    reason: str = ""
    position: int | None = None
    waits_for: Holder | None = None
    last_sign: float | None = None  # when a working run last wrote an event, seconds since the epoch

    @property
    def ended(self) -> bool:
        """Whether nothing will happen to it unless somebody resumes it."""
        return self.status in ENDED


def find_run(runs: Path, run_id: str) -> Path:
    """The run's folder. Raises SettingsRejected: the id may come from anywhere, so it names one folder or nothing."""
    folder = runs / run_id
    if folder.parent != runs or not (folder / "run.json").is_file():
        raise SettingsRejected(f"There is no run {run_id}; `python -m playground runs list` shows them.")
    return folder


def next_key(prefix: str, jobs: Iterable[Job]) -> str:
    """The key of a further run beside those of `jobs` whose keys begin with `prefix`: the number after theirs.

    So two clicks at once give the same key. Not how many there are: of runs that were removed some may be left, and the
    key of one of those would give that one back.
    """
    ends = [job.key.removeprefix(prefix) for job in jobs if job.key and job.key.startswith(prefix)]
    return f"{prefix}{max((int(end) for end in ends if end.isdecimal()), default=-1) + 1}"


def read_job(path: Path, info: RunInfo | None = None) -> Job:
    """The run as its folder tells it; `info` saves reading run.json again. Raises RunUnreadable."""
    info = info or read_run(path)
    status = run_status(path)
    events = path / "events.jsonl"
    queued, started = last_event(events, ("queued",)), last_event(events, ("started",))
    working = status in ("running", "stopping")
    process = read_process(path) if working or status == "lost" else None
    device = queued.data.get("device") if queued else None
    return Job(
        run_id=path.name,
        kind=info.kind,
        name=str(info.settings.get("name") or info.settings.get("suite") or info.kind),
        status=status,
        device=device,
        key=queued.data.get("key") if queued else None,
        queued_at=queued.at if queued else None,
        started_at=started.at if started else None,
        pid=process.pid if process and working else None,
        reason=_WAITS_ELSEWHERE.format(path.name)
        if (status, device) == ("queued", ELSEWHERE)
        else _reason(path, status, process),
        last_sign=events.stat().st_mtime if working and events.exists() else None,
    )


def _reason(path: Path, status: RunStatus, process: Process | None) -> str:
    if status in ("failed", "cancelled"):
        last = last_event(path / "events.jsonl")
        return str(last.data.get("reason", "")) if last else ""
    return f"{_how_it_ended(path, process)}{_last_words(path / LOG_FILE)}" if status == "lost" else ""


def _how_it_ended(path: Path, process: Process | None) -> str:
    if process is None:
        return "Nobody works on it, and it was not ended."
    code = read_exit(path, process)
    if code is None:
        return f"Process {process.pid} is gone and left no word."
    if code < 0:
        hint = ": kill -9, or the kernel when memory ran out" if code == -9 else ""
        known = -code in {signal.value for signal in Signals}
        return f"Process {process.pid} was ended by {Signals(-code).name if known else f'signal {-code}'}{hint}."
    return f"Process {process.pid} ended with status {code}."


def _last_words(log: Path) -> str:
    """The last lines of the log, in one line."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_BYTES))
        lines = [" ".join(line.split()) for line in file.read().decode(errors="replace").splitlines()]
    words = " / ".join([line for line in lines if line][-_LOG_LINES:])
    return f" The end of its log: {words[-500:]}" if words else ""
