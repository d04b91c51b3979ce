"""report: runs as one HTML file to read, print or send."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from evaluation.benchmark.recorded import read_recorded
from evaluation.disk import told_to_people, utf8
from evaluation.errors import SettingsRejected
from evaluation.journal import utc_now
from evaluation.report import build_report
from playground.jobs.job import find_run
from playground.settings import load_settings


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("report", help="runs as one HTML file that opens without a network")
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--html", type=Path, required=True, metavar="FILE")
    parser.set_defaults(run=report)


def report(options: argparse.Namespace) -> None:
    """Read the run folders and write the file; an existing one is never replaced."""
    settings = load_settings()
    file: Path = options.html
    _refuse_taken(file)  # before anything is read
    runs = [read_recorded(find_run(settings.runs, name), settings.home) for name in dict.fromkeys(options.runs)]
    page = utf8(build_report(runs, utc_now()))
    with told_to_people(file), file.open("xb") as out:  # x: another program may have made it meanwhile
        try:
            out.write(page)
        except OSError:
            file.unlink()  # half a report is none, and would stand in the way of the next try
            raise
    print(f"{file}: {len(page)} bytes")


def _refuse_taken(file: Path) -> None:
    if file.exists() or file.is_symlink():
        raise SettingsRejected(f"{file} is there already and is not replaced; name another file, or remove it.")
    if not file.absolute().parent.is_dir():
        raise SettingsRejected(f"{file.parent} is no folder; make it first, or name a file elsewhere.")
