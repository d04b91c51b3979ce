"""A reasoning model's thoughts, told apart from its reply: one rule for every engine.

Thoughts are what stands between `<think>` and `</think>` (also `thinking`, `reasoning`, and the analysis channel of the
Harmony format) at the very beginning of what a model writes. Where the chat template opened the tag, so that only the
closing one is written, on a line of its own, they are what stands before it. A tag anywhere else is text like any other.
Everything else is the reply, which is all that a judge reads; a model that only thought has replied nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

BEGIN, END = "<think>", "</think>"
_NAMES = "think|thinking|reasoning"
_OPENING = re.compile(rf"\s*<({_NAMES})>", re.IGNORECASE)
_OPENINGS = (*(f"<{name}>" for name in _NAMES.split("|")), "<|channel|>analysis<|message|>")
_CLOSING_ALONE = re.compile(rf"(?:\A|\n)[ \t]*</({_NAMES})>[ \t]*(?:\n|\Z)", re.IGNORECASE)
_LEFT_OPEN = re.compile(rf"<({_NAMES})>\s*\Z", re.IGNORECASE)
# A server that hides special tokens leaves only the channels' names.
_CHANNEL = re.compile(r"\s*<\|channel\|>analysis<\|message\|>")
_FINAL = "<|channel|>final<|message|>"
_FINAL_BEFORE = re.compile(r"(?:<\|end\|>)?(?:<\|start\|>(?:assistant)?)?\Z")
_HIDDEN_CHANNELS = re.compile(r"\s*analysis(?P<thinking>.*?)assistantfinal", re.DOTALL)
_FINAL_ENDS = ("<|return|>", "<|end|>")
_ENDS = re.compile(r"<\|(?:return|end)\|>\s*\Z")


@dataclass(frozen=True)
class Parts:
    """What a model wrote. `open`: the thoughts have not ended."""

    thinking: str
    text: str
    open: bool = False


def parts(raw: str, *, whole: bool = False) -> Parts:
    """The thoughts and the reply in `raw`, which is all that came so far, or the `whole`.

    Before the whole is there, what may still become a tag is held back. A text without thoughts stays as it is.
    """
    if not whole and _may_open(raw):
        return Parts("", "")
    if channel := _CHANNEL.match(raw):
        return _closed(raw[channel.end() :], _FINAL, whole)
    if opening := _OPENING.match(raw):
        return _closed(raw[opening.end() :], f"</{opening[1]}>", whole)
    if hidden := _HIDDEN_CHANNELS.match(raw):
        return Parts(hidden["thinking"].strip(), raw[hidden.end() :].lstrip())
    closing = _CLOSING_ALONE.search(raw)
    if closing and f"<{closing[1]}>".lower() not in raw[: closing.start()].lower():
        return Parts(raw[: closing.start()].strip(), raw[closing.end() :].lstrip())
    return Parts("", raw)


def _closed(rest: str, end: str, whole: bool) -> Parts:
    """What follows an opening tag, parted at `end`."""
    at = rest.lower().find(end.lower())
    if at >= 0:
        text = rest[at + len(end) :].lstrip()
        if end == _FINAL:
            text = _ENDS.sub("", text)
            text = text if whole else _without_begun(text, *_FINAL_ENDS)
        return Parts(_without_end_marks(rest[:at]), text)
    rest = rest if whole else _without_begun(rest, end)
    return Parts(_without_end_marks(rest), "", open=True)


def _without_begun(text: str, *marks: str) -> str:
    """`text` without an end that may become one of the marks."""
    lowered = text.lower()
    begun = [n for mark in marks for n in range(1, len(mark)) if lowered.endswith(mark[:n].lower())]
    return text[: len(text) - max(begun, default=0)]


def _without_end_marks(thinking: str) -> str:
    return _FINAL_BEFORE.sub("", thinking).strip()


def _may_open(raw: str) -> bool:
    begun = raw.lstrip().lower()
    return any(len(begun) < len(opening) and opening.startswith(begun) for opening in _OPENINGS) and bool(raw)


def left_open(prompt_end: str) -> str:
    """The tag that a rendered prompt's end leaves open for the reply to go on in, or nothing."""
    found = _LEFT_OPEN.search(prompt_end)
    return found[0].strip() if found else ""


class Deltas:
    """Puts thoughts that a server sends apart from the reply, as deltas of their own, back between the tags."""

    def __init__(self) -> None:
        self._thinking = False

    def text(self, thinking: str | None, content: str | None) -> str:
        """The two deltas of one event as one piece of text."""
        piece = ""
        if thinking:
            piece += thinking if self._thinking else BEGIN + thinking
            self._thinking = True
        if content:
            piece += (END if self._thinking else "") + content
            self._thinking = False
        return piece
