"""train: what it prints, what stays in the run folder, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from evaluation.errors import ModelUnavailable
from evaluation.journal import read_run, run_status
from playground.jobs import Supervisor
from playground.jobs.leases import Lease, default_device, holder
from tests.playground.calling import Call, refused
from tests.playground.jobs.waiting import events, lifecycle, wait_until

TRAIN_KEYS = {"run_id", "status", "adapter", "steps", "loss_before", "loss_after", "tokens_per_s"}


def for_the_embedded_base(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tiny model stand for the embedded one."""
    document = json.loads(settings_file.read_text())
    base = Path(document.pop("base"))
    settings_file.write_text(json.dumps(document))
    monkeypatch.setattr("training.base.ensure_embedded", lambda home, say: base)


def test_a_run_is_kept_and_its_summary_is_json(call: Call, home, settings_file):
    said = call("train", str(settings_file), "--json")
    assert said.status == 0
    document = said.document
    assert set(document) >= TRAIN_KEYS
    assert (document["status"], document["steps"]) == ("finished", 2)
    run = home / "runs" / document["run_id"]
    assert Path(document["adapter"]) == run / "adapter"
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= {
        p.name for p in (run / "adapter").iterdir()
    }
    assert lifecycle(run) == ["started", "finished"]
    assert events(run)[0].data["command"] == f"python -m playground train {settings_file}"
    assert read_run(run).settings["name"] == "tuned"
    assert holder(home, default_device()) is None


def test_an_adapter_of_another_base_is_not_offered_for_the_embedded_one(call: Call, home, settings_file):
    said = call("train", str(settings_file))
    assert said.status == 0
    assert "model id" not in said.out
    assert not (home / "adapters").exists()


def test_an_adapter_of_the_embedded_base_is_offered_under_its_name(call: Call, home, settings_file, monkeypatch):
    for_the_embedded_base(settings_file, monkeypatch)
    said = call("train", str(settings_file))
    assert said.status == 0
    assert "model id: tuned" in said.out
    assert "tuned" in {row["id"] for row in call("models", "--json").document}
    refused(call("train", str(settings_file)), 2, "already an adapter tuned")


def test_a_name_that_was_taken_meanwhile_keeps_the_adapter_in_its_run(call: Call, home, settings_file, monkeypatch):
    for_the_embedded_base(settings_file, monkeypatch)
    monkeypatch.setattr("playground.cli.train.refuse_taken_name", lambda home, sft: None)
    taken = home / "adapters" / "tuned"
    taken.mkdir(parents=True)
    said = call("train", str(settings_file), "--json")
    assert said.status == 0
    assert said.document["model_id"] is None and Path(said.document["adapter"]).is_dir()
    assert list(taken.iterdir()) == []
    assert "another adapter tuned" in said.err


def test_a_run_that_fails_ends_with_1_and_says_so_in_its_folder(call: Call, settings_file, monkeypatch):
    from training.loop import LossNotFinite

    def fails(*arguments: object, **options: object) -> None:
        raise LossNotFinite("The loss is nan at step 1; lower learning_rate.")

    monkeypatch.setattr("training.sft.train", fails)
    said = call("train", str(settings_file))
    assert (said.status, said.out) == (1, "")
    assert "lower learning_rate" in said.err.splitlines()[-1] and "Traceback" not in said.err
    [row] = call("runs", "list", "--json").document
    assert (row["status"], row["reason"]) == ("failed", "The loss is nan at step 1; lower learning_rate.")


def test_settings_that_cannot_work_end_with_2(call: Call, settings_file):
    document = json.loads(settings_file.read_text())
    settings_file.write_text(json.dumps({**document, "sources": [{"suite": "nowhere"}]}))
    said = call("train", str(settings_file))
    assert said.status == 2
    assert "nowhere" in said.err.splitlines()[-1]
    settings_file.write_text(json.dumps({**document, "lora_rank": 0}))
    refused(call("train", str(settings_file)), 2, "lora_rank")
    refused(call("train", "missing.json"), 2, "missing.json")


