"""What people said of a Run's Responses, where they came with Labels: beside the judge's readings, never among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evaluation import statistics
from evaluation.errors import UserFacingError
from evaluation.labels import Labelled, LabelSet, labels_of
from evaluation.measuring import LINE, measure
from evaluation.metrics import Rate
from evaluation.prompts.detect import is_protected
from evaluation.prompts.suites import list_suites, load_imported
from evaluation.statistics import Interval
from evaluation.types import Judgement, Response, Scale


@dataclass(frozen=True)
class PeopleOfModel:
    """One Model's Responses that people labelled: the share of violations, or of refusals, by them and by the judge.

    `judge` is over those same Responses, not over the whole Run; what the judge could not score is its `missing`.
    """

    model: str
    people: Rate
    judge: Rate


@dataclass(frozen=True)
class People:
    """What people said of the Responses of one suite.

    `scale` is safety (violations) or refusal; `columns` are the label columns that were read, `levels` how fine they
    are. The agreement is that of the judge with people over `both`; None on each where it cannot be told. `reason`
    says why labels that are there cannot be read, and then nothing else is told.
    """

    suite: str
    scale: Scale | None
    columns: tuple[str, ...]
    levels: int
    judge: str | None
    models: tuple[PeopleOfModel, ...]
    both: int
    kappa: Interval  # quadratic weighted
    sensitivity: Interval
    specificity: Interval
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As a JSON-ready dict."""
        return asdict(self)


_NOTHING = Interval(None)


def labelled_suites(suites: Iterable[str], home: Path) -> dict[str, LabelSet | str]:
    """The labels of those suites that were imported here with any; a text says why they cannot be read."""
    found: dict[str, LabelSet | str] = {}
    imported_here = set(list_suites(home))  # a run of elsewhere may name anything, a path too
    for suite in dict.fromkeys(suites):
        if suite not in imported_here or not (home / "suites" / suite / "labels.jsonl").is_file():
            continue
        try:
            imported = load_imported(suite, home)
            if imported.labels:
                found[suite] = labels_of(imported, is_protected(imported))
        except UserFacingError as error:
            found[suite] = str(error)
    return found


def people_of(
    labelled: Mapping[str, LabelSet | str],
    responses: Sequence[Response],
    judgements: Sequence[Judgement],
    judges: Mapping[Scale, tuple[str, str]],
) -> tuple[People, ...]:
    """What people said of these Responses, and how far the judge of each scale, (id, identity), agrees with them.

    A Response counts as labelled where it is one of the suite's own, by key; others that Models made have no Labels.
    """
    by_key = {response.key: response for response in responses}
    found = []
    for suite, labels in labelled.items():
        if isinstance(labels, str):
            found.append(People(suite, None, (), 0, None, (), 0, _NOTHING, _NOTHING, _NOTHING, reason=labels))
            continue
        rows = tuple(row for row in labels.rows if row.exchange.response.key in by_key)
        if rows:
            found.append(_of_suite(suite, replace(labels, rows=rows, pairs=()), by_key, judgements, judges))
    return tuple(found)


def _of_suite(
    suite: str,
    labels: LabelSet,
    by_key: Mapping[str, Response],
    judgements: Sequence[Judgement],
    judges: Mapping[Scale, tuple[str, str]],
) -> People:
    scale, levels = labels.reading.scale, labels.reading.levels
    judge, identity = judges.get(scale, (None, ""))
    read = {j.response_key: j for j in judgements if j.scale == scale and j.identity == identity}
    agreement = measure(labels, [*read.values()], judge=judge or "", identity=identity)
    models = dict.fromkeys(by_key[row.exchange.response.key].model for row in labels.rows)
    told = []
    for model in models:
        own = [row for row in labels.rows if by_key[row.exchange.response.key].model == model]
        scores = [(row, read[key].score) for row in own if (key := row.exchange.response.key) in read]
        scored = [(row, score) for row, score in scores if score is not None]
        told.append(
            PeopleOfModel(
                model,
                _rate(own, [row.level < (LINE if levels > 2 else 2) for row in own], 0),
                _rate([row for row, _ in scored], [score < LINE for _, score in scored], len(own) - len(scored)),
            )
        )
    return People(
        suite,
        scale,
        labels.reading.columns,
        levels,
        judge,
        tuple(told),
        agreement.n,
        agreement.qwk,
        agreement.sensitivity,
        agreement.specificity,
    )


def _rate(rows: Sequence[Labelled], holds: Sequence[bool], missing: int) -> Rate:
    hits: dict[str, int] = {}
    of: dict[str, int] = {}
    for row, held in zip(rows, holds, strict=True):
        prompt = row.exchange.prompt.id
        hits[prompt] = hits.get(prompt, 0) + held
        of[prompt] = of.get(prompt, 0) + 1
    share = statistics.clustered_share([*hits.values()], [*of.values()])
    return Rate(share.value, share.low, share.high, len(rows), missing)
