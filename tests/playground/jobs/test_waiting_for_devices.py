"""Who waits for a device is there for all to see, first come first, and gone with its process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from playground.jobs.leases import DeviceUse, Lease, devices_in_use
from playground.jobs.waiting import Want, waiters
from tests.processes import in_child

RUN = "20260101T000000000-abcdef"


def test_who_waits_is_listed_in_the_order_of_arrival_for_each_device(tmp_path: Path):
    with (
        Want(tmp_path, "cuda:0", "training", RUN),
        Want(tmp_path, "cuda:0", "benchmark"),
        Want(tmp_path, "cpu", "chat"),
    ):
        found = waiters(tmp_path, "cuda:0")
        assert [(w.kind, w.run_id, w.pid) for w in found] == [
            ("training", RUN, os.getpid()),
            ("benchmark", None, os.getpid()),
        ]
        assert [w.kind for w in waiters(tmp_path, "cpu")] == ["chat"]
        assert str(found[0]).startswith(f"training run {RUN}, process {os.getpid()}, since 20")
    assert waiters(tmp_path, "cuda:0") == waiters(tmp_path, "cpu") == []


def test_a_device_is_not_mixed_up_with_one_whose_name_begins_like_it(tmp_path: Path):
    with Want(tmp_path, "cuda:10", "training"):
        assert waiters(tmp_path, "cuda:1") == []


def test_who_is_killed_waits_no_more_and_leaves_no_file(tmp_path: Path):
    def work(pipe: int) -> None:
        Want(tmp_path, "cuda:0", "training", RUN)
        os.write(pipe, b"!")
        time.sleep(60)

    child, reading = in_child(work)
    assert os.read(reading, 1) == b"!"
    assert [w.pid for w in waiters(tmp_path, "cuda:0")] == [child]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    assert waiters(tmp_path, "cuda:0") == []
    assert list((tmp_path / "leases" / "waiting").iterdir()) == []


def test_devices_in_use_are_those_that_somebody_has_or_waits_for(tmp_path: Path):
    assert devices_in_use(tmp_path) == []
    Lease(tmp_path, "cpu").close()
    with Lease(tmp_path, "cuda:0") as lease, Want(tmp_path, "cuda:0", "benchmark") as want:
        lease.describe(RUN, "training", 7)
        (use,) = devices_in_use(tmp_path)
        assert (use.device, use.waiting) == ("cuda:0", (want.waiter,))
        assert use.holder is not None and use.holder.run_id == RUN
        assert str(use).startswith(f"in use by training run {RUN}, process 7, since ")
        assert f"; waiting: benchmark, process {os.getpid()}, since " in str(use)
    assert devices_in_use(tmp_path) == []


def test_a_free_device_that_somebody_is_about_to_take_is_shown(tmp_path: Path):
    Lease(tmp_path, "cuda:0").close()
    with Want(tmp_path, "cuda:0", "training") as want:
        assert devices_in_use(tmp_path) == [DeviceUse("cuda:0", None, (want.waiter,))]
