"""Multiple choice: the options of a row and which of them is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.prompts.columns import as_text, normal

# What these hold is a place (a number or letter) first, and the option's own text only if no place fits.
PLACE_NAMES = ("label", "answerindex", "answerkey", "gold")
TEXT_NAMES = ("answer", "correct", "正解")


class NoChoice(ValueError):
    """The row's choices cannot be used; str(error) says what to change."""


def options_of(values: Mapping[str, Any], columns: tuple[str, ...]) -> tuple[list[str], int | None]:
    """Options in order, and the index (from 0) of the right one, or None where the row does not tell it.

    `columns` are choice0, choice1, ... or the one column "choices" (a list, or ARC's {"text": [], "label": []}).
    A number counts from 1 only when the first column is choice1. Raises NoChoice.
    """
    marks: list[str] = []
    if columns == ("choices",):
        value = values.get("choices")
        if isinstance(value, Mapping):
            marks = [as_text(mark) for mark in value.get("label") or []]
            value = value.get("text")
        options = [as_text(option) for option in value] if isinstance(value, list) else []
    else:
        options = [as_text(values.get(name)) for name in columns]
    if len(options) < 2:
        raise NoChoice("the row has fewer than two choices; give at least two.")
    named = {normal(name): as_text(value) for name, value in values.items() if as_text(value)}
    found = next((name for name in (*PLACE_NAMES, *TEXT_NAMES) if name in named), None)
    if found is None:
        return options, None
    first = 1 if columns[0].endswith("1") else 0
    places = marks or [str(n) for n in range(first, first + len(options))]
    letters = [chr(ord("A") + n) for n in range(len(options))]
    order = (places, letters, options) if found in PLACE_NAMES else (options, letters, places)
    for names in order:
        if named[found] in names:
            return options, names.index(named[found])
    raise NoChoice(f"the right answer is none of the {len(options)} choices; give its number, letter or text.")
