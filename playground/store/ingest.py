"""From the journals into the index: read on from where we stopped, rows and new position in one transaction.

After a crash at any point the same lines are read again, and their keys make that harmless. Long stretches of a
benchmark's journals are read by DuckDB where it is sure of a line (as_written.py), everything else by `evaluation.records`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import numpy as np
import pyarrow as pa
from duckdb import DuckDBPyConnection

from evaluation.collector import without_collector
from evaluation.journal import RunUnreadable, read_run
from evaluation.types import Judgement, Prompt, Response
from playground.store import as_written, judgements, prompts, ratings, responses, runs, tallies
from playground.store.blocks import BLOCK_BYTES, Block, Parsed, blocks, parse

T = TypeVar("T")
_COMMIT_BYTES = 512 << 20  # of journal in one transaction: DuckDB writes whole row groups past its log only within one
_FEW = 200  # lines that are read sooner than a query is planned
_CHUNK = 4_096  # lines that one thread of DuckDB takes at a time; a table in one piece is one thread's
_TAIL_BYTES = 1_024

# Journal -> how its records become rows. Nothing refers across tables by constraint; what needs the least preparation is
# first, so that the rest is prepared while DuckDB writes.
_TABLES: dict[str, tuple[dict[str, str], Callable[[Any, str], tuple[Any, ...]]]] = {
    "judgements": (judgements.COLUMNS, judgements.row),
    "responses": (responses.COLUMNS, responses.row),
    "prompts": (prompts.COLUMNS, prompts.row),
    "pairs": (ratings.PAIR_COLUMNS, ratings.pair_row),
    "ratings": (ratings.RATING_COLUMNS, ratings.rating_row),
    "events": (runs.EVENT_COLUMNS, runs.event_row),
}
# What a benchmark has many of: the noun, what holds beyond its types, its columns in SQL where they are not r.<column>.
_READ_BY_DUCKDB: dict[str, tuple[type, str, dict[str, str]]] = {
    "prompts": (Prompt, "true", prompts.FROM_LINE),
    "responses": (Response, "true", responses.FROM_LINE),
    "judgements": (Judgement, judgements.VALID, {}),
}
# Tables without a primary key, and what is unique in a run: of two rows with one key the first counts.
_UNIQUE = {"prompts": "id", "responses": "key", "judgements": "key"}
_READ_SO_FAR = "file, max(position), arg_max(tail, position) FROM offsets"
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
    """What one pass read. Lines that were there before count as records too. `changed`: rows came or went."""

    records: int = 0
    bad_lines: int = 0
    changed: bool = field(default=False, compare=False)

    def __add__(self, other: Ingested) -> Ingested:
        return Ingested(self.records + other.records, self.bad_lines + other.bad_lines, self.changed or other.changed)


@dataclass
class _Batch:
    """A Block on its way into the index: lines that DuckDB is to read, or what has been read."""

    block: Block
    content: pa.Table | Parsed


def ingest_folders(con: DuckDBPyConnection, paths: Sequence[Path]) -> tuple[dict[Path, Ingested], list[OSError]]:
    """Bring the index up to the journals of these run folders, in one transaction; a folder that is gone loses its rows.

    Returns what was read of each, and the errors of journals that cannot be read; the others are in all the same. Raises
    the OSError of a folder that cannot even be looked at, and then nothing is in.

    What a run leaves of a row group of 122,880 rows goes through the log and is packed later, one run after the other:
    runs of 50,000 judgements are read a seventh faster four at a time.
    """
    found, unreadable = dict[Path, Ingested](), list[OSError]()
    with _transaction(con):
        for path in paths:
            found[path] = _bring_up(con, path, unreadable)
    return found, unreadable


def with_news(con: DuckDBPyConnection, paths: Iterable[Path]) -> list[Path]:
    """The folders of which something is not in the index yet, or no longer as it was read.

    The index is asked once for all of them: asked about each, 3,000 conversations without news took six seconds, in which
    nobody else's turn was kept.
    """
    known, offsets = runs.known(con), dict[str, dict[str, tuple[int, str]]]()
    for run_id, file, position, tail in con.execute(f"SELECT run_id, {_READ_SO_FAR} GROUP BY run_id, file").fetchall():
        offsets.setdefault(run_id, {})[file] = position, tail
    return [path for path in paths if path.name not in known or _has_news(path, offsets.get(path.name, {}))]


def _has_news(path: Path, offsets: Mapping[str, tuple[int, str]]) -> bool:
    try:
        read_run(path)
        return _cannot_go_on(path, offsets) or bool(_grown(path, offsets))
    except (RunUnreadable, OSError):  # told of when it is read
        return True


def together(paths: Iterable[Path]) -> Iterator[list[Path]]:
    """The folders in order, in lists that `ingest_folders` can take at once: one large run, or many small ones."""
    found, held = list[Path](), 0
    for path in paths:
        size = 0
        for journal in path.glob("*.jsonl"):
            with suppress(OSError):  # told of when it is read
                size += journal.stat().st_size
        if found and held + size > _COMMIT_BYTES:
            yield found
            found, held = [], 0
        found.append(path)
        held += size
    if found:
        yield found


def _bring_up(con: DuckDBPyConnection, path: Path, unreadable: list[OSError]) -> Ingested:
    """One folder, in the caller's transaction. Errors of reading a journal go into `unreadable`."""
    if not path.exists():
        _delete(con, path.name)
        return Ingested(changed=True)
    try:
        info = read_run(path)
    except RunUnreadable as error:
        con.execute(
            "INSERT OR IGNORE INTO quarantine VALUES (?, 'run.json', 1, ?, 0)",
            [path.name, str(error).replace(f"{path}/", "")],
        )
        return Ingested(bad_lines=1, changed=True)
    offsets = _offsets(con, path.name)
    if _cannot_go_on(path, offsets):
        _delete(con, path.name)
        con.commit()  # DuckDB does not take a key back in the transaction that gave it up
        con.begin()
        return Ingested(changed=True) + _bring_up(con, path, unreadable)
    grown = _grown(path, offsets)
    known = runs.has_run(con, path.name)
    if known and not grown:
        return Ingested()
    done = Ingested(changed=True)
    if not known:
        con.execute("DELETE FROM quarantine WHERE run_id = ? AND file = 'run.json'", [path.name])
        # The folder's name is the id everywhere in the index, also for a folder that somebody copied.
        runs.add_run(con, replace(info, run_id=path.name))
    for ingested in _written(con, grown, info.kind in ("benchmark", "judging"), unreadable):
        done += ingested
    if info.kind in ("benchmark", "judging") and any(journal.stem in _COUNTED for journal in grown):
        tallies.refresh(con, path.name)
    return done


