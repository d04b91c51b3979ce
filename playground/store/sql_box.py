"""Questions of the owner to the index, in SQL: one SELECT, read only, so many rows, so many seconds.

The database itself refuses files and the network and cannot be told otherwise (database.py). Here the rest: a statement
that is no SELECT is refused before it runs, and runs in a read-only transaction that is rolled back.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection, StatementType

from evaluation.disk import utf8
from evaluation.errors import UserFacingError

MOST_ROWS = 500
MOST_SECONDS = 5.0
LONGEST = 10_000  # characters of a question
CELL = 300  # characters of a value


class QueryRefused(UserFacingError):
    """The question cannot be answered as it stands."""


@dataclass(frozen=True)
class Table:
    """What came back. `cut`: there were more rows than are shown."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    cut: bool


def ask(con: DuckDBPyConnection, text: str, *, rows: int = MOST_ROWS, seconds: float = MOST_SECONDS) -> Table:
    """Run one SELECT. Raises QueryRefused, in one line, for anything else, for an error and after `seconds`."""
    if len(text) > LONGEST:
        raise QueryRefused(f"The query has {len(text)} characters; {LONGEST} are the most. Shorten it.")
    statement = _one_select(con, utf8(text).decode())
    late = threading.Event()

    def stop() -> None:
        late.set()
        con.interrupt()

    alarm = threading.Timer(seconds, stop)
    alarm.daemon = True
    con.execute("BEGIN TRANSACTION READ ONLY")
    alarm.start()
    try:
        asked = con.execute(f"SELECT * FROM (\n{statement}\n) LIMIT {rows + 1}")
        columns = tuple(str(column[0]) for column in asked.description or ())
        found = asked.fetchall()
    except duckdb.FatalException:
        raise  # the store's to heal
    except duckdb.Error as error:
        if late.is_set():
            raise QueryRefused(f"The query took more than {seconds:g} s and was stopped. Ask for less.") from None
        raise QueryRefused(_one_line(error)) from None
    except (OverflowError, ValueError):  # an interval of a million years is no Python value
        raise QueryRefused("A value is too large to be shown; cast it to VARCHAR.") from None
    finally:
        alarm.cancel()
        alarm.join()  # a late interrupt would hit the next statement
        con.rollback()
    return Table(columns, tuple(tuple(map(_cell, row)) for row in found[:rows]), len(found) > rows)


def _one_select(con: DuckDBPyConnection, text: str) -> str:
    """The text of the one SELECT in it."""
    try:
        statements = con.extract_statements(text)
    except duckdb.Error as error:
        raise QueryRefused(_one_line(error)) from None
    if len(statements) != 1 or statements[0].type != StatementType.SELECT:
        raise QueryRefused("Write one SELECT statement; the index can be read here and not changed.")
    query = statements[0].query.encode()
    # What follows the statement is no part of it: a semicolon here or there, and comments.
    for start, kind in reversed(duckdb.tokenize(query.decode())):
        if kind != duckdb.token_type.comment and query[start : start + 1] != b";":
            break
        query = query[:start]
    return query.decode()


def _one_line(error: duckdb.Error) -> str:
    """The first line of DuckDB's words: what follows it repeats the query."""
    return str(error).strip().splitlines()[0][:400]


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= CELL else f"{text[:CELL]}…"
