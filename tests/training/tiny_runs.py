"""Trainings of a tiny model: rows, settings, and one call that returns the result and the events."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluation.types import Prompt
from training.settings import SftSettings, Source
from training.sft import TrainResult, train

ROWS: dict[str, list[Prompt]] = {
    "safety": [Prompt(f"s{n}", f"問{n}", "断る。") for n in range(6)],
    "general": [Prompt(f"g{n}", f"料理{n}", "切る。") for n in range(6)],
    "test": [Prompt("t1", "別の問い", "断る。")],
}
Events = list[tuple[str, dict[str, Any]]]


def settings_for(base: Path, **changes: Any) -> SftSettings:
    """15 steps of 6 rows: general once, safety four times, three epochs."""
    options: dict[str, Any] = {
        "name": "tuned",
        "sources": (Source("general"), Source("safety", 4)),
        "held_out": ("test",),
        "base": str(base),
        "epochs": 3.0,
        "learning_rate": 2e-2,
        "lora_rank": 4,
        "lora_alpha": 8,
        "batch_size": 6,
        "checks": 1,
    }
    return SftSettings(**{**options, **changes})


def run(
    settings: SftSettings,
    out: Path,
    *,
    resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    stop_at: int | None = None,
) -> tuple[TrainResult, Events]:
    """Train in `out`. `stop_at`: ask to stop once that step has been reported."""
    events: Events = []

    def asked() -> bool:
        return should_stop() or any(data.get("step") == stop_at and "loss" in data for _, data in events)

    result = train(
        settings,
        out / "home",
        ROWS.__getitem__,
        out,
        lambda name, data: events.append((name, data)),
        resume=resume,
        should_stop=asked,
    )
    return result, events


def curve(events: Events) -> dict[int, float]:
    """Loss by step, as reported; a step made again counts as it was made last."""
    return {data["step"]: data["loss"] for _, data in events if "loss" in data}
