"""In which order rows are seen: the whole run, decided before its first step, from the seed alone.

So a run that was stopped goes on with exactly the row it would have seen next, and several processes, each taking its
part of every step, make the same steps as one.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.mix import Example, Mix
from training.model import NO_LOSS
from training.settings import SftSettings

WINDOW = 50  # steps whose rows are sorted by length together; transformers' number for the same
PAD_ID = 0  # any id: it carries no loss and no token sees it


@dataclass(frozen=True)
class MicroBatch:
    """Rows that one process computes at once, as positions in the mix. `silent`: only to keep processes in step."""

    rows: tuple[int, ...]
    silent: bool = False


@dataclass(frozen=True)
class Plan:
    """Every step of a run. `micro_batches` holds `per_step` of them for each step, those of a step side by side."""

    micro_batches: tuple[MicroBatch, ...]
    per_step: int
    tokens: tuple[int, ...]  # padding not counted, one number a step

    @property
    def steps(self) -> int:
        """Steps of the optimiser."""
        return len(self.tokens)


def plan_run(mix: Mix, settings: SftSettings, processes: int = 1) -> Plan:
    """Plan the run. Each step has `batch_size` rows of like length, the last one perhaps fewer.

    The copies of a repeated row lie evenly over an epoch, so that hardly any step sees one twice: sorted by length
    they would otherwise all meet. The step with the most tokens comes first: memory runs out at once or not at all.
    """
    draw = random.Random(settings.seed)
    lengths = [len(example.ids) for example in mix.examples]
    steps = _steps(_order(mix.times, settings.epochs, draw), lengths, mix.times, settings.batch_size, draw)
    heaviest = max(range(len(steps)), key=lambda n: sum(lengths[row] for row in steps[n]))
    steps.insert(0, steps.pop(heaviest))
    rounds = -(-settings.batch_size // (processes * settings.micro_batch_size))
    per_step = rounds * processes
    return Plan(
        tuple(micro for step in steps for micro in _split(sorted(step, key=lengths.__getitem__), per_step)),
        per_step,
        tuple(sum(lengths[row] for row in step) for step in steps),
    )


def _order(times: Sequence[int], epochs: float, draw: random.Random) -> list[int]:
    """Positions of the rows for all epochs. Copy k of m falls at random into the k-th of m equal parts of an epoch."""
    wanted = max(1, round(epochs * sum(times)))
    order: list[int] = []
    while len(order) < wanted:
        placed = [((k + draw.random()) / count, row) for row, count in enumerate(times) for k in range(count)]
        order += [row for _, row in sorted(placed)]
    return order[:wanted]


def _steps(
    order: list[int], lengths: Sequence[int], times: Sequence[int], batch_size: int, draw: random.Random
) -> list[list[int]]:
    # A window no longer than the distance between two copies holds a row about once.
    window = max(1, min(WINDOW, sum(times) // (max(times) * batch_size))) * batch_size
    steps: list[list[int]] = []
    for start in range(0, len(order), window):
        near = sorted(order[start : start + window], key=lambda row: lengths[row])
        batches = [near[n : n + batch_size] for n in range(0, len(near), batch_size)]
        draw.shuffle(batches)
        steps += batches
    return steps


def _split(rows: list[int], parts: int) -> list[MicroBatch]:
    """`parts` micro-batches of nearly equal size."""
    bounds = [len(rows) * part // parts for part in range(parts + 1)]
    pieces = [tuple(rows[a:b]) for a, b in itertools.pairwise(bounds)]
    return [MicroBatch(piece) if piece else MicroBatch((rows[0],), silent=True) for piece in pieces]


class PlannedRows(torch.utils.data.Dataset[list[Any]]):
    """A plan as a torch Dataset: item n is the n-th micro-batch, its rows as (Example, silent)."""

    def __init__(self, mix: Mix, plan: Plan) -> None:
        self._examples, self._plan = mix.examples, plan

    def __len__(self) -> int:
        return len(self._plan.micro_batches)

    def __getitem__(self, at: int) -> list[Any]:
        micro = self._plan.micro_batches[at]
        return [(self._examples[row], micro.silent) for row in micro.rows]


def planned_batch(items: Sequence[list[tuple[Example, bool]]]) -> dict[str, Tensor]:
    """Collate function for `PlannedRows`, one item at a time."""
    ((*rows,),) = items
    batch = collate([example for example, _ in rows])
    if rows[0][1]:
        batch["labels"].fill_(NO_LOSS)
    return batch


def collate(examples: Sequence[Example]) -> dict[str, Tensor]:
    """input_ids and labels, each (rows, longest row), padded on the right."""
    longest = max(len(e.ids) for e in examples)
    ids = torch.full((len(examples), longest), PAD_ID)
    labels = torch.full((len(examples), longest), NO_LOSS)
    for n, e in enumerate(examples):
        ids[n, : len(e.ids)] = torch.tensor(e.ids)
        labels[n, : len(e.ids)] = torch.tensor(
            [i if trained else NO_LOSS for i, trained in zip(e.ids, e.trained_on, strict=True)]
        )
    return {"input_ids": ids, "labels": labels}
