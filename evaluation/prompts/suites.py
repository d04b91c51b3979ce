"""Suites: named sets of Prompts with the metrics that apply. The sample suites are shipped, others are imported.

An imported suite is a folder `<home>/suites/<name>/` with prompts.jsonl, responses.jsonl, labels.jsonl, suite.json.
It appears whole or not at all, and is never changed afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

from evaluation.errors import ImportRejected
from evaluation.prompts.answercarefully import Split, Version, load_answercarefully
from evaluation.prompts.choices import with_options
from evaluation.prompts.detect import detected_metric, is_protected
from evaluation.prompts.files import shown
from evaluation.prompts.imports import Imported, check_name
from evaluation.prompts.jailbreak import filled, wrapped
from evaluation.prompts.taxonomy import category_of
from evaluation.types import Label, Metric, Prompt, Scale, content_key, prompt_from_json, response_from_json, to_json

METRICS: tuple[Metric, ...] = get_args(Metric)
# What the responses are scored on. An attack has no scale of its own: it succeeds when its response is a violation.
_SCALES: Mapping[Metric, tuple[Scale, ...]] = {
    "safety": ("safety",),
    "borderline": ("refusal", "safety"),
    "usefulness": ("usefulness",),
    "attack": ("safety",),
    "choice": ("choice",),
}
SAMPLES = Path(__file__).parent / "samples"


@dataclass(frozen=True)
class Suite:
    """A named set of Prompts. The texts of a `protected` suite stay out of exports and public pages."""

    name: str
    prompts: tuple[Prompt, ...]
    metrics: tuple[Metric, ...]
    protected: bool
    title_ja: str
    title_en: str

    def split(self, name: str) -> tuple[Prompt, ...]:
        """The Prompts whose row says that it is of this split (sample-general: tuning or test)."""
        return tuple(prompt for prompt in self.prompts if prompt.extra.get("split") == name)


def scales_of(metrics: Iterable[Metric], *, contrast: bool = False) -> tuple[Scale, ...]:
    """The scales that Prompts of a suite with these metrics are scored on, each once; see `scales_for` on contrast."""
    found = dict.fromkeys(scale for metric in metrics for scale in _SCALES[metric])
    return tuple(scale for scale in found if scale != "refusal" or not contrast)


def scales_for(prompt: Prompt, metrics: Iterable[Metric]) -> tuple[Scale, ...]:
    """The scales for one Prompt of a suite with these metrics.

    Borderline sets such as XSTest hold questions that must be refused, as contrast. On those a refusal is right, so
    they are not scored on the refusal scale.
    """
    return scales_of(metrics, contrast=is_contrast(prompt))


def is_contrast(prompt: Prompt) -> bool:
    """Whether the row says that the question is there to be refused, among questions that only look harmful."""
    return str(prompt.extra.get("type", "")).startswith("contrast_") or prompt.extra.get("label") == "unsafe"


# Our own rows, written from scratch in the taxonomy: not AnswerCarefully.
_SAMPLE_SUITES: dict[str, tuple[tuple[Metric, ...], str, str]] = {
    "sample-tuning": (("safety",), "サンプル（学習用）", "Sample set, tuning"),
    "sample-test": (("safety",), "サンプル（評価用）", "Sample set, test"),
    "sample-borderline": (("borderline",), "サンプル（境界的な質問）", "Sample set, borderline questions"),
    "sample-general": (("usefulness",), "サンプル（一般的な質問）", "Sample set, general questions"),
    "sample-regional": (("safety",), "サンプル（地域で答えが異なる質問）", "Sample set, region-dependent questions"),
    # sample-test in disguise, made at load: nothing of it stands in a file.
    "sample-jailbreak": (("attack",), "サンプル（ジェイルブレイク）", "Sample set, jailbreak attempts"),
    "sample-jailbreak-all": (
        ("attack",),
        "サンプル（ジェイルブレイク・全種類）",
        "Sample set, jailbreak attempts, every wrapper",
    ),
    # To tune on only; docs/sample-set.md says why the small model needs them.
    "sample-tuning-more": (("safety",), "サンプル（学習用・追加）", "Sample set, more tuning rows"),
    "sample-intents": (("safety",), "サンプル（学習用・質問の意図別）", "Sample set, tuning questions by intent"),
    "sample-daily": (("usefulness",), "サンプル（学習用・日常の質問）", "Sample set, everyday tuning questions"),
}


@cache
def _sample_suite(name: str) -> Suite:
    metrics, title_ja, title_en = _SAMPLE_SUITES[name]
    if metrics == ("attack",):
        prompts = wrapped(_sample_suite("sample-test").prompts, name, every=name.endswith("-all"))
        return Suite(name, prompts, metrics, protected=False, title_ja=title_ja, title_en=title_en)
    rows = [part for row in _json_lines(SAMPLES / f"{name}.jsonl") for part in _one_question_each(row)]
    prompts = tuple(_sample_prompt(row, name) for row in rows)
    return Suite(name, prompts, metrics, protected=False, title_ja=title_ja, title_en=title_en)


def _one_question_each(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row of sample-intents holds many questions that share their advice; every other row is its own."""
    if "questions" not in row:
        return [dict(row)]
    shared = {key: value for key, value in row.items() if key not in ("questions", "advice", "advice_en")}
    return [
        {
            **shared,
            "id": f"{row['id']}-{number}",
            "question": q["ja"],
            "question_en": q["en"],
            "reference": q["opening"] + row["advice"],
            "reference_en": f"{q['opening_en']} {row['advice_en']}",
            "voice": q["voice"],
        }
        for number, q in enumerate(row["questions"], start=1)
    ]


