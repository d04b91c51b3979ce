"""The index's schema, step by step. A migration is named, says why, and is never edited: add the next one.

Columns are what a query filters, joins or sorts by; `record` is the whole noun as the journal has it, where a table has
no column for each field.
`position` is the byte offset after the record's line, so the order of a journal is kept. There are no
indexes beside primary keys that make a second import harmless: a damaged secondary index has
answered queries with no rows before (duckdb/duckdb#23788). The large tables have none either: see 007.
"""

from __future__ import annotations

import duckdb

MIGRATIONS: dict[str, str] = {
    # How far each journal has been read, and which of its lines were not records. `tail` is a hash of the bytes
    # before `position`: a file whose bytes changed (restored, or cut by a power loss) is read again from the start.
    "001_journals": """
        CREATE TABLE offsets (run_id VARCHAR, file VARCHAR, position BIGINT, tail VARCHAR);
        CREATE TABLE quarantine (
            run_id VARCHAR, file VARCHAR, line BIGINT, reason VARCHAR, position BIGINT,
            PRIMARY KEY (run_id, file, position));
    """,
    # Runs are listed by kind and time; events are charted by seq.
    "002_runs": """
        CREATE TABLE runs (run_id VARCHAR PRIMARY KEY, kind VARCHAR, created_at VARCHAR, record JSON);
        CREATE TABLE events (
            run_id VARCHAR, seq BIGINT, event VARCHAR, happened_at VARCHAR, data JSON, position BIGINT,
            PRIMARY KEY (run_id, seq));
    """,
    # A key is unique inside a run only: the same question with the same seed in two runs is one key, two responses.
    # `search` is the text as history looks for it (NFKC, case folded), since DuckDB has no NFKC of its own.
    "003_benchmarks": """
        CREATE TABLE prompts (
            run_id VARCHAR, id VARCHAR, suite VARCHAR, risk_area VARCHAR, harm_type VARCHAR, specific_harm VARCHAR,
            record JSON, position BIGINT, PRIMARY KEY (run_id, id));
        CREATE TABLE responses (
            run_id VARCHAR, key VARCHAR, prompt_id VARCHAR, model VARCHAR, identity VARCHAR, attempt BIGINT,
            finish_reason VARCHAR, tokens BIGINT, ttft_s DOUBLE, seconds DOUBLE, search VARCHAR,
            record JSON, position BIGINT, PRIMARY KEY (run_id, key));
        CREATE TABLE judgements (
            run_id VARCHAR, key VARCHAR, response_key VARCHAR, judge VARCHAR, identity VARCHAR, scale VARCHAR,
            score TINYINT, missing VARCHAR, record JSON, position BIGINT, PRIMARY KEY (run_id, key));
    """,
    # Chat: which two responses stood side by side, and what a person thought of them.
    "004_conversations": """
        CREATE TABLE pairs (
            run_id VARCHAR, key VARCHAR, prompt_id VARCHAR, left_key VARCHAR, right_key VARCHAR, turn BIGINT,
            created_at VARCHAR, search VARCHAR, record JSON, position BIGINT, PRIMARY KEY (run_id, key));
        CREATE TABLE ratings (
            run_id VARCHAR, key VARCHAR, left_key VARCHAR, right_key VARCHAR, choice VARCHAR, rater VARCHAR,
            record JSON, position BIGINT, PRIMARY KEY (run_id, key));
    """,
    # Results are counted by outcome, and of a multi-turn prompt the last reply counts. Rows from before have neither
    # until they are ingested again: `tallies` falls back to finish_reason.
    "005_outcomes": """
        ALTER TABLE responses ADD COLUMN outcome VARCHAR;
        ALTER TABLE responses ADD COLUMN turns SMALLINT;
    """,
    # What the charts count, made again for a run whenever it grew: a chart over a million judgements reads some
    # thousand of these. Prompts whose attempts were scored alike share a row, so an interval can still be clustered by
    # prompt. No keys: rows of a run are replaced together.
    "006_tallies": """
        CREATE TABLE tallies (
            run_id VARCHAR, judge VARCHAR, identity VARCHAR, scale VARCHAR, model VARCHAR, suite VARCHAR,
            harm_type VARCHAR, scores TINYINT[], missing VARCHAR[], scored BIGINT, below BIGINT, above BIGINT,
            prompts BIGINT, latest BIGINT, cost_usd DOUBLE);
        CREATE TABLE replies (
            run_id VARCHAR, model VARCHAR, identity VARCHAR, suite VARCHAR, harm_type VARCHAR, outcome VARCHAR,
            count BIGINT, tokens BIGINT, seconds DOUBLE);
    """,
    # Ingest spent half of its time on these three primary keys; it looks for doubled keys before each commit instead
    # (ingest.py). `contrast`: refusing is right there. `cost_usd`: what the tallies add up. The rows are not carried
    # over but read again from the folders, since old ones lack `outcome`, `turns` and the counts: whoever opens the
    # store next does that.
    "007_read_again": """
        DROP TABLE prompts; DROP TABLE responses; DROP TABLE judgements; DROP TABLE tallies; DROP TABLE replies;
        CREATE TABLE prompts (
            run_id VARCHAR, id VARCHAR, suite VARCHAR, risk_area VARCHAR, harm_type VARCHAR, specific_harm VARCHAR,
            contrast BOOLEAN, record VARCHAR USING COMPRESSION zstd, position BIGINT);
        CREATE TABLE responses (
            run_id VARCHAR, key VARCHAR, prompt_id VARCHAR, model VARCHAR, identity VARCHAR, attempt BIGINT,
            finish_reason VARCHAR, tokens BIGINT, ttft_s DOUBLE, seconds DOUBLE, search VARCHAR, outcome VARCHAR,
            turns BIGINT, record VARCHAR USING COMPRESSION zstd, position BIGINT);
        CREATE TABLE judgements (
            run_id VARCHAR, key VARCHAR, response_key VARCHAR, judge VARCHAR, identity VARCHAR, scale VARCHAR,
            score TINYINT, missing VARCHAR, cost_usd DOUBLE, record VARCHAR USING COMPRESSION zstd, position BIGINT);
        CREATE TABLE tallies (
            run_id VARCHAR, judge VARCHAR, identity VARCHAR, scale VARCHAR, model VARCHAR, suite VARCHAR,
            harm_type VARCHAR, contrast BOOLEAN, scores TINYINT[], missing VARCHAR[], scored BIGINT, below BIGINT,
            above BIGINT, prompts BIGINT, latest BIGINT, cost_usd DOUBLE);
        CREATE TABLE replies (
            run_id VARCHAR, model VARCHAR, identity VARCHAR, suite VARCHAR, harm_type VARCHAR, contrast BOOLEAN,
            outcome VARCHAR, count BIGINT, tokens BIGINT, seconds DOUBLE);
        DELETE FROM offsets WHERE file IN ('prompts.jsonl', 'responses.jsonl', 'judgements.jsonl');
        DELETE FROM quarantine WHERE file IN ('prompts.jsonl', 'responses.jsonl', 'judgements.jsonl');
    """,
    # Of a prompt of several turns every reply is counted, and `last` tells which one ends its conversation. Counts are made
    # again, so all is read again: see 007.
    "008_turns": """
        ALTER TABLE replies ADD COLUMN last BOOLEAN;
        DELETE FROM prompts; DELETE FROM responses; DELETE FROM judgements; DELETE FROM tallies; DELETE FROM replies;
        DELETE FROM offsets WHERE file IN ('prompts.jsonl', 'responses.jsonl', 'judgements.jsonl');
        DELETE FROM quarantine WHERE file IN ('prompts.jsonl', 'responses.jsonl', 'judgements.jsonl');
    """,
    # Every field of a judgement as a column instead of the line: packing the lines of a million was a twelfth of their ingest.
    "009_judgements_by_field": """
        DROP TABLE judgements;
        CREATE TABLE judgements (
            run_id VARCHAR, key VARCHAR, response_key VARCHAR, judge VARCHAR, identity VARCHAR, scale VARCHAR,
            score TINYINT, missing VARCHAR, explanation VARCHAR USING COMPRESSION zstd,
            raw_text VARCHAR USING COMPRESSION zstd, with_reference BOOLEAN, prompt_tokens BIGINT,
            completion_tokens BIGINT, cost_usd DOUBLE, seconds DOUBLE, attempt BIGINT, created_at VARCHAR,
            position BIGINT);
        DELETE FROM prompts; DELETE FROM responses; DELETE FROM tallies; DELETE FROM replies;
        DELETE FROM offsets WHERE file IN ('prompts.jsonl', 'responses.jsonl', 'judgements.jsonl');
        DELETE FROM quarantine WHERE file IN ('prompts.jsonl', 'responses.jsonl', 'judgements.jsonl');
    """,
}


class NewerSchema(Exception):
    """The file has a migration this version does not know."""


def migrate(con: duckdb.DuckDBPyConnection, migrations: dict[str, str] = MIGRATIONS) -> list[str]:
    """Run the steps this file has not had, each in its own transaction; return their names. Raises NewerSchema."""
    con.execute("CREATE TABLE IF NOT EXISTS migrations (name VARCHAR PRIMARY KEY)")
    done = {name for (name,) in con.execute("SELECT name FROM migrations").fetchall()}
    if unknown := done - migrations.keys():
        raise NewerSchema(", ".join(sorted(unknown)))
    ran = [name for name in migrations if name not in done]
    for name in ran:
        con.begin()
        try:
            con.execute(migrations[name])
            con.execute("INSERT INTO migrations VALUES (?)", [name])
            con.commit()
        except BaseException:
            con.rollback()
            raise
    if ran:
        # Replaying DDL from the log after a kill has failed before (duckdb/duckdb#22044): leave none there.
        con.execute("CHECKPOINT")
    return ran
