"""An interrupted run is the same run: same curve, same weights, bit for bit."""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import curve, run, settings_for

from evaluation.errors import SettingsRejected
from training.checkpoints import complete_checkpoints, replace_folder
from training.settings import SftSettings, Source

SPAWN = multiprocessing.get_context("spawn")
# Dropout draws random numbers in every step, so a generator that is not restored shows.
SHAKY = {"lora_dropout": 0.2, "micro_batch_size": 4, "checks": 2, "save_steps": 4}


def weights(out: Path) -> dict[str, torch.Tensor]:
    (file,) = (file for kind in ("adapter", "model") for file in (out / kind).glob("*.safetensors"))
    return load_file(file)


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


@pytest.fixture(scope="module", params=["lora", "full"])
def whole(request, base, tmp_path_factory):
    """A run that nobody interrupts: (settings, folder, result, events)."""
    out = tmp_path_factory.mktemp(request.param)
    settings = settings_for(base, method=request.param, **SHAKY)
    return settings, out, *run(settings, out)


@pytest.mark.parametrize("at", [1, 7], ids=["at the first step", "between checkpoints"])
def test_a_run_that_was_stopped_and_resumed_has_the_curve_and_the_weights_of_one_that_was_not(whole, tmp_path, at):
    settings, out, result, events = whole
    stopped, first = run(settings, tmp_path, stop_at=at)
    assert (stopped.stopped, stopped.steps, stopped.loss_after) == (True, at, {})
    assert [p.name for p in complete_checkpoints(tmp_path / "checkpoints")][-1] == f"step-{at:06d}"
    assert (stopped.adapter or stopped.model).is_dir()
    resumed, second = run(settings, tmp_path, resume=True)
    assert not resumed.stopped
    assert list(curve(second)) == list(range(at + 1, result.steps + 1))
    assert curve(first) | curve(second) == curve(events)
    assert_same_weights(tmp_path, out)
    assert resumed.loss_after == result.loss_after
    assert resumed.loss_before == result.loss_before


def test_a_resumed_run_counts_tokens_and_measures_the_base_once_over_all_its_parts(whole, tmp_path):
    settings, _, result, events = whole
    _, first = run(settings, tmp_path, stop_at=5)
    _, second = run(settings, tmp_path, resume=True)

    def last_tokens(some: list) -> int:
        return [data["tokens"] for _, data in some if "tokens" in data][-1]

    assert last_tokens(second) == last_tokens(events) == sum(part.tokens for part in result.mix) * 3
    stages = [data.get("stage") for _, data in first + second]
    assert (stages.count("before"), stages.count("after")) == (1, 1)


def test_a_run_that_was_killed_at_any_point_resumes_from_its_last_whole_checkpoint(base, tmp_path):
    """kill -9 while it writes a checkpoint after every step: what is there afterwards can always be resumed."""
    settings = settings_for(base, lora_dropout=0.2, checks=0, save_steps=1)
    whole, _ = run(settings, tmp_path / "whole")
    for delay in (0.0, 0.1):
        out = tmp_path / str(delay)
        child = SPAWN.Process(target=run, args=(settings, out))  # a fork would inherit torch's threads, dead
        child.start()
        while not complete_checkpoints(out / "checkpoints"):
            assert child.is_alive(), "it ended without a checkpoint"
            time.sleep(0.01)
        time.sleep(delay)
        child.kill()
        child.join()
        assert not (out / "adapter").exists(), "it was killed too late to show anything"
        resumed, _ = run(settings, out, resume=True)
        assert resumed.steps == whole.steps
        assert_same_weights(out, tmp_path / "whole")


def test_what_a_killed_process_had_not_removed_yet_keeps_no_later_one_from_saving(tmp_path):
    for name in (".old-adapter", "adapter", ".new-adapter"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)
    replace_folder(tmp_path / ".new-adapter", tmp_path / "adapter")
    assert [(path.name, (path / "weights").read_text()) for path in tmp_path.iterdir()] == [("adapter", ".new-adapter")]


def test_to_resume_where_no_checkpoint_is_means_to_begin(base, tmp_path):
    settings = settings_for(base, epochs=1.0, checks=0)
    _, events = run(settings, tmp_path, resume=True)
    assert min(curve(events)) == 1


def test_a_stop_before_the_first_step_leaves_nothing_to_save_and_says_so(base, tmp_path):
    result, events = run(settings_for(base, method="full"), tmp_path, should_stop=lambda: True)
    assert (result.stopped, result.steps, result.adapter, result.model) == (True, 0, None, None)
    assert not complete_checkpoints(tmp_path / "checkpoints")
    assert curve(events) == {}


def test_a_stop_while_the_base_is_measured_is_heard_and_the_measuring_made_up_for(base, tmp_path):
    settings = settings_for(base, checks=0)
    stopped, events = run(settings, tmp_path, stop_at=1)
    assert (stopped.steps, stopped.loss_before) == (1, {})
    assert not [data for _, data in events if data.get("stage") == "before"]
    resumed, _ = run(settings, tmp_path, resume=True)
    assert resumed.loss_before == run(settings, tmp_path / "other")[0].loss_before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param({"learning_rate": 1e-3}, "The settings have changed since step 2", id="settings"),
        pytest.param({"sources": (Source("general"),)}, "The rows have changed since step 2", id="rows"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(base, tmp_path, change, told):
    settings = settings_for(base, checks=0)
    run(settings, tmp_path, stop_at=2)
    with pytest.raises(SettingsRejected, match=told):
        run(SftSettings(**{**vars(settings), **change}), tmp_path, resume=True)


def test_only_the_last_two_checkpoints_are_kept_and_none_holds_a_pickle_of_ours(whole):
    _, out, *_ = whole
    kept = complete_checkpoints(out / "checkpoints")
    assert [path.name for path in kept] == ["step-000008", "step-000012"]
    assert {path.name for path in (out / "checkpoints").iterdir()} == {path.name for path in kept}
    assert not list(out.rglob("training_args.bin"))


def test_checkpoints_come_by_time_too(base, tmp_path, monkeypatch):
    monkeypatch.setattr("time.monotonic", iter(float(n) for n in range(10**6)).__next__)
    run(settings_for(base, save_seconds=30.0, checks=0), tmp_path)
    assert complete_checkpoints(tmp_path / "checkpoints")


def test_the_settings_stand_in_the_run_folder(whole):
    settings, out, *_ = whole
    assert json.loads((out / "settings.json").read_text())["lora_dropout"] == settings.lora_dropout == 0.2
