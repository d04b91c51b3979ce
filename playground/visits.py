"""Whose conversation is whose in a public profile, and their end: what a visitor typed goes when the visitor has gone.

Conversations lie under `<home>/visitors`, apart from everything of the owner's. The folder is emptied at every start;
while the app runs a conversation goes some minutes after its page was closed, or after hours without a touch.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.disk import told_to_people
from evaluation.errors import ModelUnavailable, UserFacingError
from evaluation.types import Choice, ModelIdentity, Pair, Rating
from playground.engine.protocol import Chunk, Engine, GenerationRequest
from playground.jobs import Job, Supervisor
from playground.store import ChatLog, Store, history
from playground.store.chat import NoSuchConversation

log = logging.getLogger(__name__)

SWEEP_S = 30.0
FOLDER = "visitors"


@dataclass
class Visit:
    """One page that somebody has open. Times are monotonic seconds."""

    touched: float
    conversations: set[str] = field(default_factory=set)
    closed: float | None = None  # when its connection ended; a page may come back


class Visits:
    """Every page that is open, by the id Gradio gives it, and the conversations that belong to it."""

    def __init__(self, grace_s: float, idle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._grace_s, self._idle_s, self._clock = grace_s, idle_s, clock
        self._mutex = threading.Lock()
        self._visits: dict[str, Visit] = {}
        self._sweeper: threading.Thread | None = None
        self._ending = threading.Event()

    def touch(self, session: str) -> None:
        """The page did something, so somebody is there."""
        with self._mutex:
            visit = self._visits.get(session)
            if visit is not None:
                visit.touched, visit.closed = self._clock(), None

    def keep(self, session: str, conversation: str) -> None:
        """The conversation is that page's."""
        with self._mutex:
            visit = self._visits.setdefault(session, Visit(self._clock()))
            visit.touched, visit.closed = self._clock(), None
            visit.conversations.add(conversation)

    def of(self, session: str) -> frozenset[str]:
        """The conversations of that page."""
        with self._mutex:
            visit = self._visits.get(session)
            return frozenset(visit.conversations) if visit else frozenset()

    def forget(self, session: str, conversation: str) -> None:
        with self._mutex:
            if session in self._visits:
                self._visits[session].conversations.discard(conversation)

    def close(self, session: str) -> None:
        """The page's connection ended: it was closed, or the network broke."""
        with self._mutex:
            if session in self._visits:
                self._visits[session].closed = self._clock()

    def over(self) -> set[str]:
        """Take out the visits that have ended; their conversations."""
        now = self._clock()
        with self._mutex:
            ended = {
                session
                for session, visit in self._visits.items()
                if now - visit.touched > self._idle_s
                or (visit.closed is not None and now - visit.closed > self._grace_s)
            }
            return {conversation for session in ended for conversation in self._visits.pop(session).conversations}

    def sweep(self, delete: Callable[[Collection[str]], None]) -> None:
        """Delete the conversations of visits that have ended."""
        try:
            delete(self.over())
        except UserFacingError as error:
            log.warning("a visitor's conversation stays until the next start: %s", error)

    def start(self, delete: Callable[[Collection[str]], None]) -> None:
        """Sweep now and then, on a thread of its own. Calling it again does nothing."""
        if self._sweeper is None:
            self._sweeper = threading.Thread(target=self._work, args=(delete,), name="visits", daemon=True)
            self._sweeper.start()

    def stop(self) -> None:
        """End the sweeping."""
        self._ending.set()
        if self._sweeper is not None:
            self._sweeper.join()

    def _work(self, delete: Callable[[Collection[str]], None]) -> None:
        while not self._ending.wait(SWEEP_S):
            try:
                self.sweep(delete)
            except Exception:  # the next sweep tries again; visitors' texts must not stay because of one failure
                log.exception("A sweep of visitors' conversations failed")


