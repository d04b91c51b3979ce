"""runs and work: what is there, how it stands, and how it goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.disk import take_lock
from evaluation.errors import SettingsRejected
from evaluation.journal import create_run, run_status
from playground.jobs import control
from playground.jobs.leases import Lease
from playground.jobs.waiting import Want
from playground.jobs.workers import worker_for
from tests.playground.calling import Call, refused
from tests.playground.jobs.waiting import events, lifecycle


@pytest.fixture
def run_id(home: Path) -> str:
    with create_run(home / "runs", "training", {"name": "mine"}, {}, seed=3) as folder:
        folder.event("started")
        folder.event("finished")
    return folder.path.name


def test_they_are_listed_newest_first_with_their_status(call: Call, home, run_id):
    with create_run(home / "runs", "chat", {}, {}) as newer:
        pass
    assert call("runs", "list", "--json").document == [
        {"run_id": newer.path.name, "kind": "chat", "name": "chat", "status": "finished"},
        {"run_id": run_id, "kind": "training", "name": "mine", "status": "finished"},
    ]
    assert call("runs", "list").out.splitlines()[0].split() == ["run", "kind", "name", "status", "note"]


def test_before_the_first_run_the_list_is_empty(call: Call):
    assert call("runs", "list", "--json").document == []
    assert call("runs", "list").status == 0


def test_the_queue_is_listed_with_each_place_and_who_has_the_device(call: Call, home):
    first, second = (control.submit(home / "runs", "training", {}, {}, "cpu", command="") for _ in range(2))
    with Lease(home, "cpu") as lease:
        lease.describe("20260101T000000000-abcdef", "benchmark", 7)
        rows = {row["run_id"]: row for row in call("runs", "list", "--json").document}
        words = call("runs", "list").out
    assert [rows[run.name]["position"] for run in (first, second)] == [1, 2]
    assert "benchmark run 20260101T000000000-abcdef" in rows[first.name]["waits_for"]
    assert "place 2 for cpu, after benchmark run" in words
    assert "cpu: in use by benchmark run 20260101T000000000-abcdef, process 7, since " in words


def test_chat_and_who_waits_for_it_are_listed_below_the_runs_and_by_doctor(call: Call, home):
    with Lease(home, "cuda:0") as lease, Want(home, "cuda:0", "training"):
        lease.describe(None, "chat", 7)
        words = call("runs", "list").out
        rows = {row["part"]: row for row in call("doctor", "--json").document}
    for said in (words, rows["cuda:0"]["detail"]):
        assert "in use by chat, process 7, since " in said and "; waiting: training, process " in said
    assert rows["cuda:0"]["state"] == "in use"
    assert "cuda:0" not in {row["part"] for row in call("doctor", "--json").document}


def test_a_damaged_run_hides_no_other(call: Call, home, run_id):
    (home / "runs" / "20200101-damaged").mkdir()
    (home / "runs" / "20200101-damaged" / "run.json").write_text("{")
    assert [row["status"] for row in call("runs", "list", "--json").document] == ["finished", "unreadable"]
    assert "unreadable" in call("runs", "list").out
    refused(call("runs", "show", "20200101-damaged"), 1, "run.json is damaged")


def test_one_is_shown_with_its_settings(call: Call, run_id):
    document = call("runs", "show", run_id, "--json").document
    assert (document["run_id"], document["settings"], document["status"]) == (run_id, {"name": "mine"}, "finished")
    assert "settings: {'name': 'mine'}" in call("runs", "show", run_id).out


def test_a_lost_one_is_shown_with_the_end_of_its_log(call: Call, home):
    with create_run(home / "runs", "training", {}, {}) as folder:
        folder.event("started")
    (folder.path / "log.txt").write_text("step 1\nSegmentation fault\n")
    document = call("runs", "show", folder.path.name, "--json").document
    assert document["status"] == "lost"
    assert "step 1 / Segmentation fault" in document["reason"]


@pytest.mark.parametrize("command", ["show", "resume", "cancel"])
@pytest.mark.parametrize("name", ["nothing", "..", "../home", ".", "/etc"])
def test_what_is_no_run_ends_with_2(call: Call, run_id, command, name):
    refused(call("runs", command, name), 2, "runs list")


def test_a_conversation_is_not_resumed_and_no_process_can_work_on_it(call: Call, home):
    with create_run(home / "runs", "chat", {}, {}) as folder:
        folder.event("started")
    refused(call("runs", "resume", folder.path.name), 2, "nothing to resume")
    with pytest.raises(SettingsRejected, match="is a chat; only training, benchmark, judging"):
        worker_for(folder.info)
    assert lifecycle(folder.path) == ["started"]


def test_a_finished_run_is_neither_resumed_nor_cancelled(call: Call, run_id):
    refused(call("runs", "resume", run_id), 2, "is finished, so there is nothing to resume")
    refused(call("runs", "resume", run_id, "--queue"), 2, "is finished, so there is nothing to resume")
    refused(call("runs", "cancel", run_id), 2, "is finished; there is nothing to cancel")


def test_a_lost_run_can_be_put_into_the_queue(call: Call, home):
    with create_run(home / "runs", "training", {}, {}) as folder:
        folder.event("started")
    said = call("runs", "resume", folder.path.name, "--queue", "--json")
    assert said.document == {"run_id": folder.path.name, "status": "queued", "reason": ""}
    assert "No app watches the queue" in said.err
    assert events(folder.path)[-1].data["command"] == f"python -m playground runs resume {folder.path.name}"


def test_a_killed_training_goes_on_where_it_was(call: Call, home, settings_file):
    """What a kill -9 leaves: events without an end, and perhaps no checkpoint yet."""
    document = json.loads(settings_file.read_text())
    with create_run(home / "runs", "training", document, {}, seed=0) as folder:
        folder.event("started", command="", resume=False)
    assert run_status(folder.path) == "lost"
    said = call("runs", "resume", folder.path.name, "--json")
    assert said.status == 0
    assert (said.document["run_id"], said.document["status"]) == (folder.path.name, "finished")
    assert said.document["steps"] == 2
    assert [event.data["resume"] for event in events(folder.path) if event.event == "started"] == [False, True]


def test_the_index_is_rebuilt_from_the_folders(call: Call, home, run_id):
    said = call("runs", "ingest", "--json")
    assert said.status == 0
    assert (home / "index.duckdb").is_file()
    assert call("runs", "ingest", "--json").document == said.document


def test_while_the_app_holds_the_index_the_rebuild_says_so(call: Call, home, run_id):
    program = "import sys, duckdb; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    home.mkdir(exist_ok=True)
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(home / "index.duckdb")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        said = call("runs", "ingest")
        assert (said.status, said.out) == (1, "")
        assert len(said.err.splitlines()) == 1 and "Traceback" not in said.err
    finally:
        other.communicate(b"")


class TestWork:
    """The command that the supervisor starts. A process of its own: it changes its niceness."""

    def test_it_does_a_queued_run_with_the_lock_and_the_lease_that_it_inherits(self, call: Call, home, settings_file):
        document = json.loads(settings_file.read_text())
        run = control.submit(home / "runs", "training", document, {}, "cpu", command="the command")
        lock = take_lock(run / "lock")
        with Lease(home, "cpu") as lease:
            done = subprocess.run(
                [sys.executable, "-m", "playground", "work", run.name, "--lock", str(lock), "--lease", str(lease.fd)],
                pass_fds=(lock, lease.fd),
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
                capture_output=True,
                text=True,
            )
        os.close(lock)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert lifecycle(run) == ["queued", "started", "finished"]
        assert events(run)[1].data["command"] == "the command"
        assert "metric: " in done.stderr

    def test_the_help_does_not_list_it(self, call: Call):
        assert "work " not in call("--help").out

    def test_a_run_that_somebody_works_on_is_left_to_them(self, call: Call, home, monkeypatch):
        monkeypatch.setattr("evaluation.disk.LOCK_PATIENCE_S", 0.0)
        with create_run(home / "runs", "training", {}, {}) as folder:
            folder.event("started")
            refused(call("work", folder.path.name), 1, "is being written by process")
