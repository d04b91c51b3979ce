"""How a run stands follows from its events, its lock and two small files, whoever asks and whatever died before."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.journal import (
    CANCEL_FILE,
    PROCESS_FILE,
    RunFolder,
    create_run,
    last_event,
    read_records,
    run_status,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with create_run(tmp_path, "benchmark", {"suite": "sample-test"}, {"general": {"base": "gemma"}}, seed=3) as run:
        return run.path


def records(path: Path) -> list[object]:
    return [record for record, _ in read_records(path)]


def test_events_are_numbered_on_through_a_resume(folder: Path):
    with RunFolder.open(folder) as run:
        assert [run.event("started"), run.event("metric", loss=1.5), run.event("cancelled")] == [1, 2, 3]
    with RunFolder.open(folder) as run:
        assert run.event("started") == 4
    found = records(folder / "events.jsonl")
    assert [(event.seq, event.event) for event in found] == [
        (1, "started"),
        (2, "metric"),
        (3, "cancelled"),
        (4, "started"),
    ]
    assert found[1].data == {"loss": 1.5}


@pytest.mark.parametrize(
    ("events", "while_open", "after"),
    [
        pytest.param([], "running", "lost", id="killed before it began"),
        pytest.param(["queued"], "running", "queued", id="in the queue"),
        pytest.param(["queued", "started"], "running", "lost", id="killed after the queue"),
        pytest.param(["queued", "cancelled"], "cancelled", "cancelled", id="cancelled in the queue"),
        pytest.param(["started", "failed", "queued"], "running", "queued", id="resumed into the queue"),
        pytest.param(["started"], "running", "lost", id="killed"),
        pytest.param(["started", "metric", "heartbeat"], "running", "lost", id="killed at work"),
        pytest.param(["started", "finished"], "finished", "finished", id="finished"),
        pytest.param(["started", "failed"], "failed", "failed", id="failed"),
        pytest.param(["started", "cancelled"], "cancelled", "cancelled", id="cancelled"),
        pytest.param(["started", "cancelled", "started"], "running", "lost", id="resumed and killed"),
        pytest.param(["started", "failed", "started", "finished"], "finished", "finished", id="resumed and finished"),
    ],
)
def test_the_status_follows_from_the_events_and_from_whether_a_writer_lives(
    folder: Path, events: list[str], while_open: str, after: str
):
    with RunFolder.open(folder) as run:
        for name in events:
            run.event(name)
        assert run_status(folder) == while_open
    assert run_status(folder) == after


def test_a_queued_run_that_had_a_process_left_the_queue(folder: Path):
    with RunFolder.open(folder) as run:
        run.event("queued")
    (folder / PROCESS_FILE).touch()
    assert run_status(folder) == "lost"


def test_a_run_that_was_asked_to_stop_is_stopping_while_its_writer_lives(folder: Path):
    (folder / CANCEL_FILE).touch()
    with RunFolder.open(folder) as run:
        run.event("started")
        assert run_status(folder) == "stopping"
        run.event("cancelled")
    assert run_status(folder) == "cancelled"


def test_the_newest_event_of_a_name_comes_with_its_data(folder: Path):
    events = folder / "events.jsonl"
    assert last_event(events) is None
    with RunFolder.open(folder) as run:
        run.event("started", command="train")
        run.event("metric", step=1)
        run.event("metric", step=2)
    newest = last_event(events, ("metric",))
    assert newest is not None and (newest.seq, newest.data) == (3, {"step": 2})
    started = last_event(events)
    assert started is not None and started.data == {"command": "train"}
    assert last_event(events, ("warning",)) is None


def test_a_run_can_appear_with_its_place_in_the_queue(tmp_path: Path):
    with create_run(tmp_path, "training", {}, {}, queued={"device": "cpu"}) as run:
        assert run.event("started") == 2
    first = records(run.path / "events.jsonl")[0]
    assert (first.seq, first.event, first.data) == (1, "queued", {"device": "cpu"})


def test_the_status_is_found_behind_many_metrics_and_across_blocks(folder: Path):
    with RunFolder.open(folder) as run:
        run.event("started")
        for step in range(40):
            run.event("metric", note="x" * 5000, step=step)
        assert run_status(folder) == "running"
        run.event("finished")
        for step in range(40):
            run.event("metric", note="x" * 4999, step=step)
    assert run_status(folder) == "finished"


@pytest.mark.parametrize("shift", range(0, 60, 7))
def test_an_event_that_lies_across_two_blocks_is_found(folder: Path, shift: int):
    with RunFolder.open(folder) as run:
        run.event("started")
        size = (folder / "events.jsonl").stat().st_size
        run.event("metric", note="x" * 1000)
        overhead = (folder / "events.jsonl").stat().st_size - size - 1000
        # The reader's block is 64 KiB from the end of the file: put its edge inside the first line.
        run.event("metric", note="x" * ((1 << 16) - 2 * overhead - 1000 + 10 - shift))
    assert run_status(folder) == "lost"


def test_a_torn_end_does_not_count(folder: Path):
    with RunFolder.open(folder) as run:
        run.event("started")
        run.event("finished")
    file = folder / "events.jsonl"
    file.write_bytes(file.read_bytes()[:-1])
    assert run_status(folder) == "lost"


def test_text_that_looks_like_an_event_does_not_end_a_run(folder: Path):
    with RunFolder.open(folder) as run:
        run.event("started")
        run.event("warning", text=',"event":"finished","at":"')
        assert run_status(folder) == "running"


def test_a_conversation_is_never_lost(tmp_path: Path):
    create_run(tmp_path, "chat", {}, {}).close()
    assert run_status(next(tmp_path.iterdir())) == "finished"
