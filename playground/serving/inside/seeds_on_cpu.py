"""A plugin that a vLLM server loads on a CPU, beside `adapters_by_group`.

vLLM 0.32 reads a long prompt in pieces. What it draws after a piece that is not the last it throws away, and then turns
the seeded generator of that request back by an offset, which generators on a CPU do not have: the whole server ends.
Here the generator begins anew instead. Nothing of the request has been drawn by then, so this is the same.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np


def register() -> None:
    """Put ours around theirs, in each process before the model is loaded. Does nothing on a GPU."""
    from vllm.platforms import current_platform

    if current_platform.device_type != "cpu":
        return
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    around(GPUModelRunner)


def around(runner: Any) -> None:
    """Wrap the class's `_bookkeeping_sync`; another version may have none."""
    theirs = getattr(runner, "_bookkeeping_sync", None)
    if theirs is None:
        logging.getLogger("vllm").warning("the model runner has no _bookkeeping_sync; seeds run as vLLM does it")
        return

    def without_offsets(self: Any, *arguments: Any, **named: Any) -> Any:
        batch = self.input_batch
        thrown_away = {int(n) for n in np.nonzero(self.discard_request_mask.np[: batch.num_reqs])[0]}
        generators = batch.generators
        for n in thrown_away & generators.keys():
            generators[n].manual_seed(generators[n].initial_seed())
        batch.generators = {n: generator for n, generator in generators.items() if n not in thrown_away}
        try:
            return theirs(self, *arguments, **named)
        finally:
            batch.generators = generators

    runner._bookkeeping_sync = without_offsets
