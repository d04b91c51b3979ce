"""probe: rows, time and memory of a training before it starts."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from playground.jobs.chat import ChatClaim
from playground.jobs.leases import Lease, default_device, holder
from tests.playground.calling import Call, refused
from tests.playground.jobs.waiting import wait_until


@pytest.fixture(autouse=True)
def little_memory_watched(monkeypatch: pytest.MonkeyPatch):
    """The high-water mark of the test process belongs to everybody in it."""
    monkeypatch.setattr("training.probe._CLEAR", Path("/nowhere"))


def test_it_tells_the_mix_the_rows_and_the_cost_and_leaves_nothing(call: Call, home, settings_file):
    document = call("probe", str(settings_file), "--json").document
    assert [part["rows"] for part in document["preview"]["mix"]] == [8]
    assert document["preview"]["shares"] == {"mine": 1.0}
    text = "".join(piece for piece, _ in document["preview"]["rows"][0]["pieces"])
    assert "断る。" in text
    assert document["cost"]["tokens_per_s"] > 0 and document["cost"]["seconds"] > 0 and document["busy"] is None
    assert not (home / "runs").exists()
    assert holder(home, default_device()) is None


def test_for_the_page_the_rows_come_before_the_cost(call: Call, settings_file):
    lines = [json.loads(line) for line in call("probe", str(settings_file), "--stages").out.splitlines()]
    assert [set(line) for line in lines] == [{"preview"}, {"cost", "busy"}]


def test_a_device_in_use_leaves_time_and_memory_unmeasured(call: Call, home, settings_file):
    with Lease(home, default_device()) as lease:
        lease.describe("20260101T000000000-abcdef", "training", os.getpid())
        said = call("probe", str(settings_file), "--json").document
        shown = call("probe", str(settings_file)).out
    assert said["cost"] is None and "20260101T000000000-abcdef" in said["busy"]
    assert said["preview"]["steps"] == 2
    assert "not measured" in shown


def test_chat_makes_room_for_the_three_steps(call: Call, home, settings_file, monkeypatch):
    monkeypatch.setattr("playground.cli.probe.default_device", lambda: "cuda:0")
    chat = ChatClaim(home, "cuda:0")
    chat.take()

    def make_room() -> None:
        wait_until(chat.wanted, "somebody who waits")
        chat.let_go()

    thread = threading.Thread(target=make_room)
    thread.start()
    said = call("probe", str(settings_file), "--json").document
    thread.join()
    assert said["cost"] is not None and said["busy"] is None


def test_what_cannot_be_trained_is_one_line(call: Call, settings_file):
    document = json.loads(settings_file.read_text())
    settings_file.write_text(json.dumps({**document, "sources": [{"suite": "nowhere"}]}))
    refused(call("probe", str(settings_file)), 2, "nowhere")
