"""Schema steps: each once, each whole, on a new file as on any older one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import duckdb
import pytest

from playground.store import Store, judgements, runs, tallies
from playground.store.migrations import MIGRATIONS, NewerSchema, migrate

NAMES = list(MIGRATIONS)


def schema(con: duckdb.DuckDBPyConnection) -> list[tuple[str, ...]]:
    return con.execute("SELECT table_name, sql FROM duckdb_tables() ORDER BY ALL").fetchall()


@pytest.fixture
def newest() -> list[tuple[str, ...]]:
    with duckdb.connect() as con:
        migrate(con)
        return schema(con)


def test_an_empty_database_gets_every_step_once(tmp_path: Path, newest: list[tuple[str, ...]]):
    with duckdb.connect(tmp_path / "empty.duckdb") as con:
        assert migrate(con) == NAMES
        assert migrate(con) == []
        assert schema(con) == newest


@pytest.mark.parametrize("steps", range(1, len(NAMES)), ids=NAMES[:-1])
def test_a_database_from_any_earlier_step_ends_with_the_same_schema(
    tmp_path: Path, steps: int, newest: list[tuple[str, ...]]
):
    with duckdb.connect(tmp_path / "old.duckdb") as con:
        migrate(con, {name: MIGRATIONS[name] for name in NAMES[:steps]})
    with duckdb.connect(tmp_path / "old.duckdb") as con:
        assert migrate(con) == NAMES[steps:]
        assert schema(con) == newest


@pytest.mark.parametrize("steps", range(1, len(NAMES)), ids=NAMES[:-1])
def test_an_old_index_opens_and_catches_up(tmp_path: Path, runs_folder: Path, benchmark: Path, steps: int):
    with duckdb.connect(tmp_path / "index.duckdb") as con:
        migrate(con, {name: MIGRATIONS[name] for name in NAMES[:steps]})
    with Store(tmp_path / "index.duckdb", runs_folder) as store:
        store.ingest_all()
        assert store.read(runs.counts, benchmark.name)["judgements"] == 6
        assert len(store.read(judgements.verdicts, [benchmark.name])) == 6
    assert list(tmp_path.glob("*.corrupt-*")) == []


@pytest.mark.parametrize("steps", range(3, len(NAMES)), ids=NAMES[2:-1])
def test_an_index_of_an_older_version_is_brought_up_to_the_folders_when_it_opens(
    tmp_path: Path, runs_folder: Path, benchmark: Path, steps: int
):
    """Its journals counted as read, and their rows lack what came later; nobody should have to know of it."""
    with duckdb.connect(tmp_path / "index.duckdb") as con:
        migrate(con, {name: MIGRATIONS[name] for name in NAMES[:steps]})
        con.execute("INSERT INTO runs VALUES (?, 'benchmark', '2026', '{}')", [benchmark.name])
        for journal in ("prompts", "responses", "judgements"):
            content = (benchmark / f"{journal}.jsonl").read_bytes()
            tail = hashlib.sha256(content[-1024:]).hexdigest()[:16]
            con.execute(
                "INSERT INTO offsets VALUES (?, ?, ?, ?)", [benchmark.name, f"{journal}.jsonl", len(content), tail]
            )
    with Store(tmp_path / "index.duckdb", runs_folder) as store:
        assert store.read(runs.counts, benchmark.name) == {
            "prompts": 3, "responses": 6, "judgements": 6, "bad_lines": 0
        }  # fmt: skip
        assert sum(reply.count for reply in store.read(tallies.replies, benchmark.name)) == 6
        assert sum(row.prompts for row in store.read(tallies.of_run, benchmark.name)) == 6


def test_rows_survive_a_migration(tmp_path: Path):
    with duckdb.connect(tmp_path / "old.duckdb") as con:
        migrate(con, {name: MIGRATIONS[name] for name in NAMES[:2]})
        con.execute("INSERT INTO runs VALUES ('r', 'chat', '2026', '{}')")
    with duckdb.connect(tmp_path / "old.duckdb") as con:
        migrate(con)
        assert con.execute("SELECT run_id, kind FROM runs").fetchall() == [("r", "chat")]


def test_a_step_that_fails_leaves_nothing_of_itself(tmp_path: Path):
    broken = {"001_good": "CREATE TABLE a (x INTEGER)", "002_bad": "CREATE TABLE b (x INTEGER); SELECT nothing"}
    with duckdb.connect(tmp_path / "x.duckdb") as con:
        with pytest.raises(duckdb.BinderException):
            migrate(con, broken)
        tables = {name for name, _ in schema(con)}
        assert tables == {"migrations", "a"}
        assert con.execute("SELECT name FROM migrations").fetchall() == [("001_good",)]


def test_a_database_of_the_future_is_not_touched(tmp_path: Path):
    with duckdb.connect(tmp_path / "x.duckdb") as con:
        migrate(con, {"001_other": "CREATE TABLE a (x INTEGER)"})
        with pytest.raises(NewerSchema, match="001_other"):
            migrate(con)
        assert {name for name, _ in schema(con)} == {"migrations", "a"}


def test_steps_are_numbered_in_order():
    assert [int(name[:3]) for name in NAMES] == list(range(1, len(NAMES) + 1))


def test_no_table_has_a_secondary_index(tmp_path: Path):
    with duckdb.connect(tmp_path / "x.duckdb") as con:
        migrate(con)
        assert con.execute("SELECT count(*) FROM duckdb_indexes()").fetchone() == (0,)
