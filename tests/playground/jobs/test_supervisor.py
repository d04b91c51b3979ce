"""The supervisor with real child processes: each run is worked on once, in order, and nothing that dies is forgotten."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from evaluation.errors import SettingsRejected
from evaluation.journal import create_run, run_status
from playground.jobs import Supervisor
from playground.jobs.process import is_alive, read_exit, read_process
from playground.jobs.start import _environment
from tests.playground.jobs.waiting import events, lifecycle, steps, submit, wait_for_status, wait_until


def test_a_run_goes_from_the_queue_to_its_end_in_a_process_of_its_own(home: Path, supervisor: Supervisor):
    run_id = submit(supervisor)
    run = home / "runs" / run_id
    wait_for_status(supervisor, run_id, "finished")
    assert lifecycle(run) == ["queued", "started", "finished"]
    assert steps(run) == [1, 2, 3]
    process = read_process(run)
    assert process is not None and process.pid != os.getpid() and process.leads_group
    wait_until(lambda: read_exit(run, process) == 0, "its exit status in the folder")
    assert "metric: step 3" in (run / "log.txt").read_text()
    started = events(run)[1].data
    assert (started["command"], started["resume"]) == ("count", False)


def test_the_same_key_starts_one_run_however_often_it_is_pressed(home: Path, supervisor: Supervisor):
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(submit(supervisor, key="start-1"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 1
    wait_for_status(supervisor, ids[0], "finished")
    assert submit(supervisor, key="start-1") == ids[0]
    assert submit(supervisor, key="start-2") != ids[0]


def test_a_key_is_known_to_another_app_too(make_supervisor):
    first = make_supervisor()
    run_id = submit(first, key="start-1")
    assert submit(make_supervisor(), key="start-1") == run_id


def test_a_device_works_on_one_run_at_a_time_in_the_order_of_the_queue(home: Path, supervisor: Supervisor):
    ids = [submit(supervisor, step_s=0.1) for _ in range(3)]
    wait_for_status(supervisor, ids[0], "running")
    wait_until(lambda: supervisor.holder("cpu"), "a holder of the device")
    waiting = [job for job in supervisor.jobs() if job.status == "queued"]
    assert [(job.run_id, job.position) for job in waiting] == [(ids[1], 1), (ids[2], 2)]
    assert waiting[0].waits_for is not None and waiting[0].waits_for.run_id == ids[0]
    for run_id in ids:
        wait_for_status(supervisor, run_id, "finished")
    begun = [events(home / "runs" / run_id)[1].at for run_id in ids]
    ended = [events(home / "runs" / run_id)[-1].at for run_id in ids]
    assert begun[0] < ended[0] <= begun[1] < ended[1] <= begun[2]


def test_two_devices_do_not_wait_for_each_other(home: Path, supervisor: Supervisor):
    slow = submit(supervisor, steps=1000, step_s=0.1)
    wait_for_status(supervisor, slow, "running")
    other = supervisor.submit("benchmark", {"steps": 1}, {}, device="cuda:0")
    wait_for_status(supervisor, other, "finished")
    assert supervisor.job(slow).status == "running"  # type: ignore[union-attr]


def test_a_queued_run_is_cancelled_at_once(home: Path, supervisor: Supervisor):
    busy = submit(supervisor, steps=1000, step_s=0.1)
    waiting = submit(supervisor)
    wait_for_status(supervisor, busy, "running")
    supervisor.cancel(waiting)
    assert supervisor.job(waiting).status == "cancelled"  # type: ignore[union-attr]
    assert lifecycle(home / "runs" / waiting) == ["queued", "cancelled"]


def test_a_run_at_work_is_asked_to_stop_and_saves_first(home: Path, supervisor: Supervisor):
    run_id = submit(supervisor, steps=1000, step_s=0.05)
    run = home / "runs" / run_id
    wait_until(lambda: steps(run), "a first step")
    supervisor.cancel(run_id, "no longer wanted")
    wait_for_status(supervisor, run_id, "cancelled")
    last = events(run)[-1]
    assert last.event == "cancelled"
    assert (last.data["reason"], last.data["step"]) == ("no longer wanted", steps(run)[-1])
    process = read_process(run)
    assert process is not None
    wait_until(lambda: read_exit(run, process) == 0, "the exit status of a clean stop")
    job = supervisor.job(run_id)
    assert job is not None and job.reason == "no longer wanted"


def test_one_that_does_not_stop_is_killed_with_everything_it_started(home: Path, make_supervisor):
    supervisor = make_supervisor(deadline_s=0.5)
    run_id = submit(supervisor, steps=10_000, step_s=0.05, stubborn=True, helper=True)
    run = home / "runs" / run_id
    wait_until(lambda: steps(run) and (run / "helper").exists() and (run / "helper").read_text(), "a first step")
    helper = int((run / "helper").read_text())
    supervisor.cancel(run_id)
    assert supervisor.job(run_id).status == "stopping"  # type: ignore[union-attr]
    wait_for_status(supervisor, run_id, "cancelled")
    assert "was killed" in events(run)[-1].data["reason"]
    wait_until(lambda: not Path(f"/proc/{helper}").exists(), "the end of the helper")
    assert supervisor.holder("cpu") is None


def test_a_run_whose_process_vanished_is_lost_with_the_end_of_its_log_and_can_be_resumed(
    home: Path, supervisor: Supervisor
):
    run_id = submit(supervisor, steps=5, die=2)
    run = home / "runs" / run_id
    wait_for_status(supervisor, run_id, "lost")
    wait_until(lambda: "SIGKILL" in supervisor.job(run_id).reason, "how it ended")  # type: ignore[union-attr]
    job = supervisor.job(run_id)
    assert job is not None and "out of luck" in job.reason and job.pid is None
    supervisor.resume(run_id)
    wait_for_status(supervisor, run_id, "finished")
    assert steps(run) == [1, 2, 3, 4, 5]
    assert lifecycle(run) == ["queued", "started", "queued", "started", "finished"]
    assert events(run)[-2].data["resume"] is True


def test_what_a_dead_process_left_running_does_not_keep_the_device(home: Path, supervisor: Supervisor):
    run_id = submit(supervisor, steps=3, die=1, helper=True)
    wait_for_status(supervisor, run_id, "lost")
    assert supervisor.holder("cpu") is None
    following = submit(supervisor)
    wait_for_status(supervisor, following, "finished")


def test_a_failed_run_says_why_and_keeps_what_it_wrote(home: Path, supervisor: Supervisor):
    run_id = submit(supervisor, fail="the moon was full")
    wait_for_status(supervisor, run_id, "failed")
    job = supervisor.job(run_id)
    assert job is not None and job.reason == "ValueError: the moon was full"
    assert steps(home / "runs" / run_id) == [1]
    assert "Traceback" in (home / "runs" / run_id / "log.txt").read_text()


def test_a_process_that_dies_of_an_import_is_lost_and_not_started_again(home: Path, make_supervisor):
    supervisor = make_supervisor(program=("/bin/sh", "-c", "echo no such module >&2; exit 3"))
    run_id = submit(supervisor)
    wait_for_status(supervisor, run_id, "lost")
    wait_until(lambda: "status 3" in supervisor.job(run_id).reason, "its exit status")  # type: ignore[union-attr]
    assert "no such module" in supervisor.job(run_id).reason  # type: ignore[union-attr]
    assert lifecycle(home / "runs" / run_id) == ["queued"]
    following = submit(supervisor)
    wait_for_status(supervisor, following, "lost")


def test_a_program_that_cannot_be_started_leaves_the_run_in_the_queue_with_the_reason(make_supervisor):
    supervisor = make_supervisor(program=("/nonexistent/python",))
    run_id = submit(supervisor)
    wait_until(lambda: supervisor.job(run_id).reason, "a reason")  # type: ignore[union-attr]
    job = supervisor.job(run_id)
    assert job is not None and job.status == "queued" and "No such file" in job.reason


def test_an_app_that_is_started_again_finds_its_runs(home: Path, make_supervisor):
    first = make_supervisor()
    working, waiting = submit(first, steps=1000, step_s=0.05), submit(first)
    wait_until(lambda: steps(home / "runs" / working), "a first step")
    pid = first.job(working).pid
    first.close()
    process = read_process(home / "runs" / working)
    assert process is not None and is_alive(process), "closing the app must not end its runs"
    second = make_supervisor()
    adopted = second.job(working)
    assert adopted is not None and (adopted.status, adopted.pid) == ("running", pid)
    assert second.job(waiting).position == 1
    second.cancel(working)
    wait_for_status(second, working, "cancelled")
    wait_for_status(second, waiting, "finished")


def test_an_adopted_process_that_vanishes_is_noticed(home: Path, make_supervisor):
    first = make_supervisor()
    run_id = submit(first, steps=1000, step_s=0.05)
    wait_until(lambda: steps(home / "runs" / run_id), "a first step")
    first.close()
    second = make_supervisor()
    pid = second.job(run_id).pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)  # both apps are this process, so it is our child all the same
    wait_for_status(second, run_id, "lost")


def test_two_apps_on_one_home_work_on_each_run_once(home: Path, make_supervisor):
    apps = [make_supervisor(), make_supervisor()]
    ids = [submit(apps[n % 2]) for n in range(4)]
    for run_id in ids:
        wait_for_status(apps[0], run_id, "finished")
        wait_for_status(apps[1], run_id, "finished")
        assert lifecycle(home / "runs" / run_id) == ["queued", "started", "finished"]
        assert steps(home / "runs" / run_id) == [1, 2, 3]
        assert not (home / "runs" / run_id / "two-at-once").exists()


def test_what_others_put_into_the_folders_is_seen(home: Path, supervisor: Supervisor):
    """The command line queues, works and cancels through the folders alone."""
    queued = {"device": "cpu", "key": None, "command": "count"}
    with create_run(home / "runs", "benchmark", {"steps": 2}, {}, queued=queued) as folder:
        pass
    wait_for_status(supervisor, folder.path.name, "finished")
    with create_run(home / "runs", "benchmark", {"steps": 2}, {}) as mine:
        mine.event("started")
        wait_for_status(supervisor, mine.path.name, "running")
        mine.event("finished")
    wait_for_status(supervisor, mine.path.name, "finished")


def test_a_run_that_was_removed_is_forgotten(home: Path, supervisor: Supervisor):
    run_id = submit(supervisor)
    wait_for_status(supervisor, run_id, "finished")
    for path in sorted((home / "runs" / run_id).rglob("*"), reverse=True):
        path.unlink()
    (home / "runs" / run_id).rmdir()
    wait_until(lambda: supervisor.job(run_id) is None, "the run is gone")


def test_conversations_and_damaged_folders_are_no_jobs(home: Path, supervisor: Supervisor):
    with create_run(home / "runs", "chat", {}, {}) as chat:
        pass
    (home / "runs" / "20200101-damaged").mkdir()
    (home / "runs" / "20200101-damaged" / "run.json").write_text("{")
    run_id = submit(supervisor)
    wait_for_status(supervisor, run_id, "finished")
    assert [job.run_id for job in supervisor.jobs()] == [run_id]
    assert run_status(chat.path) == "finished"


@pytest.mark.parametrize("run_id", ["nothing", "..", "/etc", ""])
def test_an_id_that_is_no_run_is_refused(supervisor: Supervisor, run_id: str):
    for call in (supervisor.cancel, supervisor.resume):
        with pytest.raises(SettingsRejected, match="There is no run"):
            call(run_id)


def test_what_has_ended_is_neither_cancelled_nor_resumed(supervisor: Supervisor):
    run_id = submit(supervisor)
    wait_for_status(supervisor, run_id, "finished")
    with pytest.raises(SettingsRejected, match="is finished; there is nothing to cancel"):
        supervisor.cancel(run_id)
    with pytest.raises(SettingsRejected, match="is finished, so there is nothing to resume"):
        supervisor.resume(run_id)


def test_an_unknown_device_is_refused_before_anything_is_written(home: Path, supervisor: Supervisor):
    with pytest.raises(SettingsRejected, match="Device 'tpu'"):
        supervisor.submit("benchmark", {}, {}, device="tpu")
    assert not list((home / "runs").glob("[!.]*"))


def test_before_it_is_started_it_only_looks(home: Path):
    supervisor = Supervisor(home)
    run_id = submit(supervisor)
    assert [(job.run_id, job.status, job.position) for job in supervisor.jobs()] == [(run_id, "queued", 1)]
    supervisor.close()


SHOW = ("/bin/sh", "-c", 'test "$LENT_THING" = "a secret" && exit 7; exit 8')


def test_what_is_lent_is_in_the_environment_of_the_run_alone(home: Path, make_supervisor):
    asked: list[Path] = []

    def lend(run: Path) -> dict[str, str]:
        asked.append(run)
        return {"LENT_THING": "a secret"}

    supervisor = make_supervisor(program=SHOW, lend=lend)
    run_id = submit(supervisor)
    run = home / "runs" / run_id
    wait_until(lambda: "status 7" in (supervisor.job(run_id).reason or ""), "its exit status")  # type: ignore[union-attr]
    assert asked == [run] and "LENT_THING" not in os.environ
    assert not [file for file in run.rglob("*") if file.is_file() and b"a secret" in file.read_bytes()]


def test_a_run_waits_for_what_is_to_be_lent_to_it_and_says_so(make_supervisor, monkeypatch):
    monkeypatch.setattr("playground.jobs.supervisor.RETRY_S", 0.1)
    there = threading.Event()

    def lend(run: Path) -> dict[str, str]:
        if not there.is_set():
            raise SettingsRejected("The vLLM server is starting; the run begins when it is there.")
        return {}

    supervisor = make_supervisor(lend=lend)
    run_id = submit(supervisor)
    wait_until(lambda: "is starting" in (supervisor.job(run_id).reason or ""), "the reason")  # type: ignore[union-attr]
    assert supervisor.job(run_id).status == "queued" and supervisor.holder("cpu") is None  # type: ignore[union-attr]
    there.set()
    wait_for_status(supervisor, run_id, "finished")


def test_a_training_sees_its_device_alone_and_a_benchmark_answered_elsewhere_what_the_app_sees(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    seen = {
        (kind, device): _environment(tmp_path, kind, device)["CUDA_VISIBLE_DEVICES"]
        for kind in ("training", "benchmark")
        for device in ("cpu", "cuda:1")
    }
    assert seen == {("training", "cpu"): "", ("training", "cuda:1"): "5", ("benchmark", "cpu"): "3,5",
                    ("benchmark", "cuda:1"): "5"}  # fmt: skip
