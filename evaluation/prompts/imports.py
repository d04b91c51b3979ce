"""Import a file of questions, answers or labels: `read_prompts` is the one way in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation.errors import ImportRejected
from evaluation.prompts.columns import choose, parse_mapping
from evaluation.prompts.files import refusal, shown
from evaluation.prompts.rows import STATEMENT_MODEL, RowReader
from evaluation.prompts.tables import Table, read_table
from evaluation.prompts.trees import unfold
from evaluation.types import Label, Prompt, Response

__all__ = ["Imported", "check_name", "parse_mapping", "read_prompts"]


@dataclass(frozen=True)
class Imported:
    """What a file held. `about` is what it says beside its rows, such as its licence."""

    suite: str
    prompts: list[Prompt]
    responses: list[Response]
    labels: list[Label]
    warnings: list[str]
    about: Mapping[str, Any] = field(default_factory=dict)


def check_name(name: str) -> str:
    """A suite's name, which is also its folder's. Raises ImportRejected for anything else than [a-z0-9._-]."""
    if not re.fullmatch(r"[a-z0-9_-][a-z0-9._-]{0,63}", name):
        rule = "use up to 64 of a-z, 0-9, dot, hyphen and underscore, not beginning with a dot"
        raise ImportRejected(f"The suite name {shown(name)!r} cannot be used; {rule}.")
    return name


def read_prompts(
    path: Path, name: str, mapping: Mapping[str, str] | None = None, encoding: str | None = None
) -> Imported:
    """Read `path` as the suite `name`: its Prompts, the Responses it brings and their Labels.

    Accepts JSON, JSON Lines, CSV, TSV, XLSX, Parquet and word lists (.txt), text also with .gz. `mapping` gives
    columns by field (see `parse_mapping`); what it leaves out is guessed. Unknown columns go to `Prompt.extra`.
    Rows without a question or answer are skipped and counted in `warnings`.
    Raises ImportRejected, naming the file and the line or row, when anything cannot be read; then nothing is imported.
    """
    check_name(name)
    mapping = dict(mapping or {})
    table = unfold(read_table(path, encoding, mapping.values()))
    try:
        columns = choose(table.columns, [row.values for row in table.rows], mapping, table.headerless)
    except ImportRejected as error:
        raise refusal(path, None, str(error)) from error
    questions = _questions_beside(path) if columns.answers and not columns.question else {}
    named = _model_named_by(table)
    model = named or path.name.split(".")[0]
    if columns.second_id and columns.id:
        ids = [row.values.get(columns.id) for row in table.rows]
        if len(set(map(str, ids))) == len(ids):
            columns = replace(columns, second_id=None)
    reader = RowReader(path, name, columns, model, questions)
    for number, row in enumerate(table.rows, 1):
        reader.add(row, number)
    if not reader.prompts and not reader.responses:
        why = "; ".join(reader.warnings()) or "no row has a question"
        if columns.answers and not columns.question:
            why = "the answers have no questions; put their question.jsonl beside the file"
        raise refusal(path, None, f"nothing can be imported: {why.rstrip('.')}.")
    warnings = [*table.warnings, *columns.warnings, *reader.warnings()]
    if columns.statement:
        said = "texts carry labels of their own; each is also filed as a Response of"
        warnings.append(
            f"{len(reader.responses)} {said} {STATEMENT_MODEL!r}, so that judges can be compared with them."
        )
    elif columns.response and not columns.model and not named:
        change = f"If they are reference answers, import with --map reference={columns.response}."
        warnings.append(f"The file names no model; the answers are filed under {shown(model)!r}. {change}")
    return Imported(name, reader.prompts, reader.responses, reader.labels, warnings, table.about)


def _model_named_by(table: Table) -> str | None:
    """The model that a JSON object names once for all its rows."""
    parameters = table.about.get("parameters")
    for place in (table.about, parameters if isinstance(parameters, dict) else {}):
        for key in ("model", "model_id", "model_name"):
            if isinstance(place.get(key), str) and place[key].strip():
                return str(place[key])
    return None


def _questions_beside(path: Path) -> dict[str, Prompt]:
    """The Prompts by question id of FastChat's question file: beside the answers, or two folders up."""
    for folder in (path.parent, *path.parents[1:3]):
        beside = folder / "question.jsonl"
        if beside.is_file() and beside != path:
            return {prompt.id: prompt for prompt in read_prompts(beside, "questions").prompts}
    return {}
