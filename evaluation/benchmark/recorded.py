"""A benchmark or judging Run as its folder holds it: enough to count, compare, report and export it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from evaluation.benchmark.answers import Answers, answers
from evaluation.benchmark.people import People, labelled_suites, people_of
from evaluation.benchmark.results import BenchResults, results_of
from evaluation.errors import ImportRejected, SettingsRejected
from evaluation.journal import BadLine, RunInfo, RunStatus, RunUnreadable, read_records, read_run, run_status
from evaluation.labels import LabelSet
from evaluation.prompts.suites import load_suite
from evaluation.types import Judgement, Metric, Prompt, Response, Scale

KINDS = ("benchmark", "judging")
_PROTECTED = "answercarefully-"  # how ids and suites of its rows begin, under whatever name they were imported


@dataclass(frozen=True)
class Recorded:
    """The records of one Run. `metrics` and `protected` are by suite; a suite that is gone has no metrics here.

    `bad_lines` counts journal lines that are no records and were left out. `labelled`: what people said of the
    imported Responses of a suite, or why that cannot be read.
    """

    info: RunInfo
    status: RunStatus
    prompts: tuple[Prompt, ...]
    responses: tuple[Response, ...]
    judgements: tuple[Judgement, ...]
    metrics: Mapping[str, tuple[Metric, ...]]
    protected: Mapping[str, bool]
    bad_lines: int
    labelled: Mapping[str, LabelSet | str] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        return self.info.run_id

    @property
    def models(self) -> tuple[str, ...]:
        """Model ids in the order they were asked for; of imported Responses in the order they came."""
        asked = self.info.settings.get("models") if self.info.kind == "benchmark" else None
        return tuple(asked or dict.fromkeys(response.model for response in self.responses))

    @property
    def judges(self) -> dict[Scale, tuple[str, str]]:
        """Id and identity of the judge of each scale; of several the last, which `answers` refuses."""
        return {judgement.scale: (judgement.judge, judgement.identity) for judgement in self.judgements}

    @cached_property
    def answers(self) -> dict[str, Answers]:
        """Each Model's Answers. Raises SettingsRejected when several judges read one scale."""
        # A judging Run scores the Responses that are there; only a benchmark planned how many there should be.
        attempts = int(self.info.settings.get("attempts", 1)) if self.info.kind == "benchmark" else None
        return answers(self.prompts, self.responses, self.judgements, self.models, self.metrics, attempts)

    @cached_property
    def results(self) -> BenchResults:
        """The Run's numbers. Raises SettingsRejected as `answers` does."""
        return results_of([*self.answers.values()])

    @cached_property
    def people(self) -> tuple[People, ...]:
        """What people said of the Run's Responses, beside the judge."""
        return people_of(self.labelled, self.responses, self.judgements, self.judges)

    def document(self) -> dict[str, Any]:
        """The Run's numbers as a JSON-ready document, `people` where there are Labels. Raises SettingsRejected."""
        people = [told.to_json() for told in self.people]
        return self.results.to_json() | ({"people": people} if people else {})

    def is_protected(self, prompt_id: str) -> bool:
        """Whether the texts of this Prompt, and what may quote them, stay out of what is passed on."""
        return self._protected_prompts.get(prompt_id, True)

    @cached_property
    def _protected_prompts(self) -> dict[str, bool]:
        return {p.id: self.protected[p.suite] or p.id.lower().startswith(_PROTECTED) for p in self.prompts}


def read_recorded(path: Path, home: Path) -> Recorded:
    """Read the run folder; `home` holds the imported suites. Raises SettingsRejected, RunUnreadable."""
    info = read_run(path)
    if info.kind not in KINDS:
        raise SettingsRejected(f"{info.run_id} is a {info.kind} run; name a benchmark or judging run.")
    _check_settings(path, info)
    prompts: list[Prompt] = []
    responses: list[Response] = []
    judgements: list[Judgement] = []
    bad_lines = 0
    for name in ("prompts", "responses", "judgements"):
        for record, _ in read_records(path / f"{name}.jsonl"):
            match record:
                case Prompt():
                    prompts.append(record)
                case Response():
                    responses.append(record)
                case Judgement():
                    judgements.append(record)
                case BadLine():
                    bad_lines += 1
    suites = {suite: (metrics, protected) for suite, metrics, protected in _suites(prompts, home)}
    return Recorded(
        info,
        run_status(path),
        tuple(prompts),
        tuple(responses),
        tuple(judgements),
        {suite: metrics for suite, (metrics, _) in suites.items() if metrics is not None},
        {suite: protected for suite, (_, protected) in suites.items()},
        bad_lines,
        labelled_suites((prompt.suite for prompt in prompts), home),
    )


def _check_settings(path: Path, info: RunInfo) -> None:
    """Raise RunUnreadable unless what is read of the settings has the types that a benchmark gives it."""
    models, attempts = info.settings.get("models") or (), info.settings.get("attempts", 1)
    named = isinstance(models, list | tuple) and all(isinstance(model, str) for model in models)
    if info.kind == "benchmark" and not (named and type(attempts) is int and 0 < attempts < 1_000_000):
        raise RunUnreadable(
            f"{path / 'run.json'} is damaged (settings.models or attempts). Restore it or remove the folder."
        )


def _suites(prompts: list[Prompt], home: Path) -> Iterator[tuple[str, tuple[Metric, ...] | None, bool]]:
    """Name, metrics and protection of each suite; metrics None when it is not here (any more)."""
    for name in dict.fromkeys(prompt.suite for prompt in prompts):
        try:
            suite = load_suite(name, home)
        except ImportRejected:
            yield name, None, name.startswith(_PROTECTED)
        else:
            yield name, tuple(suite.metrics), suite.protected or name.startswith(_PROTECTED)
