"""torchrun starts the command that works on a run twice: one process writes the folder, both do the work."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from evaluation.journal import Event, create_run, read_records, run_status
from tests.tiny import tiny_folder
from training.settings import SftSettings, Source

pytestmark = pytest.mark.slow


def test_two_processes_work_on_one_run_folder(tmp_path):
    base = tiny_folder(tmp_path / "base", "llama")
    settings = SftSettings(
        name="two",
        base=str(base),
        sources=(Source("sample-general"),),
        held_out=("sample-general",),
        held_out_rows=2,
        epochs=0.1,
        batch_size=4,
        leave_out_long=True,
        checks=0,
    )
    with create_run(tmp_path / "runs", "training", settings.to_json(), {}, seed=0) as folder:
        run = folder.path
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port]
    environment = {**os.environ, "PLAYGROUND_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, "-m", "playground", "work", run.name], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert run_status(run) == "finished"
    events = [event for event, _ in read_records(run / "events.jsonl") if isinstance(event, Event)]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    steps = [event.data["step"] for event in events if "loss" in event.data]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) >= 2
    assert json.loads((run / "adapter" / "adapter_config.json").read_text())["r"] == settings.lora_rank
