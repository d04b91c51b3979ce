"""What is known of how a judge agrees with people: the record that the command prints and the page shows.

A missing verdict is counted by its reason and enters no figure. What was compared stands beside the figures: how the
labels were read (`labels.Reading`), which judge by identity, how many Responses. `measuring` makes one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from evaluation import statistics
from evaluation.errors import ImportRejected
from evaluation.labels import Reading
from evaluation.statistics import Interval
from evaluation.types import Missing

SHIPPED = Path(__file__).parent / "judge" / "embedded-agreement.json"


@dataclass(frozen=True)
class Group:
    """The Responses of one harm type, or of one band of length ("40-120" characters). `key` None: no category.

    `enough` is False below 30 compared responses: then it is shown grey and never ranked.
    """

    key: str | None
    n: int
    prompts: int
    missing: int
    enough: bool
    qwk: Interval
    accuracy: Interval
    sensitivity: Interval
    specificity: Interval
    mean_difference: Interval


@dataclass(frozen=True)
class RaterPair:
    """Two who rated the same `n` Responses; the second may be the judge."""

    first: str
    second: str
    n: int
    qwk: Interval


@dataclass(frozen=True)
class Raters:
    """How far people agree among themselves: what a judge can be asked to reach. `alpha` is ordinal, over all of them."""

    names: tuple[str, ...]  # empty when the raters are anonymous votes
    responses: int  # with two ratings or more
    alpha: Interval
    pairs: tuple[RaterPair, ...]
    judge: tuple[RaterPair, ...]


@dataclass(frozen=True)
class Repeat:
    """The same Responses judged a second time, in reverse order and in other company.

    What differs is position in the batch and, for a judge that samples, chance. `same`: share with the same verdict.
    """

    n: int
    changed: int
    same: Interval
    mean_change: Interval
    largest: int  # points


@dataclass(frozen=True)
class Preference:
    """Pairs of which people chose one. The judge scores each Response by itself, so no order is involved.

    `missing` pairs lack a verdict on a side. `chosen_higher` is a share of all judged pairs, ties in the divisor;
    `decided` leaves ties out. `longer_*`: how often the longer response is preferred, ties and equal lengths left out.
    """

    pairs: int
    judged: int
    missing: int
    higher: int
    ties: int
    lower: int
    chosen_higher: Interval
    decided: Interval
    longer_by_people: Interval
    longer_by_judge: Interval


@dataclass(frozen=True)
class Disagreement:
    """A Response that people and the judge see differently. Its text is looked up by key where it may be shown."""

    prompt_id: str
    response_key: str
    human: int
    judge: int
    characters: int
    explanation: str = ""  # empty where the texts are protected: a judge may quote them


@dataclass(frozen=True)
class Agreement:
    """A judge against people. Field names are those of `python -m playground agreement --json`.

    `n` Responses have both verdicts (of preferences: pairs). `confusion`: rows are people's levels from 1, columns the
    judge's scores from 1. `sensitivity`: share of people's violations (or refusals) that the judge scores below 3;
    `specificity`: share of the others that it scores 3 or more; `accuracy`: both together. `mean_difference`: judge
    minus people, in points. `length_bias`: rank correlation of that difference with the response's length.
    """

    n: int
    qwk: Interval
    spearman: Interval
    pearson: Interval
    alpha: Interval
    sensitivity: Interval
    specificity: Interval
    accuracy: Interval
    exact: Interval
    within_one: Interval
    mean_difference: Interval
    length_bias: Interval
    judge: str
    identity: str
    labels: str
    labels_digest: str
    reading: Reading
    protected: bool
    prompts: int  # that the compared Responses answer; an interval by bootstrap draws these
    labelled: int
    unlabelled: int
    missing: Mapping[Missing, int]
    with_reference: int  # judged with the reference response in view
    positives: int
    missed: int
    negatives: int
    false_alarms: int
    confusion: tuple[tuple[int, ...], ...]
    by_harm_type: tuple[Group, ...]
    by_length: tuple[Group, ...]
    raters: Raters | None
    repeat: Repeat | None
    preference: Preference | None
    worst: tuple[Disagreement, ...]
    created_at: str  # ISO 8601, UTC
    draws: int = statistics.DRAWS
    seed: int = statistics.SEED


# ---- as a document -------------------------------------------------------------------------------------------------

_AGREEMENT = TypeAdapter(Agreement)


def to_document(found: Agreement) -> dict[str, Any]:
    """The Agreement as a JSON-ready dict."""
    return dict(json.loads(json.dumps(asdict(found), allow_nan=False)))


def from_document(document: Mapping[str, Any]) -> Agreement:
    """Inverse of `to_document`; further keys are ignored. Raises ImportRejected for anything else."""
    try:
        found: Agreement = _AGREEMENT.validate_python(document)
    except ValidationError as error:
        where = ".".join(map(str, error.errors(include_input=False, include_url=False)[0]["loc"]))
        raise ImportRejected(
            f"This is no agreement that this version can read ({where}); run the agreement command again."
        ) from None
    return found


@cache
def shipped_agreement(path: Path = SHIPPED) -> Agreement | None:
    """The embedded judge's agreement as measured before it was shipped, or None where the file is absent."""
    if not path.is_file():
        return None
    return from_document(json.loads(path.read_text(encoding="utf-8")))
