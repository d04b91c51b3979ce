"""Multiple choice: the options of a row, which of them is right, and how the question is put to a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from evaluation.prompts.columns import as_text, normal
from evaluation.types import Prompt

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # what the options are called when they are put to a model

# What these hold is a place (a number or letter) first, and the option's own text only if no place fits.
PLACE_NAMES = ("label", "answerindex", "answerkey", "gold")
TEXT_NAMES = ("answer", "correct", "correctanswer", "correctoption", "正解", "解答")


class NoChoice(ValueError):
    """The row's choices cannot be used; str(error) says what to change."""


def options_of(
    values: Mapping[str, Any], columns: tuple[str, ...], answer: str | None = None
) -> tuple[list[str], int | None]:
    """Options in order, and the index (from 0) of the right one, or None where the row does not tell it.

    `columns` are choice0, choice1, ... or A, B, ... or the one column "choices" (a list, or ARC's {"text": [],
    "label": []}). A number counts from 1 only when the first column is choice1 or option1. `answer` is the column with
    the right option's letter where the names do not say it. Raises NoChoice.
    """
    marks: list[str] = []
    if columns == ("choices",):
        value = values.get("choices")
        if isinstance(value, Mapping):
            label = value.get("label")
            marks = [as_text(mark) for mark in label] if isinstance(label, list) else []
            value = value.get("text")
        given = value if isinstance(value, list) else []
    else:
        given = [values.get(name) for name in columns]
    options = [as_text(option) for option in given]
    if len(options) < 2:
        raise NoChoice("the row has fewer than two choices; give at least two.")
    if len(options) > len(LETTERS):
        raise NoChoice(f"the row has {len(options)} choices; {len(LETTERS)} can be told apart by letter.")
    named = {normal(name): as_text(value) for name, value in values.items() if as_text(value)}
    found = normal(answer) if answer else next((name for name in (*PLACE_NAMES, *TEXT_NAMES) if name in named), None)
    if found is None:
        return options, None
    first = 1 if columns[0].endswith("1") else 0
    places = marks or [str(n) for n in range(first, first + len(options))]
    letters = list(LETTERS[: len(options)])
    # MMLU's whole number among texts is a place, also where "2" is the text of another option.
    numbers = {normal(name) for name, value in values.items() if isinstance(value, int)}
    numbered = found in numbers and not any(isinstance(option, int) for option in given)
    if found in PLACE_NAMES or numbered:
        order = (places, letters, options)
    elif columns[0] == "A":
        order = (letters, options, places)
    else:
        order = (options, letters, places)
    if answer:
        order = (letters, places, options)
    for names in order:
        if named.get(found) in names:
            return options, names.index(named[found])
    raise NoChoice(f"the right answer is none of the {len(options)} choices; give its number, letter or text.")


def with_options(prompt: Prompt) -> Prompt:
    """The prompt as it is sent: the question with its lettered options and the request for one letter.

    The question alone stays in `extra["stem"]`. A prompt without options, or one that has them in its question already,
    is returned as it is.
    """
    options = prompt.extra.get("choices")
    if not options or "stem" in prompt.extra:
        return prompt
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    last = LETTERS[len(options) - 1]
    if prompt.language == "ja":
        asked = f"{prompt.question}\n\n{listed}\n\nA〜{last}のうち、正しいものの記号を一つだけ答えてください。"
    else:
        asked = f"{prompt.question}\n\n{listed}\n\nAnswer with the letter of the one right option, A to {last}, and nothing else."
    return replace(prompt, question=asked, extra={**prompt.extra, "stem": prompt.question})
