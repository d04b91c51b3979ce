"""Responses: what each model replied."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from duckdb import DuckDBPyConnection

from evaluation.types import Response, response_from_json, to_json
from playground.store.search_text import folded

INSERT = """
    INSERT OR IGNORE INTO responses SELECT $1, unnest($2::VARCHAR[]), unnest($3::VARCHAR[]), unnest($4::VARCHAR[]),
        unnest($5::VARCHAR[]), unnest($6::BIGINT[]), unnest($7::VARCHAR[]), unnest($8::BIGINT[]),
        unnest($9::DOUBLE[]), unnest($10::DOUBLE[]), unnest($11::VARCHAR[]), unnest($12::VARCHAR[]),
        unnest($13::BIGINT[])
"""


def row(response: Response) -> tuple[Any, ...]:
    """The columns of `responses` between run_id and position."""
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
        json.dumps(to_json(response), ensure_ascii=False, allow_nan=False),
    )


def from_record(record: str) -> Response:
    """The Response in a `record` column."""
    return response_from_json(json.loads(record))


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
