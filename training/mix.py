"""From suites to training rows: which rows, how often, in which chat format, and which tokens carry loss."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evaluation.errors import SettingsRejected
from evaluation.prompts.choices import LETTERS
from evaluation.types import Message, Prompt
from training.chat import ChatFormat
from training.leaks import TestPrompt, plain_text, refuse_leaks
from training.settings import SftSettings

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


@dataclass(frozen=True)
class Mix:
    """The rows of a run. `times[i]` is how often an epoch repeats `examples[i]`."""

    examples: tuple[Example, ...]
    times: tuple[int, ...]
    held_out: dict[str, list[Example]]  # by suite; none of them is in `examples`
    warnings: list[str] = field(default_factory=list)

    def summary(self) -> list[MixSummary]:
        """Rows and tokens by suite, in the order of the sources."""
        found: dict[str, list[tuple[Example, int]]] = {}
        for example, times in zip(self.examples, self.times, strict=True):
            found.setdefault(example.suite, []).append((example, times))
        return [
            MixSummary(
                suite,
                rows=sum(times for _, times in rows),
                tokens=sum(len(e.ids) * times for e, times in rows),
                trained_tokens=sum(sum(e.trained_on) * times for e, times in rows),
            )
            for suite, rows in found.items()
        ]

    def sha256(self) -> str:
        """Hash of every row and how often it comes: equal for equal data, in hex."""
        digest = hashlib.sha256()
        for example, times in zip(self.examples, self.times, strict=True):
            digest.update(repr((example.ids, example.trained_on, times)).encode())
        return digest.hexdigest()


def build_mix(settings: SftSettings, load: LoadSuite, chat: ChatFormat, tests: Sequence[TestPrompt] = ()) -> Mix:
    """The rows to train on and those held out, as tokens.

    tests: questions that nobody may train on, those of the installed suites (`training.leaks.installed_tests`).
    Raises SettingsRejected for a suite without usable rows, a row without a reference response, a row over
    `max_length`, and a row that is nearly a test question. A source whose share is empty is not measured, with a warning.
    """
    warnings: list[str] = []
    examples: list[Example] = []
    times: list[int] = []
    trained: dict[str, list[Prompt]] = {}
    for source in settings.trained_sources:
        rows = [p for p in load(source.suite) if not is_test(p)]
        if source.suite in settings.held_out and not any(map(is_test, load(source.suite))):
            rows = [p for p in rows if not _in_share(p, settings.held_out_share)]
        made = _examples(rows, source.suite, settings, chat, warnings)
        if not made:
            raise SettingsRejected(
                f"Suite {source.suite} has no rows to train on; choose another or import rows into it."
            )
        trained[source.suite] = rows
        examples += made
        times += [source.multiplier] * len(made)
    measured = {suite: _held_out(suite, settings, load, chat, warnings) for suite in settings.held_out}
    held_out = {suite: rows for suite, rows in measured.items() if rows}
    refuse_leaks(trained, [*tests, *_measured(settings, load)], settings.allow_overlap)
    return Mix(tuple(examples), tuple(times), held_out, warnings)


def _sources(settings: SftSettings) -> set[str]:
    """Names of the sources, also of one multiplied by 0: the runs of a sweep are measured on the same rows."""
    return {source.suite for source in settings.sources}


def is_test(prompt: Prompt) -> bool:
    """Whether the row says of itself that it is for testing."""
    return prompt.extra.get("split") == "test"


def _held_out_prompts(suite: str, settings: SftSettings, load: LoadSuite) -> list[Prompt]:
    prompts = list(load(suite))
    if tests := [p for p in prompts if is_test(p)]:
        return tests
    if suite in _sources(settings):
        return [p for p in prompts if _in_share(p, settings.held_out_share)]
    return prompts


def _held_out(
    suite: str, settings: SftSettings, load: LoadSuite, chat: ChatFormat, warnings: list[str]
) -> list[Example]:
    """At most `held_out_rows` of the suite's held-out rows, drawn by the seed; none of a small source, at times."""
    prompts = _held_out_prompts(suite, settings, load)
    if not prompts and suite in _sources(settings):
        warnings.append(f"{suite} is so small that none of its rows is held out; its loss is not measured.")
        return []
    if len(prompts) > settings.held_out_rows:
        kept = random.Random(settings.seed).sample(range(len(prompts)), settings.held_out_rows)
        prompts = [prompts[n] for n in sorted(kept)]
    made = _examples(prompts, suite, settings, chat, warnings)
    if not made:
        raise SettingsRejected(f"Suite {suite} has no rows to measure the loss on; take it out of held_out.")
    return made


