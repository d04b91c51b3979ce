"""What the pages are given by app.py. A page builds nothing heavy itself; a test hands in fakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

from evaluation.judge.protocol import Judge
from evaluation.prompts.suites import Suite
from playground.engine.protocol import Engine
from playground.jobs import Supervisor
from playground.pages.access import Access
from playground.serving import RemoteServers, VllmServer
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
    `vllm` is the fast server, which may not be there.
    `access` says who may do what. Take what a thread of its own will need before it starts: it serves nobody.
    """

    engine: Engine
    judges: Mapping[str, Callable[[], Judge]]
    suites: Callable[[], list[Suite]]
    chat: ChatLog
    store: Store
    readiness: Readiness
    jobs: Supervisor
    vllm: VllmServer | RemoteServers
    settings: Any = None
    access: Access = field(default_factory=Access)


class ByCaller:
    """Two sets of services behind one: an operator reaches the owner's, a visitor the visitors'.

    What a page does not hold it cannot show: the owner's runs, conversations and imported suites are not filtered out
    for strangers, they are in a store that strangers are never handed. Asked outside of a request it is the visitors'.
    """

    def __init__(self, own: Services, visitors: Services) -> None:
        self.own, self.visitors = own, visitors
        self.access = own.access

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own if self.access.caller().may("operator") else self.visitors, name)


def owners(services: Services) -> Services:
    """The services that the app itself works with: all of them."""
    return services.own if isinstance(services, ByCaller) else services


def by_caller(own: Services, visitors: Services) -> Services:
    """See ByCaller, as what the pages take."""
    return cast(Services, ByCaller(own, visitors))