def purge(con: DuckDBPyConnection, run_id: str) -> None:
    """Delete every row of a Run, in one transaction."""
    with _transaction(con):
        _delete(con, run_id)


def _delete(con: DuckDBPyConnection, run_id: str) -> None:
    for statement in _PURGE:
        con.execute(statement, [run_id])


def _offsets(con: DuckDBPyConnection, run_id: str) -> dict[str, tuple[int, str]]:
    rows = con.execute(f"SELECT {_READ_SO_FAR} WHERE run_id = ? GROUP BY file", [run_id])
    return {file: (position, tail) for file, position, tail in rows.fetchall()}


def _cannot_go_on(path: Path, offsets: Mapping[str, tuple[int, str]]) -> bool:
    """Whether a journal is no longer what we have read of it, so that the folder is to be read anew."""
    return any(
        _was_rewritten(path / f"{name}.jsonl", *offsets[f"{name}.jsonl"])
        for name in _TABLES
        if f"{name}.jsonl" in offsets
    )


def _grown(path: Path, offsets: Mapping[str, tuple[int, str]]) -> dict[Path, int]:
    """The journals that are longer than what has been read of them, each with where to read on."""
    journals = (path / f"{name}.jsonl" for name in _TABLES)
    positions = {journal: offsets.get(journal.name, (0, ""))[0] for journal in journals if journal.exists()}
    return {journal: position for journal, position in positions.items() if journal.stat().st_size > position}


def _was_rewritten(journal: Path, position: int, tail: str) -> bool:
    """Whether the bytes we have read are no longer there: restored from a copy, or lost with the power."""
    return not journal.exists() or _tail(journal, position) != tail


def _tail(journal: Path, position: int) -> str:
    with journal.open("rb") as file:
        start = max(0, position - _TAIL_BYTES)
        file.seek(start)
        return hashlib.sha256(file.read(position - start)).hexdigest()[:16]


def _written(
    con: DuckDBPyConnection, grown: Mapping[Path, int], many: bool, unreadable: list[OSError]
) -> Iterator[Ingested]:
    """What each block of these journals came to, once it is in the index; errors of reading go into `unreadable`."""
    prepared = _prepared(con, grown, many, unreadable)
    if sum(journal.stat().st_size - position for journal, position in grown.items()) > BLOCK_BYTES:
        prepared = _one_ahead(prepared)
    uncommitted = 0
    last: Block | None = None
    with without_collector(), closing(prepared):  # rows make no cycles: it took a third of the time
        for batch in prepared:
            if last is not None and last.journal != batch.block.journal:
                _close_up(con, last)
            yield _insert(con, batch)
            last = batch.block
            uncommitted += len(last.data)
            if uncommitted >= _COMMIT_BYTES:
                _close_up(con, last)
                con.commit()
                con.begin()
                last, uncommitted = None, 0
    if last is not None:
        _close_up(con, last)


def _one_ahead(made: Generator[T]) -> Generator[T]:
    """The same, each made while the caller is busy with the one before: DuckDB holds no GIL while it writes."""
    with ThreadPoolExecutor(1, "ingest") as worker:
        coming = worker.submit(next, made, None)
        while (found := coming.result()) is not None:
            coming = worker.submit(next, made, None)
            yield found


