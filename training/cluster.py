"""Handing a run to a cluster: Slurm through submitit, or this machine as if it were one.

The job does nothing but start the command that works on the run folder, one process for each GPU, with what torch
needs to find the others. So the folder looks the same wherever a run was made. When Slurm takes the machine back, the
command is asked to stop, saves a checkpoint, and the job queues again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from evaluation.errors import ModelUnavailable, SettingsRejected

Cluster = Literal["slurm", "local"]
GRACE_S = 240  # to save in when the machine is taken back; a 13B checkpoint takes minutes


@dataclass(frozen=True)
class Resources:
    """What a run asks of a cluster. One process for each GPU."""

    nodes: int = 1
    processes: int = 1  # on each node
    gpus: bool = True
    cpus: int = 8  # for each process
    memory_gb: int | None = None  # on each node; None: the partition's default
    minutes: int = 1440
    partition: str | None = None

    def __post_init__(self) -> None:
        for name in ("nodes", "processes", "cpus", "minutes"):
            if getattr(self, name) < 1:
                raise SettingsRejected(f"{name} is {getattr(self, name)}; it must be 1 or more.")


def submit(
    command: Sequence[str], folder: Path, resources: Resources, cluster: Cluster = "slurm", resubmissions: int = 20
) -> Any:
    """Queue `command` on the cluster; return submitit's job, whose `job_id` Slurm knows.

    command: what works on an existing run folder and goes on where an earlier process left off, such as
    `python -m playground work RUN_ID`; it is started from the current folder. folder: for submitit's own logs, on a
    disk that every node sees. resubmissions: how often the job may be taken back and queue again.
    Raises ModelUnavailable when submitit or Slurm is missing, SettingsRejected for what the cluster cannot do.
    """
    if find_spec("submitit") is None:
        raise ModelUnavailable("submitit is not installed; run `pip install -r requirements-slurm.txt`.")
    import submitit

    options: dict[str, Any] = {
        "name": "playground",
        "nodes": resources.nodes,
        "tasks_per_node": resources.processes,
        "timeout_min": resources.minutes,
    }
    if cluster == "slurm":
        options |= {
            "cpus_per_task": resources.cpus,
            "mem_gb": resources.memory_gb,
            "gpus_per_node": resources.processes if resources.gpus else None,
            "slurm_partition": resources.partition,
            "slurm_signal_delay_s": GRACE_S + 60,
        }
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster, **{f"{cluster}_max_num_timeout": resubmissions})
        executor.update_parameters(**{name: value for name, value in options.items() if value is not None})
        return executor.submit(StartCommand(tuple(command)))
    except RuntimeError as error:
        words = " ".join(str(error).split())
        raise ModelUnavailable(f"The cluster took no job ({words}); run this where sbatch works.") from error
    except ValueError as error:
        raise SettingsRejected(f"The cluster refused the resources ({error}); ask for others.") from error


@dataclass
class StartCommand:
    """What the job does in each of its processes. Pickled to the node by submitit."""

    command: tuple[str, ...]
    grace_s: float = GRACE_S
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __call__(self) -> int:
        """Start the command and wait for its end. Raises CalledProcessError when it fails."""
        import submitit

        if submitit.JobEnvironment().num_tasks > 1:
            # Every process sees all of its node's GPUs, and torch takes the one of its local rank.
            submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        self._child = subprocess.Popen(self.command)
        status = self._child.wait()
        if status:
            raise subprocess.CalledProcessError(status, self.command)
        return status

    def checkpoint(self) -> Any:
        """The machine is being taken back: let the command save, and queue it again. Called by submitit."""
        import submitit

        if self._child is not None:
            self._child.terminate()
            deadline = time.monotonic() + self.grace_s
            while not _has_ended(self._child.pid) and time.monotonic() < deadline:
                time.sleep(0.1)
            if not _has_ended(self._child.pid):  # the last checkpoint by the clock has to do
                os.kill(self._child.pid, signal.SIGKILL)
        return submitit.helpers.DelayedSubmission(StartCommand(self.command, self.grace_s))


def _has_ended(child: int) -> bool:
    """Asked in a signal handler that has interrupted `Popen.wait`, whose lock a second `wait` would never get."""
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # reaped already
        return True
