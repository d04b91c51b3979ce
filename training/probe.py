"""What a run would be like, before it is started: its rows as the model will see them, its time and its memory."""

from __future__ import annotations

import gc
import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from training.loop import Watch, fresh_progress, make_trainer, training_arguments
from training.mix import Example, LoadSuite, MixSummary
from training.model import load_trainable, memory_told
from training.plan import Plan, plan_run
from training.settings import SftSettings
from training.sft import Prepared, prepare

STEPS = 3
ROWS = 5
_WARM = 1  # the first step allocates and picks kernels
_CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class ShownRow:
    """A row as the model will see it: pieces of text, special tokens written out, and whether each carries loss."""

    suite: str
    prompt_id: str
    tokens: int
    pieces: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Preview:
    """The mix without the model. `shares` is each suite's part of the tokens seen, in [0, 1], as is `trained_shares`
    of those that carry loss. `steps` are the optimiser's, `tokens` those of the whole run."""

    mix: list[MixSummary]
    shares: dict[str, float]
    trained_shares: dict[str, float]
    steps: int
    tokens: int
    rows: list[ShownRow]
    warnings: list[str]


@dataclass(frozen=True)
class Probe:
    """A preview and what three steps of the real run cost.

    `seconds` is the expected time of all steps; checks and checkpoints come on top. `peak_bytes` is the memory that
    the process needed beyond what it had before: of the accelerator where there is one, else main memory.
    """

    preview: Preview
    tokens_per_s: float
    seconds: float
    peak_bytes: int
    device: str


def preview(settings: SftSettings, home: Path, load: LoadSuite) -> Preview:
    """What would be trained on. Loads the tokenizer, not the model. Raises what `training.sft.prepare` raises."""
    ready = prepare(settings, home, load, _unheard)
    return _preview(ready, plan_run(ready.mix, settings))


@memory_told()
def probe(
    settings: SftSettings, home: Path, load: LoadSuite, should_stop: Callable[[], bool] = lambda: False
) -> Probe | None:
    """Make the first three steps of the run, the heaviest of all among them, and forget them again.

    Writes nothing. None when told to stop before the end. Raises what `training.sft.train` raises.
    """
    ready = prepare(settings, home, load, _unheard)
    plan = plan_run(ready.mix, settings)
    short = Plan(plan.micro_batches[: STEPS * plan.per_step], plan.per_step, plan.tokens[:STEPS])
    quiet = replace(settings, checks=0, save_seconds=1e9, save_steps=0)
    memory = _Memory()
    with tempfile.TemporaryDirectory() as scratch:
        times = _step_times(quiet, ready, short, Path(scratch), should_stop)
    if times is None:
        return None
    peak = memory.peak()
    gc.collect()
    warm = min(_WARM, len(times) - 1)
    rate = sum(short.tokens[warm:]) / sum(times[warm:])
    return Probe(_preview(ready, plan), rate, sum(plan.tokens) / rate, peak, _device_name())


def _step_times(
    settings: SftSettings, ready: Prepared, plan: Plan, out: Path, should_stop: Callable[[], bool]
) -> list[float] | None:
    """Seconds of each step of the plan; None when told to stop."""
    ends = [0.0]
    arguments = training_arguments(settings, plan, out)
    progress = fresh_progress(ready.mix, settings)
    progress.loss_before = {}  # nothing is to be measured

    def note(event: str, data: dict[str, Any]) -> None:
        ends.append(progress.seconds)

    watch = Watch(settings, plan, progress, note, should_stop, lambda step: True, arguments.device)
    trainer = make_trainer(load_trainable(settings, ready.folder), ready.mix, watch, out, arguments)
    trainer.train()
    if watch.stopped:
        return None
    return [after - before for before, after in itertools.pairwise(ends)]


def _preview(ready: Prepared, plan: Plan) -> Preview:
    mix = ready.mix.summary()
    total, trained = sum(part.tokens for part in mix), sum(part.trained_tokens for part in mix)
    return Preview(
        mix=mix,
        shares={part.suite: part.tokens / total for part in mix},
        trained_shares={part.suite: part.trained_tokens / trained for part in mix},
        steps=plan.steps,
        tokens=sum(plan.tokens),
        rows=[shown_row(example, ready.tokenizer) for example in _chosen(ready.mix.examples, ROWS)],
        warnings=ready.mix.warnings,
    )


def _chosen(examples: Sequence[Example], count: int) -> list[Example]:
    """Rows spread evenly over the mix, so that every source of some size shows one."""
    count = min(count, len(examples))
    return [examples[(2 * n + 1) * len(examples) // (2 * count)] for n in range(count)]


def shown_row(example: Example, tokenizer: Any) -> ShownRow:
    """The row as text. Joined, the pieces are all that the model is given."""
    pieces: list[tuple[str, bool]] = []
    start = 0
    for end in range(1, len(example.ids) + 1):
        if end < len(example.ids) and example.trained_on[end] == example.trained_on[start]:
            continue
        text = tokenizer.decode(list(example.ids[start:end]), skip_special_tokens=False)
        pieces.append((text, example.trained_on[start]))
        start = end
    return ShownRow(example.suite, example.prompt_id, len(example.ids), tuple(pieces))


def _unheard(event: str, data: dict[str, Any]) -> None:
    """A probe's events are nobody's."""


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


class _Memory:
    """Peak memory since it was made."""

    def __init__(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._before = 0 if torch.cuda.is_available() else _status("VmRSS")
        if not torch.cuda.is_available() and _CLEAR.exists():
            _CLEAR.write_text("5")  # Linux: let the high-water mark start again from now

    def peak(self) -> int:
        """Bytes beyond those in use at the start; on a CPU without /proc, the process's high-water mark.

        0 when all of it fitted into memory that the process had and gave back meanwhile.
        """
        if torch.cuda.is_available():
            return int(torch.cuda.max_memory_allocated())
        return max(0, _status("VmHWM") - self._before)


def _status(name: str) -> int:
    """A line of /proc/self/status in bytes; the process's high-water mark where there is no such file."""
    file = Path("/proc/self/status")
    if file.exists():
        line = next(line for line in file.read_text().splitlines() if line.startswith(f"{name}:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if name == "VmHWM" else 0
