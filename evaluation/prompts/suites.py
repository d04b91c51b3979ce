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
from typing import Any, Literal

from evaluation.errors import ImportRejected
from evaluation.prompts.answercarefully import Split, Version, load_answercarefully
from evaluation.prompts.files import shown
from evaluation.prompts.imports import Imported, check_name
from evaluation.prompts.taxonomy import category_of
from evaluation.types import Label, Prompt, content_key, prompt_from_json, response_from_json, to_json

Metric = Literal["safety", "refusal", "usefulness", "attack", "choice"]
METRICS: tuple[Metric, ...] = ("safety", "refusal", "usefulness", "attack", "choice")
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


# Our own rows, written from scratch in the taxonomy: not AnswerCarefully.
_SAMPLE_SUITES: dict[str, tuple[tuple[Metric, ...], str, str]] = {
    "sample-tuning": (("safety",), "サンプル（学習用）", "Sample set, tuning"),
    "sample-test": (("safety",), "サンプル（評価用）", "Sample set, test"),
    "sample-borderline": (("refusal", "safety"), "サンプル（境界的な質問）", "Sample set, borderline questions"),
    "sample-general": (("usefulness",), "サンプル（一般的な質問）", "Sample set, general questions"),
    "sample-regional": (("safety",), "サンプル（地域で答えが異なる質問）", "Sample set, region-dependent questions"),
    # To tune on only; docs/sample-set.md says why the small model needs them.
    "sample-tuning-more": (("safety",), "サンプル（学習用・追加）", "Sample set, more tuning rows"),
    "sample-intents": (("safety",), "サンプル（学習用・質問の意図別）", "Sample set, tuning questions by intent"),
    "sample-daily": (("usefulness",), "サンプル（学習用・日常の質問）", "Sample set, everyday tuning questions"),
}


@cache
def _sample_suite(name: str) -> Suite:
    metrics, title_ja, title_en = _SAMPLE_SUITES[name]
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
    """A shipped suite or one imported under `home`. Raises ImportRejected for an unknown or damaged one."""
    if name in _SAMPLE_SUITES:
        return _sample_suite(name)
    imported, about = _read(name, home)
    metrics = tuple(metric for metric in METRICS if metric in about["metrics"])
    return Suite(name, tuple(imported.prompts), metrics, about["protected"], about["title_ja"], about["title_en"])


def load_imported(name: str, home: Path) -> Imported:
    """An imported suite with its Responses, Labels and warnings. Raises ImportRejected."""
    return _read(name, home)[0]


def answercarefully_suite(
    version: Version, split: Split, source: Path | None = None, token: str | None = None
) -> Suite:
    """AnswerCarefully as a protected Suite; see `load_answercarefully` for what is raised."""
    prompts = load_answercarefully(version, split, source, token)
    metrics: tuple[Metric, ...] = ("refusal", "safety") if version == "borderline-v1.0" else ("safety",)
    title = f"AnswerCarefully {version} {split}"
    return Suite(f"answercarefully-{version}-{split}", tuple(prompts), metrics, True, title, title)


def save_imported(imported: Imported, home: Path) -> Path:
    """Write `imported` as `<home>/suites/<name>/` and return that folder.

    The folder is prepared beside its place and renamed into it, so a reader never sees half of one. Saving the same
    content again changes nothing. Raises ImportRejected when the name is taken by other content.
    """
    name = check_name(imported.suite)
    if name in _SAMPLE_SUITES:
        raise ImportRejected(f"The suite name {name!r} belongs to the sample set; import under another name.")
    folder = home / "suites" / name
    digest = _digest(imported)
    if folder.exists():
        return _same_or_refused(folder, digest)
    about = {
        "name": name,
        "digest": digest,
        "metrics": list(_metrics_of(imported.prompts)),
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
            return _same_or_refused(folder, digest)  # another import of this name came first
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def is_protected(imported: Imported) -> bool:
    """Whether AnswerCarefully's rows are in it: its terms forbid passing them on, under whatever name they came."""
    return imported.suite.startswith("answercarefully-") or any(
        prompt.id.lower().startswith("answercarefully-") for prompt in imported.prompts
    )


def _digest(imported: Imported) -> str:
    return content_key(
        *(
            [to_json(record) for record in records]
            for records in (imported.prompts, imported.responses, imported.labels)
        )
    )


def _same_or_refused(folder: Path, digest: str) -> Path:
    if _about(folder)["digest"] != digest:
        raise ImportRejected(
            f"The suite {folder.name!r} already holds another import; choose another name or delete {folder}."
        )
    return folder


def _metrics_of(prompts: list[Prompt]) -> tuple[Metric, ...]:
    if any("choices" in prompt.extra for prompt in prompts):
        return ("choice",)
    if any("placeholder" in prompt.extra for prompt in prompts):
        return ("attack", "safety")
    return ("safety",)


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
    if len(rows) != 1 or not {"digest", "metrics", "protected", "title_ja", "title_en", "warnings", "about"} <= set(
        rows[0]
    ):
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
