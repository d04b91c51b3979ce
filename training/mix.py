"""From suites to training rows: upsampling, chat format, and which tokens carry loss."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evaluation.errors import SettingsRejected
from evaluation.types import Message, Prompt
from training.chat import ChatFormat
from training.settings import Source

LoadSuite = Callable[[str], Sequence[Prompt]]


@dataclass(frozen=True)
class Example:
    """One conversation to learn from, as token ids. `trained_on[i]` says whether `ids[i]` carries loss."""

    prompt_id: str
    suite: str
    ids: tuple[int, ...]
    trained_on: tuple[bool, ...]


@dataclass(frozen=True)
class MixSummary:
    """What one suite contributes to an epoch, repeats counted."""

    suite: str
    rows: int
    tokens: int
    trained_tokens: int


def build_mix(
    sources: Sequence[Source], load: LoadSuite, chat: ChatFormat, max_length: int, seed: int
) -> list[Example]:
    """Every source's tuning rows, repeated by its multiplier, in an order drawn by `seed`.

    Raises SettingsRejected for a suite without usable rows or a row over `max_length` tokens.
    """
    examples: list[Example] = []
    for source in sources:
        rows = [example(p, source.suite, chat, max_length) for p in load(source.suite) if not is_held_out(p)]
        if not rows:
            raise SettingsRejected(
                f"Suite {source.suite} has no rows to train on; choose another or import rows into it."
            )
        examples += rows * source.multiplier
    random.Random(seed).shuffle(examples)
    return examples


def held_out_examples(suite: str, load: LoadSuite, chat: ChatFormat, max_length: int) -> list[Example]:
    """The rows of a suite to measure the loss on: its test split where it has one, else all of it.

    Raises SettingsRejected for a suite without rows or a row that cannot be measured.
    """
    prompts = list(load(suite))
    held_out = [p for p in prompts if is_held_out(p)] or prompts
    if not held_out:
        raise SettingsRejected(f"Suite {suite} has no rows to measure the loss on; take it out of held_out.")
    return [example(p, suite, chat, max_length) for p in held_out]


def refuse_overlap(trained: Sequence[Example], held_out: Mapping[str, Sequence[Example]]) -> None:
    """Raise SettingsRejected when a row that is trained on is also held out, under whatever name or suite."""
    seen = {e.ids for e in trained}
    for suite, examples in held_out.items():
        for e in examples:
            if e.ids in seen:
                raise SettingsRejected(
                    f"Row {e.prompt_id} of {suite} is held out and trained on at once, so its loss would say nothing; "
                    f"take {suite} out of held_out or out of sources."
                )


def is_held_out(prompt: Prompt) -> bool:
    """Whether the row says of itself that it is for testing."""
    return prompt.extra.get("split") == "test"


def example(prompt: Prompt, suite: str, chat: ChatFormat, max_length: int) -> Example:
    """One prompt and its reference as tokens. Raises SettingsRejected when it cannot be trained on."""
    if not prompt.reference:
        raise SettingsRejected(f"Row {prompt.id} of {suite} has no reference response to learn; remove it or add one.")
    tokens = chat.training_tokens((Message("user", prompt.question), Message("assistant", prompt.reference)))
    if len(tokens.ids) > max_length:
        raise SettingsRejected(
            f"Row {prompt.id} of {suite} has {len(tokens.ids)} tokens, over max_length {max_length}; "
            "raise max_length or shorten the row."
        )
    return Example(prompt.id, suite, tuple(tokens.ids), tuple(tokens.trained_on))


def summarise(examples: Sequence[Example]) -> list[MixSummary]:
    """Rows and tokens by suite, in the order of first appearance by name."""
    suites = sorted({e.suite for e in examples})
    return [
        MixSummary(
            suite,
            rows=sum(e.suite == suite for e in examples),
            tokens=sum(len(e.ids) for e in examples if e.suite == suite),
            trained_tokens=sum(sum(e.trained_on) for e in examples if e.suite == suite),
        )
        for suite in suites
    ]
