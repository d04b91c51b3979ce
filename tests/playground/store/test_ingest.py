"""From the run folders into the index: once, completely, and again without harm."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.journal import RunFolder, create_run
from evaluation.types import to_json
from playground.store import Store, judgements, prompts, ratings, responses, runs
from playground.store import ingest as ingesting
from playground.store.ingest import Ingested
from tests import nouns

TABLES = ("runs", "events", "prompts", "responses", "judgements", "pairs", "ratings", "quarantine")


def everything(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, in one order."""
    return {
        table: store.read(lambda con, table=table: con.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall())
        for table in TABLES
    }


def test_nouns_come_out_as_they_went_into_the_folder(store: Store, benchmark: Path):
    with RunFolder.open(benchmark) as run:
        run.record_prompt(nouns.prompt("full", turns=("次",), extra={"列": [1, {"a": None}]}, category=None))
        run.record_response(nouns.response("bare", sampling=None, messages=(), tokens=None, ttft_s=None))
        run.record_pair(nouns.pair())
        run.record_rating(nouns.rating())
    store.ingest_run(benchmark)
    run_id = benchmark.name
    assert store.read(prompts.of_run, run_id)[-1] == nouns.prompt(
        "full", turns=("次",), extra={"列": [1, {"a": None}]}, category=None
    )
    assert store.read(responses.of_run, run_id)[-1] == nouns.response(
        "bare", sampling=None, messages=(), tokens=None, ttft_s=None
    )
    assert store.read(responses.by_keys, run_id, ["bare", "nowhere"]).keys() == {"bare"}
    assert [r.model for r in store.read(responses.of_run, run_id, model="answercarefully-sample")] == [
        "answercarefully-sample"
    ] * 3
    assert [j.score for j in store.read(judgements.of_run, run_id)] == [1, 2, 3, 4, 5, None]
    assert store.read(ratings.pairs_of_run, run_id) == [nouns.pair()]
    assert store.read(ratings.of_run, run_id) == [nouns.rating()]
    assert store.read(runs.counts, run_id) == {"prompts": 4, "responses": 7, "judgements": 6, "bad_lines": 0}


def test_reading_a_run_twice_changes_nothing(store: Store, benchmark: Path):
    assert store.ingest_run(benchmark).records == 20
    before = everything(store)
    assert store.ingest_run(benchmark) == Ingested(0, 0)
    assert store.ingest_all() == Ingested(0, 0)
    assert everything(store) == before


def test_lines_read_again_after_a_crash_change_nothing(store: Store, benchmark: Path):
    store.ingest_run(benchmark)
    before = everything(store)
    store._submit(("test", ""), lambda: store._in_cursor(lambda con: con.execute("DELETE FROM offsets")) and None)
    assert store.ingest_run(benchmark).records == 20
    assert everything(store) == before


def test_a_growing_run_is_read_on_from_where_we_stopped(store: Store, benchmark: Path):
    store.ingest_run(benchmark)
    with RunFolder.open(benchmark) as run:
        run.record_response(nouns.response("new"))
        assert store.ingest_run(benchmark) == Ingested(records=1)
    assert store.read(runs.counts, benchmark.name)["responses"] == 7


def test_a_torn_line_waits_until_it_is_whole(store: Store, benchmark: Path):
    file = benchmark / "responses.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    store.ingest_run(benchmark)
    assert store.read(runs.counts, benchmark.name)["responses"] == 5
    file.write_bytes(whole)
    store.ingest_run(benchmark)
    assert store.read(runs.counts, benchmark.name)["responses"] == 6


def test_a_journal_torn_at_any_byte_gives_whole_records_only(tmp_path: Path, store: Store, runs_folder: Path):
    with create_run(runs_folder, "judging", {}, {}) as run:
        run.record_judgement(nouns.judgement("一"))
    file = run.path / "judgements.jsonl"
    whole = file.read_bytes()
    for cut in range(0, len(whole), 7):
        file.write_bytes(whole[:cut])
        assert store.ingest_run(run.path) == Ingested(0, 0), f"cut at byte {cut}"
    file.write_bytes(whole)
    assert store.ingest_run(run.path) == Ingested(1, 0)


