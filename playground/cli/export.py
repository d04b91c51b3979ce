"""export: runs as Parquet, CSV or JSON lines, with a manifest."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from evaluation.benchmark.recorded import read_recorded
from playground.cli.output import json_option, print_json, progress
from playground.exports import FORMATS, export, refuse_taken
from playground.jobs.job import find_run
from playground.settings import load_settings


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("export", help="runs as tables for other programs, with a manifest")
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--format", choices=FORMATS, default="parquet", help="default %(default)s")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="a new folder; default export-RUN here")
    parser.add_argument(
        "--with-text", action="store_true", help="texts of protected suites too, for your own use: see the notice"
    )
    json_option(parser)
    parser.set_defaults(run=export_runs)


def export_runs(options: argparse.Namespace) -> None:
    """Read the run folders, so it works while the app holds the index."""
    settings = load_settings()
    names = list(dict.fromkeys(options.runs))
    folder: Path = options.out or Path(f"export-{names[0]}")
    refuse_taken(folder)  # before anything is read
    runs = [read_recorded(find_run(settings.runs, name), settings.home) for name in names]
    manifest = export(runs, folder, options.format, with_text=options.with_text)
    if options.json:
        print_json({"folder": str(folder), **manifest})
    else:
        for file in manifest["files"]:
            rows = "" if file["rows"] is None else f", {file['rows']} rows"
            print(f"{folder / file['name']}: {file['bytes']} bytes{rows}")
    for note in manifest["notes"]:
        progress(note)
