"""Pairs as they stood on screen, and people's votes on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from duckdb import DuckDBPyConnection

from evaluation.records import parse_record
from evaluation.types import Choice, Pair, Rating
from playground.store.search_text import folded

PAIR_COLUMNS = {
    "key": "VARCHAR", "prompt_id": "VARCHAR", "left_key": "VARCHAR", "right_key": "VARCHAR", "turn": "BIGINT",
    "created_at": "VARCHAR", "search": "VARCHAR", "record": "VARCHAR",
}  # fmt: skip
RATING_COLUMNS = {
    "key": "VARCHAR", "left_key": "VARCHAR", "right_key": "VARCHAR", "choice": "VARCHAR", "rater": "VARCHAR",
    "record": "VARCHAR",
}  # fmt: skip


def pair_row(pair: Pair, line: str) -> tuple[Any, ...]:
    """The values of PAIR_COLUMNS; `line` is the record as the journal has it."""
    search = folded(pair.question)
    return pair.key, pair.prompt_id, pair.left, pair.right, pair.turn, pair.created_at, search, line


def rating_row(rating: Rating, line: str) -> tuple[Any, ...]:
    """The values of RATING_COLUMNS; `line` is the record as the journal has it."""
    return rating.key, rating.left, rating.right, rating.choice, rating.rater, line


def pair_from_record(record: str) -> Pair:
    """The Pair in a `record` column."""
    return cast(Pair, parse_record("pairs", record))


def of_run(con: DuckDBPyConnection, run_id: str) -> list[Rating]:
    """Every vote of a Run in order, those a person changed later included."""
    rows = con.execute("SELECT record FROM ratings WHERE run_id = ? ORDER BY position", [run_id])
    return [cast(Rating, parse_record("ratings", record)) for (record,) in rows.fetchall()]


def pairs_of_run(con: DuckDBPyConnection, run_id: str) -> list[Pair]:
    """Pairs of a Run in order."""
    rows = con.execute("SELECT record FROM pairs WHERE run_id = ? ORDER BY position", [run_id])
    return [pair_from_record(record) for (record,) in rows.fetchall()]


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
