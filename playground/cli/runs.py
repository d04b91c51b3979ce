"""runs list, show, resume, cancel, ingest: the run folders, who works on them, and their index."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.disk import lock_held
from evaluation.errors import SettingsRejected, UserFacingError
from evaluation.journal import RunUnreadable, read_run, remove_run, run_status
from playground import retention
from playground.cli.bench import resume_here as resume_measuring
from playground.cli.output import json_option, print_json, print_table, progress
from playground.cli.train import resume_here, show
from playground.jobs import control
from playground.jobs.board import in_order
from playground.jobs.job import Job, find_run, read_job
from playground.jobs.leases import default_device, devices_in_use, holder
from playground.jobs.supervisor import WATCHED_FILE
from playground.settings import load_settings

POLL_S = 0.2


class StillRunning(UserFacingError):
    """A run that was asked to stop has not stopped yet."""


def add(commands: Any) -> None:
    """Declare the commands."""
    family = commands.add_parser("runs", help="run folders, who works on them, and their index").add_subparsers(
        required=True, metavar="COMMAND"
    )
    listing = family.add_parser("list", help="all runs, newest first")
    listing.set_defaults(run=list_runs)
    shown = family.add_parser("show", help="one run: what it was asked and how it stands")
    shown.set_defaults(run=show_run)
    resume = family.add_parser("resume", help="go on with a run that failed, was cancelled or is lost")
    resume.add_argument("--queue", action="store_true", help="leave it to the app, which starts it in turn")
    resume.set_defaults(run=resume_run)
    cancel = family.add_parser("cancel", help="stop a run; what it has learned is saved first")
    cancel.add_argument("--deadline", type=float, default=control.DEADLINE_S, metavar="SECONDS",
                        help="kill it when it has not stopped by then (default %(default)g)")  # fmt: skip
    cancel.set_defaults(run=cancel_run)
    ingest = family.add_parser("ingest", help="rebuild the DuckDB index from the run folders (stop the app first)")
    ingest.set_defaults(run=rebuild)
    purge = family.add_parser("purge", help="delete old conversations, and nothing else")
    purge.add_argument(
        "--older-than", type=float, required=True, metavar="DAYS", help="begun more than so many days ago"
    )
    purge.set_defaults(run=purge_runs)
    for parser in (shown, resume, cancel):
        parser.add_argument("run_id")
    for parser in (listing, shown, resume, cancel, ingest, purge):
        json_option(parser)


def list_runs(options: argparse.Namespace) -> None:
    """Read from the folders, so it works while the app holds the index."""
    settings = load_settings()
    folders = sorted((f for f in settings.runs.glob("[!.]*") if (f / "run.json").is_file()), reverse=True)
    jobs = {folder.name: job for folder in folders if (job := _job(folder)) is not None}
    places = {job.run_id: job for job in in_order(list(jobs.values()), lambda device: holder(settings.home, device))}
    rows = [_row(folder, places.get(folder.name)) for folder in folders]
    if options.json:
        print_json(rows)
    else:
        header = ("run", "kind", "name", "status", "note")
        print_table(header, [(r["run_id"], r["kind"] or "-", r["name"] or "-", r["status"], _note(r)) for r in rows])
        for use in devices_in_use(settings.home):
            print(f"{use.device}: {use}")


def _job(folder: Path) -> Job | None:
    try:
        return read_job(folder)
    except RunUnreadable:  # one damaged folder must not hide the others; `runs show` says what is wrong with it
        return None


def _row(folder: Path, job: Job | None) -> dict[str, Any]:
    if job is None:
        return {"run_id": folder.name, "kind": None, "name": None, "status": "unreadable"}
    row: dict[str, Any] = {"run_id": job.run_id, "kind": job.kind, "name": job.name, "status": job.status}
    if job.position is not None:
        row |= {"device": job.device, "position": job.position, "waits_for": str(job.waits_for or "")}
    return row | ({"reason": job.reason} if job.reason else {})


def _note(row: dict[str, Any]) -> str:
    if "position" in row:
        return f"place {row['position']} for {row['device']}" + (
            f", after {row['waits_for']}" if row["waits_for"] else ""
        )
    return str(row.get("reason", ""))[:100]


def show_run(options: argparse.Namespace) -> None:
    """Print run.json and how the run stands."""
    folder = find_run(load_settings().runs, options.run_id)
    document = {**asdict(read_run(folder)), **asdict(read_job(folder))}
    if options.json:
        print_json(document)
    else:
        for name, value in document.items():
            if value not in (None, ""):
                print(f"{name}: {value}")


def resume_run(options: argparse.Namespace) -> None:
    """Go on here, or in the app's queue."""
    settings = load_settings()
    folder = find_run(settings.runs, options.run_id)
    if not options.queue and read_run(folder).kind != "training":
        resume_measuring(folder, settings, as_json=options.json)
        return
    if not options.queue:
        show(resume_here(folder, settings), as_json=options.json)
        return
    device = read_job(folder).device or default_device()
    control.queue_again(folder, device, f"python -m playground runs resume {folder.name}")
    if not lock_held(settings.home / WATCHED_FILE):
        progress("No app watches the queue of this home now; the run starts when one does.")
    _print_status(folder, as_json=options.json)


def cancel_run(options: argparse.Namespace) -> None:
    """Ask the run to stop, wait until it has, and kill it at the deadline."""
    folder = find_run(load_settings().runs, options.run_id)
    control.request_stop(folder, "cancelled on the command line", options.deadline)
    give_up = time.monotonic() + options.deadline + 30
    while (status := run_status(folder)) in ("running", "stopping", "lost"):
        control.enforce_stop(folder)
        control.settle(folder)
        if time.monotonic() > give_up:
            raise StillRunning(f"Run {folder.name} is still {status}; its process does not end. See {folder}/log.txt.")
        time.sleep(POLL_S)
    _print_status(folder, as_json=options.json)


def _print_status(folder: Path, *, as_json: bool) -> None:
    job = read_job(folder)
    if as_json:
        print_json({"run_id": job.run_id, "status": job.status, "reason": job.reason})
    else:
        print(f"run {job.run_id}: {job.status}{f' ({job.reason})' if job.reason else ''}")


def purge_runs(options: argparse.Namespace) -> None:
    """Delete the folders of old conversations, and their rows: here, or in the app that has the index open."""
    from playground.store import Store
    from playground.store.database import StoreBusy

    settings = load_settings()
    if not options.older_than >= 0:  # NaN too
        raise SettingsRejected(f"--older-than is {options.older_than:g}; give a number of days, 0 or more.")
    gone = retention.purge(settings.runs, options.older_than, lambda run: remove_run(settings.runs / run))
    left = "" if gone else "nothing was that old"
    if gone and (settings.home / "index.duckdb").exists():
        try:
            with Store(settings.home / "index.duckdb", settings.runs) as store:
                store.ingest_all()
        except StoreBusy:
            left = "the app that is open takes them out of its index within the hour"
    if options.json:
        print_json({"deleted": gone})
    else:
        print(f"{len(gone)} conversations deleted{f'; {left}' if left else ''}")


def rebuild(options: argparse.Namespace) -> None:
    """Drop the index and read every folder again."""
    from playground.store import Store

    settings = load_settings()
    with Store(settings.home / "index.duckdb", settings.runs) as store:
        ingested = store.rebuild()
    document = asdict(ingested)
    if options.json:
        print_json(document)
    else:
        print(", ".join(f"{name} {value}" for name, value in document.items()))
