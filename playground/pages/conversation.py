"""One visitor's conversation with two models, and the pumps that stream and judge a turn of it. Knows nothing of Gradio.

Values are replaced, never changed in place, except `Running`: the Stop button must reach a stream that is already going.
"""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from evaluation.judge.protocol import Exchange, Judge
from evaluation.types import Choice, Judgement, Message, Pair, Prompt, Response, Sampling, content_key
from playground.engine.protocol import Engine, Finish, GenerationRequest
from playground.engine.replies import finished
from playground.engine.thinking import parts

Side = Literal["left", "right"]
SIDES: tuple[Side, ...] = get_args(Side)

# Screen updates per second while both sides write: smooth to read, and cheap enough beside a model on the same two cores.
UPDATES_PER_SECOND = 12.0


@dataclass(frozen=True)
class Turn:
    """One question put to both models, and what came of it so far."""

    prompt: Prompt
    models: Mapping[Side, str]
    samplings: Mapping[Side, Sampling]
    history: Mapping[Side, tuple[Message, ...]]  # what each side was sent before this question
    attempt: int = 0
    responses: Mapping[Side, Response] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def messages(self, side: Side) -> tuple[Message, ...]:
        """What that side is sent: its own history and this question."""
        return (*self.history[side], Message("user", self.prompt.question))

    @property
    def answered(self) -> bool:
        """Both sides have an answer that a person can compare."""
        return all(side in self.responses and self.responses[side].finish_reason != "error" for side in SIDES)


@dataclass(frozen=True)
class Conversation:
    """The turns of one conversation, oldest first. `log_id` names it in the chat log once a turn was kept."""

    turns: tuple[Turn, ...] = ()
    log_id: str | None = None

    @property
    def last(self) -> Turn | None:
        return self.turns[-1] if self.turns else None

    def with_turn(self, turn: Turn) -> Conversation:
        """The same conversation with the turn of that id replaced; unchanged when it is no longer part of it."""
        return replace(self, turns=tuple(turn if old.id == turn.id else old for old in self.turns))

    def has(self, turn: Turn) -> bool:
        return any(old.id == turn.id for old in self.turns)

    def numbered(self, turn: Turn) -> Turn:
        """The turn as a further attempt where an earlier one was sent the same, as after one that was not answered.

        Responses are known by what was sent and by their attempt: with the failed one's key it would not be kept.
        """
        earlier = (old for old in self.turns if old.id != turn.id)
        same = [old for old in earlier if any(old.messages(side) == turn.messages(side) for side in SIDES)]
        return replace(turn, attempt=max([turn.attempt, *(old.attempt + 1 for old in same)]))

    def history(self, side: Side) -> tuple[Message, ...]:
        """What that side has said and heard.

        A question that either side did not answer is left out of both: chat formats alternate the roles, and two
        models that were not asked the same cannot be compared.
        """
        messages: list[Message] = []
        for turn in self.turns:
            if all(turn.responses[side].text.strip() for side in SIDES if side in turn.responses) and turn.responses:
                messages += [Message("user", turn.prompt.question), Message("assistant", turn.responses[side].text)]
        return tuple(messages)


@dataclass
class Running:
    """The requests of the turn that is being streamed, and which sides the visitor has stopped.

    Changed in place on purpose: the Stop handler and the stream hold the same object.
    """

    ids: dict[Side, str] = field(default_factory=lambda: {side: f"{side}-{uuid.uuid4().hex}" for side in SIDES})
    stopped: set[Side] = field(default_factory=set)
    active: bool = True
    _untaken: list[bool] = field(default_factory=lambda: [True])

    def take(self) -> bool:
        """Whether this call may stream the turn: the first one may. A browser can send the event for it at will."""
        try:
            return self.active and self._untaken.pop()  # of two calls at once, one gets it
        except IndexError:
            return False

    def stop(self, engine: Engine, sides: Sequence[Side]) -> None:
        """End those sides within one token. Also holds when the stream has not begun yet."""
        for side in sides:
            self.stopped.add(side)
            engine.cancel(self.ids[side])


@dataclass
class Session:
    """What one visitor's Compare page holds, in one gr.State. Changed in place.

    Voting and judging go on beside each other and beside the next question, so each writes to a place of its own:
    `judgements` by response key, `choices` by turn id. A state that every handler returned would lose one of them.
    """

    conversation: Conversation = field(default_factory=Conversation)
    running: Running = field(default_factory=lambda: Running(active=False))
    prompt: Prompt | None = None  # the Prompt of a suite whose question is in the box, as long as it is unedited
    judgements: dict[str, Judgement] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)
    pairs: dict[str, Pair] = field(default_factory=dict)  # by turn id, as the chat log keeps them
    judging: set[str] = field(default_factory=set)  # ids of turns a judge is reading
    problem: str = ""  # why the last question was refused, shown under the box
    consented: bool = False  # a stranger has agreed that what they vote on is kept
    before: Conversation = field(default_factory=Conversation)  # what a refused question is taken back to

    def let_go(self) -> None:
        """Forget what belongs to turns that are no longer here: a page may stay open for days."""
        turns = self.conversation.turns
        here = {turn.id for turn in turns} | {response.key for turn in turns for response in turn.responses.values()}
        tables: tuple[dict[str, Any], ...] = (self.judgements, self.choices, self.pairs)
        for table in tables:
            for key in [*table]:  # a copy: a judge may be writing to it
                if key not in here:
                    table.pop(key, None)


