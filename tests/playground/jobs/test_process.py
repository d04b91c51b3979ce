"""A process is known by its number, its start and its boot, so that no signal reaches a stranger."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from playground.jobs.process import (
    Process,
    identify,
    identify_child,
    is_alive,
    kill_all,
    orphans,
    read_exit,
    read_process,
    send,
    write_exit,
    write_process,
)
from tests.playground.jobs.waiting import new_run, wait_until

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, start_new_session=True)
    assert child.stdout is not None and child.stdout.readline() == b"up\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def known(pid: int) -> Process:
    process = identify(pid)
    assert process is not None
    return process


def test_a_living_process_is_itself(sleeper):
    process = known(sleeper.pid)
    assert is_alive(process)
    assert process.leads_group
    assert known(os.getpid()).leads_group == (os.getsid(0) == os.getpid())


def test_a_number_that_was_given_out_again_is_another_process(sleeper):
    earlier = replace(known(sleeper.pid), start_time=known(sleeper.pid).start_time - 1)
    assert not is_alive(earlier)
    assert not send(earlier, signal.SIGKILL)
    kill_all(earlier, Path("/nonexistent"))
    assert sleeper.poll() is None


def test_a_process_of_an_earlier_boot_is_gone(sleeper):
    earlier = replace(known(sleeper.pid), boot_id="00000000-0000-0000-0000-000000000000")
    assert not is_alive(earlier)
    assert not send(earlier, signal.SIGKILL)
    kill_all(earlier, Path("/nonexistent"))
    assert sleeper.poll() is None


def test_a_process_that_ended_but_was_not_waited_for_is_dead_and_still_has_its_number(sleeper):
    process = known(sleeper.pid)
    sleeper.kill()
    wait_until(lambda: identify(sleeper.pid) is None, "its end")
    assert not is_alive(process)
    assert replace(identify_child(sleeper.pid), leads_group=process.leads_group) == process


def test_a_signal_reaches_the_process_that_is_meant(sleeper):
    assert send(known(sleeper.pid), signal.SIGTERM)
    assert sleeper.wait() == -signal.SIGTERM


def test_what_a_killed_process_forked_is_found_by_the_lock_it_holds_and_killed(tmp_path: Path):
    lock = tmp_path / "lock"
    program = (
        "import os, sys, time; fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)\n"
        "child = os.fork()\n"
        "if child: print(child, flush=True)\n"
        "time.sleep(600)"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", program, str(lock)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert leader.stdout is not None
    helper = int(leader.stdout.readline())
    leader.stdout.close()
    process = known(leader.pid)
    os.kill(leader.pid, signal.SIGKILL)
    leader.wait()
    assert orphans(process, lock) == [helper]
    other = tmp_path / "other"
    other.touch()
    assert orphans(process, other) == [], "a process that does not hold this lock is a stranger"
    kill_all(process, lock)
    wait_until(lambda: identify(helper) is None, "the end of the helper")


def test_the_folder_says_who_works_on_the_run(home: Path):
    run = new_run(home)
    assert read_process(run) is None
    write_process(run, known(os.getpid()))
    assert read_process(run) == known(os.getpid())
    (run / "process.json").write_text('{"pid": 1}')
    assert read_process(run) is None


def test_how_a_process_ended_counts_for_that_process_only(home: Path):
    run = new_run(home)
    ours = known(os.getpid())
    assert read_exit(run, ours) is None
    write_exit(run, ours.pid, -9)
    assert read_exit(run, ours) == -9
    assert read_exit(run, replace(ours, pid=ours.pid + 1)) is None


def test_the_start_is_read_behind_a_name_with_brackets_and_spaces(tmp_path: Path):
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(odd), "60"])
    try:
        wait_until(lambda: "a) R" in Path(f"/proc/{child.pid}/stat").read_text(), "its name")
        before = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
        assert 0 < known(child.pid).start_time <= before
    finally:
        child.kill()
        child.wait()
