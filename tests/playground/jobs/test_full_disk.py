"""A full disk, a true one: the run ends as failed and says so, and what was written before is whole."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation.journal import DiskRefused, read_records, run_status
from playground.jobs import Supervisor, control
from tests.playground.jobs.waiting import FAKE_WORK, events, steps, submit, wait_for_status, wait_until


@pytest.fixture
def small_home(tmp_path: Path) -> Iterator[Path]:
    """A home on a tmpfs of 2 MB."""
    home = tmp_path / "small"
    home.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small tmpfs")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(home)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    yield home
    subprocess.run(["umount", "--lazy", str(home)], check=True)


@pytest.fixture
def supervisor(small_home: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(small_home, program=FAKE_WORK)
    supervisor.start()
    yield supervisor
    supervisor.close()


def test_a_disk_that_fills_up_ends_the_run_as_failed_with_the_reason(small_home: Path, supervisor: Supervisor):
    run_id = submit(supervisor, fill=True)
    run = small_home / "runs" / run_id
    wait_for_status(supervisor, run_id, "failed")
    assert shutil.disk_usage(small_home).free <= 1 << 17, "the disk was not full"
    job = supervisor.job(run_id)
    assert job is not None
    assert "is full" in job.reason and "Free some space" in job.reason
    found = [record for record, _ in read_records(run / "events.jsonl")]
    assert [event.event for event in found] == ["queued", "started", "metric", "failed"]  # type: ignore[union-attr]


def test_with_room_again_the_run_can_be_resumed(small_home: Path, supervisor: Supervisor):
    run_id = submit(supervisor, fill=True)
    wait_for_status(supervisor, run_id, "failed")
    (small_home / "runs" / run_id / "checkpoint").unlink()
    supervisor.resume(run_id)
    wait_until(
        lambda: len([e for e in events(small_home / "runs" / run_id) if e.event == "failed"]) == 2, "a second end"
    )
    assert steps(small_home / "runs" / run_id) == [1, 2]


def test_on_a_full_disk_nothing_is_begun_and_the_queue_says_why(small_home: Path, supervisor: Supervisor):
    run = control.submit(small_home / "runs", "benchmark", {"steps": 2}, {}, "cuda:0", command="count")
    (small_home / "leases").mkdir(exist_ok=True)
    fill = small_home / "fill"
    with pytest.raises(OSError, match="No space left"), fill.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    second = small_home / "runs"
    with pytest.raises(DiskRefused, match="Free some space"):
        control.submit(second, "benchmark", {"note": "x" * 5000}, {}, "cpu", command="count")
    wait_until(lambda: "Free some space" in getattr(supervisor.job(run.name), "reason", "") or run_status(run) != "queued",
               "the reason, or a run that was faster than the disk was full")  # fmt: skip
    fill.unlink()
    wait_for_status(supervisor, run.name, "finished")
