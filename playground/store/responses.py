"""Responses: what each model replied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pyarrow as pa
from duckdb import DuckDBPyConnection

from evaluation.benchmark.answers import outcome, outcomes_of
from evaluation.records import parse_record
from evaluation.types import Response
from playground.store.search_text import folded

COLUMNS = {
    "key": "VARCHAR", "prompt_id": "VARCHAR", "model": "VARCHAR", "identity": "VARCHAR", "attempt": "BIGINT",
    "finish_reason": "VARCHAR", "tokens": "BIGINT", "ttft_s": "DOUBLE", "seconds": "DOUBLE", "search": "VARCHAR",
    "outcome": "VARCHAR", "turns": "BIGINT", "record": "VARCHAR",
}  # fmt: skip
# Columns that are not fields, for a line that DuckDB reads as `r`; `outcome` is of `with_outcomes`. Only a conversation
# is searched, and its few lines are read one by one.
FROM_LINE = {"search": "NULL", "outcome": "outcome", "turns": "len(r.messages)"}


def with_outcomes(con: DuckDBPyConnection, lines: pa.Table) -> pa.Table:
    """The table with a column `outcome` for its column `line`. What a broken line gets there is of no consequence."""
    con.register("lines", lines)
    try:
        # The limit is no limit: it keeps DuckDB from reading each line twice.
        said = con.sql(
            """SELECT coalesce(r.text, ''), coalesce(r.finish_reason, '') FROM (
                 SELECT TRY(json_transform(line, '{"text": "VARCHAR", "finish_reason": "VARCHAR"}')) AS r FROM lines
                 LIMIT 1000000000)"""
        ).to_arrow_table()
    finally:
        con.unregister("lines")
    found = outcomes_of(said.column(0).to_pylist(), said.column(1).to_pylist())
    return lines.append_column("outcome", pa.array(found, pa.string()))


def row(response: Response, line: str) -> tuple[Any, ...]:
    """The values of COLUMNS; `line` is the record as the journal has it."""
    return (
        response.key,
        response.prompt_id,
        response.model,
        response.identity,
        response.attempt,
        response.finish_reason,
        response.tokens,
        response.ttft_s,
        response.seconds,
        folded(response.text),
        outcome(response),
        len(response.messages),
        line,
    )


def from_record(record: str) -> Response:
    """The Response in a `record` column."""
    return cast(Response, parse_record("responses", record))


def of_run(con: DuckDBPyConnection, run_id: str, *, model: str | None = None) -> list[Response]:
    """Responses of a Run in the order they were written, of one model or of all."""
    rows = con.execute(
        "SELECT record FROM responses WHERE run_id = $run AND ($model IS NULL OR model = $model) ORDER BY position",
        {"run": run_id, "model": model},
    )
    return [from_record(record) for (record,) in rows.fetchall()]


def by_keys(con: DuckDBPyConnection, run_id: str, keys: Sequence[str]) -> dict[str, Response]:
    """Those of the Run's Responses that have one of the keys."""
    rows = con.execute(
        "SELECT key, record FROM responses WHERE run_id = ? AND list_contains(?::VARCHAR[], key)", [run_id, list(keys)]
    )
    return {key: from_record(record) for key, record in rows.fetchall()}
