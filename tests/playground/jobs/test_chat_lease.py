"""Chat and runs on one GPU: chat makes room when a run waits, a question waits for a run, and nobody fights.

The device is cuda:0 in the lease only; no GPU is used.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.jobs import control, leases
from playground.jobs.chat import ChatClaim, claim_for_chat, in_the_way
from playground.jobs.leases import DeviceBusy, Lease, devices_in_use, holder, take_from_chat, wait_for
from playground.jobs.waiting import Want, waiters
from tests.playground.jobs.conftest import MakeSupervisor
from tests.playground.jobs.waiting import lifecycle, steps, wait_for_status, wait_until
from tests.tiny import tiny_folder

RUN = "20260101T000000000-abcdef"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "POLL_S", 0.01)


class TestWithinOneProcess:
    def test_on_the_cpu_chat_claims_nothing(self, home: Path):
        assert claim_for_chat(home, "cpu") is None
        assert claim_for_chat(home, "cuda:0") is not None

    def test_chat_has_its_device_under_its_name_until_it_lets_go(self, home: Path):
        chat = ChatClaim(home, "cuda:0")
        chat.take()
        chat.take()
        found = holder(home, "cuda:0")
        assert found is not None
        assert (found.kind, found.run_id, found.pid, found.keeps) == ("chat", None, os.getpid(), False)
        assert in_the_way(home, "cuda:0") is None, "it is not in its own way"
        chat.let_go()
        assert holder(home, "cuda:0") is None

    def test_who_waits_comes_before_a_new_question(self, home: Path):
        chat = ChatClaim(home, "cuda:0")
        chat.take()
        assert not chat.wanted()
        with Want(home, "cuda:0", "training", RUN):
            assert chat.wanted()
            with pytest.raises(DeviceBusy, match=f"goes to training run {RUN}"):
                chat.take()
            assert in_the_way(home, "cuda:0") == waiters(home, "cuda:0")[0]
            chat.let_go()
            with pytest.raises(DeviceBusy):
                chat.take()
        chat.take()
        chat.let_go()

    def test_a_run_that_has_the_device_is_named(self, home: Path):
        with Lease(home, "cuda:0") as lease:
            lease.describe(RUN, "benchmark", 7)
            with pytest.raises(DeviceBusy) as refused:
                ChatClaim(home, "cuda:0").take()
            assert refused.value.who == in_the_way(home, "cuda:0") == holder(home, "cuda:0")

    def test_chat_that_keeps_its_device_gives_it_to_nobody_and_says_so(self, home: Path):
        chat = ChatClaim(home, "cuda:0", keeps=True)
        chat.take()
        with Want(home, "cuda:0", "training", RUN):
            assert not chat.wanted()
            chat.take()
            assert in_the_way(home, "cuda:0") is None
        assert "it keeps the device (PLAYGROUND_CHAT_KEEPS_GPU)" in str(holder(home, "cuda:0"))
        with pytest.raises(DeviceBusy, match="PLAYGROUND_CHAT_KEEPS_GPU"):
            take_from_chat(home, "cuda:0", "training", limit_s=60.0)
        chat.let_go()

    def test_a_look_at_a_training_waits_for_chat_and_for_nobody_else(self, home: Path):
        chat = ChatClaim(home, "cuda:0")
        chat.take()

        def make_room() -> None:
            wait_until(chat.wanted, "somebody who waits")
            chat.let_go()

        thread = threading.Thread(target=make_room)
        thread.start()
        take_from_chat(home, "cuda:0", "training", limit_s=60.0).close()
        thread.join()
        with Lease(home, "cuda:0") as lease:
            lease.describe(RUN, "training", 7)
            with pytest.raises(DeviceBusy, match=f"in use by training run {RUN}"):
                take_from_chat(home, "cuda:0", "training", limit_s=60.0)
        assert waiters(home, "cuda:0") == []

    def test_chat_that_does_not_come_to_an_end_is_not_waited_for_without_end(self, home: Path):
        chat = ChatClaim(home, "cuda:0")
        chat.take()
        with pytest.raises(DeviceBusy, match="in use by chat"):
            take_from_chat(home, "cuda:0", "training", limit_s=0.05)
        chat.let_go()

    def test_who_waits_for_chat_is_told_once(self, home: Path):
        chat = ChatClaim(home, "cuda:0")
        chat.take()
        told = []

        def waiting(found: leases.Holder) -> None:
            told.append(found.kind)
            threading.Timer(0.1, chat.let_go).start()

        with wait_for(home, "cuda:0", waiting, "training"):
            assert told == ["chat"]
        assert devices_in_use(home) == []


class Chat:
    """The fake app in a process of its own."""

    def __init__(self, home: Path, base: Path, *more: str) -> None:
        command = [sys.executable, "-m", "tests.playground.jobs.fake_chat", str(home), str(base), *more]
        self._log = (home / "chat.log").open("wb")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self._line() == "ready"

    def ask(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write("こんにちは\n")
        self.process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        # A watchdog, since a pipe cannot be read with a limit: what does not answer is killed, and reads as "".
        watchdog = threading.Timer(300.0, self.process.kill)
        watchdog.start()
        try:
            assert self.process.stdout is not None
            return self.process.stdout.readline().strip()
        finally:
            watchdog.cancel()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._log):
            assert stream is not None
            stream.close()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_folder(tmp_path / "tiny")


@pytest.fixture
def chat(home: Path, base: Path) -> Iterator[Chat]:
    chat = Chat(home, base)
    yield chat
    chat.close()


def queue_run(make_supervisor: MakeSupervisor, **settings: object) -> tuple[object, str]:
    """A run for cuda:0, put into the queue by a process that has no chat."""
    supervisor = make_supervisor()
    return supervisor, supervisor.submit("benchmark", {"steps": 1, **settings}, {}, device="cuda:0", command="count")


def test_a_run_takes_the_gpu_from_chat_and_chat_gets_it_back(home: Path, chat: Chat, make_supervisor: MakeSupervisor):
    """The whole journey with three processes: chat with its app, another app, and the run."""
    assert chat.ask() == "answered 8"
    found = holder(home, "cuda:0")
    assert found is not None and (found.kind, found.pid) == ("chat", chat.process.pid)

    supervisor, run_id = queue_run(make_supervisor, steps=100_000, step_s=0.05)
    wait_until(lambda: steps(home / "runs" / run_id), "a first step")
    found = wait_until(lambda: (h := holder(home, "cuda:0")) and h.run_id and h, "the run's lease")
    assert found.run_id == run_id
    assert "models in this process: unloaded" in (home / "chat.log").read_text()

    in_use = f"refused cuda:0 is in use by benchmark run {run_id}, process "  # before that, it "goes to" the run
    wait_until(lambda: chat.ask().startswith(in_use), "the run's name in the refusal")

    supervisor.cancel(run_id)  # type: ignore[attr-defined]
    wait_for_status(supervisor, run_id, "cancelled")
    wait_until(lambda: chat.ask() == "answered 8", "an answer after the run")
    assert lifecycle(home / "runs" / run_id) == ["queued", "started", "cancelled"]

    os.kill(chat.process.pid, signal.SIGKILL)
    chat.process.wait()
    assert holder(home, "cuda:0") is None, "an app that was killed keeps no device"
    with Lease(home, "cuda:0"):
        assert devices_in_use(home)[0].waiting == ()


def test_a_run_waits_for_chat_that_keeps_its_device(home: Path, base: Path, make_supervisor: MakeSupervisor):
    chat = Chat(home, base, "keep")
    try:
        assert chat.ask() == "answered 8"
        supervisor, run_id = queue_run(make_supervisor)
        wait_until(lambda: waiters(home, "cuda:0"), "somebody who waits")
        assert chat.ask() == "answered 8"
        job = supervisor.job(run_id)  # type: ignore[attr-defined]
        assert (job.status, job.position, job.waits_for.kind, job.waits_for.keeps) == ("queued", 1, "chat", True)
    finally:
        chat.close()
    wait_for_status(supervisor, run_id, "finished")


def test_the_app_that_chats_starts_its_own_runs_on_the_same_device(home: Path, chat: Chat):
    """One app is both: its supervisor asks its own chat to make room."""
    assert chat.ask() == "answered 8"
    # What `train --queue` does in a shell.
    run = control.submit(home / "runs", "benchmark", {"steps": 2}, {}, "cuda:0", command="count")
    wait_until(lambda: lifecycle(run)[-1] == "finished", "the end of the run")
    wait_until(lambda: chat.ask() == "answered 8", "an answer after the run")
