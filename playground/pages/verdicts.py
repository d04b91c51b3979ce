"""What a judge and a person say about the last answers. Plain functions; compare.py draws and wires them."""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import get_args

from evaluation.errors import UserFacingError
from evaluation.types import Choice, Judgement
from playground.jobs import DeviceBusy
from playground.pages import consent, costs, device_words, markup
from playground.pages.conversation import SIDES, Session, Turn, judge_turn
from playground.pages.errors import Refused
from playground.pages.services import Services
from playground.pages.text import say
from playground.pages.text_errors import line_for

log = logging.getLogger(__name__)

CHOICES: tuple[Choice, ...] = get_args(Choice)


def verdict_cards(session: Session, turn: Turn | None, language: str) -> tuple[str, str]:
    """Both sides' verdicts as far as they are there; "judging" where a judge is still reading."""
    cards = []
    for side in SIDES:
        response = turn.responses.get(side) if turn else None
        judgement = session.judgements.get(response.key) if response else None
        if judgement is not None:
            cards.append(markup.verdict(judgement, language))
        else:
            cards.append(markup.judging(language) if turn and turn.id in session.judging else "")
    return cards[0], cards[1]


def judge(
    services: Services, session: Session, judge_id: object, language: str
) -> Generator[tuple[str, str] | None, None, None]:
    """Judge the last turn. Yields both verdict cards, or None when the conversation has moved on meanwhile.

    The judging itself goes on then. Never raises: what keeps the judge from working is shown where the verdicts would be.
    """
    turn = session.conversation.last
    if turn is None or not turn.responses or turn.id in session.judging:
        return
    log_id, chat = session.conversation.log_id, services.chat  # here: the judge's thread serves nobody
    spent = 0.0

    def keep(judgement: Judgement) -> None:
        nonlocal spent
        session.judgements[judgement.response_key] = judgement
        spent += judgement.cost_usd or 0.0
        if log_id is not None:
            chat.add_judgement(log_id, judgement)

    for side in SIDES:
        session.judgements.pop(turn.responses[side].key, None)
    session.judging.add(turn.id)
    problem = ""
    try:
        if judge_id not in services.judges:
            raise Refused(say(language, "error.judge", judge=judge_id) if judge_id else say(language, "judge.none"))
        yield verdict_cards(session, turn, language)
        with services.access.spending(language, usd=costs.verdicts(services.settings, str(judge_id), turn)) as hold:
            for _ in judge_turn(services.judges[str(judge_id)](), turn, keep):
                yield verdict_cards(session, turn, language) if _is_last(session, turn) else None
            hold.usd = spent
    except DeviceBusy as busy:  # a run waited for the device, and got it as soon as the answers were there
        why = device_words.party(busy.who, language) if busy.who is not None else str(busy)
        problem = say(language, "device.gone", why=why)
    except UserFacingError as error:
        problem = line_for(error, language)
    except Exception:  # a fault of ours, which must not take the page along: the log has it, the user is told
        log.exception("Judging failed")
        problem = say(language, "error.unexpected")
    finally:
        session.judging.discard(turn.id)
    if not _is_last(session, turn):
        yield None
    else:
        left, right = verdict_cards(session, turn, language)
        note = f'<p class="problem" role="alert">{markup.esc(problem)}</p>' if problem else ""
        yield left or note, right or note


def _is_last(session: Session, turn: Turn) -> bool:
    last = session.conversation.last
    return last is not None and last.id == turn.id


def can_vote(session: Session) -> bool:
    """Both sides of the last turn are finished, and this visitor has not voted on it."""
    turn = session.conversation.last
    return turn is not None and turn.answered and turn.id not in session.choices


def vote(services: Services, session: Session, choice: object, language: str) -> None:
    """Record the person's choice on the last turn, once. Raises Refused, or what the chat log raises."""
    turn = session.conversation.last
    if turn is None or choice not in CHOICES or not can_vote(session):
        raise Refused(say(language, "error.vote"))
    consent.check(services, session, language)
    log_id, pair = session.conversation.log_id, session.pairs.get(turn.id)
    if log_id is None or pair is None:
        raise Refused(say(language, "error.unsaved"))
    session.choices[turn.id] = choice  # first, so that a double click votes once
    try:
        services.chat.add_rating(log_id, pair, choice, services.access.rater())
    except Exception:  # whatever it was, nothing was recorded: the next click may vote; it is told where it is caught
        del session.choices[turn.id]
        raise


def vote_note(session: Session, language: str) -> str:
    """One line about where the vote stands."""
    turn = session.conversation.last
    choice = session.choices.get(turn.id) if turn else None
    if choice is not None:
        return f'<p class="vote-note done">{markup.esc(say(language, "vote.done", choice=markup.choice_name(choice, language)))}</p>'
    return f'<p class="vote-note">{markup.esc(say(language, "vote.ready" if can_vote(session) else "vote.wait"))}</p>'
