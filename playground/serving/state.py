"""What is known of a server: how it stands, and what is needed to speak to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from playground.serving.plan import MemoryPlan
from playground.serving.reasons import Reason, Stage

Phase = Literal["off", "starting", "ready", "failed", "stopping"]


@dataclass(frozen=True)
class Server:
    """A server that answers. `api_key` goes into the Authorization header and nowhere else."""

    base_urls: tuple[str, ...]  # each ends in /v1; more than one for servers that somebody else runs
    api_key: str | None = field(repr=False)
    model: str  # under which the base is served
    models: tuple[str, ...]  # everything served when it became ready: the base and the adapters
    adapters: Mapping[str, Path]  # given at the start, by name; empty for somebody else's server
    folder: Path | None = None  # of the base's weights; None for somebody else's server
    max_model_len: int | None = None  # tokens of prompt plus reply
    max_lora_rank: int | None = None  # of adapters that can be loaded while it runs; None where nobody knows

    @property
    def base_url(self) -> str:
        """The first of them."""
        return self.base_urls[0]


@dataclass(frozen=True)
class ServerState:
    """How a server stands. Cheap to ask for; the page does so every two seconds."""

    phase: Phase
    since: float  # seconds since the epoch
    stage: Stage | None = None  # while it starts
    model: str = ""
    models: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()  # adapters that cannot be served, each with its reason
    reason: Reason | None = None  # of the failure, or of the last end while it starts again
    restarts: int = 0  # since it was started
    plan: MemoryPlan | None = None
    external: bool = False  # somebody else runs it