def _prepared(
    con: DuckDBPyConnection, grown: Mapping[Path, int], many: bool, unreadable: list[OSError]
) -> Generator[_Batch]:
    """The blocks of these journals. `many`: the run is of a kind that has many alike lines."""
    for journal, position in grown.items():
        try:
            for block in blocks(journal, position, BLOCK_BYTES):
                lines = _lines(con, block) if many else None
                yield _Batch(block, parse(block, *_TABLES[journal.stem]) if lines is None else lines)
        except OSError as error:
            unreadable.append(error)  # raised once the other journals are in


def _lines(con: DuckDBPyConnection, block: Block) -> pa.Table | None:
    """The block for DuckDB to read; None where that is not worth it, or cannot be."""
    if block.journal.stem not in _READ_BY_DUCKDB or len(block.ends) < _FEW or (lines := block.column()) is None:
        return None
    found = pa.table({"line": lines, "position": pa.array(block.positions())})
    if block.journal.stem == "responses":
        with closing(con.cursor()) as own:  # the caller's is busy in its own thread
            found = responses.with_outcomes(own, found)
    return pa.Table.from_batches(found.to_batches(max_chunksize=_CHUNK))


def _insert(con: DuckDBPyConnection, batch: _Batch) -> Ingested:
    """Put the block's rows and bad lines into their tables."""
    block = batch.block
    run_id, name = block.journal.parent.name, block.journal.stem
    columns, to_row = _TABLES[name]
    if isinstance(batch.content, Parsed):
        return _insert_parsed(con, block, batch.content)
    noun, valid, own = _READ_BY_DUCKDB[name]
    # The chance is none. It keeps DuckDB from reading and writing each line anew for every use of it, as a limit would,
    # which only one thread can keep.
    read = f"""(
        SELECT *, CASE WHEN random() < 2 THEN to_json(r) END AS record FROM (
            SELECT *, CASE WHEN random() < 2 THEN TRY(json_transform(line, '{json.dumps(as_written.structure(noun))}')) END AS r
            FROM batch))"""
    sure = f"record || chr(10) = line AND {as_written.condition(noun, 'r')} AND {valid}"
    values = ", ".join(own.get(column, "record" if column == "record" else f"r.{column}") for column in columns)
    con.register("batch", batch.content)
    try:
        (count,) = con.execute(
            f"INSERT INTO {name} (run_id, {', '.join(columns)}, position) "
            f"SELECT $1, {values}, position FROM {read} WHERE {sure}",
            [run_id],
        ).fetchone() or (0,)
        done = Ingested(count)
        if count < len(block.ends):
            rest = con.execute(f"SELECT position FROM {read} WHERE ({sure}) IS NOT TRUE ORDER BY position").fetchall()
            places = np.searchsorted(block.positions(), [position for (position,) in rest])
            done += _insert_parsed(con, block, parse(block, columns, to_row, places.tolist()))
    finally:
        con.unregister("batch")
    return done


def _insert_parsed(con: DuckDBPyConnection, block: Block, parsed: Parsed) -> Ingested:
    run_id, name = block.journal.parent.name, block.journal.stem
    if parsed.rows:
        # Columns at once: executemany takes 0.8 ms a row, lists as parameters 0.03, this some microseconds.
        con.register("parsed", parsed.table)
        try:
            names = ", ".join(parsed.table.column_names)
            keep = "INSERT" if name in _UNIQUE else "INSERT OR IGNORE"
            con.execute(f"{keep} INTO {name} (run_id, {names}) SELECT $1, {names} FROM parsed", [run_id])
        finally:
            con.unregister("parsed")
    for bad, end in parsed.bad:
        con.execute(
            "INSERT OR IGNORE INTO quarantine VALUES (?, ?, ?, ?, ?)",
            [run_id, bad.file, bad.line, bad.reason, end],
        )
    return Ingested(parsed.rows, len(parsed.bad))


def _close_up(con: DuckDBPyConnection, last: Block) -> None:
    """Before a commit: of rows with one key keep the first, and write down how far the journal has been read.

    A check before the commit does what a primary key did at more than twice the price; there is one writer only.
    """
    run_id, name = last.journal.parent.name, last.journal.stem
    if key := _UNIQUE.get(name):
        (doubled,) = con.execute(
            f"SELECT count(*) > count(DISTINCT {key}) FROM {name} WHERE run_id = ?", [run_id]
        ).fetchone() or (False,)
        if doubled:
            con.execute(
                f"DELETE FROM {name} WHERE run_id = $1 AND rowid NOT IN "
                f"(SELECT arg_min(rowid, position) FROM {name} WHERE run_id = $1 GROUP BY {key})",
                [run_id],
            )
    con.execute(
        "INSERT INTO offsets VALUES (?, ?, ?, ?)", [run_id, last.journal.name, last.end, _tail(last.journal, last.end)]
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