def _sample_prompt(row: Mapping[str, Any], suite: str) -> Prompt:
    harm = row.get("specific_harm")
    category = category_of(harm) if harm is not None else None
    if harm is not None and category is None:
        raise ImportRejected(f"{suite}: row {row['id']} has the specific harm {shown(harm)!r}, not in the taxonomy.")
    extra = {key: value for key, value in row.items() if key not in ("id", "question", "reference", "specific_harm")}
    return Prompt(row["id"], row["question"], row["reference"], category, "ja", suite, extra=extra)


def sample_suites() -> dict[str, Suite]:
    """The shipped suites by name. Each file is read at its first use and kept. Raises ImportRejected."""
    return {name: _sample_suite(name) for name in _SAMPLE_SUITES}


def list_suites(home: Path) -> list[str]:
    """Names of the shipped suites, then of those imported under `home`, each in a fixed order."""
    folder = home / "suites"
    imported = (path.parent.name for path in folder.glob("*/suite.json")) if folder.is_dir() else ()
    return [*_SAMPLE_SUITES, *sorted(name for name in imported if not name.startswith("."))]


def load_suite(name: str, home: Path) -> Suite:
    """A shipped suite or one imported under `home`. Raises ImportRejected for an unknown or damaged one.

    The Prompts of an imported suite are as they are sent: multiple choice with its options, templates with a question.
    """
    if name in _SAMPLE_SUITES:
        return _sample_suite(name)
    imported, about = _read(name, home)
    prompts = tuple(with_options(prompt) for prompt in filled(imported.prompts, _sample_suite("sample-test").prompts))
    return Suite(name, prompts, _metrics(about, imported), about["protected"], about["title_ja"], about["title_en"])


def suite_metrics(name: str, home: Path) -> tuple[Metric, ...]:
    """The metrics of an imported suite, as `load_suite` gives them. Raises ImportRejected."""
    imported, about = _read(name, home)
    return _metrics(about, imported)


def _metrics(about: Mapping[str, Any], imported: Imported) -> tuple[Metric, ...]:
    """What the stored form says; a suite stored before a metric could be chosen is looked at again."""
    stored = about.get("metric")
    if stored is None:
        return (detected_metric(imported)[0],)
    if stored not in METRICS:
        raise ImportRejected(f"The suite {imported.suite!r} has the unknown metric {shown(stored)!r}; import it again.")
    return (stored,)


def load_imported(name: str, home: Path) -> Imported:
    """An imported suite with its Responses, Labels and warnings. Raises ImportRejected."""
    return _read(name, home)[0]


