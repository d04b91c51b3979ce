"""The index file: one process, one writer, many readers, and nothing that cannot be made again."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from evaluation.errors import UserFacingError
from evaluation.journal import RunFolder, create_run
from evaluation.types import Message
from playground.store import ChatLog, Store, index, judgements, progress, responses, runs
from playground.store.database import StoreBusy, StoreUnavailable, is_corrupt, is_fatal
from playground.store.index import UnreadableJournal
from playground.store.ingest import Ingested
from tests import nouns
from tests.processes import in_child, output_of


def write(store: Store, statement: str) -> None:
    """Run a statement in the writer, as only a test does."""
    store._submit(("test", statement), lambda: store._in_cursor(lambda con: con.execute(statement)) and None)


def kept_aside(folder: Path) -> list[Path]:
    return sorted(folder.glob("index.duckdb.corrupt-*"))


# ---------------------------------------------------------------------------------------------- one process


def test_a_second_process_is_told_who_has_the_index_open(store: Store, tmp_path: Path):
    script = (
        "import sys; from pathlib import Path; from playground.store import Store\n"
        "try: Store(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path / "index.duckdb"), str(tmp_path / "runs")]
    root = Path(__file__).parents[3]
    said = subprocess.run(arguments, capture_output=True, text=True, cwd=root, check=True).stdout
    assert said.startswith("StoreBusy ")
    assert f"is open in process {os.getpid()}" in said
    assert said.count("\n") == 1


def test_a_program_that_is_not_ours_is_named_too(tmp_path: Path):
    path = tmp_path / "index.duckdb"

    def work(pipe: int) -> None:
        con = duckdb.connect(path)
        os.write(pipe, b"!")
        time.sleep(60)
        con.close()

    child, reading = in_child(work)
    try:
        assert os.read(reading, 1) == b"!"
        with pytest.raises(StoreBusy, match=f"is open in process {child}"):
            Store(path, tmp_path / "runs")
        assert kept_aside(tmp_path) == [], "a busy file was taken for a damaged one"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
    Store(path, tmp_path / "runs").close()


def test_a_second_store_in_this_process_is_refused(store: Store, tmp_path: Path):
    with pytest.raises(StoreBusy):
        Store(tmp_path / "index.duckdb", tmp_path / "runs")


def test_a_closed_store_can_be_opened_again_and_knows_what_it_knew(tmp_path: Path, runs_folder: Path, benchmark: Path):
    with Store(tmp_path / "index.duckdb", runs_folder) as store:
        store.ingest_all()
    store.close()
    with pytest.raises(RuntimeError, match="closed"):
        store.ingest_all()
    with Store(tmp_path / "index.duckdb", runs_folder) as store:
        assert store.read(runs.counts, benchmark.name)["responses"] == 6
        assert store.ingest_all() == Ingested(0, 0)


# ---------------------------------------------------------------------------------------------- locked down


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "COPY runs TO 'copy.csv'",
        "ATTACH 'other.duckdb'",
        "SET enable_external_access = true",
        "SET threads = 8",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM 'https://example.invalid/a.csv'",
        "EXPORT DATABASE 'elsewhere'",
    ],
)
def test_the_database_reaches_nothing_outside_itself(store: Store, statement: str):
    with pytest.raises(duckdb.Error):
        store.read(lambda con: con.execute(statement))


def test_a_query_that_fails_leaves_the_store_as_it_was(store: Store, benchmark: Path):
    store.ingest_all()
    with pytest.raises(duckdb.BinderException):
        store.read(lambda con: con.execute("SELECT nothing FROM runs"))
    assert store.read(runs.has_run, benchmark.name)


# ---------------------------------------------------------------------------------------------- threads


def test_each_of_eight_readers_gets_its_own_rows_while_the_writer_works(store: Store, runs_folder: Path):
    paths = []
    for number in range(8):
        with create_run(runs_folder, "benchmark", {}, {}) as run:
            for row in range(number + 1):
                run.record_response(nouns.response(f"{number}-{row}"))
        paths.append(run.path)
    store.ingest_all()
    wrong: list[object] = []
    stop = threading.Event()

    def ask(number: int) -> None:
        name = paths[number].name
        for _ in range(60):
            keys = [response.key for response in store.read(responses.of_run, name)]
            if keys != [f"{number}-{row}" for row in range(number + 1)]:
                wrong.append((number, keys))

    def add() -> None:
        with create_run(runs_folder, "benchmark", {}, {}) as run:
            while not stop.is_set():
                run.record_response(nouns.response(f"more-{len(run.keys('responses'))}"))
                store.ingest_run(run.path)

    writer = threading.Thread(target=add)
    readers = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in (writer, *readers):
        thread.start()
    for thread in readers:
        thread.join()
    stop.set()
    writer.join()
    assert wrong == []


def test_the_file_can_be_replaced_while_readers_read(store: Store, benchmark: Path):
    store.ingest_all()
    failures: list[object] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                store.read(runs.counts, benchmark.name)
            except Exception as error:
                failures.append(error)

    readers = [threading.Thread(target=ask) for _ in range(4)]
    for thread in readers:
        thread.start()
    for _ in range(3):
        store.rebuild()
        store.forget("20260101T000000000-aaaaaa")
    stop.set()
    for thread in readers:
        thread.join()
    assert failures == []
    assert store.read(runs.counts, benchmark.name)["responses"] == 6


def test_equal_work_that_waits_is_done_once(store: Store, benchmark: Path, monkeypatch):
    holding, release, done = threading.Event(), threading.Event(), []

    def hold() -> None:
        holding.set()
        release.wait(10)

    monkeypatch.setattr(store, "_ingest_all", lambda: done.append("once") or Ingested(1, 0))
    first = threading.Thread(target=store._submit, args=(("hold", ""), hold))
    first.start()
    assert holding.wait(10)
    results: list[Ingested] = []
    waiting = [threading.Thread(target=lambda: results.append(store.ingest_all())) for _ in range(5)]
    for thread in waiting:
        thread.start()
    while store._work.qsize() < 5:
        time.sleep(0.001)
    release.set()
    for thread in (first, *waiting):
        thread.join()
    assert done == ["once"]
    assert results == [Ingested(1, 0)] * 5


def test_work_that_fails_tells_its_caller_and_the_writer_lives(store: Store, benchmark: Path):
    (benchmark / "responses.jsonl").unlink()
    (benchmark / "responses.jsonl").mkdir()
    with pytest.raises(UnreadableJournal, match=r"responses\.jsonl cannot be read: Is a directory"):
        store.ingest_run(benchmark)
    assert store.read(runs.counts, benchmark.name)["prompts"] == 3


def test_one_unreadable_folder_does_not_keep_the_others_out(store: Store, benchmark: Path, runs_folder: Path, caplog):
    (benchmark / "prompts.jsonl").unlink()
    (benchmark / "prompts.jsonl").mkdir()
    with create_run(runs_folder, "benchmark", {}, {}) as run:
        run.record_response(nouns.response())
    store.ingest_all()
    assert store.read(runs.counts, run.path.name)["responses"] == 1
    assert "prompts.jsonl cannot be read" in caplog.text


def test_a_folder_that_was_read_and_can_no_longer_be_looked_at_does_not_either(
    store: Store, benchmark: Path, runs_folder: Path, caplog
):
    store.ingest_all()
    (benchmark / "prompts.jsonl").unlink()
    (benchmark / "prompts.jsonl").mkdir()
    with create_run(runs_folder, "benchmark", {}, {}) as run:
        run.record_response(nouns.response())
    assert store.ingest_all().records == 1
    assert store.read(runs.counts, run.path.name)["responses"] == 1
    assert "prompts.jsonl cannot be read: Is a directory" in caplog.text
    with pytest.raises(UnreadableJournal, match="Is a directory"):
        store.ingest_run(benchmark)


def test_the_pace_of_a_resumed_run_goes_on_from_where_it_was(store: Store, runs_folder: Path):
    with create_run(runs_folder, "benchmark", {}, {}) as run:
        for seconds, answered in ((2.0, 10), (5.0, 20), (1.0, 25), (4.0, 40), (0.5, 42)):  # a sitting counts from zero
            run.event("progress", seconds=seconds, answered=answered)
    store.ingest_run(run.path)
    told = store.read(progress.progress, run.path.name)
    assert [(point.seconds, point.answered) for point in told] == [(2, 10), (5, 20), (6, 25), (9, 40), (9.5, 42)]


# ---------------------------------------------------------------------------------------------- damage


def flip(path: Path, every: int, start: int) -> None:
    data = bytearray(path.read_bytes())
    for position in range(start, len(data), every):
        data[position] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.write_bytes(b"garbage" * 1000), id="garbage"),
        pytest.param(lambda path: path.write_bytes(b""), id="emptied"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), id="cut in half"),
        pytest.param(lambda path: flip(path, 4096, 13288), id="flipped bytes"),
        pytest.param(lambda path: flip(path, 1 << 30, 5000), id="one flipped byte in the header"),
    ],
)
def test_a_damaged_index_is_kept_aside_and_made_again(tmp_path: Path, runs_folder: Path, benchmark: Path, damage):
    path = tmp_path / "index.duckdb"
    with Store(path, runs_folder) as store:
        store.ingest_all()
        before = store.read(judgements.verdicts, [benchmark.name])
    damage(path)
    damaged = path.read_bytes()
    with Store(path, runs_folder) as store:
        assert store.read(judgements.verdicts, [benchmark.name]) == before
    (aside,) = kept_aside(tmp_path)
    assert aside.read_bytes() == damaged


def test_a_damaged_log_goes_aside_with_its_file(tmp_path: Path, runs_folder: Path, benchmark: Path):
    path = tmp_path / "index.duckdb"

    def work(pipe: int) -> None:
        store = Store(path, runs_folder)
        store.ingest_all()
        os._exit(0)  # no close: the rows are in the log only

    output_of(*in_child(work))
    log = path.with_name("index.duckdb.wal")
    flip(log, 1 << 30, log.stat().st_size // 2)
    with Store(path, runs_folder) as store:
        assert store.read(runs.counts, benchmark.name)["responses"] == 6
    assert [file.suffix for file in kept_aside(tmp_path)].count(".wal") == 1
    assert len(kept_aside(tmp_path)) == 2


def test_a_file_of_a_newer_version_is_kept_aside(tmp_path: Path, runs_folder: Path, benchmark: Path):
    with Store(tmp_path / "index.duckdb", runs_folder) as store:
        write(store, "INSERT INTO migrations VALUES ('999_of_the_future')")
    with Store(tmp_path / "index.duckdb", runs_folder) as store:
        assert store.read(runs.counts, benchmark.name)["responses"] == 6
    assert len(kept_aside(tmp_path)) == 1


@pytest.mark.parametrize(
    ("kinds", "words"),  # not the errors themselves: their tracebacks would keep cursors alive until the end
    [
        pytest.param([duckdb.FatalException], "invalidated", id="shut down once"),
        pytest.param([duckdb.InternalException], "invalidated", id="internal error once"),
        pytest.param([duckdb.FatalException] * 2, "invalidated", id="shut down twice: rebuilt"),
        pytest.param([duckdb.Error], "Corrupt database file: computed checksum", id="a bad block: rebuilt"),
    ],
)
@pytest.mark.parametrize("who", ["reader", "writer"])
def test_a_database_that_gave_up_is_opened_again_or_rebuilt(
    store: Store, benchmark: Path, tmp_path: Path, kinds: list[type[duckdb.Error]], words: str, who: str
):
    store.ingest_all()
    write(store, "DELETE FROM prompts")  # only a rebuild brings these back
    generation = store._database.generation
    left = list(kinds)

    def query(con: duckdb.DuckDBPyConnection) -> int:
        if left:
            raise left.pop(0)(words)
        return runs.counts(con, benchmark.name)["prompts"]

    if who == "reader":
        prompts_found = store.read(query)
    else:
        prompts_found = store._submit(("test", ""), lambda: store._in_cursor(query))
    rebuilt = len(kinds) == 2 or is_corrupt(kinds[0](words))
    assert prompts_found == (3 if rebuilt else 0)
    assert store._database.generation == generation + len(kinds)
    assert len(kept_aside(tmp_path)) == rebuilt


def test_a_disk_that_always_fails_ends_in_one_line_and_not_in_a_loop(store: Store):
    def query(con: duckdb.DuckDBPyConnection) -> None:
        raise duckdb.FatalException("invalidated")

    with pytest.raises(StoreUnavailable, match="fails again after a rebuild"):
        store.read(query)
    with pytest.raises(StoreUnavailable, match="fails again after a rebuild"):
        store._submit(("test", ""), lambda: store._in_cursor(query))
    assert store.read(runs.run_ids) == set()


def test_a_rebuild_that_fails_too_ends_in_one_line_and_not_in_another_rebuild(
    store: Store, benchmark: Path, monkeypatch
):
    def fail(con: duckdb.DuckDBPyConnection, paths: list[Path]) -> None:
        raise duckdb.Error("Corrupt database file")

    with monkeypatch.context() as patched:
        patched.setattr("playground.store.ingest.ingest_folders", fail)
        with pytest.raises(StoreUnavailable, match="fails again after a rebuild"):
            store.ingest_all()
    assert store.ingest_all().records == 20


def test_a_real_fatal_error_is_recognised():
    assert is_fatal(duckdb.FatalException("x"))
    assert not is_fatal(duckdb.BinderException("x"))


def test_a_path_that_cannot_be_a_database_is_said_in_one_line(tmp_path: Path):
    (tmp_path / "index.duckdb").mkdir()
    with pytest.raises(StoreUnavailable, match=r"index\.duckdb is not a file") as caught:
        Store(tmp_path / "index.duckdb", tmp_path / "runs")
    assert "\n" not in str(caught.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserFacingError):
        Store(tmp_path / "index2.duckdb", tmp_path / "file" / "runs")


def test_a_full_disk_stops_the_index_and_no_run_and_it_catches_up(tmp_path: Path, runs_folder: Path):
    with create_run(runs_folder, "benchmark", {}, {}) as run:
        chance = random.Random(1)
        for number in range(300):
            run.record_response(nouns.response(f"r{number}", text=chance.randbytes(8000).hex()))

    def work(pipe: int) -> None:
        store = Store(tmp_path / "index.duckdb", runs_folder)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
        try:
            store.ingest_run(run.path)
        except StoreUnavailable as error:
            os.write(pipe, f"{error}\n".encode())
        os.write(pipe, f"{store.read(runs.counts, run.path.name)['responses']}\n".encode())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        store.ingest_run(run.path)
        os.write(pipe, f"{store.read(runs.counts, run.path.name)['responses']}\n".encode())
        store.close()

    said, during, after = output_of(*in_child(work)).splitlines()
    assert "the disk is full. Free some space; no run is lost" in said
    assert (during, after) == ("0", "300")


# ---------------------------------------------------------------------------------------------- kill -9


def kill_loop(tmp_path: Path, runs_folder: Path, kills: int) -> None:
    """Kill the app while it appends and ingests; after each kill the index catches up with the folder exactly."""
    chance = random.Random(42)
    with create_run(runs_folder, "benchmark", {}, {}) as made:
        path = made.path

    def work(pipe: int) -> None:
        store = Store(tmp_path / "index.duckdb", runs_folder)
        with RunFolder.open(path) as run:
            while True:
                number = len(run.keys("responses"))
                run.record_response(nouns.response(f"k{number}", text="語" * 500))
                run.record_judgement(nouns.judgement(f"j{number}", response_key=f"k{number}"))
                store.ingest_run(path)
                os.write(pipe, b"!")

    for _ in range(kills):
        child, reading = in_child(work)
        # At least one round, so that every kill meets new work however slow the machine is.
        for _ in range(chance.randint(1, 3)):
            assert os.read(reading, 1) == b"!"
        time.sleep(chance.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        with RunFolder.open(path) as run, Store(tmp_path / "index.duckdb", runs_folder) as store:
            store.ingest_all()
            indexed = [response.key for response in store.read(responses.of_run, path.name)]
            assert indexed == [f"k{number}" for number in range(len(run.keys("responses")))]
            assert len(store.read(judgements.of_run, path.name)) == len(run.keys("judgements"))
            assert store.read(runs.bad_lines) == []
    assert kept_aside(tmp_path) == []
    assert len(indexed) >= kills


def test_an_app_killed_at_any_moment_catches_up(tmp_path: Path, runs_folder: Path):
    kill_loop(tmp_path, runs_folder, 25)


@pytest.mark.slow
def test_an_app_killed_two_hundred_times_catches_up(tmp_path: Path, runs_folder: Path):
    kill_loop(tmp_path, runs_folder, 200)


def test_a_long_log_is_written_into_the_file_while_somebody_reads(
    store: Store, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(index, "_MOST_LOG", 50_000)
    log = ChatLog(store, runs_folder)
    conversation = log.start_conversation({}, {})
    longest = 0
    with store._database.cursor() as reader:
        reader.begin()
        reader.execute("SELECT count(*) FROM responses").fetchall()
        for number in range(12):
            sides = [
                nouns.response(f"{side}-{number}", text=f"{side}{number}" * 1_000, messages=(Message("user", "問い"),))
                for side in "lr"
            ]
            log.add_turn(conversation, nouns.prompt(), *sides)
            longest = max(longest, store._database.log_bytes())
        assert reader.execute("SELECT count(*) FROM responses").fetchall() == [(0,)]
        reader.rollback()
    assert 0 < longest < 100_000
    assert store.read(responses.of_run, conversation)[-1].text.startswith("r11")


def test_after_a_long_log_the_memory_is_let_go_and_readers_notice_nothing(
    store: Store, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(index, "_MOST_LOG", 50_000)
    log, opened = ChatLog(store, runs_folder), store._database.generation
    conversation = log.start_conversation({}, {})
    done, seen = threading.Event(), [0]

    def look() -> None:
        while not done.is_set():
            seen.append(len(store.read(responses.of_run, conversation)))
            done.wait(0.01)

    with ThreadPoolExecutor(2) as readers:
        looks = [readers.submit(look) for _ in range(2)]
        for number in range(30):
            sides = [nouns.response(f"{side}-{number}", text=f"{side}{number}" * 1_000) for side in "lr"]
            log.add_turn(conversation, nouns.prompt(), *sides)
        done.set()
        for each in looks:
            each.result()
    assert store._database.generation > opened, "it was never let go"
    assert len(store.read(responses.of_run, conversation)) == 60 and max(seen) <= 60
