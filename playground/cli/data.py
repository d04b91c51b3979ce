"""data import, data answercarefully: bring prompts in."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from evaluation.prompts.answercarefully import Split, Version, load_answercarefully
from evaluation.prompts.detect import detected_metric
from evaluation.prompts.imports import Imported, parse_mapping, read_prompts
from evaluation.prompts.suites import METRICS, save_imported, suite_metrics
from evaluation.types import Metric
from playground.cli.output import json_option, print_json, progress
from playground.settings import Settings, load_settings


def add(commands: Any) -> None:
    """Declare the commands."""
    family = commands.add_parser("data", help="bring prompts in").add_subparsers(required=True, metavar="COMMAND")

    file = family.add_parser("import", help="JSON, JSONL, CSV, TSV, XLSX, Parquet or a word list")
    file.add_argument("file", type=Path)
    file.add_argument("--as", dest="name", required=True, metavar="NAME", help="the suite's name, a-z 0-9 . _ -")
    file.add_argument("--map", default="", metavar="FIELD=COL,...", help="question=COL,reference=COL,category=COL,...")
    file.add_argument("--encoding", help="when the guess is wrong, for example cp932")
    file.add_argument("--metrics", choices=METRICS, help="what the suite measures; told from the rows when left out")
    json_option(file)
    file.set_defaults(run=import_file)

    careful = family.add_parser("answercarefully", help="from the hub (gated) or from your local copy")
    careful.add_argument("--version", choices=get_args(Version), default="v2.2")
    careful.add_argument("--split", choices=get_args(Split), default="test")
    careful.add_argument("--from", dest="source", type=Path, help="a file or folder you downloaded")
    json_option(careful)
    careful.set_defaults(run=import_answercarefully)


def import_file(options: argparse.Namespace) -> None:
    """Read a file, all of it or nothing, and keep it as a suite."""
    mapping = parse_mapping(options.map) if options.map else None
    imported = read_prompts(options.file, options.name, mapping, options.encoding)
    _keep(imported, load_settings(), options.metrics, as_json=options.json)


def import_answercarefully(options: argparse.Namespace) -> None:
    """Fetch or read AnswerCarefully and keep it as a protected suite on this machine only."""
    settings = load_settings()
    token = settings.hf_token.get_secret_value() if settings.hf_token else None
    source = options.source or settings.answercarefully
    prompts = load_answercarefully(options.version, options.split, source, token)
    name = f"answercarefully-{options.version}-{options.split}"
    _keep(Imported(name, prompts, [], [], []), settings, None, as_json=options.json)


def _keep(imported: Imported, settings: Settings, metric: Metric | None, *, as_json: bool) -> None:
    save_imported(imported, settings.home, metric)
    metrics = suite_metrics(imported.suite, settings.home)
    detected, because = detected_metric(imported)
    why = "as asked for" if metric else f"because {because}; --metrics changes it"
    if not metric and metrics != (detected,):
        why = "as it was imported before"
    counts = {
        "suite": imported.suite,
        "prompts": len(imported.prompts),
        "responses": len(imported.responses),
        "labels": len(imported.labels),
        "metrics": list(metrics),
        "metrics_because": why,
        "warnings": imported.warnings,
    }
    if as_json:
        print_json(counts)
        return
    print("{suite}: {prompts} prompts, {responses} responses, {labels} labels".format(**counts))
    print(f"measures {', '.join(metrics)} ({why})")
    for warning in imported.warnings:
        progress(f"warning: {warning}")