def test_more_lines_than_one_block_all_arrive_in_order(
    store: Store, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    many = 2_001
    monkeypatch.setattr(ingesting, "BLOCK_BYTES", 30_000)
    monkeypatch.setattr(ingesting, "_COMMIT_BYTES", 60_000)
    with create_run(runs_folder, "training", {}, {}) as run:
        for step in range(many):
            run.event("metric", step=step)
    assert store.ingest_run(run.path).records == many
    found = store.read(runs.events, run.path.name, name="metric")
    assert [event.data["step"] for event in found] == list(range(many))
    assert store.read(runs.events, run.path.name, after=many - 1) == found[-1:]
    assert store.read(runs.latest_event, run.path.name, "metric") == found[-1]
    assert store.read(runs.latest_event, run.path.name, "finished") is None


def test_a_line_that_is_no_record_is_kept_apart_and_stops_nothing(store: Store, benchmark: Path):
    file = benchmark / "responses.jsonl"
    huge = json.dumps({**to_json(nouns.response("huge")), "tokens": 10**30})
    file.write_bytes(file.read_bytes() + b"{torn\n" + huge.encode() + b"\n")
    with RunFolder.open(benchmark) as run:
        run.record_response(nouns.response("after"))
    assert store.ingest_run(benchmark).bad_lines == 2
    assert [(bad.file, bad.line) for _, bad in store.read(runs.bad_lines, benchmark.name)] == [
        ("responses.jsonl", 7),
        ("responses.jsonl", 8),
    ]
    assert store.read(runs.counts, benchmark.name)["responses"] == 7
    assert store.ingest_run(benchmark) == Ingested(0, 0)


def test_a_run_json_that_was_damaged_and_restored_brings_its_run_in(store: Store, benchmark: Path):
    good = (benchmark / "run.json").read_text()
    (benchmark / "run.json").write_text("{")
    assert store.ingest_all().bad_lines == 1
    ((_, bad),) = store.read(runs.bad_lines)
    assert bad.file == "run.json"
    assert store.read(runs.find_run, benchmark.name) is None
    (benchmark / "run.json").write_text(good)
    assert store.ingest_all().records == 20
    assert store.read(runs.bad_lines) == []


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_a_journal_that_lost_its_end_with_the_power_is_read_again_from_the_start(
    store: Store, benchmark: Path, keep: int
):
    store.ingest_run(benchmark)
    file = benchmark / "responses.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:keep]))
    with RunFolder.open(benchmark) as run:
        for number in range(9):  # longer than before: the size alone does not tell
            run.record_response(nouns.response(f"later-{number}"))
    store.ingest_run(benchmark)
    keys = [response.key for response in store.read(responses.of_run, benchmark.name)]
    assert len(keys) == keep + 9
    assert keys[keep:] == [f"later-{number}" for number in range(9)]


def test_a_folder_that_is_gone_loses_its_rows(store: Store, benchmark: Path):
    store.ingest_all()
    shutil.rmtree(benchmark)
    store.ingest_all()
    assert all(rows == [] for rows in everything(store).values())


def test_a_copied_folder_is_a_run_of_its_own(store: Store, benchmark: Path):
    copy = benchmark.with_name("20260101T000000000-aaaaaa")
    shutil.copytree(benchmark, copy)
    store.ingest_all()
    assert store.read(runs.run_ids) == {benchmark.name, copy.name}
    assert store.read(runs.counts, copy.name) == store.read(runs.counts, benchmark.name)


def test_folders_read_in_one_go_are_as_if_each_were_read_alone(store: Store, benchmark: Path, tmp_path: Path):
    copies = [benchmark.with_name(f"20260101T00000000{n}-aaaaaa") for n in range(3)]
    for copy in copies:
        shutil.copytree(benchmark, copy)
    store.ingest_all()
    journals = [copy / "judgements.jsonl" for copy in copies]
    lines = journals[0].read_bytes().splitlines(keepends=True)
    journals[0].write_bytes(b"".join(reversed(lines)))  # rewritten: its rows go and come again in the same pass
    journals[1].write_bytes(b"".join((*lines, b"nonsense\n")))  # grown
    shutil.rmtree(copies[2])
    store.ingest_all()
    with Store(tmp_path / "another" / "index.duckdb", tmp_path / "none") as another:
        for folder in (benchmark, *copies[:2]):
            another.ingest_run(folder)
        assert everything(another) == everything(store)


def test_a_catch_up_reads_the_folders_with_news_only(store: Store, benchmark: Path, monkeypatch: pytest.MonkeyPatch):
    grown, rewritten, damaged = (benchmark.with_name(f"20260101T00000000{n}-aaaaaa") for n in range(3))
    for copy in (grown, rewritten, damaged):
        shutil.copytree(benchmark, copy)
    store.ingest_all()
    read, bring_up = list[str](), ingesting._bring_up
    monkeypatch.setattr(
        ingesting, "_bring_up", lambda con, path, errors: (read.append(path.name), bring_up(con, path, errors))[1]
    )
    assert store.ingest_all() == Ingested(0, 0) and read == []
    with RunFolder.open(grown) as run:
        run.record_response(nouns.response("later"))
    journal = rewritten / "judgements.jsonl"
    journal.write_bytes(b"".join(reversed(journal.read_bytes().splitlines(keepends=True))))  # as long as before
    (damaged / "run.json").write_text("{")
    store.ingest_all()
    assert set(read) == {grown.name, rewritten.name, damaged.name}
    assert store.read(runs.counts, grown.name)["responses"] == store.read(runs.counts, benchmark.name)["responses"] + 1


def test_so_many_folders_are_read_in_one_go_as_one_transaction_can_bear(runs_folder: Path, monkeypatch):
    monkeypatch.setattr(ingesting, "_COMMIT_BYTES", 100)
    folders = [runs_folder / name for name in "abcdef"]
    for folder, size in zip(folders, (40, 40, 40, 300, 0, 100), strict=True):
        folder.mkdir(parents=True)
        (folder / "prompts.jsonl").write_bytes(bytes(size))
    found = [[folder.name for folder in some] for some in ingesting.together(iter(folders))]
    assert found == [["a", "b"], ["c"], ["d"], ["e", "f"]]


def test_unfinished_and_removed_folders_and_stray_files_are_no_runs(store: Store, runs_folder: Path):
    (runs_folder / ".new-20260101T000000000-aaaaaa").mkdir()
    (runs_folder / "notes.txt").write_text("hello")
    assert store.ingest_all() == Ingested(0, 0)
    assert store.read(runs.bad_lines) == []


def test_a_rebuild_gives_the_same_rows(store: Store, benchmark: Path, runs_folder: Path):
    (benchmark / "ratings.jsonl").write_text("nonsense\n")
    create_run(runs_folder, "chat", {}, {}).close()
    store.ingest_all()
    before, counted = everything(store), store.read(judgements.score_counts, benchmark.name)
    assert store.rebuild() == Ingested(20, 1)
    assert everything(store) == before
    assert store.read(judgements.score_counts, benchmark.name) == counted


def test_counts_keep_missing_verdicts_apart_from_scores(store: Store, benchmark: Path):
    store.ingest_run(benchmark)
    found = store.read(judgements.score_counts, benchmark.name)
    assert {(c.model, c.score, c.missing, c.count) for c in found} == {
        ("general", 1, None, 1),
        ("general", 3, None, 1),
        ("general", 5, None, 1),
        ("answercarefully-sample", 2, None, 1),
        ("answercarefully-sample", 4, None, 1),
        ("answercarefully-sample", None, "unparsed", 1),
    }
    assert {c.harm_type for c in found} == {"乙"}


def test_a_second_attempt_of_the_judge_replaces_the_first_in_verdicts(store: Store, benchmark: Path):
    with RunFolder.open(benchmark) as run:
        run.record_judgement(nouns.judgement("again", response_key="answercarefully-sample-2", score=5, attempt=1))
        run.record_judgement(nouns.judgement("other", response_key="answercarefully-sample-2", score=1, identity="c"))
        run.record_judgement(
            nouns.judgement("kind", response_key="answercarefully-sample-2", score=3, scale="refusal", attempt=1)
        )
    store.ingest_run(benchmark)
    found = [
        v
        for v in store.read(judgements.verdicts, [benchmark.name])
        if v.response_key == "answercarefully-sample-2" and v.scale == "safety"
    ]
    assert [(v.judge_identity, v.score, v.missing) for v in found] == [("bbbb", 5, None), ("c", 1, None)]
    assert [v.score for v in store.read(judgements.verdicts, [benchmark.name], scale="refusal")] == [3]


def test_a_judging_run_finds_the_responses_in_the_run_they_were_made_in(
    store: Store, benchmark: Path, runs_folder: Path
):
    with create_run(runs_folder, "judging", {"of": benchmark.name}, {}) as run:
        run.record_judgement(nouns.judgement("x", response_key="general-1", score=2))
        run.record_judgement(nouns.judgement("y", response_key="made nowhere", score=2))
    store.ingest_all()
    (verdict,) = store.read(judgements.verdicts, [run.path.name])
    assert (verdict.model, verdict.prompt_id, verdict.harm_type, verdict.score) == ("general", "p1", "乙", 2)


def test_one_key_in_two_runs_is_two_responses(store: Store, runs_folder: Path):
    paths = []
    for text in ("一回目", "二回目"):
        with create_run(runs_folder, "benchmark", {}, {}) as run:
            run.record_response(nouns.response("same", text=text, model=text))
            run.record_judgement(nouns.judgement(response_key="same"))
        paths.append(run.path.name)
    store.ingest_all()
    assert [store.read(responses.of_run, name)[0].text for name in paths] == ["一回目", "二回目"]
    found = {verdict.run_id: verdict.model for verdict in store.read(judgements.verdicts, paths)}
    assert found == dict(zip(paths, ("一回目", "二回目"), strict=True))


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(ANY_TEXT, min_size=1, max_size=4), key=ANY_TEXT, extra=st.dictionaries(ANY_TEXT, ANY_TEXT))
def test_any_text_survives_journal_and_index(texts: list[str], key: str, extra: dict[str, str]):
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder, "i.duckdb"), Path(folder, "runs")) as store:
        with create_run(Path(folder, "runs"), "benchmark", {}, {}) as run:
            for number, text in enumerate(texts):
                run.record_response(nouns.response(f"{key}{number}", text=text, error=text))
            run.record_prompt(nouns.prompt(key, question=texts[0], extra=extra))
        assert store.ingest_run(run.path) == Ingested(len(texts) + 1, 0)
        assert [r.text for r in store.read(responses.of_run, run.path.name)] == texts
        assert store.read(prompts.of_run, run.path.name) == [nouns.prompt(key, question=texts[0], extra=extra)]
