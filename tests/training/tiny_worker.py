"""Started by torchrun in the tests: makes the runs of the settings files it is given, as one of several processes.

`tiny_worker.py FOLDER[@STEP]...`: each holds settings.in.json; with a step, the run is asked to stop there, and the
same folder once more resumes it. What happened is written to ended.RANK.json or stopped.RANK.json, so that a process
that reports where it should not is seen.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

from accelerate import DistributedType, PartialState
from tiny_runs import run

from training import distributed, samples
from training.settings import read_settings

samples.NEW_TOKENS = 4


def let_cpus_shard() -> None:
    """accelerate shards weights only where it sees GPUs; torch's FSDP itself runs on CPUs too."""
    begin = PartialState.__init__

    def init(self: PartialState, *arguments: object, **options: object) -> None:
        begin(self, *arguments, **options)
        if self.distributed_type is DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = init


for argument in sys.argv[1:]:
    name, _, stop_at = argument.partition("@")
    folder = Path(name)
    settings = read_settings(folder / "settings.in.json")
    if settings.shard:
        let_cpus_shard()
    result, events = run(
        settings, folder, resume=(folder / "checkpoints").is_dir(), stop_at=int(stop_at) if stop_at else None
    )
    document = {"events": events, "after": result.loss_after, "stopped": result.stopped, "steps": result.steps}
    (folder / f"{'stopped' if stop_at else 'ended'}.{distributed.rank()}.json").write_text(json.dumps(document))
