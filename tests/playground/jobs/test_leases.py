"""A device has one holder at a time, everybody can see who, and no crash leaves it taken."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from evaluation.errors import SettingsRejected
from playground.jobs import leases
from playground.jobs.leases import DeviceBusy, Holder, Lease, holder, visible_gpus, wait_for
from tests.processes import in_child


def test_a_device_that_nobody_has_has_no_holder(tmp_path: Path):
    assert holder(tmp_path, "cpu") is None
    Lease(tmp_path, "cpu").close()
    assert holder(tmp_path, "cpu") is None


def test_who_has_a_device_is_there_for_all_to_see(tmp_path: Path):
    with Lease(tmp_path, "cuda:0") as lease:
        assert holder(tmp_path, "cuda:0") == Holder("cuda:0"), "before it has said its name"
        lease.describe("20260101T000000000-abcdef", "training", 4321)
        found = holder(tmp_path, "cuda:0")
        assert found is not None
        assert (found.run_id, found.kind, found.pid) == ("20260101T000000000-abcdef", "training", 4321)
        assert str(found).startswith("training run 20260101T000000000-abcdef, process 4321, since 20")
        assert holder(tmp_path, "cpu") is None
    assert holder(tmp_path, "cuda:0") is None


def test_a_shorter_name_leaves_nothing_of_a_longer_one(tmp_path: Path):
    with Lease(tmp_path, "cpu") as lease:
        lease.describe("x" * 100, "benchmark", 1)
        lease.describe("y", "training", 2)
        found = holder(tmp_path, "cpu")
        assert found is not None and (found.run_id, found.kind) == ("y", "training")


def test_a_device_that_is_taken_is_refused_with_its_holder(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("evaluation.disk.LOCK_PATIENCE_S", 0.0)
    with Lease(tmp_path, "cpu") as lease:
        lease.describe("run-1", "training", 7)
        with pytest.raises(DeviceBusy, match="cpu is in use by training run run-1, process 7"):
            Lease(tmp_path, "cpu")


def test_a_killed_holder_lets_go(tmp_path: Path):
    def work(pipe: int) -> None:
        Lease(tmp_path, "cpu").describe("run-1", "training", os.getpid())
        os.write(pipe, b"!")
        time.sleep(60)

    child, reading = in_child(work)
    assert os.read(reading, 1) == b"!"
    assert holder(tmp_path, "cpu") is not None
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    assert holder(tmp_path, "cpu") is None


def test_who_waits_is_told_once_for_whom_and_gets_the_device_when_it_is_free(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(leases, "POLL_S", 0.01)
    lease = Lease(tmp_path, "cpu")
    lease.describe("run-1", "training", 7)
    told: list[Holder] = []

    def waiting(found: Holder) -> None:
        told.append(found)
        threading.Timer(0.1, lease.close).start()

    with wait_for(tmp_path, "cpu", waiting, "training"):
        assert [found.run_id for found in told] == ["run-1"]


@pytest.mark.parametrize("device", ["", "gpu", "cuda", "cuda:", "cuda:-1", "../cpu", "cpu\n"])
def test_a_device_by_another_name_is_refused(tmp_path: Path, device: str):
    with pytest.raises(SettingsRejected, match="use cpu or cuda:0"):
        Lease(tmp_path, device)


@pytest.mark.parametrize(
    ("device", "ours", "visible"),
    [
        ("cpu", "", ""),
        ("cpu", "0,1", ""),
        ("cuda:0", "", "0"),
        ("cuda:1", "4,7", "7"),
        ("cuda:0", "GPU-5f2a", "GPU-5f2a"),
        ("cuda:3", "4,7", "3"),
    ],
)
def test_a_run_sees_its_own_device_only(monkeypatch, device: str, ours: str, visible: str):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ours)
    assert visible_gpus(device) == visible