def _measured(settings: SftSettings, load: LoadSuite) -> list[TestPrompt]:
    """Held-out rows as test questions. A share of a source is not among them: natural sets repeat themselves a
    little, and rows with the very same question stay on one side anyway."""
    sources = _sources(settings)
    return [
        TestPrompt(suite, prompt.id, prompt.question)
        for suite in settings.held_out
        for prompt in _held_out_prompts(suite, settings, load)
        if suite not in sources or is_test(prompt)
    ]


def _in_share(prompt: Prompt, share: float) -> bool:
    """Whether the row is held out, by a hash of its question: the same on every machine, whatever the order."""
    digest = hashlib.sha256(plain_text(prompt.question).encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def _examples(
    prompts: Sequence[Prompt], suite: str, settings: SftSettings, chat: ChatFormat, warnings: list[str]
) -> list[Example]:
    made, long = [], []
    for row in examples(prompts, suite, chat):
        if len(row.ids) <= settings.max_length:
            made.append(row)
        elif settings.leave_out_long:
            long.append(row.prompt_id)
        else:
            raise SettingsRejected(
                f"Row {row.prompt_id} of {suite} has {len(row.ids)} tokens, over max_length {settings.max_length}; "
                "raise max_length, set leave_out_long, or shorten the row."
            )
    if long:
        warnings.append(f"{len(long)} rows of {suite} are over {settings.max_length} tokens and are left out.")
    return made


def examples(prompts: Sequence[Prompt], suite: str, chat: ChatFormat) -> list[Example]:
    """Rows as tokens, in order. Raises SettingsRejected when one cannot be trained on."""
    tokens = chat.training_tokens_of([conversation_of(prompt, suite) for prompt in prompts])
    return [
        Example(prompt.id, suite, tuple(row.ids), tuple(row.trained_on))
        for prompt, row in zip(prompts, tokens, strict=True)
    ]


def conversation_of(prompt: Prompt, suite: str) -> tuple[Message, ...]:
    """The conversation that a row teaches, ending with an assistant turn: every one of those carries loss.

    An imported conversation is taken whole, its system message and all turns; without a reply at its end it gets the
    reference response there, or ends earlier. Raises SettingsRejected for a row without any reply.
    """
    turns = tuple(Message(t["role"], t["content"]) for t in prompt.extra.get("conversation", ()))
    if not turns and not prompt.turns:
        turns = prompt.messages()
    if turns and turns[-1].role == "user" and (reply := _reply(prompt)):
        turns = (*turns, Message("assistant", reply))
    while turns and turns[-1].role != "assistant":
        turns = turns[:-1]
    if not turns:
        raise SettingsRejected(f"Row {prompt.id} of {suite} has no reference response to learn; remove it or add one.")
    if any(not turn.content.strip() for turn in turns if turn.role == "assistant"):
        raise SettingsRejected(f"Row {prompt.id} of {suite} has an empty response; remove the row or fill it.")
    return turns


def _reply(prompt: Prompt) -> str | None:
    """The reference response; of multiple choice the letter that its question asks for, not that option's text."""
    right = prompt.extra.get("answer_index") if "stem" in prompt.extra else None
    return prompt.reference if right is None else LETTERS[right]
