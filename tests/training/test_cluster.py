"""A run as a cluster's job: the command, one process for each GPU, each told who it is, and queued again when taken back."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from evaluation.errors import ModelUnavailable, SettingsRejected
from training import cluster
from training.cluster import Resources, submit

pytest.importorskip("submitit", reason="submitit is not installed (requirements-slurm.txt)")

WHO = """
import json, os, sys
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
who = {name: os.environ.get(name) for name in names}
open(os.path.join(sys.argv[1], "who." + (who["RANK"] or "alone")), "w").write(json.dumps(who))
"""
# Works until it is asked to stop, once; the next time it finds what it saved and ends.
WORK = """
import signal, sys, time, pathlib
saved, here = pathlib.Path(sys.argv[1], "saved"), pathlib.Path(sys.argv[1], "here")
if saved.exists():
    pathlib.Path(sys.argv[1], "ended").write_text(saved.read_text())
    sys.exit(0)
def stop(*_):
    saved.write_text("step 3")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
here.touch()
time.sleep(60)
sys.exit(3)
"""


def python(program: str, folder: Path) -> list[str]:
    return [sys.executable, "-c", program, str(folder)]


def test_a_job_of_two_processes_tells_each_its_number_and_where_to_meet(tmp_path):
    job = submit(python(WHO, tmp_path), tmp_path / "logs", Resources(processes=2, gpus=False), "local")
    assert job.results() == [0, 0]
    who = [json.loads((tmp_path / f"who.{n}").read_text()) for n in range(2)]
    assert [w["RANK"] for w in who] == [w["LOCAL_RANK"] for w in who] == ["0", "1"]
    assert {w["WORLD_SIZE"] for w in who} == {"2"}
    assert who[0]["MASTER_ADDR"] and (who[0]["MASTER_PORT"] == who[1]["MASTER_PORT"] is not None)


def test_a_job_of_one_process_is_no_distributed_one(tmp_path):
    submit(python(WHO, tmp_path), tmp_path / "logs", Resources(gpus=False), "local").result()
    assert json.loads((tmp_path / "who.alone").read_text())["WORLD_SIZE"] is None


def test_a_command_that_fails_fails_its_job(tmp_path):
    job = submit([sys.executable, "-c", "raise SystemExit(4)"], tmp_path / "logs", Resources(gpus=False), "local")
    with pytest.raises(Exception, match="exit status 4"):
        job.result()


def test_a_job_that_is_taken_back_lets_the_command_save_and_goes_on_when_it_queued_again(tmp_path):
    job = submit(python(WORK, tmp_path), tmp_path / "logs", Resources(gpus=False), "local")
    while not (tmp_path / "here").exists():
        assert job.state == "RUNNING"
        time.sleep(0.05)
    (task,) = psutil.Process(int(job.job_id)).children()
    task.send_signal(signal.SIGUSR2)  # Slurm's warning, as submitit asks for it
    assert job.result() == 0
    assert (tmp_path / "ended").read_text() == "step 3"


def test_without_slurm_the_refusal_says_where_to_submit_from(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelUnavailable, match="where sbatch works") as told:
        submit(["true"], tmp_path / "logs", Resources())
    assert "\n" not in str(told.value)


def test_without_submitit_the_refusal_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(ModelUnavailable, match=r"requirements-slurm\.txt"):
        submit(["true"], tmp_path / "logs", Resources())


def test_what_a_cluster_cannot_do_is_refused():
    with pytest.raises(SettingsRejected, match="nodes is 0"):
        Resources(nodes=0)


def test_this_machine_is_one_node(tmp_path):
    with pytest.raises(SettingsRejected, match="only one node"):
        submit(["true"], tmp_path / "logs", Resources(nodes=2), "local")


def test_slurm_is_asked_for_a_gpu_a_process_and_for_time_to_save(tmp_path, monkeypatch):
    import submitit

    asked = {}
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 1))
    monkeypatch.setattr(
        submitit.SlurmExecutor,
        "_submit_command",
        lambda self, command: asked.update(self.parameters) or submitit.slurm.slurm.SlurmJob(self.folder, "7"),
    )
    job = submit(["work"], tmp_path, Resources(nodes=2, processes=8, minutes=90, memory_gb=500, partition="p"))
    assert job.job_id == "7"
    assert {
        name: asked[name] for name in ("nodes", "ntasks_per_node", "gpus_per_node", "time", "mem", "partition")
    } == {
        "nodes": 2,
        "ntasks_per_node": 8,
        "gpus_per_node": 8,
        "time": 90,
        "mem": "500GB",
        "partition": "p",
    }
    assert asked["signal_delay_s"] > cluster.GRACE_S
