"""What a chat page calls: append to the conversation's run folder, then index it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from evaluation.errors import UserFacingError
from evaluation.journal import RunFolder, RunUnreadable, create_run, read_run, remove_run, utc_now
from evaluation.types import Choice, Judgement, Pair, Prompt, Rating, Response, as_attempt, content_key, pair_key
from playground.store import history
from playground.store.index import Store

T = TypeVar("T")
_NAMED = re.compile(r"[0-9T]+-[0-9a-f]{6}")  # run folders of ours


class NoSuchConversation(UserFacingError):
    """The conversation was deleted, or never was."""


class ChatLog:
    """Conversations, one run folder each. A method that has returned has its record on disk and in the index."""

    def __init__(self, store: Store, runs: Path) -> None:
        self._store = store
        self._runs = runs
        # One for all conversations: a write takes milliseconds, and a folder has one writer at a time.
        self._mutex = threading.Lock()

    def start_conversation(self, settings: Mapping[str, Any], identities: Mapping[str, Mapping[str, Any]]) -> str:
        """Create the folder and return the conversation's id. Call it with the first reply, not with the page.

        Raises SettingsRejected for what looks like a secret, DiskRefused when the disk is full.
        """
        with self._mutex, create_run(self._runs, "chat", settings, identities) as folder:
            path = folder.path
        self._store.ingest_run(path)
        return path.name

    def add_turn(self, conversation: str, prompt: Prompt, left: Response, right: Response) -> Pair:
        """Record what was asked and both replies. The turn is the number of user messages that were sent.

        Raises ValueError when the sides were not asked the same, NoSuchConversation, DiskRefused.
        """
        asked = [[m.content for m in side.messages if m.role == "user"] for side in (left, right)]
        if not asked[0] or not asked[1] or asked[0][-1] != asked[1][-1] or len(asked[0]) != len(asked[1]):
            raise ValueError("Both sides of a Pair carry the messages they were sent, and the same last question.")
        question, turn = asked[0][-1], len(asked[0])
        key = pair_key(prompt.id, left.key, right.key, turn)
        pair = Pair(key, prompt.id, question, left.key, right.key, turn, utc_now())

        def write(folder: RunFolder) -> None:
            folder.record_prompt(prompt, durable=True)
            folder.record_response(left, durable=True)
            folder.record_response(right, durable=True)
            folder.record_pair(pair, durable=True)  # last: a pair whose responses are missing cannot be shown

        self._append(conversation, write)
        return pair

    def add_judgement(self, conversation: str, judgement: Judgement) -> None:
        """Record a judge's reading of one of the replies; a further one by the same judge is its next attempt.

        Raises NoSuchConversation, DiskRefused.
        """

        def write(folder: RunFolder) -> None:
            reading = judgement
            while not folder.record_judgement(reading, durable=True):  # its key is that of an earlier reading
                reading = as_attempt(reading, reading.attempt + 1)

        self._append(conversation, write)

    def add_rating(self, conversation: str, pair: Pair, choice: Choice, rater: str = "local") -> Rating:
        """Record a vote. A later vote of the same rater on the same Pair replaces it in counts and lists.

        Raises NoSuchConversation, DiskRefused.
        """
        at = utc_now()
        key = content_key("rating", conversation, pair.left, pair.right, choice, rater, at)
        rating = Rating(key, pair.left, pair.right, choice, rater, at)
        self._append(conversation, lambda folder: folder.record_rating(rating, durable=True))
        return rating

    def own(self) -> frozenset[str] | None:
        """The conversations that whoever asks may read; None is all of them."""
        return None

    def page(self, **filters: Any) -> history.HistoryPage:
        """See `history.page`: of the conversations that whoever asks may read."""
        return self._store.read(history.page, only=self.own(), **filters)

    def conversation(self, conversation: str) -> history.Conversation | None:
        """See `history.conversation`. None for a run of another kind."""
        found = self._store.read(history.conversation, conversation)
        return found if found is not None and found.info.kind == "chat" else None

    def delete_all(self) -> int:
        """Delete every conversation that whoever asks may read; how many. Raises RunBusy, DiskRefused."""
        with self._mutex:
            mine = [run.name for run in sorted(self._runs.glob("[!.]*/")) if self._is_mine(run)]
        self.delete_conversations(mine)
        return len(mine)

    def _is_mine(self, run: Path) -> bool:
        own = self.own()
        return _NAMED.fullmatch(run.name) is not None and is_chat(run) and (own is None or run.name in own)

    def delete_conversation(self, conversation: str) -> None:
        """Remove the folder, the rows, and the bytes they had in the index. Raises NoSuchConversation, RunBusy."""
        self.delete_conversations([conversation])

    def delete_conversations(self, conversations: Iterable[str]) -> None:
        """The same for several, the index being rewritten once for all of them.

        One that cannot be removed does not keep the others; the first such error is raised in the end.
        """
        gone, refused = [], []
        for conversation in conversations:
            try:
                with self._mutex:
                    remove_run(self._folder(conversation))
            except UserFacingError as error:
                refused.append(error)
            else:
                gone.append(conversation)
        if gone:
            self._store.forget(*gone)
        if refused:
            raise refused[0]

    def _append(self, conversation: str, write: Callable[[RunFolder], T]) -> T:
        path = self._folder(conversation)
        with self._mutex, RunFolder.open(path) as folder:
            done = write(folder)
        self._store.ingest_run(path)
        return done

    def _folder(self, conversation: str) -> Path:
        """The folder of that id, which a browser sent: nothing but a name of ours may reach the file system."""
        path = self._runs / conversation
        named = _NAMED.fullmatch(conversation) is not None and path.is_dir()
        if not named or read_run(path).kind != "chat":
            raise NoSuchConversation(f"There is no conversation {conversation[:40]!r}. Start a new one.")
        return path


def is_chat(run: Path) -> bool:
    """Whether the run folder is a conversation; a folder that cannot be read is none."""
    try:
        return read_run(run).kind == "chat"
    except RunUnreadable:
        return False