def test_the_first_ctrl_c_saves_and_the_run_can_be_resumed(call: Call, home, settings_file):
    document = json.loads(settings_file.read_text())
    settings_file.write_text(json.dumps({**document, "epochs": 200.0}))

    def press() -> None:
        def first_step() -> bool:
            return any(e.event == "metric" and "loss" in e.data for run in folders(home) for e in events(run))

        wait_until(first_step, "a first step")
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    said = call("train", str(settings_file), "--json")
    presser.join()
    assert said.status == 0
    stopped = said.document
    assert (stopped["status"], stopped["reason"]) == ("cancelled", "asked to stop by SIGINT")
    assert 1 <= stopped["steps"] < 400
    assert Path(stopped["adapter"]).is_dir()
    assert call("runs", "list", "--json").document[0]["status"] == "cancelled"
    # The whole of it would take minutes; that it goes on from its checkpoint is what counts here.
    canceller = threading.Thread(target=cancel_after_resume, args=(folders(home)[0], stopped["steps"]))
    canceller.start()
    resumed = call("runs", "resume", stopped["run_id"], "--json").document
    canceller.join()
    assert (resumed["run_id"], resumed["status"]) == (stopped["run_id"], "cancelled")
    steps = [e.data["step"] for e in events(folders(home)[0]) if e.event == "metric" and "loss" in e.data]
    assert steps == list(range(1, resumed["steps"] + 1))


def folders(home: Path) -> list[Path]:
    return sorted((home / "runs").glob("[!.]*"))


def cancel_after_resume(run: Path, steps: int) -> None:
    def went_on() -> bool:
        return any(e.data.get("step", 0) > steps for e in events(run) if e.event == "metric" and "loss" in e.data)

    wait_until(went_on, "a step after the resume")
    os.kill(os.getpid(), signal.SIGTERM)


def test_who_comes_second_waits_for_the_device_and_is_told_for_whom(call: Call, home, settings_file):
    lease = Lease(home, default_device())
    lease.describe("20260101T000000000-abcdef", "benchmark", os.getpid())
    threading.Timer(1.0, lease.close).start()
    said = call("train", str(settings_file))
    assert said.status == 0
    assert "Waiting for cpu, in use by benchmark run 20260101T000000000-abcdef" in said.err


class TestQueue:
    def test_a_queued_run_waits_in_its_folder_for_an_app(self, call: Call, home, settings_file):
        said = call("train", str(settings_file), "--queue", "--json")
        assert said.status == 0
        assert said.document == {
            **dict.fromkeys(TRAIN_KEYS),
            "run_id": said.document["run_id"],
            "status": "queued",
        }
        assert "No app watches the queue" in said.err
        [run] = folders(home)
        assert run_status(run) == "queued"
        assert events(run)[0].data == {
            "device": default_device(),
            "key": None,
            "command": f"python -m playground train {settings_file}",
        }
        [row] = call("runs", "list", "--json").document
        assert (row["position"], row["device"], row["name"]) == (1, default_device(), "tuned")

    def test_it_can_be_cancelled_there(self, call: Call, home, settings_file):
        run_id = call("train", str(settings_file), "--queue", "--json").document["run_id"]
        said = call("runs", "cancel", run_id, "--json")
        assert said.document == {"run_id": run_id, "status": "cancelled", "reason": "cancelled on the command line"}
        refused(call("runs", "cancel", run_id), 2, "is cancelled; there is nothing to cancel")

    def test_settings_that_cannot_work_are_not_queued(self, call: Call, home, settings_file):
        document = json.loads(settings_file.read_text())
        settings_file.write_text(json.dumps({**document, "lora_rank": 0}))
        refused(call("train", str(settings_file), "--queue"), 2, "lora_rank")
        assert not (home / "runs").exists()


