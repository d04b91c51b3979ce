"""From the settings to who may do what: the access of an app, what its visitors are handed, and what runs beside it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from evaluation.errors import SettingsRejected, UserFacingError
from evaluation.journal import finish_removals, remove_run
from evaluation.judge.prices import OPENAI_ORIGIN
from evaluation.prompts.suites import sample_suites
from playground import catalog, examples, retention
from playground.engine.zerogpu import BorrowedGpu
from playground.jobs import Supervisor
from playground.limits import Budget
from playground.pages import sign_in
from playground.pages.access import Access
from playground.pages.services import ByCaller, Services, by_caller, owners
from playground.settings import Settings
from playground.store import Store
from playground.users import Users
from playground.visits import VisitorsEngine, VisitorsJobs, VisitorsLog, Visits, empty_folder
from training.embedded import ensure_embedded

if TYPE_CHECKING:
    from playground.engine.local import LocalEngine

log = logging.getLogger(__name__)

HOUSEKEEPING_S = 3600.0


def access_of(settings: Settings) -> Access:
    """Who may do what. Raises SettingsRejected where everybody who reaches the app would be its owner unasked."""
    profile = settings.allowed
    users = Users(settings.users) if settings.users is not None else None
    hub = settings.hub_users if users is None and sign_in.hub_offers_sign_in() else None
    if not profile.public:
        if users is None and not settings.is_alone and not settings.open:
            raise SettingsRejected(
                f"PLAYGROUND_HOST is {settings.host}, and whoever reaches it could do everything: set PLAYGROUND_USERS "
                "(`python -m playground users add`), or PLAYGROUND_PROFILE=replay or gpu for strangers, or "
                "PLAYGROUND_OPEN=true if it is meant."
            )
        return Access(profile, users, proxies=settings.proxies)
    if users is None and not hub:
        log.warning("profile %s: nobody can sign in, so everybody is a visitor (docs/deploy.md says how)", profile.name)
    return Access(
        profile,
        users,
        hub_users=hub,
        proxies=settings.proxies,
        budget=Budget(settings.home / "visitors.json", profile.tokens_per_day, profile.spend_usd_per_day),
        visits=Visits(profile.grace_s, profile.idle_s),
    )


def borrowed_gpu(settings: Settings) -> BorrowedGpu:
    """The engine of the profile zerogpu. Raises ModelUnavailable where nobody lends a GPU."""

    def load(folder: Path, adapters: Mapping[str, Path]) -> LocalEngine:
        from playground.engine.local import LocalEngine

        return LocalEngine(folder, adapters, max_context=settings.max_context)

    return BorrowedGpu(
        lambda report: ensure_embedded(settings.home, report),
        lambda: catalog.adapters(settings),
        load,
        settings.allowed.gpu_seconds,
    )


def with_visitors(own: Services, settings: Settings) -> Services:
    """The services of a public profile: the owner's for who operates it, and others for everybody else.

    Visitors' folder is emptied, the shipped runs are put into it, and it has a store of its own. Raises DiskRefused,
    StoreUnavailable.
    """
    access, visits = own.access, own.access.visits
    if visits is None:
        return own
    home = empty_folder(settings.home)
    if access.profile.examples:
        examples.unpack(home / "runs")
    store = Store(home / "index.duckdb", home / "runs")
    store.ingest_all()
    paid = (access.profile.spend_usd_per_day or 0) <= 0 and _at_openai(settings)

    def free(model: str) -> bool:
        return not (paid and model.startswith("openai:"))

    shipped = frozenset(sample_suites())
    chat = VisitorsLog(store, home / "runs", visits, lambda: access.caller().session, own.chat)
    visits.start(chat.sweep)
    visitors = replace(
        own,
        engine=VisitorsEngine(own.engine, free),
        judges={name: make for name, make in own.judges.items() if free(name)},
        # What was imported is its owner's: AnswerCarefully's terms forbid showing its rows to others.
        suites=lambda: [suite for suite in own.suites() if suite.name in shipped and not suite.protected],
        chat=chat,
        store=store,
        jobs=cast(Supervisor, VisitorsJobs(own.jobs, Supervisor(home))),
        settings=settings.model_copy(update={"home": home, "sql_box": False, "models": (), "openai_models": ()}),
    )
    return by_caller(own, visitors)


def _at_openai(settings: Settings) -> bool:
    return f"{settings.openai_base_url}/".startswith(f"{OPENAI_ORIGIN}/")


def close(services: Services) -> None:
    """Let go of everything. Visitors' texts are deleted at the next start, and with the folder if that can be."""
    if isinstance(services, ByCaller):
        if services.access.visits is not None:
            services.access.visits.stop()
        services.visitors.store.close()
    owners(services).jobs.close()  # runs at work go on without us
    owners(services).vllm.close()
    owners(services).store.close()


class Housekeeping:
    """Once an hour: conversations that are too old go, and what is gone from the run folders goes for good."""

    def __init__(self, services: Services, days: float | None) -> None:
        self._services, self._days = owners(services), days
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="housekeeping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def tidy(self) -> None:
        """What is done each time."""
        runs: Path = self._services.settings.runs
        if self._days is None:
            finish_removals(runs)
        else:
            gone = retention.purge(runs, self._days, lambda run_id: remove_run(runs / run_id))  # rows go below
            if gone:
                log.info("%s conversations older than %g days were deleted", len(gone), self._days)
        self._services.store.ingest_all()

    def _work(self) -> None:
        while True:
            try:
                self.tidy()
            except UserFacingError as error:
                log.warning("housekeeping: %s", error)
            except Exception:  # the next hour tries again
                log.exception("housekeeping failed")
            if self._ending.wait(HOUSEKEEPING_S):
                return
