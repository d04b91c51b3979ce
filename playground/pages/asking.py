"""What happens on the Compare page between a question and its answers. Plain functions; compare.py draws and wires them."""

from __future__ import annotations

import html
import logging
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from itertools import chain

import gradio as gr

from evaluation.errors import UserFacingError
from evaluation.types import Prompt, Sampling
from playground.jobs import DeviceBusy, default_device
from playground.pages import costs, device_words, markup
from playground.pages.conversation import (
    SIDES,
    Conversation,
    Live,
    Running,
    Session,
    Side,
    Turn,
    again,
    finished_turn,
    start_turn,
    stream_turn,
    typed_prompt,
)
from playground.pages.errors import Refused
from playground.pages.services import Services
from playground.pages.text import say
from playground.pages.text_errors import line_for

log = logging.getLogger(__name__)

LONGEST_QUESTION = 8_000  # characters; the engine refuses what does not fit the model's context, with its own numbers
LONGEST_SYSTEM_PROMPT = 2_000  # characters
MOST_TOKENS = 2_048
READY_POLL_S = 0.3
REMOTE = ("openai", "vllm")  # models with these prefixes compute elsewhere

Pane = dict[str, str]


def checked_text(text: object, what: str, limit: int, language: str) -> str:
    """`text` stripped, if it is no longer than `limit`. Gradio does not enforce max_length on the server."""
    words = str(text or "").strip()
    if len(words) > limit:
        raise Refused(say(language, "error.long", what=say(language, what), limit=limit, length=len(words)))
    return words


def sampling_from(values: tuple[object, ...], language: str) -> Sampling:
    """The five controls (temperature, top_p, max tokens, seed, system prompt) as a Sampling."""
    temperature, top_p, max_tokens, seed, system = values
    numbers = {}
    for name, value, low, high in (
        ("temperature", temperature, 0, 2),
        ("top_p", top_p, 0.01, 1),
        ("max_tokens", max_tokens, 1, MOST_TOKENS),
        ("seed", seed, 0, 2**31 - 1),
    ):
        # The comparison also refuses NaN, which a browser can send.
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            shown = "" if value is None else value  # an emptied field
            raise Refused(say(language, "error.number", what=say(language, name), value=shown, low=low, high=high))
        numbers[name] = value
    return Sampling(
        temperature=float(numbers["temperature"]),
        top_p=float(numbers["top_p"]),
        max_tokens=int(numbers["max_tokens"]),
        seed=int(numbers["seed"]),
        system_prompt=checked_text(system, "system", LONGEST_SYSTEM_PROMPT, language) or None,
    )


def samplings_from(unlocked: bool, values: tuple[object, ...], language: str) -> dict[Side, Sampling]:
    """Both sides' settings from the ten controls; equal unless the visitor has unlocked them."""
    left = sampling_from(values[:5], language)
    return {"left": left, "right": sampling_from(values[5:], language) if unlocked else left}


def chosen_models(services: Services, left: str, right: str, language: str) -> dict[Side, str]:
    known = services.engine.model_ids()
    for model in (left, right):
        if model not in known:
            raise Refused(say(language, "error.model", model=model))
    return {"left": left, "right": right}


def ask(
    session: Session, question: object, models: Mapping[Side, str], samplings: Mapping[Side, Sampling], language: str
) -> None:
    """Add the question to the conversation as a turn that is about to be streamed. Raises Refused."""
    text = checked_text(question, "question", LONGEST_QUESTION, language)
    if not text:
        raise Refused(say(language, "error.empty"))
    _refuse_while_running(session, language)
    # Edited text is no longer the suite's question: its reference and its category would not be its own.
    prompt = (
        session.prompt if session.prompt is not None and session.prompt.question.strip() == text else typed_prompt(text)
    )
    last = session.conversation.last
    if last is None or last.responses:
        session.before = session.conversation
    # Else a question was stopped a moment ago and has not ended yet: it is left out, and what was said before it is not.
    session.conversation = start_turn(session.before, prompt, models, samplings)
    session.running, session.problem, session.prompt = Running(), "", None


def ask_again(session: Session, models: Mapping[Side, str], samplings: Mapping[Side, Sampling], language: str) -> None:
    """Make the last question a new attempt that is about to be streamed. Raises Refused."""
    if session.conversation.last is None:
        raise Refused(say(language, "error.nothing"))
    _refuse_while_running(session, language)
    session.before = session.conversation
    session.conversation = again(session.conversation, models, samplings)
    session.running, session.problem = Running(), ""


def _refuse_while_running(session: Session, language: str) -> None:
    if session.running.active and len(session.running.stopped) < len(SIDES):
        raise Refused(say(language, "error.running"))


