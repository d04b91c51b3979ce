"""Prompts as a Run was given them."""

from __future__ import annotations

from typing import Any, cast

from duckdb import DuckDBPyConnection

from evaluation.prompts.suites import is_contrast
from evaluation.records import parse_record
from evaluation.types import Category, Prompt

COLUMNS = {
    "id": "VARCHAR", "suite": "VARCHAR", "risk_area": "VARCHAR", "harm_type": "VARCHAR", "specific_harm": "VARCHAR",
    "contrast": "BOOLEAN", "record": "VARCHAR",
}  # fmt: skip
# Columns that are not fields, for a line that DuckDB reads as `r`. Its `extra` is empty, so it is no contrast.
FROM_LINE = {
    "risk_area": "r.category.risk_area", "harm_type": "r.category.harm_type",
    "specific_harm": "r.category.specific_harm", "contrast": "false",
}  # fmt: skip


def row(prompt: Prompt, line: str) -> tuple[Any, ...]:
    """The values of COLUMNS; `line` is the record as the journal has it."""
    category = prompt.category or Category()
    place = category.risk_area, category.harm_type, category.specific_harm
    return prompt.id, prompt.suite, *place, is_contrast(prompt), line


def from_record(record: str) -> Prompt:
    """The Prompt in a `record` column."""
    return cast(Prompt, parse_record("prompts", record))


def of_run(con: DuckDBPyConnection, run_id: str) -> list[Prompt]:
    """Prompts of a Run in the order they were written."""
    rows = con.execute("SELECT record FROM prompts WHERE run_id = ? ORDER BY position", [run_id])
    return [from_record(record) for (record,) in rows.fetchall()]
