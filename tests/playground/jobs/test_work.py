"""The working side: one beginning, one end, and the end says what happened."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
import time
from pathlib import Path

import pytest

from evaluation.errors import UserFacingError
from evaluation.journal import CANCEL_FILE, DiskRefused, RunFolder, run_status
from playground.jobs import control
from playground.jobs import work as work_module
from playground.jobs.process import identify, read_process
from playground.jobs.work import BALLAST_FILE, Assignment, Ending, Outcome, Worker, work
from tests.playground.jobs.waiting import events, lifecycle, new_run, wait_until
from tests.processes import in_child, output_of


@pytest.fixture
def run(home: Path) -> Path:
    return new_run(home)


def do(run: Path, worker: Worker) -> Ending:
    with RunFolder.open(run) as folder:
        return work(folder, worker, run.parent.parent, "count to one")


def until_stopped(run: Assignment) -> Outcome:
    run.report("metric", {"step": 7})
    give_up = time.monotonic() + 60
    while not run.should_stop():
        assert time.monotonic() < give_up, "nobody asked for a stop"
        time.sleep(0.01)
    return Outcome({"adapter": "a"}, stopped=True, step=7)


def test_a_worker_gets_the_frozen_settings_and_its_outcome_is_the_end(run: Path):
    given: list[Assignment] = []

    def worker(assignment: Assignment) -> Outcome:
        given.append(assignment)
        assignment.report("metric", {"step": 1})
        return Outcome({"steps": 1})

    ending = do(run, worker)
    assert (ending.status, ending.data) == ("finished", {"steps": 1})
    assert (given[0].info.settings, given[0].path, given[0].resume) == ({"steps": 1}, run, False)
    assert lifecycle(run) == ["started", "finished"]
    assert events(run)[-1].data == {"steps": 1}
    assert read_process(run) == identify(os.getpid())
    assert not (run / BALLAST_FILE).exists()


def test_a_second_time_is_a_resume(run: Path):
    resumed: list[bool] = []

    def worker(assignment: Assignment) -> Outcome:
        resumed.append(assignment.resume)
        return Outcome(stopped=len(resumed) == 1)

    do(run, worker)
    do(run, worker)
    assert resumed == [False, True]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(UserFacingError("Lower it."), "Lower it.", id="told to people"),
        pytest.param(ValueError("two\nlines"), "ValueError: two lines", id="a bug"),
        pytest.param(KeyError(), "KeyError: KeyError", id="a bug without words"),
        pytest.param(RuntimeError("x" * 5000), "RuntimeError: " + "x" * 1000, id="a long one"),
    ],
)
def test_what_a_worker_raises_is_the_reason_in_one_line_and_is_raised(run: Path, error: Exception, reason: str):
    def worker(assignment: Assignment) -> Outcome:
        raise error

    with pytest.raises(type(error)):
        do(run, worker)
    assert lifecycle(run) == ["started", "failed"]
    assert events(run)[-1].data == {"reason": reason}
    assert run_status(run) == "failed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_and_the_worker_saves(run: Path, number: signal.Signals):
    before = signal.getsignal(number)

    def worker(assignment: Assignment) -> Outcome:
        os.kill(os.getpid(), number)
        return until_stopped(assignment)

    ending = do(run, worker)
    assert ending.status == "cancelled"
    assert events(run)[-1].data == {"adapter": "a", "reason": f"asked to stop by {number.name}", "step": 7}
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_interrupts(run: Path):
    def worker(assignment: Assignment) -> Outcome:
        os.kill(os.getpid(), signal.SIGINT)
        until_stopped(assignment)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not interrupted")

    with pytest.raises(KeyboardInterrupt):
        do(run, worker)
    assert lifecycle(run) == ["started", "cancelled"]
    assert "before it could save" in events(run)[-1].data["reason"]


def test_a_second_sigterm_changes_nothing(run: Path):
    """The page and the command line may both have asked."""

    def worker(assignment: Assignment) -> Outcome:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        return until_stopped(assignment)

    assert do(run, worker).status == "cancelled"


def test_a_file_in_the_folder_asks_too_where_no_signal_reaches(run: Path, monkeypatch):
    monkeypatch.setattr(work_module, "LOOK_S", 0.01)

    def worker(assignment: Assignment) -> Outcome:
        (run / CANCEL_FILE).write_text(json.dumps({"at": "2026-01-01T00:00:00Z", "reason": "by hand"}))
        return until_stopped(assignment)

    assert do(run, worker).data["reason"] == "by hand"


def test_a_file_that_was_only_touched_asks_as_well(run: Path, monkeypatch):
    monkeypatch.setattr(work_module, "LOOK_S", 0.01)

    def worker(assignment: Assignment) -> Outcome:
        (run / CANCEL_FILE).touch()
        return until_stopped(assignment)

    assert "cancel.json" in do(run, worker).data["reason"]


@pytest.mark.parametrize(
    "told",
    [
        {"at": "soon", "reason": "x"}, {"at": "2026-01-01T00:00:00", "reason": "x"}, {"at": 5, "reason": "x"},
        {"at": "2026-01-01T00:00:00Z", "reason": "x", "deadline_s": "never"},
    ],
)  # fmt: skip
def test_a_file_of_strange_content_asks_as_one_that_was_touched(run: Path, told: dict[str, object]):
    (run / CANCEL_FILE).write_text(json.dumps(told))
    with RunFolder.open(run):
        assert not control.enforce_stop(run), "its deadline has only begun"
    asked = control.read_request(run)
    assert asked is not None and "cancel.json" in asked.reason


def test_a_queued_run_that_was_cancelled_before_its_process_came_up_does_no_work(run: Path):
    with RunFolder.open(run) as folder:
        folder.event("queued", device="cpu", key=None, command="")
    (run / CANCEL_FILE).write_text(json.dumps({"at": "2026-01-01T00:00:00Z", "reason": "too late"}))

    def worker(assignment: Assignment) -> Outcome:
        raise AssertionError("it worked")

    assert do(run, worker) == Ending("cancelled", {"reason": "too late", "step": 0})
    assert lifecycle(run) == ["queued", "cancelled"]


def test_what_was_asked_of_an_earlier_process_does_not_stop_a_resumed_run(run: Path):
    do(run, lambda assignment: Outcome(stopped=True))
    (run / CANCEL_FILE).touch()
    assert do(run, lambda assignment: Outcome()).status == "finished"


def test_a_silent_worker_has_a_heartbeat_and_one_that_talks_needs_none(run: Path, monkeypatch):
    monkeypatch.setattr(work_module, "LOOK_S", 0.01)
    monkeypatch.setattr(work_module, "HEARTBEAT_S", 0.0)

    def silent(assignment: Assignment) -> Outcome:
        wait_until(lambda: any(event.event == "heartbeat" for event in events(run)), "a heartbeat")
        return Outcome()

    do(run, silent)
    monkeypatch.setattr(work_module, "HEARTBEAT_S", 3600.0)
    before = len([event for event in events(run) if event.event == "heartbeat"])

    def talks(assignment: Assignment) -> Outcome:
        time.sleep(0.1)
        return Outcome()

    do(run, talks)
    assert len([event for event in events(run) if event.event == "heartbeat"]) == before


def test_off_the_main_thread_signals_are_left_alone(run: Path):
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def worker(assignment: Assignment) -> Outcome:
        seen.append(signal.getsignal(signal.SIGTERM))
        return Outcome()

    thread = threading.Thread(target=do, args=(run, worker))
    thread.start()
    thread.join()
    assert seen == [before]
    assert run_status(run) == "finished"


def test_a_heartbeat_that_the_disk_refuses_stops_the_worker_and_fails_the_run(run: Path, monkeypatch):
    monkeypatch.setattr(work_module, "LOOK_S", 0.01)
    monkeypatch.setattr(work_module, "HEARTBEAT_S", 0.0)
    honest = RunFolder.event

    def refuses(self: RunFolder, name: str, /, **data: object) -> int:
        if name == "heartbeat":
            raise DiskRefused("no room for a heartbeat")
        return honest(self, name, **data)  # type: ignore[arg-type]

    monkeypatch.setattr(RunFolder, "event", refuses)
    with pytest.raises(DiskRefused):
        do(run, until_stopped)
    assert events(run)[-1].data["reason"] == "no room for a heartbeat"


def test_a_limit_on_file_sizes_ends_the_run_as_failed_and_loses_nothing(run: Path):
    def in_fork(pipe: int) -> None:
        def worker(assignment: Assignment) -> Outcome:
            assignment.report("metric", {"step": 1})
            limit = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, limit[1]))
            try:
                assignment.report("metric", {"step": 2})
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            raise AssertionError("written all the same")

        try:
            do(run, worker)
        except DiskRefused as error:
            os.write(pipe, str(error).encode())

    assert "Free some space" in output_of(*in_child(in_fork))
    assert [event.event for event in events(run)] == ["started", "metric", "failed"]
    assert "File too large" in events(run)[-1].data["reason"]


class TestFromOutside:
    def test_a_stop_that_its_process_did_not_live_to_write_is_written_for_it(self, run: Path):
        with RunFolder.open(run) as folder:
            folder.event("started")
            folder.event("metric", step=5)
            control.request_stop(run, "enough")
            control.settle(run)
            assert run_status(run) == "stopping", "its writer still lives"
        control.settle(run)
        assert events(run)[-1].data == {"reason": "enough", "step": 5}
        control.settle(run)
        assert lifecycle(run) == ["started", "cancelled"]

    def test_an_end_that_was_written_is_left_as_it_is(self, run: Path):
        with RunFolder.open(run) as folder:
            folder.event("started")
            control.request_stop(run, "enough")
            folder.event("finished")
        control.settle(run)
        assert lifecycle(run) == ["started", "finished"]

    def test_nobody_is_killed_before_the_deadline_or_without_a_request(self, run: Path):
        with RunFolder.open(run) as folder:
            folder.event("started")
            assert not control.enforce_stop(run)
            control.request_stop(run, "enough", deadline_s=3600)
            assert not control.enforce_stop(run)

    def test_a_stranger_with_the_number_of_the_process_gets_no_signal(self, home: Path, run: Path):
        """The lock is held by somebody, but process.json speaks of a process that is no more."""
        ours = identify(os.getpid())
        assert ours is not None
        document = {"pid": ours.pid, "start_time": ours.start_time - 1, "boot_id": ours.boot_id, "leads_group": True}
        got: list[int] = []
        before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
        try:
            with RunFolder.open(run) as folder:
                folder.event("started")
                (run / "process.json").write_text(json.dumps(document))
                control.request_stop(run, "enough", deadline_s=0)
                assert control.enforce_stop(run)
                control.end_orphans(run)
                time.sleep(0.05)
        finally:
            signal.signal(signal.SIGTERM, before)
        assert got == []

    def test_the_place_in_the_queue_is_asked_for_once(self, run: Path):
        with RunFolder.open(run) as folder:
            folder.event("started")
            folder.event("failed", reason="x")
        control.queue_again(run, "cpu", "again")
        assert run_status(run) == "queued"
        with pytest.raises(UserFacingError, match="is queued"):
            control.queue_again(run, "cpu", "again")
        assert lifecycle(run) == ["started", "failed", "queued"]

    def test_a_resumed_run_keeps_its_key(self, home: Path):
        run = control.submit(home / "runs", "benchmark", {}, {}, "cpu", key="start-1", command="")
        with RunFolder.open(run) as folder:
            folder.event("failed", reason="x")
        control.queue_again(run, "cpu", "again")
        assert events(run)[-1].data == {"device": "cpu", "key": "start-1", "command": "again"}