def stream(services: Services, session: Session, language: str) -> Generator[tuple[Pane, Pane] | None, None, None]:
    """Stream the turn that `ask` added. Yields both panes, keeps the finished turn in the chat log.

    Yields None when the conversation has moved on and the panes belong to something else. Never raises:
    what went wrong is left in `session.problem`.
    """
    turn, running = session.conversation.last, session.running
    if turn is None or turn.responses:
        return
    try:
        for words in chain(
            _until_ready(services, running, language), _until_free(services, turn.models.values(), running, language)
        ):
            waiting = markup.waiting_pane(language, words)
            yield waiting, waiting
        if len(running.stopped) == len(SIDES):
            raise Refused(say(language, "status.cancelled"))
        live: Live = {}
        tokens, usd = costs.answers(services.settings, turn)
        with services.access.spending(language, tokens, usd) as hold:
            for live in stream_turn(services.engine, turn, running):
                hold.tokens = sum(side.tokens for side in live.values())
                if session.conversation.has(turn):
                    yield markup.live_pane(live["left"], language), markup.live_pane(live["right"], language)
            hold.usd = costs.taken(services.settings, turn, live)
        done = finished_turn(session.conversation.numbered(turn), live)
        _refuse_mixed_up_sides(services, done, language)
        if session.conversation.has(turn):
            session.conversation = session.conversation.with_turn(done)
            _keep(services, session, done, language)
    except DeviceBusy as busy:  # somebody was faster
        session.problem = device_words.held_line(busy.who, language) if busy.who is not None else str(busy)
    except UserFacingError as error:
        session.problem = line_for(error, language)
    except Exception:  # a fault of ours, which must not take the page along: the log has it, the user is told
        log.exception("Streaming failed")
        session.problem = say(language, "error.unexpected")
    finally:
        running.active = False
    if not session.conversation.has(turn):
        session.problem = ""
        yield None


def _until_ready(services: Services, running: Running, language: str) -> Iterator[str]:
    """Yield what the engine is doing until it can answer, or cannot, or both sides are stopped."""
    while len(running.stopped) < len(SIDES):
        status = services.readiness.status()
        if status.state != "loading":
            return  # after a failed start the engine itself says what is wrong; a model elsewhere may still answer
        percent = "" if status.fraction is None else f" {status.fraction:.0%}"
        yield f"{say(language, 'loading')}{percent}"
        time.sleep(READY_POLL_S)


def _until_free(services: Services, models: Iterable[str], running: Running, language: str) -> Iterator[str]:
    """Yield who has the GPU, or gets it first, unless all models answer elsewhere; on the CPU only say so once."""
    if all(model.partition(":")[0] in REMOTE for model in models):
        return
    device = default_device()
    while len(running.stopped) < len(SIDES) and (other := services.jobs.in_the_way(device)) is not None:
        if device == "cpu":
            yield say(language, "pane.shared", work=device_words.work(other, language))
            return
        yield device_words.held_line(other, language)
        time.sleep(READY_POLL_S)


def _refuse_mixed_up_sides(services: Services, turn: Turn, language: str) -> None:
    """Raise when an answer was made by other weights than the chosen ones; such an answer is worse than none."""
    for side in SIDES:
        response = turn.responses[side]
        expected = services.engine.identity(turn.models[side]).digest
        if response.identity and response.identity != expected:
            raise Refused(say(language, "identity.mismatch", served=response.identity, expected=expected))


def _keep(services: Services, session: Session, turn: Turn, language: str) -> None:
    """Put the finished turn into the chat log. A full disk must not take the answer from the screen."""
    left, right = (turn.responses[side] for side in SIDES)
    try:
        log_id = session.conversation.log_id
        if log_id is None:
            identities = {model: asdict(services.engine.identity(model)) for model in turn.models.values()}
            log_id = services.chat.start_conversation({"models": dict(turn.models)}, identities)
            session.conversation = replace(session.conversation, log_id=log_id)
        session.pairs[turn.id] = services.chat.add_turn(log_id, turn.prompt, left, right)
    except UserFacingError as error:
        gr.Warning(html.escape(line_for(error, language)), title=say(language, "alert.note"))


def settle(session: Session) -> str | None:
    """Clean up after a stream. Returns the question when it was refused, so that the box can have it back.

    The conversation is then as it was before, so that nothing a visitor could read is lost.
    """
    last = session.conversation.last
    if last is None or last.responses:
        session.let_go()
        return None
    session.conversation = session.before
    if last.attempt:
        return None
    if last.prompt.suite:
        session.prompt = last.prompt
    return last.prompt.question


def clear(services: Services, session: Session) -> None:
    """Start a new conversation; what still runs is stopped."""
    session.running.stop(services.engine, SIDES)
    session.conversation, session.before, session.prompt, session.problem = Conversation(), Conversation(), None, ""
    session.let_go()


def forget(session: Session) -> None:
    """The same turns, no longer tied to a place in the chat log: the next finished turn starts a new place."""
    session.conversation = replace(session.conversation, log_id=None)
    session.before = replace(session.before, log_id=None)  # what a question that is under way may be taken back to


def pick(session: Session, prompt: Prompt) -> str:
    """Put a suite's Prompt into the box; its reference and category come along until the text is edited."""
    session.prompt = prompt
    return prompt.question
