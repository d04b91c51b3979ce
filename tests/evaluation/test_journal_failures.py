"""The run folder under what a machine does to it: a disk that refuses, and kill -9."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import tempfile
import time
from pathlib import Path

import pytest

from evaluation.errors import UserFacingError
from evaluation.journal import DiskRefused, RunFolder, create_run
from evaluation.types import Response
from tests import nouns
from tests.evaluation.test_journal import folder, records
from tests.processes import in_child, output_of

__all__ = ["folder"]  # a fixture


# ---------------------------------------------------------------------------------------------- a disk that refuses


def test_a_full_disk_keeps_earlier_records_and_says_what_to_do(folder: Path):
    with RunFolder.open(folder) as run:
        run.record_response(nouns.response("before"), durable=True)
    size = (folder / "responses.jsonl").stat().st_size

    def work(pipe: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, resource.RLIM_INFINITY))
        run = RunFolder.open(folder)
        try:
            run.record_response(nouns.response("too long", text="長" * 2000))
        except UserFacingError as error:
            os.write(pipe, f"{error}\n".encode())
        run.record_response(nouns.response("short", text="", messages=(), sampling=None), durable=True)
        run.close()

    said = output_of(*in_child(work)).splitlines()
    assert len(said) == 1
    assert str(folder / "responses.jsonl") in said[0]
    assert "Free some space" in said[0]
    assert [record.key for record in records(folder / "responses.jsonl")] == ["before", "short"]


def test_after_a_refusal_the_folder_can_be_opened_again_for_its_last_event(folder: Path):
    with RunFolder.open(folder) as run:
        run.event("started")
    size = (folder / "events.jsonl").stat().st_size

    def work(pipe: int) -> None:
        run = RunFolder.open(folder)
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limit[1]))
        try:
            run.event("metric", note="x" * 200)
        except DiskRefused:
            os.write(pipe, b"refused")
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        run.reopen()
        run.event("failed", reason="disk")
        run.close()

    assert output_of(*in_child(work)) == "refused"
    assert [(event.seq, event.event) for event in records(folder / "events.jsonl")] == [(1, "started"), (2, "failed")]


def test_a_folder_without_the_right_to_write_is_told_with_its_path(tmp_path: Path):
    if os.geteuid() == 0:
        closed = Path(tempfile.mkdtemp())  # pytest's own folder is closed to the user we become
    else:
        closed = tmp_path / "closed"
        closed.mkdir()
    closed.chmod(0o555)

    def work(pipe: int) -> None:
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            create_run(closed, "chat", {}, {})
        except DiskRefused as error:
            os.write(pipe, str(error).encode())

    said = output_of(*in_child(work))
    closed.rmdir()
    assert re.match(rf"{re.escape(str(closed))}/\S+ cannot be written: Permission denied\. Check", said), said


# ---------------------------------------------------------------------------------------------- kill -9


def kill_loop(folder: Path, kills: int) -> None:
    """Kill a writer at random points, again and again; what it acknowledged must be there exactly once."""
    chance = random.Random(20261122)
    acknowledged: set[str] = set()

    def work(pipe: int) -> None:
        with RunFolder.open(folder) as run:
            number = len(run.keys("responses"))
            while True:
                durable = number % 3 == 0
                run.record_response(nouns.response(f"k{number}", text="語" * (number * 37 % 4000)), durable=durable)
                if durable:
                    os.write(pipe, f"k{number}\n".encode())
                number += 1

    for _ in range(kills):
        child, reading = in_child(work)
        assert os.read(reading, 1), "the writer ended before it was killed"
        time.sleep(chance.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        # Every line but the first of this round lacks nothing; the first lost its "k" to the read above.
        words = ("k" + output_of(child, reading)).splitlines(keepends=True)
        acknowledged |= {word.strip() for word in words if word.endswith("\n")}
        found = records(folder / "responses.jsonl")
        keys = [record.key for record in found if isinstance(record, Response)]
        assert len(keys) == len(found), "a partial line was read as a whole one"
        assert len(keys) == len(set(keys)), "a record is there twice"
        assert acknowledged <= set(keys), "an acknowledged record is lost"
    assert len(acknowledged) >= kills


def test_a_writer_killed_at_any_moment_loses_nothing_it_acknowledged(folder: Path):
    kill_loop(folder, 25)


@pytest.mark.slow
def test_a_writer_killed_two_hundred_times_loses_nothing_it_acknowledged(folder: Path):
    kill_loop(folder, 200)
