"""Several processes, one run: who writes, and how they agree. With one process everything here is free."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def rank() -> int:
    """This process's number among those of the run, from 0; known before torch.distributed starts."""
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    """How many processes the run has, as torchrun, accelerate launch and Slurm say."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process writes the run folder. Exactly one does."""
    return rank() == 0


def summed(values: list[float], device: torch.device) -> list[float]:
    """Each value summed over all processes. Every process must call this at the same point."""
    import torch  # here: who only asks for the rank need not wait for it
    from torch import distributed

    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return values
    total = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return [float(value) for value in total]


def any_of(flag: bool, device: torch.device) -> bool:
    """Whether the flag is up in any process: a signal reaches them at different steps, and they must stop at one."""
    return summed([float(flag)], device)[0] > 0
