"""probe: what a training would be like. Its rows, its time and its memory, before it is started."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.prompts.suites import load_suite
from playground.cli.output import json_option, print_json, print_table, progress
from playground.jobs.leases import DeviceBusy, default_device, take_from_chat
from playground.jobs.workers import lend_hub_token
from playground.settings import load_settings
from training.presets import PRESETS, preset
from training.settings import read_settings

CHAT_LIMIT_S = 60.0  # for chat to finish its answers and make room


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("probe", help="rows, time and memory of a training, from its first three steps")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("settings", nargs="?", type=Path, metavar="SETTINGS.json")
    what.add_argument("--preset", choices=list(PRESETS))
    json_option(parser)
    # For the page, which shows the rows while the steps are being made: one JSON line for each of the two.
    parser.add_argument("--stages", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=probe)


def probe(options: argparse.Namespace) -> None:
    """Look at the rows, then make three steps if the device is free, and forget them."""
    from training.probe import preview
    from training.probe import probe as measure

    settings = load_settings()
    sft = preset(options.preset) if options.preset else read_settings(options.settings)

    def load(name: str) -> Any:
        return load_suite(name, settings.home).prompts

    lend_hub_token()
    rows = asdict(preview(sft, settings.home, load))
    if options.stages:
        print(json.dumps({"preview": rows}), flush=True)
    try:
        with take_from_chat(settings.home, default_device(), "training", CHAT_LIMIT_S) as lease:
            lease.describe("probe", "training", os.getpid())
            measured = measure(sft, settings.home, load)
    except DeviceBusy as error:
        cost, busy = None, str(error)
    else:
        assert measured is not None  # nobody can have asked it to stop
        cost, busy = {key: value for key, value in asdict(measured).items() if key != "preview"}, None
    if options.stages:
        print(json.dumps({"cost": cost, "busy": busy}), flush=True)
    elif options.json:
        print_json({"preview": rows, "cost": cost, "busy": busy})
    else:
        _show(rows, cost, busy)


def _show(rows: dict[str, Any], cost: dict[str, Any] | None, busy: str | None) -> None:
    header = ("suite", "rows", "tokens", "with loss", "share of tokens")
    mix = [
        (m["suite"], m["rows"], m["tokens"], m["trained_tokens"], f"{rows['shares'][m['suite']]:.1%}")
        for m in rows["mix"]
    ]
    print_table(header, mix)
    print(f"{rows['steps']} steps, {rows['tokens']} tokens")
    for warning in rows["warnings"]:
        progress(f"warning: {warning}")
    if cost is None:
        print(f"Time and memory were not measured: {busy}")
    else:
        print(
            f"about {cost['seconds'] / 60:.1f} min on {cost['device']} ({cost['tokens_per_s']:.0f} tokens/s), "
            f"{cost['peak_bytes'] / 1e9:.1f} GB of memory"
        )
