"""Pairs as they stood on screen, and people's votes on them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from duckdb import DuckDBPyConnection

from evaluation.types import Choice, Pair, Rating, to_json
from playground.store.search_text import folded

INSERT_PAIRS = """
    INSERT OR IGNORE INTO pairs SELECT $1, unnest($2::VARCHAR[]), unnest($3::VARCHAR[]), unnest($4::VARCHAR[]),
        unnest($5::VARCHAR[]), unnest($6::BIGINT[]), unnest($7::VARCHAR[]), unnest($8::VARCHAR[]),
        unnest($9::VARCHAR[]), unnest($10::BIGINT[])
"""
INSERT_RATINGS = """
    INSERT OR IGNORE INTO ratings SELECT $1, unnest($2::VARCHAR[]), unnest($3::VARCHAR[]), unnest($4::VARCHAR[]),
        unnest($5::VARCHAR[]), unnest($6::VARCHAR[]), unnest($7::VARCHAR[]), unnest($8::BIGINT[])
"""


def pair_row(pair: Pair) -> tuple[Any, ...]:
    """The columns of `pairs` between run_id and position."""
    record = json.dumps(to_json(pair), ensure_ascii=False, allow_nan=False)
    search = folded(pair.question)
    return pair.key, pair.prompt_id, pair.left, pair.right, pair.turn, pair.created_at, search, record


def rating_row(rating: Rating) -> tuple[Any, ...]:
    """The columns of `ratings` between run_id and position."""
    record = json.dumps(to_json(rating), ensure_ascii=False, allow_nan=False)
    return rating.key, rating.left, rating.right, rating.choice, rating.rater, record


def of_run(con: DuckDBPyConnection, run_id: str) -> list[Rating]:
    """Every vote of a Run in order, those a person changed later included."""
    rows = con.execute("SELECT record FROM ratings WHERE run_id = ? ORDER BY position", [run_id])
    return [Rating(**json.loads(record)) for (record,) in rows.fetchall()]


def pairs_of_run(con: DuckDBPyConnection, run_id: str) -> list[Pair]:
    """Pairs of a Run in order."""
    rows = con.execute("SELECT record FROM pairs WHERE run_id = ? ORDER BY position", [run_id])
    return [Pair(**json.loads(record)) for (record,) in rows.fetchall()]


@dataclass(frozen=True)
class VoteCount:
    """How often people chose this side when these two models stood left and right."""

    left_model: str
    right_model: str
    choice: Choice
    count: int


def vote_counts(con: DuckDBPyConnection) -> list[VoteCount]:
    """Votes over all Runs, the last one of each rater on each Pair, by the models on either side."""
    rows = con.execute(
        """
        WITH last_votes AS (
            SELECT * FROM ratings
            QUALIFY row_number() OVER (PARTITION BY run_id, left_key, right_key, rater ORDER BY position DESC) = 1
        )
        SELECT l.model, r.model, v.choice, count(*)
        FROM last_votes v
        JOIN responses l ON l.run_id = v.run_id AND l.key = v.left_key
        JOIN responses r ON r.run_id = v.run_id AND r.key = v.right_key
        GROUP BY ALL ORDER BY ALL
        """
    )
    return [VoteCount(*found) for found in rows.fetchall()]
