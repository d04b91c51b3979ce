"""Conversations in the layouts that files have: role/content, from/value, name/text, and transcript strings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.types import Message, Prompt, Role

ROLES: dict[str, Role] = {
    "user": "user", "human": "user", "ユーザー": "user", "ユーザ": "user", "prompter": "user",
    "assistant": "assistant", "agent": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant",
    "chatgpt": "assistant", "ai": "assistant", "アシスタント": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
LAYOUTS = (("role", "content"), ("from", "value"), ("name", "text"), ("role", "text"), ("speaker", "text"))


class NotAConversation(ValueError):
    """The value is not a conversation; str(error) says why, without its content."""


def is_transcript(value: object) -> bool:
    """Whether a string is a dialogue in hh-rlhf's form: turns that begin with a blank line and Human: or Assistant:."""
    return isinstance(value, str) and bool(re.match(r"\s*Human: ?", value)) and "\n\nAssistant:" in value


def transcript(text: str) -> tuple[Message, ...]:
    """Split a transcript string into its turns; each turn is stripped of surrounding white space."""
    parts = re.split(r"(?:\A\s*|\n\n)(Human|Assistant):", text)
    return tuple(
        Message("user" if speaker == "Human" else "assistant", said.strip())
        for speaker, said in zip(parts[1::2], parts[2::2], strict=True)
    )


def messages(turns: Sequence[Any]) -> tuple[Message, ...]:
    """A list of turns as Messages. Raises NotAConversation for an unknown layout or role or a turn without text."""
    found = []
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, Mapping):
            raise NotAConversation(f"turn {number} of the conversation is not an object")
        layout = next((pair for pair in LAYOUTS if pair[0] in turn and pair[1] in turn), None)
        if layout is None:
            raise NotAConversation(f"turn {number} of the conversation has no role and text (role/content, from/value)")
        role = ROLES.get(str(turn[layout[0]]).strip().lower())
        if role is None:
            raise NotAConversation(f"turn {number} has a role other than user, assistant or system; remove such turns")
        said = turn[layout[1]]
        if isinstance(said, list):  # OpenAI's content parts
            parts = [part.get("text") if isinstance(part, Mapping) else None for part in said]
            said = "".join(map(str, parts)) if all(isinstance(part, str) for part in parts) else None
        if not isinstance(said, str):
            raise NotAConversation(f"turn {number} of the conversation has no text")
        found.append(Message(role, said))
    return tuple(found)


def user_turns(conversation: Sequence[Message]) -> tuple[str, ...]:
    """What the user said, in order."""
    return tuple(message.content for message in conversation if message.role == "user")


def source_replies(prompt: Prompt) -> tuple[str | None, ...]:
    """For each user turn of the Prompt the reply that its source has after it; None where it has none."""
    turns = 1 + len(prompt.turns)
    conversation = prompt.extra.get("conversation")
    found: list[str | None] = []
    for said in conversation if isinstance(conversation, list | tuple) else ():
        # A column of the source may have this name too, and hold anything.
        role, content = (said.get("role"), said.get("content")) if isinstance(said, Mapping) else (None, None)
        if role == "user":
            found.append(None)
        elif role == "assistant" and found and found[-1] is None and isinstance(content, str):
            found[-1] = content
    return tuple(found) if len(found) == turns else (None,) * turns
