"""Trainings into the queue: one click, one run; and what a run folder tells of how it went."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.errors import ImportRejected, SettingsRejected
from evaluation.journal import RunFolder, create_run, run_status
from playground import trainings
from playground.jobs import Supervisor
from playground.settings import Settings
from playground.trainings import Curve, command_of, free_name, latest_sweep, read_curve, start
from training.presets import PRESETS, preset
from training.settings import SftSettings, Source, read_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_construct(home=tmp_path)


@pytest.fixture
def supervisor(settings: Settings) -> Supervisor:
    """Not started: what is submitted stays in the queue."""
    return Supervisor(settings.home)


QUICK = replace(preset("quick"), name="mine")


# ---- the command ----


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_as_it_is_is_told_by_its_name(name: str):
    assert command_of(preset(name)) == f"python -m playground train --preset {name}"


def test_changed_settings_are_told_in_a_command_that_a_shell_gives_back_exactly(tmp_path: Path):
    changed = replace(preset("paper-13b-full"), name="it-s-mine", base="path:/models/it's here", learning_rate=3e-5)
    command = command_of(changed)
    given, _, call = command.partition(" | ")
    assert call == "python -m playground train /dev/stdin"
    said = subprocess.run(["sh", "-c", given], capture_output=True, check=True).stdout
    file = tmp_path / "settings.json"
    file.write_bytes(said)
    assert read_settings(file) == changed


def test_the_command_leaves_out_what_is_usual_anyway():
    text = shlex.split(command_of(SftSettings("mine", (Source("sample-general"),))))[2]
    assert set(json.load(io.StringIO(text))) == {"name", "sources"}


# ---- start ----


def test_a_second_click_starts_nothing(supervisor: Supervisor, settings: Settings):
    first = start(supervisor, settings, [QUICK])
    assert start(supervisor, settings, [QUICK]) == first
    assert len(supervisor.jobs()) == 1


def test_two_clicks_at_the_same_moment_start_one_run(supervisor: Supervisor, settings: Settings, monkeypatch):
    monkeypatch.setattr(supervisor, "jobs", list)  # neither sees what the other has done
    assert start(supervisor, settings, [QUICK]) == start(supervisor, settings, [QUICK])


def test_after_its_end_the_same_settings_start_a_new_run(supervisor: Supervisor, settings: Settings):
    [first] = start(supervisor, settings, [QUICK])
    supervisor.cancel(first)
    [second] = start(supervisor, settings, [QUICK])
    assert first != second
    assert start(supervisor, settings, [QUICK]) == [second]


def test_after_the_first_of_two_ended_runs_was_removed_the_same_settings_still_start_a_new_one(
    supervisor: Supervisor, settings: Settings
):
    for _ in range(2):
        [last] = start(supervisor, settings, [QUICK])
        supervisor.cancel(last)
    first = min(settings.runs.glob("[!.]*"))
    shutil.rmtree(first)
    [new] = start(supervisor, settings, [QUICK])
    assert new not in (first.name, last)
    assert run_status(settings.runs / new) == "queued"


def test_the_command_and_the_settings_are_in_the_run(supervisor: Supervisor, settings: Settings):
    [run_id] = start(supervisor, settings, [QUICK])
    curve = read_curve(settings.runs / run_id)
    assert curve.command == command_of(QUICK)
    assert json.loads((settings.runs / run_id / "run.json").read_text())["settings"] == json.loads(
        json.dumps(QUICK.to_json())
    )


def test_a_name_that_is_taken_or_being_made_is_refused(supervisor: Supervisor, settings: Settings):
    start(supervisor, settings, [QUICK])
    with pytest.raises(SettingsRejected, match="mine is taken"):
        start(supervisor, settings, [replace(QUICK, seed=1)])
    with pytest.raises(SettingsRejected, match="general is taken"):
        start(supervisor, settings, [replace(QUICK, name="general")])


def test_a_row_that_is_a_test_question_stops_the_start_by_name(supervisor: Supervisor, settings: Settings, monkeypatch):
    leak = replace(QUICK, sources=(Source("sample-tuning"),))
    questions = [p.question for p in trainings.load_suite("sample-tuning", settings.home).prompts]
    from training.leaks import TestPrompt

    monkeypatch.setattr(trainings, "installed_tests", lambda home, sources: [TestPrompt("a-test", "t1", questions[0])])
    with pytest.raises(SettingsRejected, match="test questions of a-test"):
        start(supervisor, settings, [leak])
    assert supervisor.jobs() == []
    start(supervisor, settings, [replace(leak, allow_overlap=("a-test",))])


def test_a_suite_that_is_not_there_is_refused_before_the_queue(supervisor: Supervisor, settings: Settings):
    with pytest.raises(ImportRejected, match="nowhere"):
        start(supervisor, settings, [replace(QUICK, sources=(Source("nowhere"),))])
    assert supervisor.jobs() == []


def test_a_free_name_counts_up():
    assert free_name("quick", set()) == "quick"
    assert free_name("quick", {"quick", "quick-2"}) == "quick-3"


# ---- sweeps ----


def swept(name: str, *values: int) -> list[SftSettings]:
    return [
        replace(QUICK, name=f"{name}-x{n}", sources=(Source("sample-general"), Source("sample-tuning", n)))
        for n in values
    ]


def test_a_sweep_starts_whole_or_not_at_all(supervisor: Supervisor, settings: Settings):
    runs = swept("mine", 0, 1, 4, 16)
    start(supervisor, settings, [replace(QUICK, name="mine-x4")])
    with pytest.raises(SettingsRejected, match="mine-x4 is taken"):
        start(supervisor, settings, runs)
    assert len(supervisor.jobs()) == 1


def test_the_newest_sweep_is_found_by_its_names(supervisor: Supervisor, settings: Settings):
    assert latest_sweep(supervisor.jobs()) == []
    start(supervisor, settings, swept("old", 1, 4))
    start(supervisor, settings, swept("mine", 16, 0))
    start(supervisor, settings, [replace(QUICK, name="single-x3")])
    assert [(value, job.name) for value, job in latest_sweep(supervisor.jobs())] == [(0, "mine-x0"), (16, "mine-x16")]


# ---- the curve ----


def step(folder: RunFolder, n: int, loss: float = 1.0) -> None:
    folder.event("metric", step=n, steps=9, loss=loss, lr=0.1, tokens_per_s=50.0, tokens=n, eta_s=9.0 - n)


def test_a_curve_is_read_piece_by_piece_and_a_step_made_again_counts_as_made_last(tmp_path: Path):
    with create_run(tmp_path, "training", {}, {}) as folder:
        folder.event("started", command="train it")
        curve = Curve(folder.path)
        assert curve.read() and not curve.read()
        step(folder, 1, 5.0)
        folder.event("metric", stage="before", step=0, held_out_loss={"a": 3.0})
        folder.event("metric", stage="samples", step=0, samples=[{"prompt_id": "p", "question": "q", "text": "t"}])
        step(folder, 2, 4.0)
        assert curve.read()
        assert (curve.command, curve.step, curve.steps, curve.loss) == ("train it", 2, 9, {1: 5.0, 2: 4.0})
        assert curve.held_out_ends() == {"a": (3.0, None)}
        folder.event("heartbeat")
        assert not curve.read()
        folder.event("cancelled", reason="enough", step=2)
        curve.read()
        assert curve.end["reason"] == "enough"
        folder.event("started", command="resume it")
        step(folder, 2, 4.5)
        folder.event("metric", stage="after", step=9, held_out_loss={"a": 2.0})
        curve.read()
    assert (curve.command, curve.end, curve.loss) == ("train it", {}, {1: 5.0, 2: 4.5})
    assert curve.held_out_ends() == {"a": (3.0, 2.0)}
    assert read_curve(folder.path) == curve


def test_the_log_is_shown_from_its_end(tmp_path: Path):
    assert trainings.log_tail(tmp_path) == ""
    (tmp_path / "log.txt").write_text("\n".join(f"line {n}" for n in range(9000)), encoding="utf-8")
    assert trainings.log_tail(tmp_path, 2) == "line 8998\nline 8999"
