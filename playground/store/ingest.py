"""From the journals into the index: read on from where we stopped, rows and new position in one transaction.

After a crash at any point the same lines are read again, and their keys make that harmless.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection

from evaluation.journal import RunUnreadable, read_run
from evaluation.records import BadLine, lines_before, read_lines
from playground.store import judgements, prompts, ratings, responses, runs, tallies

_BATCH_ROWS = 10_000
_BATCH_BYTES = 16 << 20  # of journal; a batch is held in memory several times over
_TAIL_BYTES = 1_024

# Journal -> how its records become rows. Order does not matter: nothing refers across tables by constraint.
_TABLES: dict[str, tuple[dict[str, str], Callable[[Any, str], tuple[Any, ...]]]] = {
    "prompts": (prompts.COLUMNS, prompts.row),
    "responses": (responses.COLUMNS, responses.row),
    "judgements": (judgements.COLUMNS, judgements.row),
    "pairs": (ratings.PAIR_COLUMNS, ratings.pair_row),
    "ratings": (ratings.RATING_COLUMNS, ratings.rating_row),
    "events": (runs.EVENT_COLUMNS, runs.event_row),
}
_ARROW = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "TINYINT": pa.int8(), "DOUBLE": pa.float64()}
_COUNTED = ("prompts", "responses", "judgements")  # what `tallies` counts
_PURGE = [
    f"DELETE FROM {table} WHERE run_id = ?"
    for table in (
        "runs",
        "offsets",
        "quarantine",
        "events",
        "prompts",
        "responses",
        "judgements",
        "pairs",
        "ratings",
        "tallies",
        "replies",
    )
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
    table: pa.Table = None  # the rows as columns


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
                for batch in _written(con, journal, position):
                    done += Ingested(len(batch.rows), len(batch.bad))
            except OSError as error:
                unreadable.append(error)  # raised once the other journals are in
        if info.kind in ("benchmark", "judging") and any(journal.stem in _COUNTED for journal in grown):
            tallies.refresh(con, path.name)
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


def _written(con: DuckDBPyConnection, journal: Path, position: int) -> Iterator[_Batch]:
    """Each batch once it is on its way into the index; after the last one all are in.

    While DuckDB writes a full batch the next one is read: both take about as long, and DuckDB holds no GIL.
    """
    with _no_collector(), ThreadPoolExecutor(1, "ingest") as writer:  # its thread starts with the first full batch
        writing: Future[None] | None = None
        for batch in _batches(journal, position):
            if writing is not None:
                writing.result()
            if batch.full:
                writing = writer.submit(_insert, con, journal, batch)
            else:
                writing = None
                _insert(con, journal, batch)
            yield batch
        if writing is not None:
            writing.result()


@contextmanager
def _no_collector() -> Iterator[None]:
    """Without the search for cycles, of which rows make none: it took a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _batches(journal: Path, position: int) -> Iterator[_Batch]:
    to_row = _TABLES[journal.stem][1]
    batch, started = _Batch(), position
    rows = batch.rows
    for record, line, end in read_lines(journal, position):
        if isinstance(record, BadLine):
            batch.bad.append((record, end))
        else:
            rows.append((*to_row(record, line.decode()), end))
        if len(rows) >= _BATCH_ROWS or end - started >= _BATCH_BYTES or len(batch.bad) >= _BATCH_ROWS:
            batch.full, batch.position = True, end
            yield _with_table(journal, batch)
            batch, started = _Batch(), end
            rows = batch.rows
        else:
            batch.position = end
    if batch.position:
        yield _with_table(journal, batch)


def _with_table(journal: Path, batch: _Batch) -> _Batch:
    """The batch with its rows as columns; a row with a number that no column can hold becomes a bad line."""
    columns = {**_TABLES[journal.stem][0], "position": "BIGINT"}
    try:
        batch.table = _table(columns, batch.rows)
    except (OverflowError, pa.ArrowInvalid):
        good, rows = [], batch.rows
        for row in rows:
            try:
                _table(columns, [row])
                good.append(row)
            except (OverflowError, pa.ArrowInvalid):
                words = "line: a number is too large to be stored"
                batch.bad.append((BadLine(journal.name, lines_before(journal, row[-1]), words), row[-1]))
        batch.rows, batch.table = good, _table(columns, good)
    return batch


def _table(columns: Mapping[str, str], rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    by_column = zip(*rows, strict=True) if rows else [()] * len(columns)
    values = [pa.array(own, type=_ARROW[kind]) for kind, own in zip(columns.values(), by_column, strict=True)]
    return pa.table(values, names=list(columns))


def _insert(con: DuckDBPyConnection, journal: Path, batch: _Batch) -> None:
    run_id, file = journal.parent.name, journal.name
    if batch.rows:
        # Columns at once: executemany takes 0.8 ms a row, lists as parameters 0.03, this some microseconds.
        con.register("batch", batch.table)
        try:
            names = ", ".join(batch.table.column_names)
            con.execute(
                f"INSERT OR IGNORE INTO {journal.stem} (run_id, {names}) SELECT $1, {names} FROM batch", [run_id]
            )
        finally:
            con.unregister("batch")
    for bad, end in batch.bad:
        con.execute(
            "INSERT OR IGNORE INTO quarantine VALUES (?, ?, ?, ?, ?)", [run_id, file, bad.line, bad.reason, end]
        )
    con.execute(
        "INSERT INTO offsets VALUES (?, ?, ?, ?)", [run_id, file, batch.position, _tail(journal, batch.position)]
    )
    if batch.full:
        con.commit()
        con.begin()


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
