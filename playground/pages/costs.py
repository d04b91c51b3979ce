"""What a turn and its verdicts take at most, so that it can be set aside before they begin."""

from __future__ import annotations

from typing import Any

from evaluation.judge.prices import OPENAI_ORIGIN, cost_usd, most_usd
from playground.pages.conversation import SIDES, Live, Turn

VERDICT_TOKENS = 1_024  # a judge's explanation and verdict at most
RUBRIC_CHARACTERS = 6_000  # what a judge is told beside the question, the reference and the answer


def _paid(settings: Any, model: str) -> str | None:
    """The model's name where it costs money: at OpenAI. A server of one's own sends no bill."""
    kind, _, name = model.partition(":")
    at_openai = f"{settings.openai_base_url}/".startswith(f"{OPENAI_ORIGIN}/")
    return name if kind == "openai" and at_openai else None


def answers(settings: Any, turn: Turn) -> tuple[int, float | None]:
    """Tokens that both answers may have, and their dollars; None where a price is not known."""
    tokens = sum(turn.samplings[side].max_tokens for side in SIDES)
    usd = 0.0
    for side in SIDES:
        name = _paid(settings, turn.models[side])
        if name is not None:
            characters = sum(len(message.content) for message in turn.messages(side))
            most = most_usd(name, OPENAI_ORIGIN, characters, turn.samplings[side].max_tokens)
            if most is None:
                return tokens, None
            usd += most
    return tokens, usd


def taken(settings: Any, turn: Turn, live: Live) -> float:
    """Dollars that the answers took."""
    usd = 0.0
    for side in SIDES:
        name, finish = _paid(settings, turn.models[side]), live[side].finish if side in live else None
        if name is not None and finish is not None:
            usd += cost_usd(name, OPENAI_ORIGIN, finish.prompt_tokens, finish.tokens) or 0.0
    return usd


def verdicts(settings: Any, judge: str, turn: Turn) -> float | None:
    """Dollars that both verdicts may take; None where the price is not known."""
    name = _paid(settings, judge)
    if name is None:
        return 0.0
    usd = 0.0
    for side in SIDES:
        asked = len(turn.prompt.question) + len(turn.prompt.reference or "") + len(turn.responses[side].text)
        most = most_usd(name, OPENAI_ORIGIN, RUBRIC_CHARACTERS + asked, VERDICT_TOKENS)
        if most is None:
            return None
        usd += most
    return usd
