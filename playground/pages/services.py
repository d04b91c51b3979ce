"""What the pages are given by app.py. A page builds nothing heavy itself; a test hands in fakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from evaluation.judge.protocol import Judge
from evaluation.prompts.suites import Suite
from playground.engine.protocol import Engine
from playground.jobs import Supervisor
from playground.store import ChatLog, Store


@dataclass(frozen=True)
class EngineStatus:
    """Whether the engine can answer yet. `fraction` is in [0, 1], or None where nobody knows."""

    state: Literal["loading", "ready", "failed"]
    message_ja: str = ""
    message_en: str = ""
    fraction: float | None = None


class Readiness(Protocol):
    """Says how far the engine's start has come. Cheap: it is asked about once a second per open page."""

    def status(self) -> EngineStatus: ...


@dataclass(frozen=True)
class Services:
    """Everything the pages reach for, shared by all visitors; what one visitor sees is in gr.State.

    `judges` maps a judge id ("embedded", "openai:gpt-4o-2024-08-06") to a function that returns the
    judge; it may raise a UserFacingError (no key, model missing). `suites` is called when a page needs
    the list, so that an import shows up without a restart. `jobs` takes long work in and says how it stands.
    """

    engine: Engine
    judges: Mapping[str, Callable[[], Judge]]
    suites: Callable[[], list[Suite]]
    chat: ChatLog
    store: Store
    readiness: Readiness
    jobs: Supervisor
    settings: Any = None
