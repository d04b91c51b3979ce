"""How fast a benchmark went, from its progress events."""

from __future__ import annotations

from dataclasses import dataclass

from duckdb import DuckDBPyConnection

MOST_POINTS = 400


@dataclass(frozen=True)
class Progress:
    """What a Run told at one time. `seconds` at work so far, before a resume too; None where it did not say."""

    stage: str
    seconds: float
    answered: int
    judged: int
    missing: int
    total: int
    tokens_per_s: float | None
    cost_usd: float | None
    eta_s: float | None


def progress(con: DuckDBPyConnection, run_id: str) -> list[Progress]:
    """At most some hundred of the Run's progress events, evenly spread, the last among them."""
    rows = con.execute(
        """
        WITH told AS (
            SELECT data, seq, row_number() OVER (ORDER BY seq DESC) - 1 AS place, count(*) OVER () AS found,
                   coalesce((data->>'$.seconds')::DOUBLE, 0) AS seconds, lag(seconds) OVER (ORDER BY seq) AS before
            FROM events WHERE run_id = $run AND event = 'progress' AND json_exists(data, '$.answered')
        ), timed AS (
            -- A run that is resumed counts its seconds from zero, and its responses from where it was.
            SELECT *, sum(CASE WHEN seconds < before THEN before ELSE 0 END) OVER (ORDER BY seq) AS earlier FROM told
        )
        SELECT coalesce(data->>'$.stage', ''), seconds + earlier, (data->>'$.answered')::BIGINT,
               coalesce((data->>'$.judged')::BIGINT, 0), coalesce((data->>'$.missing')::BIGINT, 0),
               coalesce((data->>'$.total')::BIGINT, 0), (data->>'$.tokens_per_s')::DOUBLE,
               (data->>'$.cost_usd')::DOUBLE, (data->>'$.eta_s')::DOUBLE
        FROM timed WHERE place % greatest(1, ceil(found / $most)::BIGINT) = 0 ORDER BY place DESC
        """,
        {"run": run_id, "most": MOST_POINTS},
    )
    return [Progress(*row) for row in rows.fetchall()]
