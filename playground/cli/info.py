"""doctor, models, suites: what is here and usable."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from playground import catalog
from playground.cli.output import json_option, print_json, print_table
from playground.jobs.leases import devices_in_use
from playground.settings import load_settings

LIBRARIES = ("gradio", "transformers", "torch", "peft", "openai", "duckdb", "plotly")


def add(commands: Any) -> None:
    """Declare the commands."""
    for name, work, words in (
        ("doctor", doctor, "what is installed and usable here"),
        ("models", models, "models that can be named"),
        ("suites", suites, "suites that can be asked"),
    ):
        parser = commands.add_parser(name, help=words)
        json_option(parser)
        parser.set_defaults(run=work)


def doctor(options: argparse.Namespace) -> None:
    """Print what works here and what to do about what does not."""
    settings = load_settings()
    rows = [_library(name) for name in LIBRARIES]
    rows.append({"part": "python", "state": "ok", "detail": platform.python_version()})
    rows.append(_accelerator())
    rows += [{"part": use.device, "state": "in use", "detail": str(use)} for use in devices_in_use(settings.home)]
    rows.append(_vllm())
    rows.append(_home(settings.home))
    rows.append(_embedded(settings.home))
    rows.append(
        _key(
            settings.openai_key is not None, "OpenAI key", "PLAYGROUND_OPENAI_API_KEY", "judging with GPT-class models"
        )
    )
    rows.append(
        _key(settings.hf_token is not None, "Hugging Face token", "HF_TOKEN", "AnswerCarefully and gated models")
    )
    if options.json:
        print_json(rows)
    else:
        print_table(("part", "state", "detail"), [(row["part"], row["state"], row["detail"]) for row in rows])


def _library(name: str) -> dict[str, str]:
    try:
        return {"part": name, "state": "ok", "detail": metadata.version(name)}
    except metadata.PackageNotFoundError:
        return {"part": name, "state": "absent", "detail": "pip install -r requirements.txt"}


def _accelerator() -> dict[str, str]:
    if importlib.util.find_spec("torch") is None:
        return {"part": "accelerator", "state": "unknown", "detail": "torch is absent"}
    import torch

    if torch.cuda.is_available():
        return {"part": "accelerator", "state": "ok", "detail": torch.cuda.get_device_name()}
    bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    detail = (
        f"none; CPU, {os.cpu_count()} cores, bfloat16 {'in hardware' if bf16 else 'not in hardware: float32 is used'}"
    )
    return {"part": "accelerator", "state": "absent", "detail": detail}


def _vllm() -> dict[str, str]:
    from playground.serving import ServerFailed
    from playground.serving.environment import check_cpu, find_environment

    try:
        found = find_environment()
        if found.build == "cpu":
            check_cpu()
    except ServerFailed as error:
        state = "absent" if error.reason.kind == "environment" else "problem"
        return {"part": "vLLM server", "state": state, "detail": str(error)}
    return {"part": "vLLM server", "state": "ok", "detail": f"vLLM {found.version}, {found.build} build"}


def _home(home: Path) -> dict[str, str]:
    there = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(there).free / 1e9
    writable = os.access(there, os.W_OK)
    state = "ok" if writable and free >= 2 else "problem"
    advice = "" if writable else "; not writable: set PLAYGROUND_HOME"
    return {"part": "home", "state": state, "detail": f"{home} ({free:.0f} GB free{advice})"}


def _embedded(home: Path) -> dict[str, str]:
    from evaluation.errors import ModelUnavailable
    from training.embedded import MANIFEST, embedded_folder

    try:
        folder = embedded_folder(home)
    except ModelUnavailable as error:
        return {"part": "embedded model", "state": "problem", "detail": str(error)}
    if (folder / MANIFEST).is_file():
        return {"part": "embedded model", "state": "ok", "detail": "converted"}
    return {"part": "embedded model", "state": "ok", "detail": "will be converted at the first start, about a minute"}


def _key(there: bool, part: str, variable: str, purpose: str) -> dict[str, str]:
    detail = f"set, for {purpose}" if there else f"not set; {variable} in .env, for {purpose}"
    return {"part": part, "state": "ok" if there else "absent", "detail": detail}


def models(options: argparse.Namespace) -> None:
    """List the models."""
    entries = catalog.models(load_settings())
    if options.json:
        print_json([asdict(entry) for entry in entries])
    else:
        print_table(("id", "kind", "where"), [(e.id, e.kind, e.where) for e in entries])
        print("\nAlso: hub:ORG/NAME and path:FOLDER for any causal language model in safetensors.")


def suites(options: argparse.Namespace) -> None:
    """List the suites."""
    found = catalog.suites(load_settings())
    if options.json:
        print_json([
            {"suite": s.name, "prompts": len(s.prompts), "metrics": list(s.metrics), "protected": s.protected, "title": s.title_ja}
            for s in found
        ])  # fmt: skip
    else:
        rows = [(s.name, len(s.prompts), ",".join(s.metrics) or "-", s.title_ja) for s in found]
        print_table(("suite", "prompts", "metrics", "title"), rows)
