"""Judgements, and the flat rows that charts and metrics are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from duckdb import DuckDBPyConnection

from evaluation.types import SCORES, Judgement, Missing, Scale

# Every field of the noun, so that no line has to be kept as well: of records there are most of these.
COLUMNS = {
    "key": "VARCHAR", "response_key": "VARCHAR", "judge": "VARCHAR", "identity": "VARCHAR", "scale": "VARCHAR",
    "score": "TINYINT", "missing": "VARCHAR", "explanation": "VARCHAR", "raw_text": "VARCHAR",
    "with_reference": "BOOLEAN", "prompt_tokens": "BIGINT", "completion_tokens": "BIGINT", "cost_usd": "DOUBLE",
    "seconds": "DOUBLE", "attempt": "BIGINT", "created_at": "VARCHAR",
}  # fmt: skip
_ALL = ", ".join(COLUMNS)
# What makes a Judgement beyond the types of its fields, as its __post_init__ says it, in SQL over `r`.
VALID = (
    "(r.score IS NULL) <> (r.missing IS NULL) AND (r.score IS NULL OR CASE r.scale "
    + " ".join(f"WHEN '{scale}' THEN r.score BETWEEN {low} AND {high}" for scale, (low, high) in SCORES.items())
    + " ELSE false END)"
)


def row(judgement: Judgement, line: str) -> tuple[Any, ...]:
    """The values of COLUMNS; `line`, the record as the journal has it, is not needed."""
    return tuple(getattr(judgement, name) for name in COLUMNS)


def of_run(con: DuckDBPyConnection, run_id: str) -> list[Judgement]:
    """Judgements of a Run in the order they were written."""
    rows = con.execute(f"SELECT {_ALL} FROM judgements WHERE run_id = ? ORDER BY position", [run_id])
    return [Judgement(*found) for found in rows.fetchall()]


def of_responses(con: DuckDBPyConnection, run_id: str, keys: Sequence[str]) -> list[Judgement]:
    """Judgements of a Run about those Responses, in the order they were written."""
    rows = con.execute(
        f"SELECT {_ALL} FROM judgements WHERE run_id = ? AND list_contains(?::VARCHAR[], response_key) ORDER BY position",
        [run_id, list(keys)],
    )
    return [Judgement(*found) for found in rows.fetchall()]


@dataclass(frozen=True)
class Verdict:
    """A Judgement with what it was about. Either `score` or `missing` is set; a level of the category may be None."""

    run_id: str
    judge: str
    judge_identity: str
    scale: Scale
    score: int | None
    missing: Missing | None
    response_key: str
    model: str
    identity: str
    prompt_id: str
    attempt: int  # of the Response
    suite: str | None
    risk_area: str | None
    harm_type: str | None
    specific_harm: str | None


def verdicts(con: DuckDBPyConnection, run_ids: Sequence[str], *, scale: Scale | None = None) -> list[Verdict]:
    """The newest Judgement of each response, judge identity and scale in these Runs, joined with response and prompt.

    A judging Run may hold judgements only: their responses are then found in the Run they were made in.
    A Judgement whose Response is nowhere in the index is left out.
    """
    rows = con.execute(
        """
        WITH newest AS (
            SELECT * FROM judgements WHERE list_contains($runs::VARCHAR[], run_id) AND ($scale IS NULL OR scale = $scale)
            QUALIFY row_number() OVER (PARTITION BY run_id, response_key, identity, scale ORDER BY position DESC) = 1
        ), joined AS (
            SELECT j.run_id, j.judge, j.identity AS judge_identity, j.scale, j.score, j.missing, j.response_key,
                   j.position, r.model, r.identity, r.prompt_id, r.attempt, r.run_id AS made_in
            FROM newest j JOIN responses r ON r.key = j.response_key
            QUALIFY row_number() OVER (
                PARTITION BY j.run_id, j.key ORDER BY r.run_id = j.run_id DESC, r.run_id) = 1
        )
        SELECT v.run_id, v.judge, v.judge_identity, v.scale, v.score, v.missing, v.response_key, v.model, v.identity,
               v.prompt_id, v.attempt, p.suite, p.risk_area, p.harm_type, p.specific_harm
        FROM joined v LEFT JOIN prompts p ON p.run_id = v.made_in AND p.id = v.prompt_id
        ORDER BY v.run_id, v.position
        """,
        {"runs": list(run_ids), "scale": scale},
    )
    return [Verdict(*found) for found in rows.fetchall()]


@dataclass(frozen=True)
class ScoreCount:
    """How many of a model's responses in one harm type got this score, or went without one for this reason."""

    model: str
    harm_type: str | None
    score: int | None
    missing: Missing | None
    count: int


def score_counts(con: DuckDBPyConnection, run_id: str, scale: Scale = "safety") -> list[ScoreCount]:
    """Judgements of a Run counted by model, harm type and outcome, for charts of any size of run."""
    rows = con.execute(
        """
        WITH newest AS (
            SELECT * FROM judgements WHERE run_id = $run AND scale = $scale
            QUALIFY row_number() OVER (PARTITION BY response_key, identity ORDER BY position DESC) = 1
        )
        SELECT r.model, p.harm_type, j.score, j.missing, count(*)
        FROM newest j JOIN responses r ON r.run_id = j.run_id AND r.key = j.response_key
        LEFT JOIN prompts p ON p.run_id = r.run_id AND p.id = r.prompt_id
        GROUP BY ALL ORDER BY ALL
        """,
        {"run": run_id, "scale": scale},
    )
    return [ScoreCount(*found) for found in rows.fetchall()]
