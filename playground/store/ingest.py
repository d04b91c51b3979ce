"""From the journals into the index: read on from where we stopped, rows and new position in one transaction.

After a crash at any point the same lines are read again, and their keys make that harmless.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from evaluation.journal import RunUnreadable, read_run
from evaluation.records import BadLine, lines_before, read_records
from playground.store import judgements, prompts, ratings, responses, runs

_BATCH_ROWS = 2_000
_BATCH_BYTES = 16 << 20  # of journal; a batch is held in memory several times over
_TAIL_BYTES = 1_024

# Journal -> how its records become rows. Order does not matter: nothing refers across tables by constraint.
_TABLES: dict[str, tuple[str, Callable[[Any], tuple[Any, ...]]]] = {
    "prompts": (prompts.INSERT, prompts.row),
    "responses": (responses.INSERT, responses.row),
    "judgements": (judgements.INSERT, judgements.row),
    "pairs": (ratings.INSERT_PAIRS, ratings.pair_row),
    "ratings": (ratings.INSERT_RATINGS, ratings.rating_row),
    "events": (runs.INSERT_EVENTS, runs.event_row),
}
_PURGE = [
    f"DELETE FROM {table} WHERE run_id = ?"
    for table in ("runs", "offsets", "quarantine", "events", "prompts", "responses", "judgements", "pairs", "ratings")
]


@dataclass(frozen=True)
class Ingested:
    """What one pass read. Lines that were there before count as records too."""

    records: int = 0
    bad_lines: int = 0

    def __add__(self, other: Ingested) -> Ingested:
        return Ingested(self.records + other.records, self.bad_lines + other.bad_lines)


@dataclass
class _Batch:
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    bad: list[tuple[BadLine, int]] = field(default_factory=list)
    position: int = 0
    full: bool = False  # worth a transaction of its own


def ingest_folder(con: DuckDBPyConnection, path: Path) -> Ingested:
    """Bring the index up to the run folder's journals; a folder that is gone loses its rows.

    Raises the OSError of a journal that cannot be read, after the others are in.
    """
    if not path.exists():
        purge(con, path.name)
        return Ingested()
    try:
        info = read_run(path)
    except RunUnreadable as error:
        con.execute(
            "INSERT OR IGNORE INTO quarantine VALUES (?, 'run.json', 1, ?, 0)",
            [path.name, str(error).replace(f"{path}/", "")],
        )
        return Ingested(bad_lines=1)
    offsets = _offsets(con, path.name)
    journals = [path / f"{name}.jsonl" for name in _TABLES]
    if any(_was_rewritten(journal, *offsets[journal.name]) for journal in journals if journal.name in offsets):
        purge(con, path.name)
        return ingest_folder(con, path)
    positions = {journal: offsets.get(journal.name, (0, ""))[0] for journal in journals if journal.exists()}
    grown = {journal: position for journal, position in positions.items() if journal.stat().st_size > position}
    known = runs.has_run(con, path.name)
    done, unreadable = Ingested(), list[OSError]()
    if known and not grown:
        return done
    with _transaction(con):
        if not known:
            con.execute("DELETE FROM quarantine WHERE run_id = ? AND file = 'run.json'", [path.name])
            # The folder's name is the id everywhere in the index, also for a folder that somebody copied.
            runs.add_run(con, replace(info, run_id=path.name))
        for journal, position in grown.items():
            try:
                for batch in _batches(journal, position):
                    _insert(con, journal, batch)
                    done += Ingested(len(batch.rows), len(batch.bad))
                    if batch.full:
                        con.commit()
                        con.begin()
            except OSError as error:
                unreadable.append(error)  # raised once the other journals are in
    if unreadable:
        raise unreadable[0]
    return done


def purge(con: DuckDBPyConnection, run_id: str) -> None:
    """Delete every row of a Run, in one transaction."""
    with _transaction(con):
        for statement in _PURGE:
            con.execute(statement, [run_id])


def _offsets(con: DuckDBPyConnection, run_id: str) -> dict[str, tuple[int, str]]:
    rows = con.execute(
        "SELECT file, max(position), arg_max(tail, position) FROM offsets WHERE run_id = ? GROUP BY file", [run_id]
    )
    return {file: (position, tail) for file, position, tail in rows.fetchall()}


def _was_rewritten(journal: Path, position: int, tail: str) -> bool:
    """Whether the bytes we have read are no longer there: restored from a copy, or lost with the power."""
    return not journal.exists() or _tail(journal, position) != tail


def _tail(journal: Path, position: int) -> str:
    with journal.open("rb") as file:
        start = max(0, position - _TAIL_BYTES)
        file.seek(start)
        return hashlib.sha256(file.read(position - start)).hexdigest()[:16]


def _batches(journal: Path, position: int) -> Iterator[_Batch]:
    to_row = _TABLES[journal.stem][1]
    batch, started = _Batch(), position
    for record, end in read_records(journal, position):
        batch.position = end
        if isinstance(record, BadLine):
            batch.bad.append((record, end))
        else:
            try:
                batch.rows.append((*_storable(to_row(record)), end))
            except ValueError as error:
                batch.bad.append((BadLine(journal.name, lines_before(journal, end), str(error)), end))
        if len(batch.rows) + len(batch.bad) >= _BATCH_ROWS or end - started >= _BATCH_BYTES:
            batch.full = True
            yield batch
            batch, started = _Batch(), end
    if batch.position:
        yield batch


def _storable(row: Sequence[Any]) -> Sequence[Any]:
    """The row itself. Raises ValueError for an integer that no column can hold."""
    if any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in row):
        raise ValueError("line: a number is too large to be stored")
    return row


def _insert(con: DuckDBPyConnection, journal: Path, batch: _Batch) -> None:
    run_id, file = journal.parent.name, journal.name
    if batch.rows:
        # One list per column: executemany takes 0.8 ms a row, this 0.04.
        con.execute(_TABLES[journal.stem][0], [run_id, *(list(column) for column in zip(*batch.rows, strict=True))])
    for bad, end in batch.bad:
        con.execute(
            "INSERT OR IGNORE INTO quarantine VALUES (?, ?, ?, ?, ?)", [run_id, file, bad.line, bad.reason, end]
        )
    con.execute(
        "INSERT INTO offsets VALUES (?, ?, ?, ?)", [run_id, file, batch.position, _tail(journal, batch.position)]
    )


@contextmanager
def _transaction(con: DuckDBPyConnection) -> Iterator[None]:
    con.begin()
    try:
        yield
        con.commit()
    except BaseException:
        # After a fatal error there is no transaction left to roll back, and the first error is the one to report.
        with suppress(duckdb.Error):
            con.rollback()
        raise
