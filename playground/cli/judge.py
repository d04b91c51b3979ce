"""judge: score responses again, with another judge or for the first time."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from evaluation.journal import create_run
from evaluation.prompts.imports import parse_mapping, read_prompts
from evaluation.prompts.suites import METRICS, save_imported
from playground import benchmarks
from playground.cli.bench import device, judging_options, queue, show, show_forecast, work_here
from playground.cli.output import json_option, progress
from playground.cli.work import router_for_names
from playground.jobs.benchmark_work import judge_again, open_for_judging
from playground.jobs.sources import settings_for
from playground.settings import Settings, load_settings


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("judge", help="score the responses of a run, an imported suite or a file")
    parser.add_argument("source", metavar="RUN|SUITE|FILE")
    judging_options(parser, required=True)
    file = parser.add_argument_group("for a file, which is imported first")
    file.add_argument("--as", dest="name", metavar="NAME", help="of the suite it becomes; its own name when left out")
    file.add_argument("--metrics", choices=METRICS, help="what it measures; told from the rows when left out")
    file.add_argument("--map", metavar="FIELD=COL,...", help="as in data import")
    file.add_argument("--encoding", help="when the guess is wrong")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--queue", action="store_true", help="leave it to the app, which starts it in turn")
    what.add_argument("--forecast", action="store_true", help="only say what it will take")
    json_option(parser)
    parser.set_defaults(run=judge)


def judge(options: argparse.Namespace) -> None:
    """Import the file if it is one, make the run, do it here or leave it to the app, or only say what it will take."""
    settings = load_settings()
    benchmarks.check_judge(options.judge)
    asked = settings_for(
        _source(options, settings),
        options.judge,
        settings.home,
        with_reference=not options.without_reference,
        spend_cap_usd=options.spend_cap,
        reuse=not options.fresh,
    )
    if options.queue or options.forecast:
        tools = open_for_judging(asked, settings, router=router_for_names(settings))
        if options.forecast:
            show_forecast(benchmarks.expected_judging(settings, tools, asked).to_json(), as_json=options.json)
            return
        command = benchmarks.judging_command(asked)
        queue(settings, "judging", asked, tools.identities(()), command, as_json=options.json)
        return
    with device(asked, settings) as lease:
        progress("opening the judge")
        tools = open_for_judging(asked, settings)
        with create_run(settings.runs, "judging", asked.to_json(), tools.identities(())) as folder:
            command = benchmarks.judging_command(asked)
            ending = work_here(folder, lease, settings, command, partial(judge_again, tools=tools))
    show(folder.path, ending, settings, as_json=options.json)


def _source(options: argparse.Namespace, settings: Settings) -> str:
    """What is to be judged by its name here. A file becomes a suite, which keeps its labels beside its responses."""
    path = Path(options.source)
    if (settings.runs / options.source / "run.json").is_file() or not path.is_file():
        return str(options.source)
    name = options.name or "".join(c if c.isascii() and c.isalnum() else "-" for c in path.name.split(".")[0].lower())
    imported = read_prompts(path, name, parse_mapping(options.map) if options.map else None, options.encoding)
    for warning in imported.warnings:
        progress(f"warning: {warning}")
    save_imported(imported, settings.home, options.metrics)
    return name