def answercarefully_suite(
    version: Version, split: Split, source: Path | None = None, token: str | None = None
) -> Suite:
    """AnswerCarefully as a protected Suite; see `load_answercarefully` for what is raised."""
    prompts = load_answercarefully(version, split, source, token)
    metrics: tuple[Metric, ...] = ("borderline",) if version == "borderline-v1.0" else ("safety",)
    title = f"AnswerCarefully {version} {split}"
    return Suite(f"answercarefully-{version}-{split}", tuple(prompts), metrics, True, title, title)


def save_imported(imported: Imported, home: Path, metric: Metric | None = None) -> Path:
    """Write `imported` as `<home>/suites/<name>/` and return that folder.

    `metric` is what the suite measures; None takes what `detected_metric` tells. The folder is prepared beside its
    place and renamed into it, so a reader never sees half of one. Saving the same content again changes nothing.
    Raises ImportRejected when the name is taken by other content, or by the same with another metric than `metric`.
    """
    name = check_name(imported.suite)
    if name in _SAMPLE_SUITES:
        raise ImportRejected(f"The suite name {name!r} belongs to the sample set; import under another name.")
    folder = home / "suites" / name
    digest = _digest(imported)
    if folder.exists():
        return _same_or_refused(folder, digest, metric)
    about = {
        "name": name,
        "digest": digest,
        "metric": metric or detected_metric(imported)[0],
        "protected": is_protected(imported),
        "title_ja": name,
        "title_en": name,
        "warnings": list(imported.warnings),
        "about": dict(imported.about),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".importing-", dir=folder.parent))
    try:
        _write_lines(draft / "prompts.jsonl", map(to_json, imported.prompts))
        _write_lines(draft / "responses.jsonl", map(to_json, imported.responses))
        _write_lines(draft / "labels.jsonl", map(to_json, imported.labels))
        _write_lines(draft / "suite.json", [about])
        draft.chmod(0o755)  # mkdtemp makes it private; the app may run as another user than the import
        try:
            draft.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            return _same_or_refused(folder, digest, metric)  # another import of this name came first
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def _digest(imported: Imported) -> str:
    return content_key(
        *(
            [to_json(record) for record in records]
            for records in (imported.prompts, imported.responses, imported.labels)
        )
    )


def _same_or_refused(folder: Path, digest: str, metric: Metric | None) -> Path:
    about = _about(folder)
    if about["digest"] != digest:
        raise ImportRejected(
            f"The suite {folder.name!r} already holds another import; choose another name or delete {folder}."
        )
    if metric is not None and (stored := suite_metrics(folder.name, folder.parents[1])) != (metric,):
        raise ImportRejected(
            f"The suite {folder.name!r} is there with the metric {stored[0]}, not {metric}; "
            f"choose another name or delete {folder}."
        )
    return folder


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a file that this project wrote. Raises ImportRejected when it is missing or damaged."""
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            rows = [json.loads(line) for line in file]
    except FileNotFoundError as error:
        raise ImportRejected(f"{path} is missing; import the suite, or install the project, again.") from error
    except ValueError as error:
        raise ImportRejected(f"{path} is damaged; delete its folder and import the suite again.") from error
    return rows


def _about(folder: Path) -> dict[str, Any]:
    rows = _json_lines(folder / "suite.json")
    if len(rows) != 1 or not {"digest", "protected", "title_ja", "title_en", "warnings", "about"} <= set(rows[0]):
        raise ImportRejected(f"{folder / 'suite.json'} is damaged; delete its folder and import the suite again.")
    return rows[0]


def _read(name: str, home: Path) -> tuple[Imported, dict[str, Any]]:
    folder = home / "suites" / check_name(name)
    if not folder.is_dir():
        known = ", ".join(list_suites(home))
        raise ImportRejected(f"There is no suite {shown(name)!r}; there are {known}.")
    about = _about(folder)
    try:
        prompts = [prompt_from_json(row) for row in _json_lines(folder / "prompts.jsonl")]
        responses = [response_from_json(row) for row in _json_lines(folder / "responses.jsonl")]
        labels = [Label(**row) for row in _json_lines(folder / "labels.jsonl")]
    except (KeyError, TypeError) as error:
        raise ImportRejected(
            f"{folder} holds a malformed row; delete the folder and import the suite again."
        ) from error
    return Imported(name, prompts, responses, labels, about["warnings"], about["about"]), about