class TestSweep:
    def test_each_value_makes_a_run_with_its_own_name(self, call: Call, home, settings_file):
        said = call("train", str(settings_file), "--sweep", "mine=1,3", "--json")
        assert said.status == 0
        documents = said.document["runs"]
        assert [(d["value"], d["status"]) for d in documents] == [(1, "finished"), (3, "finished")]
        for value, document in zip((1, 3), documents, strict=True):
            settings = read_run(home / "runs" / document["run_id"]).settings
            assert settings["name"] == f"tuned-x{value}"
            assert settings["sources"] == [{"suite": "mine", "multiplier": value}]
            command = events(home / "runs" / document["run_id"])[0].data["command"]
            assert command.endswith(f"--sweep mine={value}")
        assert documents[0]["run_id"] < documents[1]["run_id"]

    def test_the_safety_multiplier_is_that_of_every_source_that_measures_safety(self, call: Call, home):
        said = call(
            "train", "--preset", "embedded-answercarefully", "--sweep", "safety_multiplier=0,4", "--queue", "--json"
        )
        assert said.status == 0
        for value, document in zip((0, 4), said.document["runs"], strict=True):
            settings = read_run(home / "runs" / document["run_id"]).settings
            multipliers = {source["suite"]: source["multiplier"] for source in settings["sources"]}
            assert multipliers["sample-tuning"] == value
            assert multipliers["sample-general"] > 0
        assert [row["position"] for row in call("runs", "list", "--json").document] == [2, 1]

    def test_without_json_it_is_a_table(self, call: Call, settings_file):
        lines = call("train", str(settings_file), "--sweep", "mine=2", "--queue").out.splitlines()
        assert lines[0].split() == ["mine", "run", "status", "steps", "held-out", "loss", "tokens/s"]
        assert lines[1].split()[0] == "2" and lines[1].split()[2] == "queued"

    @pytest.mark.parametrize(
        ("sweep", "word"),
        [
            pytest.param("safety_multiplier", "safety_multiplier=0,1,4,16", id="no values"),
            pytest.param("mine=", "safety_multiplier=0,1,4,16", id="an empty value"),
            pytest.param("mine=1,x", "safety_multiplier=0,1,4,16", id="a word"),
            pytest.param("mine=-1", "safety_multiplier=0,1,4,16", id="a negative one"),
            pytest.param("mine=1,1", "each value once", id="one twice"),
            pytest.param("mine=" + ",".join(map(str, range(40))), "32 at most", id="too many"),
            pytest.param("other=1", "sources are mine", id="another source"),
            pytest.param("mine=0", "sources", id="nothing left to train on"),
        ],
    )
    def test_a_sweep_that_cannot_be_made_ends_with_2_and_leaves_nothing(
        self, call: Call, home, settings_file, sweep, word
    ):
        refused(call("train", str(settings_file), "--sweep", sweep), 2, word)
        assert not (home / "runs").exists()

    def test_a_taken_name_is_found_before_the_first_run(self, call: Call, home, settings_file):
        (home / "adapters" / "tuned-x3").mkdir(parents=True)
        refused(call("train", str(settings_file), "--sweep", "mine=1,3"), 2, "already an adapter tuned-x3")
        assert not (home / "runs").exists()


class TestElsewhere:
    def test_a_run_that_is_only_made_waits_for_torchrun_and_no_app_starts_it(self, call: Call, home, settings_file):
        run_id = call("train", str(settings_file), "--create", "--json").document["run_id"]
        supervisor = Supervisor(home)
        supervisor.start()
        after = call("train", str(settings_file), "--queue", "--json").document["run_id"]
        wait_until(lambda: getattr(supervisor.job(after), "status", "") == "running", "the run that was queued later")
        job = supervisor.job(run_id)
        assert job is not None and (job.status, job.device) == ("queued", "elsewhere")
        assert f"python -m playground work {run_id}" in job.reason
        supervisor.cancel(after)
        wait_until(lambda: supervisor.job(after).ended, "its end")  # type: ignore[union-attr]
        supervisor.close()

    def test_a_run_that_the_cluster_refuses_is_cancelled_with_its_reason(
        self, call: Call, home, settings_file, monkeypatch
    ):
        def refuses(*arguments: object) -> None:
            raise ModelUnavailable("The cluster took no job; run this where sbatch works.")

        monkeypatch.setattr("playground.cli.train.submit_to_cluster", refuses)
        refused(call("train", str(settings_file), "--cluster", "slurm"), 1, "sbatch")
        [row] = call("runs", "list", "--json").document
        assert (row["status"], row["reason"]) == ("cancelled", "The cluster took no job; run this where sbatch works.")

    @pytest.mark.slow
    def test_the_local_cluster_does_a_run_in_its_folder(self, call: Call, home, settings_file):
        pytest.importorskip("submitit", reason="submitit is not installed (requirements-slurm.txt)")
        said = call("train", str(settings_file), "--cluster", "local", "--json")
        run = home / "runs" / said.document["run_id"]
        wait_until(lambda: run_status(run) in ("finished", "failed"), "its end")
        assert lifecycle(run) == ["queued", "started", "finished"]

    @pytest.mark.slow
    def test_two_processes_of_torchrun_work_on_one_run_and_one_of_them_writes(self, call: Call, home, settings_file):
        run_id = call("train", str(settings_file), "--create", "--json").document["run_id"]
        run = home / "runs" / run_id
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone",
             "-m", "playground", "work", run_id],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert lifecycle(run) == ["queued", "started", "finished"]
        assert [e.data["step"] for e in events(run) if e.event == "metric" and "loss" in e.data] == [1, 2]
        assert (run / "adapter" / "adapter_model.safetensors").is_file()
