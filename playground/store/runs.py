"""Runs and their events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from duckdb import DuckDBPyConnection

from evaluation.journal import Event, RunInfo, RunKind, parse_run
from evaluation.records import BadLine

EVENT_COLUMNS = {"seq": "BIGINT", "event": "VARCHAR", "happened_at": "VARCHAR", "data": "VARCHAR"}


def event_row(event: Event, line: str) -> tuple[Any, ...]:
    """The values of EVENT_COLUMNS."""
    return event.seq, event.event, event.at, json.dumps(event.data, ensure_ascii=False, allow_nan=False)


def add_run(con: DuckDBPyConnection, info: RunInfo) -> None:
    """Add the Run unless it is there."""
    record = json.dumps(asdict(info), ensure_ascii=False)
    con.execute("INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?)", [info.run_id, info.kind, info.created_at, record])


def has_run(con: DuckDBPyConnection, run_id: str) -> bool:
    """Whether the Run is in the index."""
    # All of it: DuckDB takes no table from us while a result is not read to its end.
    return bool(con.execute("SELECT 1 FROM runs WHERE run_id = ?", [run_id]).fetchall())


def known(con: DuckDBPyConnection) -> set[str]:
    """Every run whose run.json is in the index."""
    return {run_id for (run_id,) in con.execute("SELECT run_id FROM runs").fetchall()}


def run_ids(con: DuckDBPyConnection) -> set[str]:
    """Every run that has a row anywhere, a run whose run.json could not be read included."""
    found = con.execute("SELECT run_id FROM runs UNION SELECT run_id FROM offsets UNION SELECT run_id FROM quarantine")
    return {run_id for (run_id,) in found.fetchall()}


def find_run(con: DuckDBPyConnection, run_id: str) -> RunInfo | None:
    """The Run of that id, or None."""
    row = con.execute("SELECT record FROM runs WHERE run_id = ?", [run_id]).fetchone()
    return None if row is None else parse_run(row[0])


def events(con: DuckDBPyConnection, run_id: str, *, name: str | None = None, after: int = 0) -> list[Event]:
    """Events of a Run in order, those after `seq` only: a page asks for what it has not shown yet."""
    rows = con.execute(
        "SELECT seq, event, happened_at, data FROM events WHERE run_id = $run AND seq > $after "
        "AND ($name IS NULL OR event = $name) ORDER BY seq",
        {"run": run_id, "after": after, "name": name},
    )
    return [Event(seq, event, at, json.loads(data)) for seq, event, at, data in rows.fetchall()]


def latest_event(con: DuckDBPyConnection, run_id: str, name: str) -> Event | None:
    """The newest event of that name, such as the last progress."""
    row = con.execute(
        "SELECT seq, event, happened_at, data FROM events WHERE run_id = ? AND event = ? ORDER BY seq DESC LIMIT 1",
        [run_id, name],
    ).fetchone()
    return None if row is None else Event(row[0], row[1], row[2], json.loads(row[3]))


def said_at_the_end(con: DuckDBPyConnection, kind: RunKind, name: str, *, limit: int = 100) -> list[tuple[str, Any]]:
    """(run id, what its last `finished` event holds under that name) of the Runs where it is an object, newest first."""
    rows = con.execute(
        """
        WITH ended AS (
            SELECT run_id, json_extract(data, '$.' || $name) AS said FROM events WHERE event = 'finished'
            QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY seq DESC) = 1
        )
        SELECT r.run_id, e.said FROM runs r JOIN ended e ON e.run_id = r.run_id
        WHERE r.kind = $kind AND json_type(e.said) = 'OBJECT' ORDER BY r.created_at DESC, r.run_id DESC LIMIT $limit
        """,
        {"kind": kind, "name": name, "limit": limit},
    )
    return [(run_id, json.loads(said)) for run_id, said in rows.fetchall()]


def bad_lines(con: DuckDBPyConnection, run_id: str | None = None) -> list[tuple[str, BadLine]]:
    """(run id, line that is not a record), for one Run or for all. A count of these belongs beside every chart."""
    rows = con.execute(
        "SELECT run_id, file, line, reason FROM quarantine WHERE $run IS NULL OR run_id = $run "
        "ORDER BY run_id, file, line",
        {"run": run_id},
    )
    return [(found, BadLine(file, line, reason)) for found, file, line, reason in rows.fetchall()]


def counts(con: DuckDBPyConnection, run_id: str) -> Mapping[str, int]:
    """How many prompts, responses, judgements and bad lines the index has of a Run."""
    row = con.execute(
        "SELECT (SELECT count(*) FROM prompts WHERE run_id = $run), (SELECT count(*) FROM responses WHERE run_id = $run),"
        " (SELECT count(*) FROM judgements WHERE run_id = $run), (SELECT count(*) FROM quarantine WHERE run_id = $run)",
        {"run": run_id},
    ).fetchone()
    assert row is not None
    return dict(zip(("prompts", "responses", "judgements", "bad_lines"), row, strict=True))
