"""kill -9 of the app, of the child and of both, at any moment: no run is worked on twice, forgotten, or loses a step."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evaluation.disk import lock_held
from evaluation.journal import RunFolder, run_status
from playground.jobs import Supervisor, control
from playground.jobs import start as start_module
from playground.jobs.leases import holder
from playground.jobs.process import is_alive, orphans, read_process, send
from tests.playground.jobs.waiting import FAKE_WORK, events, steps, wait_for_status, wait_until
from tests.processes import in_child

ROOT = Path(__file__).parents[3]
STEPS = 30


def queue_run(home: Path, **settings: object) -> Path:
    settings = {"steps": STEPS, "step_s": 0.02, **settings}
    return control.submit(home / "runs", "benchmark", settings, {}, "cpu", command="count")


@contextmanager
def app(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An app in a process of its own, watching the queue; killed at the end unless somebody did it before."""
    with (home / "app.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.playground.jobs.fake_app", str(home)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"watching\n", (home / "app.log").read_text()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def kill_child(run: Path) -> bool:
    process = read_process(run)
    return process is not None and send(process, signal.SIGKILL)


def kill_loop(home: Path, kills: int, seed: int) -> None:
    """Let apps come and go over two runs, killing at random, until `kills` blows have been dealt; then let them finish."""
    chance = random.Random(seed)
    runs = [queue_run(home), queue_run(home)]
    dealt = 0
    while dealt < kills:
        with app(home) as process:
            for _ in range(chance.randint(1, 3)):
                # From "just being forked" to "at work": a start takes about a second, a run another.
                time.sleep(chance.choice((0.0, 0.02, 0.1, 0.3, 0.6, 1.0)) * chance.random())
                victim = chance.choice(("app", "child", "both"))
                if victim != "app":
                    dealt += any(kill_child(run) for run in runs)
                if victim != "child":
                    process.kill()
                    dealt += 1
                    break
            check(home, runs)
        for run in runs:
            if run_status(run) == "finished":  # there is always something to be killed
                runs[runs.index(run)] = queue_run(home)
            elif run_status(run) == "lost":
                control.queue_again(run, "cpu", "count")
    with app(home):
        for run in (path for path in (home / "runs").glob("[!.]*")):
            wait_until(lambda run=run: run_status(run) in ("finished", "lost"), f"the end of {run.name}")
            while run_status(run) == "lost":
                control.queue_again(run, "cpu", "count")
                wait_until(lambda run=run: run_status(run) in ("finished", "lost"), f"the end of {run.name}")
            assert steps(run) == list(range(1, STEPS + 1)), "a step is missing or was made twice"
    check(home, runs)
    wait_until(lambda: holder(home, "cpu") is None, "a free device")


def check(home: Path, runs: list[Path]) -> None:
    """What holds at every moment."""
    for run in (home / "runs").glob("[!.]*"):
        assert not (run / "two-at-once").exists(), "two processes worked on one run"
        seen = steps(run)
        assert seen == list(range(1, len(seen) + 1)), "a step is missing or was made twice"
        assert [event.seq for event in events(run)] == list(range(1, len(events(run)) + 1))
    working = [run for run in runs if lock_held(run / "lock") and run_status(run) == "running"]
    assert len(working) <= 1, "two runs on one device"


def test_killed_six_times_at_random_every_run_is_finished_once(home: Path):
    kill_loop(home, 6, seed=4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_sixty_times_at_random_every_run_is_finished_once(home: Path, seed: int):
    kill_loop(home, 20, seed)


# ---- the moments that chance hardly ever meets -------------------------------------------------------------------------


def die_in_start(home: Path, patch: Callable[[], None]) -> None:
    """Run a supervisor in a forked process that dies where `patch` says."""

    def work(pipe: int) -> None:
        patch()
        supervisor = Supervisor(home, program=FAKE_WORK)
        supervisor.start()
        time.sleep(60)

    child, reading = in_child(work)
    _, ended = os.waitpid(child, 0)
    os.close(reading)
    assert os.waitstatus_to_exitcode(ended) == 9, "it did not come to the moment in question"


def end_here(*_: object, **__: object) -> None:
    os._exit(9)


def test_an_app_that_dies_with_the_lock_in_its_hand_leaves_the_run_in_the_queue(home: Path, make_supervisor):
    run = queue_run(home)
    die_in_start(home, lambda: setattr(start_module, "make_ballast", end_here))
    assert run_status(run) == "queued"
    assert holder(home, "cpu") is None
    wait_for_status(make_supervisor(), run.name, "finished")
    assert steps(run) == list(range(1, STEPS + 1))


def test_an_app_that_dies_right_after_the_fork_leaves_a_run_that_is_at_work(home: Path, make_supervisor):
    run = queue_run(home)
    die_in_start(home, lambda: setattr(start_module, "write_process", end_here))
    # Nobody has written yet who the child is, but it holds the lock and the device.
    assert run_status(run) == "running"
    assert holder(home, "cpu") is not None
    supervisor = make_supervisor()
    wait_for_status(supervisor, run.name, "finished")
    assert steps(run) == list(range(1, STEPS + 1))
    assert [event.event for event in events(run)].count("started") == 1


def test_an_app_and_a_child_that_die_before_the_child_has_a_name_leave_the_run_in_the_queue(
    home: Path, make_supervisor
):
    run = queue_run(home)
    die_in_start(home, lambda: setattr(start_module, "write_process", end_here))
    child = wait_until(lambda: holders_of(run / "lock"), "the child")
    for pid in child:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not lock_held(run / "lock"), "a free lock")
    assert run_status(run) in ("queued", "lost")  # lost, if it had come to say its name
    if run_status(run) == "lost":
        control.queue_again(run, "cpu", "count")
    wait_for_status(make_supervisor(), run.name, "finished")


def holders_of(lock: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/fd"):
        try:
            if any(link.exists() and link.samefile(lock) for link in entry.iterdir()):
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def test_an_app_that_dies_between_asking_and_killing_has_its_work_done_by_the_next(home: Path, make_supervisor):
    run = queue_run(home, steps=10_000, stubborn=True)
    with app(home):
        wait_until(lambda: steps(run), "a first step")
        control.request_stop(run, "enough", deadline_s=0.5)
    assert run_status(run) == "stopping"
    supervisor = make_supervisor()
    wait_for_status(supervisor, run.name, "cancelled")
    assert "was killed" in events(run)[-1].data["reason"]


def test_a_resume_that_died_half_way_can_be_repeated(home: Path, make_supervisor, monkeypatch):
    run = queue_run(home)
    with RunFolder.open(run) as folder:
        folder.event("started")
    assert run_status(run) == "lost"

    def work(pipe: int) -> None:
        monkeypatch.setattr(control, "forget_last_process", end_here)
        control.queue_again(run, "cpu", "count")

    child, reading = in_child(work)
    os.waitpid(child, 0)
    os.close(reading)
    assert run_status(run) == "lost"
    control.queue_again(run, "cpu", "count")
    wait_for_status(make_supervisor(), run.name, "finished")


def test_the_leader_killed_alone_takes_its_helpers_with_it(home: Path, make_supervisor):
    run = queue_run(home, helper=True, steps=10_000)
    supervisor = make_supervisor()
    wait_until(lambda: steps(run), "a first step")
    process = read_process(run)
    assert process is not None and orphans(process, run / "lock")
    kill_child(run)
    wait_for_status(supervisor, run.name, "lost")
    assert not is_alive(process) and not orphans(process, run / "lock")
