"""The owner's SQL: one SELECT over the index, and nothing else, whatever is typed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from playground.store import Store, runs
from playground.store.sql_box import MOST_ROWS, QueryRefused, ask


def test_a_select_gives_columns_and_rows_as_text(store: Store, benchmark: Path):
    store.ingest_run(benchmark)
    found = store.read(
        ask, "WITH x AS (SELECT score FROM judgements) SELECT score, count(*) AS n FROM x GROUP BY 1 ORDER BY 1; -- so"
    )
    assert found.columns == ("score", "n")
    assert found.rows == (("1", "1"), ("2", "1"), ("3", "1"), ("4", "1"), ("5", "1"), ("", "1")) and not found.cut


@pytest.mark.parametrize(
    "text",
    [
        "", "   ", "-- nothing", "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE runs", "DELETE FROM runs",
        "INSERT INTO migrations VALUES ('x')", "UPDATE runs SET kind = 'x'", "CREATE TABLE x (a INT)", "DROP TABLE runs",
        "ATTACH 'x.duckdb'", "COPY runs TO 'x.csv'", "COPY (SELECT 1) TO '/tmp/x.csv'", "SET threads = 8", "RESET threads",
        "SET lock_configuration = false", "PRAGMA enable_external_access", "INSTALL httpfs", "LOAD httpfs", "CHECKPOINT",
        "CALL force_checkpoint()", "EXPORT DATABASE '/tmp/x'", "BEGIN", "COMMIT", "PREPARE x AS SELECT 1", "VACUUM", "USE memory",
        "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/*')", "SELECT * FROM read_json('https://example.org/x.json')", "SELECT getenv('HOME')",
        "SELECT * FROM (DELETE FROM runs RETURNING *)", "SELECT 1) ; DROP TABLE runs; SELECT (1", "SELECT nothing FROM runs",
        "SELECT * FROM read_blob('/etc/passwd')", "SELECT * FROM read_parquet('/tmp/x.parquet')", "SELECT * FROM read_duckdb('/tmp/x.duckdb')",
        "SELECT * FROM sniff_csv('/etc/passwd')", "SELECT * FROM parquet_metadata('/tmp/*.parquet')", "SELECT * FROM 'https://example.org/x.csv'",
        "SELECT * FROM read_text('/proc/self/environ')", "SELECT * FROM read_csv_auto('../../../etc/passwd')", "FROM '/etc/hosts'",
        "SELECT * FROM query('DROP TABLE runs')", "SELECT * FROM query_table('/etc/passwd')",
        "SELECT * FROM query('COPY runs TO ''/tmp/x.csv''')",
        "WITH x AS (INSERT INTO migrations VALUES ('x') RETURNING *) SELECT * FROM x", "SELECT 1; ATTACH ':memory:' AS m", "DETACH memory",
        "COPY FROM DATABASE memory TO x", "IMPORT DATABASE '/tmp/x'", "SET GLOBAL allowed_directories = ['/']", "RESET enable_external_access",
        "PRAGMA threads=64", "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')", "CREATE MACRO f() AS 1",
        "FORCE INSTALL httpfs FROM 'http://127.0.0.1'", "LOAD '/tmp/x.duckdb_extension'", "EXECUTE x", "DEALLOCATE x", "ALTER TABLE runs RENAME TO x",
        "MERGE INTO runs USING runs AS r ON true WHEN MATCHED THEN DELETE", "TRUNCATE runs", "ANALYZE", "EXPLAIN ANALYZE DELETE FROM runs",
        "SELECT * FROM http_get('http://127.0.0.1')", "SELECT * FROM sqlite_scan('/tmp/x', 'y')", "SELECT system('id')",
        "SELECT 1 /* ", "SELECT ?", "SELECT INTERVAL 1000000000 DAYS", "SELECT 'x", "SELEC 1", "\x00", "SELECT " + "1," * 6000,
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_one_line_and_changes_nothing(store: Store, benchmark: Path, text: str):
    store.ingest_run(benchmark)
    with pytest.raises(QueryRefused) as refused:
        store.read(ask, text)
    assert str(refused.value).strip() and "\n" not in str(refused.value)
    assert store.read(runs.has_run, benchmark.name)
    assert store.read(ask, "SELECT 1").rows == (("1",),)


def test_half_a_surrogate_pair_is_no_text(store: Store):
    assert store.read(ask, "SELECT '\ud800'").rows == (("\ufffd",),)


def test_rows_and_values_are_cut_at_a_bound(store: Store):
    found = store.read(ask, "SELECT repeat('長', 5000) AS text FROM range(100000)")
    assert len(found.rows) == MOST_ROWS and found.cut and len(found.rows[0][0]) < 400
    assert not store.read(ask, f"SELECT * FROM range({MOST_ROWS})").cut


def test_a_question_that_takes_too_long_is_stopped_and_the_next_one_is_not(store: Store):
    endless = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range + b.range = 3"
    with pytest.raises(QueryRefused, match="took more than"):
        store.read(ask, endless, seconds=0.2)
    assert store.read(ask, "SELECT 42").rows == (("42",),)


def test_questions_do_not_disturb_each_other_or_the_writer(store: Store, benchmark: Path):
    answers: list[str] = []

    def question(number: int) -> None:
        answers.append(store.read(ask, f"SELECT {number} FROM range(3) LIMIT 1").rows[0][0])

    threads = [threading.Thread(target=question, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    store.ingest_run(benchmark)
    for thread in threads:
        thread.join(60)
    assert sorted(map(int, answers)) == [*range(12)]
