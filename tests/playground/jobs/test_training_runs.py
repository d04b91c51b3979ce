"""The true worker on a tiny model, in the process that the supervisor starts for it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from playground.cli import main
from playground.jobs import Supervisor, workers
from playground.jobs.process import read_process
from tests.playground.jobs.waiting import events, lifecycle, wait_for_status, wait_until
from tests.tiny import tiny_folder

STEPS = 40


@pytest.fixture
def settings(home: Path, tmp_path: Path, monkeypatch) -> dict[str, Any]:
    """Of a training of 40 steps with a checkpoint after each tenth."""
    monkeypatch.setenv("PLAYGROUND_HOME", str(home))
    rows = tmp_path / "rows.jsonl"
    lines = [json.dumps({"question": f"問{n}", "reference": "断る。"}, ensure_ascii=False) for n in range(8)]
    rows.write_text("\n".join(lines), encoding="utf-8")
    assert main(["data", "import", str(rows), "--as", "mine"]) == 0
    return {
        "name": "tuned",
        "base": str(tiny_folder(tmp_path / "base")),
        "sources": [{"suite": "mine"}],
        "lora_rank": 2,
        "batch_size": 4,
        "epochs": STEPS / 2,
        "checks": 0,
        "save_steps": 10,
    }


@pytest.fixture
def supervisor(home: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(home)
    supervisor.start()
    yield supervisor
    supervisor.close()


def losses(run: Path) -> list[tuple[int, float]]:
    return [(e.data["step"], e.data["loss"]) for e in events(run) if e.event == "metric" and "loss" in e.data]


def killed_and_resumed(home: Path, supervisor: Supervisor, settings: dict[str, Any]) -> Path:
    run_id = supervisor.submit("training", settings, {}, device="cpu", seed=0, command="train")
    run = home / "runs" / run_id
    wait_until(lambda: list(run.glob("checkpoints/step-*")) or supervisor.job(run_id).ended, "a checkpoint")  # type: ignore[union-attr]
    process = read_process(run)
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    wait_for_status(supervisor, run_id, "lost")
    before = losses(run)
    assert 10 <= before[-1][0] < STEPS, "it was not killed half-way"
    supervisor.resume(run_id)
    wait_for_status(supervisor, run_id, "finished")
    assert losses(run)[: len(before)] == before
    return run


def test_a_training_that_was_killed_goes_on_from_its_checkpoint_to_its_end(
    home: Path, supervisor: Supervisor, settings: dict[str, Any]
):
    run = killed_and_resumed(home, supervisor, settings)
    assert lifecycle(run) == ["queued", "started", "queued", "started", "finished"]
    made = [step for step, _ in losses(run)]
    assert sorted(set(made)) == list(range(1, STEPS + 1))
    assert len(made) < STEPS + 11, "it began anew instead of at its checkpoint"
    assert (run / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_its_curve_is_that_of_a_training_that_nobody_disturbed(
    home: Path, supervisor: Supervisor, settings: dict[str, Any]
):
    quiet = supervisor.submit("training", settings, {}, device="cpu", seed=0, command="train")
    wait_for_status(supervisor, quiet, "finished")
    disturbed = killed_and_resumed(home, supervisor, {**settings, "name": "tuned-2"})
    assert dict(losses(disturbed)) == dict(losses(home / "runs" / quiet))
    weights = "adapter/adapter_model.safetensors"
    assert (disturbed / weights).read_bytes() == (home / "runs" / quiet / weights).read_bytes()


def test_a_training_that_is_cancelled_keeps_its_adapter_and_a_checkpoint(
    home: Path, supervisor: Supervisor, settings: dict[str, Any]
):
    run_id = supervisor.submit("training", {**settings, "epochs": 900.0}, {}, device="cpu", seed=0, command="train")
    run = home / "runs" / run_id
    wait_until(lambda: losses(run), "a first step")
    supervisor.cancel(run_id)
    wait_for_status(supervisor, run_id, "cancelled")
    assert (run / "adapter" / "adapter_model.safetensors").is_file()
    newest = sorted(run.glob("checkpoints/step-*"))[-1]
    assert int(newest.name.removeprefix("step-")) == events(run)[-1].data["step"] == losses(run)[-1][0]


def test_an_adapter_that_took_the_name_while_ours_was_copied_is_left_as_it_is(tmp_path: Path, monkeypatch):
    made, theirs = tmp_path / "run" / "adapter", tmp_path / "adapters" / "tuned"
    made.mkdir(parents=True)
    (made / "adapter_model.safetensors").write_text("ours")
    theirs.parent.mkdir()

    def copied_too_late(source: Path, to: Path) -> None:
        to.mkdir()
        theirs.mkdir()
        (theirs / "adapter_model.safetensors").write_text("theirs")

    monkeypatch.setattr(workers.shutil, "copytree", copied_too_late)
    assert not workers._offer(made, theirs)
    assert (theirs / "adapter_model.safetensors").read_text() == "theirs"
    assert [path.name for path in theirs.parent.iterdir()] == ["tuned"]


def test_a_base_of_the_hub_is_fetched_with_the_token_of_the_env_file(
    home: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", "")  # so that what the run sets is undone
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("HF_TOKEN=hf_of_the_file")
    seen = []

    def fetch(name: str, token: str | None, **_: Any) -> str:
        seen.append((name, token or huggingface_hub.get_token()))
        return str(settings["base"])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "base": "hub:org/gated", "epochs": 0.5}))
    assert main(["train", str(tmp_path / "settings.json")]) == 0
    assert seen == [("org/gated", "hf_of_the_file")]