@dataclass
class LiveSide:
    """What one side has written so far. Times are wall-clock seconds from the request."""

    text: str = ""
    tokens: int = 0
    identity: str = ""
    ttft_s: float | None = None
    seconds: float = 0.0
    finish: Finish | None = None
    thinking: str = ""
    raw: str = ""  # both, as the model wrote them


Live = dict[Side, LiveSide]


def start_turn(
    conversation: Conversation, prompt: Prompt, models: Mapping[Side, str], samplings: Mapping[Side, Sampling]
) -> Conversation:
    """Add a turn. A Prompt of a suite starts a new conversation: it is a question of its own, not a follow-up."""
    if prompt.suite or (conversation.last and not conversation.last.responses):
        conversation = Conversation()
    history = {side: conversation.history(side) for side in SIDES}
    return replace(conversation, turns=(*conversation.turns, Turn(prompt, models, samplings, history)))


def again(conversation: Conversation, models: Mapping[Side, str], samplings: Mapping[Side, Sampling]) -> Conversation:
    """Ask the last question again as the next attempt. The seed moves on, or the same answer would come back."""
    last = conversation.last
    if last is None:
        raise ValueError("There is no turn to repeat.")
    attempt = last.attempt + 1
    moved = {side: replace(sampling, seed=sampling.seed + attempt) for side, sampling in samplings.items()}
    turn = Turn(last.prompt, models, moved, last.history, attempt)
    return replace(conversation, turns=(*conversation.turns[:-1], turn))


def typed_prompt(question: str) -> Prompt:
    """A Prompt for a question that is in no suite."""
    return Prompt(id=content_key("typed", question), question=question)


def stream_turn(
    engine: Engine, turn: Turn, running: Running, updates_per_second: float = UPDATES_PER_SECOND
) -> Iterator[Live]:
    """Stream both sides. Yields what each has written so far, coalesced, and always when a side starts or ends.

    Raises what `engine.stream` raises before the first chunk. Closing this iterator cancels what still runs.
    """
    live: Live = {side: LiveSide() for side in SIDES}
    side_of = {running.ids[side]: side for side in SIDES}
    requests = [
        GenerationRequest(running.ids[side], turn.models[side], turn.messages(side), turn.samplings[side])
        for side in SIDES
    ]
    began = time.monotonic()
    interval = 1 / updates_per_second
    due = 0.0  # when the next update is
    unshown: float | None = None  # since when something waits to be shown
    wrote: dict[Side, float] = {}  # when each side came last
    recancelled: set[Side] = set()
    with closing(_closable(engine.stream(requests))) as chunks:
        for chunk in chunks:
            side = side_of[chunk.request_id]
            state = live[side]
            elapsed = time.monotonic() - began
            first = state.ttft_s is None and bool(chunk.text)
            if first:
                state.ttft_s = elapsed
            state.raw += chunk.text
            told = parts(state.raw, whole=chunk.finish is not None)
            state.thinking, state.text = told.thinking, told.text
            state.tokens, state.identity, state.seconds = chunk.tokens, chunk.identity, elapsed
            state.finish = chunk.finish or state.finish
            wrote[side] = elapsed
            unshown = elapsed if unshown is None else unshown
            # A Stop pressed before the engine knew the request was ignored there; say it again, once.
            for stopped in running.stopped - recancelled:
                recancelled.add(stopped)
                engine.cancel(running.ids[stopped])
            # One step of a batch writes both sides, a moment apart: the second of them shows both. Nobody waits long for
            # a side that writes in a time of its own, and not at all for one that has fallen silent.
            silent = [elapsed - at for other, at in wrote.items() if not live[other].finish]
            awaited = any(interval / 2 <= seconds < 2 * interval for seconds in silent)
            step = not awaited or elapsed - unshown > 1.5 * interval
            if first or chunk.finish or (step and elapsed >= due):
                if elapsed >= due:
                    # One update may come early: text that comes as often as updates do would else wait for the next one
                    # whenever it is a little late.
                    due = max(due, elapsed - interval) + interval
                unshown = None
                yield live


def _closable(chunks: Iterator[Any]) -> Any:
    """The iterator itself when it can be closed, else a generator around it that can."""
    return chunks if hasattr(chunks, "close") else (chunk for chunk in chunks)


def finished_turn(turn: Turn, live: Live) -> Turn:
    """The turn with a Response for each side that ended."""
    responses = {
        side: finished(
            GenerationRequest(side, turn.models[side], turn.messages(side), turn.samplings[side]),
            turn.prompt.id,
            live[side].raw,
            live[side].identity,
            live[side].finish,
            turn.attempt,
        )
        for side in SIDES
    }
    return replace(turn, responses=responses)


def judge_turn(judge: Judge, turn: Turn, keep: Callable[[Judgement], None]) -> Iterator[Judgement]:
    """Judge both sides of a finished turn. Yields each Judgement as it arrives.

    The judge works in its own thread and `keep` is called there, so that a verdict that was paid for is
    kept even when the visitor has gone. Raises what the judge or `keep` raises.
    """
    exchanges = [Exchange(turn.prompt, turn.responses[side]) for side in SIDES]
    arrived: queue.SimpleQueue[Judgement | Exception | None] = queue.SimpleQueue()

    def take(judgement: Judgement) -> None:
        keep(judgement)
        arrived.put(judgement)

    def work() -> None:
        try:
            judge.judge(exchanges, on_done=take)
            arrived.put(None)
        except Exception as error:  # carried over to the caller's thread, where it is raised
            arrived.put(error)

    threading.Thread(target=work, name="judge", daemon=True).start()
    while (judgement := arrived.get()) is not None:
        if isinstance(judgement, Exception):
            raise judgement
        yield judgement
