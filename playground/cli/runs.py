"""runs list, show, ingest: the run folders and their index."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.errors import SettingsRejected
from evaluation.journal import RunUnreadable, read_run, run_status
from playground.cli.output import json_option, print_json, print_table
from playground.settings import load_settings


def add(commands: Any) -> None:
    """Declare the commands."""
    family = commands.add_parser("runs", help="run folders and their index").add_subparsers(
        required=True, metavar="COMMAND"
    )
    listing = family.add_parser("list", help="all runs, newest first")
    listing.set_defaults(run=list_runs)
    show = family.add_parser("show", help="one run: what it was asked and how it stands")
    show.add_argument("run_id")
    show.set_defaults(run=show_run)
    ingest = family.add_parser("ingest", help="rebuild the DuckDB index from the run folders (stop the app first)")
    ingest.set_defaults(run=rebuild)
    for parser in (listing, show, ingest):
        json_option(parser)


def list_runs(options: argparse.Namespace) -> None:
    """Read from the folders, so it works while the app holds the index."""
    runs = load_settings().runs
    folders = (
        sorted((f for f in runs.glob("[!.]*") if (f / "run.json").is_file()), reverse=True) if runs.is_dir() else []
    )
    rows = [_row(folder) for folder in folders]
    if options.json:
        print_json(rows)
    else:
        print_table(("run", "kind", "status"), [(r["run_id"], r["kind"] or "-", r["status"]) for r in rows])


def _row(folder: Path) -> dict[str, str | None]:
    try:
        return {"run_id": folder.name, "kind": read_run(folder).kind, "status": run_status(folder)}
    except RunUnreadable:  # one damaged folder must not hide the others; `runs show` says what is wrong with it
        return {"run_id": folder.name, "kind": None, "status": "unreadable"}


def show_run(options: argparse.Namespace) -> None:
    """Print run.json and the status."""
    runs = load_settings().runs
    folder = runs / options.run_id
    if folder.parent != runs or not (folder / "run.json").is_file():
        raise SettingsRejected(f"There is no run {options.run_id}; `runs list` shows them.")
    document = {**asdict(read_run(folder)), "status": run_status(folder)}
    if options.json:
        print_json(document)
    else:
        for name, value in document.items():
            print(f"{name}: {value}")


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