class VisitorsLog(ChatLog):
    """The chat log as one page sees it: its own conversations, and nothing else.

    A vote is copied, with the turn it is about, to `kept`, where it outlives the visit; the page asks for consent first.
    """

    def __init__(self, store: Store, runs: Path, visits: Visits, session: Callable[[], str], kept: ChatLog) -> None:
        """`session` says which page is asking; it is called on the thread that asks."""
        super().__init__(store, runs)
        self._visits, self._session, self._kept = visits, session, kept

    def start_conversation(self, settings, identities) -> str:  # type: ignore[no-untyped-def]
        """See ChatLog. The conversation belongs to the page that asks."""
        conversation = super().start_conversation(settings, identities)
        self._visits.keep(self._session(), conversation)
        return conversation

    def own(self) -> frozenset[str]:
        """The conversations that the page may read."""
        return self._visits.of(self._session())

    def conversation(self, conversation: str) -> history.Conversation | None:
        """See ChatLog; None for what is another page's."""
        return super().conversation(conversation) if conversation in self.own() else None

    def delete_conversations(self, conversations: Iterable[str]) -> None:
        """See ChatLog. Raises NoSuchConversation, and deletes none, where one is another page's."""
        mine, asked = self.own(), [*conversations]
        for conversation in asked:
            if conversation not in mine:
                raise NoSuchConversation(f"There is no conversation {conversation[:40]!r}. Start a new one.")
        try:
            super().delete_conversations(asked)
        finally:
            for conversation in asked:
                if not (self._runs / conversation).exists():
                    self._visits.forget(self._session(), conversation)

    def sweep(self, conversations: Collection[str]) -> None:
        """Delete conversations whose visits have ended."""
        super().delete_conversations(conversations)

    def add_rating(self, conversation: str, pair: Pair, choice: Choice, rater: str = "visitor") -> Rating:
        """See ChatLog. The turn and the vote are kept for good."""
        rating = super().add_rating(conversation, pair, choice, rater)
        found = super().conversation(conversation)
        turn = next((turn for turn in found.turns if turn.pair.key == pair.key), None) if found else None
        if found is None or turn is None or turn.prompt is None:
            raise NoSuchConversation(f"There is no conversation {conversation[:40]!r}. Start a new one.")
        copy = self._kept.start_conversation({**found.info.settings, "from": "visitor"}, found.info.identities)
        self._kept.add_turn(copy, turn.prompt, turn.left, turn.right)
        for judgement in turn.judgements:
            self._kept.add_judgement(copy, judgement)
        self._kept.add_rating(copy, pair, choice, rater)
        return rating


def empty_folder(home: Path) -> Path:
    """The folder of visitors under `home`, with nothing of an earlier run of the app in it. Raises DiskRefused."""
    folder = home / FOLDER
    with told_to_people(folder):
        if folder.exists():
            shutil.rmtree(folder)
        (folder / "runs").mkdir(parents=True)
    return folder


class VisitorsEngine:
    """The engine without the models that cost money; it is the same engine otherwise."""

    def __init__(self, engine: Engine, free: Callable[[str], bool]) -> None:
        self._engine, self._free = engine, free

    def model_ids(self) -> list[str]:
        """See `protocol.Engine.model_ids`."""
        return [model for model in self._engine.model_ids() if self._free(model)]

    def identity(self, model: str) -> ModelIdentity:
        """See `protocol.Engine.identity`."""
        self._check(model)
        return self._engine.identity(model)

    def stream(self, requests: Sequence[GenerationRequest]) -> Iterator[Chunk]:
        """See `protocol.Engine.stream`."""
        for request in requests:
            self._check(request.model)
        return self._engine.stream(requests)

    def cancel(self, request_id: str) -> None:
        """See `protocol.Engine.cancel`."""
        self._engine.cancel(request_id)

    def _check(self, model: str) -> None:
        # A checkpoint may be named that is in no list; only the owner has one fetched.
        if model not in self.model_ids():
            raise ModelUnavailable(f"There is no model {model[:60]} here; choose one of {', '.join(self.model_ids())}.")


class VisitorsJobs:
    """The supervisor as visitors see it: the shipped runs, and who has a device now."""

    def __init__(self, own: Supervisor, shipped: Supervisor) -> None:
        self._shipped = shipped
        self.holder, self.in_the_way, self.devices = own.holder, own.in_the_way, own.devices

    def jobs(self) -> list[Job]:
        """See `Supervisor.jobs`."""
        return self._shipped.jobs()

    def job(self, run_id: str) -> Job | None:
        """See `Supervisor.job`."""
        return self._shipped.job(run_id)
