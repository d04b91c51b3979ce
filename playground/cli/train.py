"""train: fine-tune an adapter. The run folder keeps the settings; the adapter is offered under its name."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.errors import SettingsRejected, UserFacingError
from evaluation.journal import RunFolder, create_run
from evaluation.prompts.suites import SAMPLES, load_suite
from playground import catalog
from playground.cli.output import json_option, print_json, progress
from playground.settings import Settings, load_settings
from training.presets import PRESETS, preset
from training.settings import read_settings

JUDGE_PRESET = "embedded-judge"


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("train", help="fine-tune an adapter")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("settings", nargs="?", type=Path, metavar="SETTINGS.json")
    what.add_argument("--preset", choices=[*PRESETS, JUDGE_PRESET])
    json_option(parser)
    parser.set_defaults(run=train)


def train(options: argparse.Namespace) -> None:
    """Train in this process, with every event in the run folder."""
    from training.card import write_card
    from training.sft import train as run_sft

    settings = load_settings()
    if options.preset == JUDGE_PRESET:
        _train_judge(settings, as_json=options.json)
        return
    sft = preset(options.preset) if options.preset else read_settings(options.settings)
    destination = settings.home / "adapters" / sft.name
    if destination.exists():
        raise SettingsRejected(
            f"There is already an adapter {sft.name} in {destination.parent}; rename one of the two."
        )
    command = (
        f"python -m playground train --preset {options.preset}"
        if options.preset
        else "python -m playground train SETTINGS.json"
    )
    with create_run(settings.runs, "training", sft.to_json(), {}, seed=sft.seed) as folder:
        folder.event("started", command=command)
        try:
            result = run_sft(
                sft, settings.home, lambda name: load_suite(name, settings.home).prompts, folder.path, _reporter(folder)
            )
            write_card(result, sft, command)
        except KeyboardInterrupt:
            folder.event("cancelled", reason="interrupted")
            raise
        except Exception as error:
            folder.event("failed", reason=str(error) or type(error).__name__)
            if isinstance(error, FloatingPointError):
                raise UserFacingError(str(error)) from error
            raise
        folder.event("finished", steps=result.steps, loss_before=result.loss_before, loss_after=result.loss_after)
    if sft.base == "embedded":
        _offer(result.adapter, destination)
    document = {
        "run_id": folder.path.name,
        "status": "finished",
        "adapter": str(result.adapter),
        "steps": result.steps,
        "loss_before": result.loss_before,
        "loss_after": result.loss_after,
        "tokens_per_s": result.tokens_per_s,
        "mix": [asdict(part) for part in result.mix],
    }
    if options.json:
        print_json(document)
    else:
        print(f"{sft.name}: {result.steps} steps, {result.seconds:.0f} s, {result.tokens_per_s:.0f} tokens/s")
        for suite, before in result.loss_before.items():
            print(f"  held-out loss on {suite}: {before:.3f} -> {result.loss_after[suite]:.3f}")
        print(f"  adapter: {result.adapter}")
        if sft.base == "embedded":
            shadowed = " (the shipped one of that name is shown)" if sft.name in catalog.DEFAULT_PAIR else ""
            print(f"  model id: {sft.name}{shadowed}")


def _train_judge(settings: Settings, *, as_json: bool) -> None:
    """Fit the embedded judge's heads on the graded sample responses."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from training.embedded import ensure_embedded
    from training.judge_head import LAYER, PENALTY, read_graded, train_judge

    suites = [load_suite(name, settings.home) for name in ("sample-tuning", "sample-borderline")]
    graded = read_graded(SAMPLES / "sample-graded.jsonl", {p.id: p for suite in suites for p in suite.prompts})
    base = ensure_embedded(settings.home, progress)
    with create_run(
        settings.runs, "training", {"preset": JUDGE_PRESET, "layer": LAYER, "penalty": PENALTY}, {}
    ) as folder:
        folder.event("started", command=f"python -m playground train --preset {JUDGE_PRESET}")
        out = folder.path / "embedded-head.safetensors"
        model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
        agreement = train_judge(graded, model, tokenizer, _reporter(folder), out)
        folder.event("finished", agreement=agreement)
    if as_json:
        print_json({"run_id": folder.path.name, "status": "finished", "head": str(out), "agreement": agreement})
        return
    for name, figures in agreement.items():
        print(f"{name}: " + ", ".join(f"{key} {value:.3g}" for key, value in figures.items()))
    print(f"head: {out}")


def _reporter(folder: RunFolder) -> Any:
    def report(event: str, data: dict[str, Any]) -> None:
        folder.event(event, **data)  # type: ignore[arg-type]
        words = data.get("message") or ", ".join(
            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in data.items()
        )
        progress(f"{event}: {words}")

    return report


def _offer(adapter: Path, destination: Path) -> None:
    """Copy the adapter to where the catalogue looks; it appears there whole or not at all."""
    staged = destination.parent / f".new-{destination.name}"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(adapter, staged)
    staged.replace(destination)
