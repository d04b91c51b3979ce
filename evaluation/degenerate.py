"""Responses that broke down: empty, cut off, or caught in a loop. Counted beside the scores, since a judge may miss it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal

from evaluation.types import Response

Breakdown = Literal["empty", "cut", "repeating"]

# Three times in a row is a loop; twice is emphasis, which ordinary prose has.
_PHRASE_LOOP = re.compile(r"(.{8,40}?)\1\1", re.DOTALL)
_SHORT_LOOP = re.compile(r"(.{2,7}?)\1{5}", re.DOTALL)
_SENTENCE_END = re.compile(r"[。！？!?\n]|\.(?=\s|$)")
_LETTER = re.compile(r"\w")


def breakdown(response: Response) -> Breakdown | None:
    """How the Response broke down, or None. A cut one reached its token limit before its end."""
    if not _LETTER.search(response.text):
        return "empty"
    if repeats(response.text):
        return "repeating"
    return "cut" if response.finish_reason == "length" else None


def breakdowns(responses: Iterable[Response]) -> Counter[Breakdown]:
    """How many Responses broke down in which way; those that did not are not counted."""
    return Counter(kind for response in responses if (kind := breakdown(response)) is not None)


def repeats(text: str) -> bool:
    """Whether the text is caught in a loop.

    A phrase of 8 to 40 characters three times in a row, 2 to 7 characters six times in a row (a ruled line or an
    ellipsis is none), or one sentence of 6 characters or more three times anywhere.
    """
    loops = (*_PHRASE_LOOP.finditer(text), *_SHORT_LOOP.finditer(text))
    if any(_LETTER.search(loop.group(1)) for loop in loops):
        return True
    sentences = Counter(s.strip() for s in _SENTENCE_END.split(text) if len(s.strip()) >= 6)
    return any(count >= 3 for count in sentences.values())
