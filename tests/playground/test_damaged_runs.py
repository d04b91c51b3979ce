"""Run folders whose files hold what this program never writes: told in one line, or left out and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.benchmark.recorded import read_recorded
from evaluation.journal import RunFolder, RunUnreadable, create_run
from playground.jobs.job import read_job
from playground.jobs.process import EXIT_FILE, read_exit, read_process
from playground.trainings import read_curve


def run(runs: Path, kind: Any = "training", **settings: Any) -> RunFolder:
    return create_run(runs, kind, settings, {})


@pytest.mark.parametrize("settings", [{"models": 5}, {"models": [1, 2]}, {"models": "ab", "attempts": 1}, {"attempts": "many"}, {"attempts": 0}, {"attempts": 10**9}])  # fmt: skip
def test_a_benchmark_with_settings_of_other_types_is_damaged(tmp_path: Path, settings: dict[str, Any]):
    with run(tmp_path, "benchmark", **settings) as folder:
        pass
    with pytest.raises(RunUnreadable, match="settings"):
        read_recorded(folder.path, tmp_path)


@pytest.mark.parametrize(
    "told",
    [
        b"[" * 100_000, b"[]", b"{}", b"5", b'{"pid": "1", "start_time": 1, "boot_id": "b", "leads_group": true}', b"\xff",
        b'{"pid": -1, "start_time": 1, "boot_id": "b", "leads_group": true}', b'{"pid": 1, "start_time": [], "boot_id": "b", "leads_group": 1}',
    ],
    ids=range(8),
)  # fmt: skip
def test_a_process_file_that_names_no_process_names_nobody(tmp_path: Path, told: bytes):
    with run(tmp_path) as folder:
        (folder.path / "process.json").write_bytes(told)
    assert read_process(folder.path) is None


@pytest.mark.parametrize(
    ("code", "words"), [(-9, "SIGKILL"), (-9999, "signal 9999"), (3, "status 3"), ("x", "left no word"), (None, "left no word")]
)  # fmt: skip
def test_how_a_process_ended_is_told_whatever_its_file_says(tmp_path: Path, code: Any, words: str):
    process = {"pid": 2_000_000_000, "start_time": 1, "boot_id": "b", "leads_group": True}
    with run(tmp_path) as folder:
        folder.event("started")
        (folder.path / "process.json").write_text(json.dumps(process))
        (folder.path / EXIT_FILE).write_text(json.dumps({"pid": process["pid"], "exit_code": code}))
    assert words in read_job(folder.path).reason


def test_an_exit_file_that_is_a_list_says_nothing(tmp_path: Path):
    with run(tmp_path) as folder:
        (folder.path / "process.json").write_text('{"pid": 5, "start_time": 1, "boot_id": "b", "leads_group": true}')
        (folder.path / EXIT_FILE).write_text("[1]")
    process = read_process(folder.path)
    assert process is not None and read_exit(folder.path, process) is None


@pytest.mark.parametrize(
    "data",
    [
        {"loss": "high", "step": 1, "steps": 2, "lr": 0.1, "tokens_per_s": 1, "eta_s": 1}, {"loss": 1.0}, {"held_out_loss": 5, "step": 1},
        {"held_out_loss": {"a": "b"}, "step": 1}, {"samples": 5, "step": 1}, {"samples": [1], "step": 1}, {"samples": [{"text": "x"}], "step": 1},
        {"loss": 1.0, "step": None, "steps": 2, "lr": 0.1, "tokens_per_s": 1, "eta_s": 1},
    ],
    ids=range(8),
)  # fmt: skip
def test_an_event_that_no_training_writes_is_left_out_and_said(tmp_path: Path, data: dict[str, Any]):
    right = {"loss": 1.0, "step": 1, "steps": 2, "lr": 0.1, "tokens_per_s": 1.0, "eta_s": 1.0}
    with run(tmp_path) as folder:
        folder.event("metric", **data)
        folder.event("metric", **right)
    curve = read_curve(folder.path)
    assert curve.loss == {1: 1.0} and curve.samples == {} and curve.held_out.get("a", {}) == {}
    assert ["left out" in warning for warning in curve.warnings] == [True]
