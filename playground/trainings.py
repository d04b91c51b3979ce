"""Trainings as the Train page handles them: into the queue, one or a whole sweep, and how one went so far."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from evaluation.errors import SettingsRejected
from evaluation.journal import Event, read_records
from evaluation.prompts.suites import load_suite
from evaluation.types import content_key
from playground import catalog
from playground.jobs import Job, Supervisor
from playground.jobs.job import LOG_FILE, next_key
from playground.settings import Settings
from training.leaks import installed_tests, refuse_leaks
from training.presets import PRESETS
from training.settings import SftSettings
from training.sweep import member_of

_LOG_BYTES = 1 << 14


# ---- into the queue ----


def command_of(sft: SftSettings) -> str:
    """The command line that makes the same run anywhere: of a preset its name, else every setting that is not usual."""
    for name, known in PRESETS.items():
        if known == sft:
            return f"python -m playground train --preset {name}"
    usual = {f.name: f.default for f in fields(SftSettings)}
    said = sft.to_json()
    told = {name: said[name] for name in said if getattr(sft, name) != usual[name]}
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":"))
    return f"printf %s {shlex.quote(text)} | python -m playground train /dev/stdin"


def taken_names(settings: Settings, jobs: Sequence[Job]) -> set[str]:
    """Names that a new adapter cannot have: those there are, and those that are being made."""
    return {"base", *catalog.adapters(settings), *(j.name for j in jobs if j.kind == "training" and not j.ended)}


def free_name(wanted: str, taken: set[str]) -> str:
    """`wanted`, or with the first free number behind it."""
    number, name = 1, wanted
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name


def check(settings: Settings, sft: SftSettings) -> None:
    """What can be said before the queue: that every suite is there and no row of it is a test question.

    Raises ImportRejected for an unknown suite, SettingsRejected for a leak, naming the rows.
    """
    trained = {}
    for source in sft.trained_sources:
        prompts = load_suite(source.suite, settings.home).prompts
        trained[source.suite] = [p for p in prompts if p.extra.get("split") != "test"]
    for name in sft.held_out:
        load_suite(name, settings.home)
    refuse_leaks(trained, installed_tests(settings.home, list(trained)), sft.allow_overlap)


def start(supervisor: Supervisor, settings: Settings, plans: Sequence[SftSettings]) -> list[str]:
    """Put trainings into the queue, all of them or none, and return their runs' ids in the same order.

    Settings that are waiting or at work already are the same run, so a second click starts nothing. Raises
    SettingsRejected, ImportRejected, DiskRefused.
    """
    jobs = supervisor.jobs()
    keys = [_key(plan) for plan in plans]
    going = {job.key: job.run_id for job in jobs if job.key and not job.ended}
    found = [next((run for key, run in going.items() if key and key.startswith(prefix)), None) for prefix in keys]
    for plan, run in zip(plans, found, strict=True):
        if run is None:
            if plan.name in taken_names(settings, jobs):
                raise SettingsRejected(f"The name {plan.name} is taken, or a run is making it; choose another name.")
            check(settings, plan)
    return [
        run
        or supervisor.submit(
            "training",
            plan.to_json(),
            {},
            seed=plan.seed,
            key=next_key(prefix, jobs),
            command=command_of(plan),
        )
        for plan, prefix, run in zip(plans, keys, found, strict=True)
    ]


def _key(plan: SftSettings) -> str:
    return f"training:{content_key(plan.to_json())}:"


def latest_sweep(jobs: Sequence[Job]) -> list[tuple[int, Job]]:
    """The newest trainings that differ by the number at the end of their names, by that number; two at least."""
    groups: dict[str, dict[int, Job]] = {}
    for job in sorted(jobs, key=lambda job: job.run_id):
        if job.kind == "training" and (member := member_of(job.name)):
            of, value = member
            groups.setdefault(of, {})[value] = job  # the newest of a value
    sweeps = [group for group in groups.values() if len(group) > 1]
    newest = max(sweeps, key=lambda group: max(job.run_id for job in group.values()), default={})
    return sorted(newest.items())


# ---- how it went so far ----


@dataclass
class Curve:
    """What a training has reported, read from its run folder piece by piece. A step made again counts as made last."""

    run: Path
    command: str = ""
    steps: int = 0  # planned
    loss: dict[int, float] = field(default_factory=dict)  # nats per trained token, by step
    rate: dict[int, float] = field(default_factory=dict)  # learning rate, by step
    held_out: dict[str, dict[int, float]] = field(default_factory=dict)  # nats, by suite and step
    samples: dict[int, list[Mapping[str, str]]] = field(default_factory=dict)  # by step
    newest: Mapping[str, Any] = field(default_factory=dict)  # the last metric of a step
    stage: str = ""  # what it says it does before the first step
    warnings: list[str] = field(default_factory=list)
    end: Mapping[str, Any] = field(default_factory=dict)  # data of the last end, empty after a resume
    _offset: int = 0

    def read(self) -> bool:
        """Take in what is new; return whether there was anything to show."""
        changed = False
        for record, offset in read_records(self.run / "events.jsonl", self._offset):
            self._offset = offset
            if isinstance(record, Event) and record.event != "heartbeat":
                try:
                    self._take(record)
                except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                    self.warnings.append(f"Event {record.seq} is not as a training writes it; it was left out.")
                changed = True
        return changed

    @property
    def step(self) -> int:
        """The step it has come to."""
        return int(self.newest.get("step", 0))

    def held_out_ends(self) -> dict[str, tuple[float, float | None]]:
        """By suite: the loss before the first step, and the newest after it."""
        return {
            suite: (by_step[min(by_step)], by_step[max(by_step)] if len(by_step) > 1 else None)
            for suite, by_step in self.held_out.items()
        }

    def _take(self, event: Event) -> None:
        data = event.data
        match event.event:
            case "queued" | "started":
                self.command = self.command or str(data.get("command", ""))
                self.end = {}
            case "progress":
                self.stage = str(data.get("message") or self.stage)
            case "warning":
                if data.get("message") not in self.warnings:
                    self.warnings.append(str(data.get("message", "")))
            case "metric" if "loss" in data:
                step, steps = int(data["step"]), int(data["steps"])
                numbers = {name: float(data[name]) for name in ("loss", "lr", "tokens_per_s", "eta_s")}
                self.newest, self.steps = {**data, **numbers, "step": step}, steps
                self.loss[step], self.rate[step] = numbers["loss"], numbers["lr"]
            case "metric" if "held_out_loss" in data:
                step, losses = int(data["step"]), {suite: float(loss) for suite, loss in data["held_out_loss"].items()}
                for suite, loss in losses.items():
                    self.held_out.setdefault(suite, {})[step] = loss
            case "metric" if "samples" in data:
                texts = [{"question": str(one["question"]), "text": str(one["text"])} for one in data["samples"]]
                self.samples[int(data["step"])] = texts
            case "finished" | "failed" | "cancelled":
                self.end = data


def read_curve(run: Path) -> Curve:
    """All that a training has reported so far."""
    curve = Curve(run)
    curve.read()
    return curve


def log_tail(run: Path, lines: int = 40) -> str:
    """The end of the run's log."""
    file = run / LOG_FILE
    if not file.is_file():
        return ""
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - _LOG_BYTES))
        return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
