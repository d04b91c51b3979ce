"""Prompts of several turns: what is sent at each of them, and which replies are read on which scale.

Where a suite has the user's turns only, as Japanese MT-Bench, each turn is asked with the model's own replies between
them. Where it has the replies in between as well, as dialogues with a chosen and a rejected end, they are sent as they
stand and the last turn alone is asked. Usefulness is read at every turn (arXiv 2306.05685, whose score is the mean over
both); every other scale reads the whole conversation by its last reply.
"""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.prompts.conversations import source_replies
from evaluation.types import Message, Prompt, Response, Scale

EACH_TURN: frozenset[Scale] = frozenset({"usefulness"})


def turn_of(response: Response) -> int:
    """Which turn the Response replies to, from 1."""
    return max(1, sum(message.role == "user" for message in response.messages))


def ends_of(responses: Sequence[Response]) -> set[str]:
    """Keys of those Responses that end their conversation: the longest of each attempt."""
    turns: dict[tuple[str, str, int], int] = {}
    for response in responses:
        place = response.prompt_id, response.model, response.attempt
        turns[place] = max(turn_of(response), turns.get(place, 1))
    return {r.key for r in responses if turn_of(r) == turns[r.prompt_id, r.model, r.attempt]}


def opening(prompt: Prompt) -> tuple[Message, ...]:
    """What is sent first: the question, or the whole conversation up to its last turn where the replies are given."""
    asked = (prompt.question, *prompt.turns)
    sent: list[Message] = []
    for question, reply in zip(asked[:-1], source_replies(prompt), strict=False):
        if not reply:
            return prompt.messages()
        sent += [Message("user", question), Message("assistant", reply)]
    return (*sent, Message("user", asked[-1]))


def turns_asked(prompt: Prompt) -> range:
    """The turns that are asked, from 1: each, or the last alone where the replies before it are given."""
    turns = 1 + len(prompt.turns)
    return range(turns if len(opening(prompt)) > 1 else 1, turns + 1)


def next_messages(prompt: Prompt, response: Response) -> tuple[Message, ...] | None:
    """What is sent after the Response; None at the last turn, and where the reply failed or is empty."""
    turn = turn_of(response)
    if turn > len(prompt.turns) or response.finish_reason not in ("stop", "length") or not response.text.strip():
        return None
    return (*response.messages, Message("assistant", response.text), Message("user", prompt.turns[turn - 1]))


def scales_at(scales: Sequence[Scale], *, last: bool) -> tuple[Scale, ...]:
    """Those of the scales that a reply is read on; `last`: the conversation ends with it."""
    return tuple(scale for scale in scales if last or scale in EACH_TURN)
