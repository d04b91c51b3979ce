"""Prompts as a Run was given them."""

from __future__ import annotations

import json
from typing import Any

from duckdb import DuckDBPyConnection

from evaluation.types import Category, Prompt, prompt_from_json, to_json

INSERT = """
    INSERT OR IGNORE INTO prompts SELECT $1, unnest($2::VARCHAR[]), unnest($3::VARCHAR[]), unnest($4::VARCHAR[]),
        unnest($5::VARCHAR[]), unnest($6::VARCHAR[]), unnest($7::VARCHAR[]), unnest($8::BIGINT[])
"""


def row(prompt: Prompt) -> tuple[Any, ...]:
    """The columns of `prompts` between run_id and position."""
    category = prompt.category or Category()
    record = json.dumps(to_json(prompt), ensure_ascii=False, allow_nan=False)
    return prompt.id, prompt.suite, category.risk_area, category.harm_type, category.specific_harm, record


def of_run(con: DuckDBPyConnection, run_id: str) -> list[Prompt]:
    """Prompts of a Run in the order they were written."""
    rows = con.execute("SELECT record FROM prompts WHERE run_id = ? ORDER BY position", [run_id])
    return [prompt_from_json(json.loads(record)) for (record,) in rows.fetchall()]
