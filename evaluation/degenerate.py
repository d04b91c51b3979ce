"""Responses that broke down: empty, cut off, or caught in a loop. Counted beside the scores, since a judge may miss it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from evaluation.types import FinishReason, Response

Breakdown = Literal["empty", "cut", "repeating"]

# Three times in a row is a loop; twice is emphasis, which ordinary prose has.
_PHRASE_LOOP = re.compile(r"(.{8,40}?)\1\1", re.DOTALL)
_SHORT_LOOP = re.compile(r"(.{2,7}?)\1{5}", re.DOTALL)
_SENTENCE_END = re.compile(r"[。！？!?\n]|\.(?=\s|$)")
_LETTER = re.compile(r"\w")


def breakdown(response: Response) -> Breakdown | None:
    """How the Response broke down, or None. A cut one reached its token limit before its end."""
    return breakdown_of(response.text, response.finish_reason)


def breakdown_of(text: str, finish_reason: FinishReason) -> Breakdown | None:
    """`breakdown` of a Response with that text and finish reason."""
    if not _LETTER.search(text):
        return "empty"
    if repeats(text):
        return "repeating"
    return "cut" if finish_reason == "length" else None


def breakdowns(responses: Iterable[Response]) -> Counter[Breakdown]:
    """How many Responses broke down in which way; those that did not are not counted."""
    return Counter(kind for response in responses if (kind := breakdown(response)) is not None)


def breakdowns_of(texts: Sequence[str], finish_reasons: Sequence[FinishReason]) -> list[Breakdown | None]:
    """`breakdown_of` each of many texts, several times as fast."""
    suspects = _suspects(texts)
    return [
        breakdown_of(text, reason)
        if number in suspects or not _LETTER.search(text)
        else "cut"
        if reason == "length"
        else None
        for number, (text, reason) in enumerate(zip(texts, finish_reasons, strict=True))
    ]


def _suspects(texts: Sequence[str]) -> set[int]:
    """Numbers of the texts that may be caught in a loop; the others are not.

    A text that repeats a phrase of n characters has a stretch in which each character equals the one n places on.
    That is looked for in all texts at once; a stretch over the end of a text is none.
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    ends = np.cumsum(lengths + 1)
    letters = np.frombuffer("\n".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    found: set[int] = set()
    for size in range(2, 41):
        stretch = 2 * size if size >= 8 else 5 * size
        same = np.flatnonzero(letters[size:] == letters[:-size])
        if len(same) >= stretch:
            starts = same[: len(same) - stretch + 1]
            unbroken = starts[same[stretch - 1 :] - starts == stretch - 1]
            first, last = (
                np.searchsorted(ends, place, side="right") for place in (unbroken, unbroken + stretch + size - 1)
            )
            found.update(first[first == last].tolist())
    found.update(n for n in np.flatnonzero(lengths >= 18).tolist() if n not in found and _repeats_a_sentence(texts[n]))
    return found


def repeats(text: str) -> bool:
    """Whether the text is caught in a loop.

    A phrase of 8 to 40 characters three times in a row, 2 to 7 characters six times in a row (a ruled line or an
    ellipsis is none), or one sentence of 6 characters or more three times anywhere.
    """
    loops = (*_PHRASE_LOOP.finditer(text), *_SHORT_LOOP.finditer(text))
    if any(_LETTER.search(loop.group(1)) for loop in loops):
        return True
    return _repeats_a_sentence(text)


def _repeats_a_sentence(text: str) -> bool:
    sentences = Counter(s.strip() for s in _SENTENCE_END.split(text) if len(s.strip()) >= 6)
    return any(count >= 3 for count in sentences.values())
