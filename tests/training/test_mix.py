"""From suites to training rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from evaluation.errors import SettingsRejected
from evaluation.prompts.suites import sample_suites
from evaluation.types import Prompt
from tests.tiny import tiny_tokenizer
from training.chat import ChatFormat
from training.mix import build_mix, held_out_examples, refuse_overlap, summarise
from training.presets import PRESETS
from training.settings import Source

SUITES: dict[str, list[Prompt]] = {
    "safety": [Prompt("s1", "危ない質問", "慎重な答え"), Prompt("s2", "別の質問", "別の答え")],
    "general": [Prompt("g1", "料理", "作り方"), Prompt("g2", "試験用", "答え", extra={"split": "test"})],
    "bare": [Prompt("b1", "答えのない質問")],
}


def load(name: str) -> Sequence[Prompt]:
    return SUITES[name]


def mix(*sources: Source, seed: int = 0, max_length: int = 2000):
    return build_mix(sources, load, ChatFormat(tiny_tokenizer()), max_length, seed)


def test_each_row_comes_as_often_as_its_multiplier_says():
    examples = mix(Source("safety", 16), Source("general", 2))
    assert Counter(e.prompt_id for e in examples) == {"s1": 16, "s2": 16, "g1": 2}


def test_a_row_of_the_test_split_is_never_trained_on_and_is_what_is_held_out():
    assert {e.prompt_id for e in mix(Source("general", 3))} == {"g1"}
    held_out = held_out_examples("general", load, ChatFormat(tiny_tokenizer()), 2000)
    assert [e.prompt_id for e in held_out] == ["g2"]


def test_a_suite_without_splits_is_held_out_whole():
    assert len(held_out_examples("safety", load, ChatFormat(tiny_tokenizer()), 2000)) == 2


@pytest.mark.parametrize("held_out", ["safety", "renamed"], ids=["the same suite", "the same rows under another name"])
def test_a_row_cannot_be_held_out_and_trained_on(held_out: str):
    SUITES["renamed"] = [Prompt("other-id", row.question, row.reference) for row in SUITES["safety"]]
    chat = ChatFormat(tiny_tokenizer())
    examples = held_out_examples(held_out, load, chat, 2000)
    refuse_overlap(mix(Source("general")), {held_out: examples})
    with pytest.raises(SettingsRejected, match=f"of {held_out} is held out and trained on"):
        refuse_overlap(mix(Source("general"), Source("safety")), {held_out: examples})


def test_the_shipped_recipes_hold_out_what_they_do_not_train_on():
    chat, suites = ChatFormat(tiny_tokenizer()), sample_suites()
    for recipe in PRESETS.values():
        examples = build_mix(recipe.sources, lambda name: suites[name].prompts, chat, 100_000, 0)
        held_out = {s: held_out_examples(s, lambda name: suites[name].prompts, chat, 100_000) for s in recipe.held_out}
        refuse_overlap(examples, held_out)


@pytest.mark.parametrize("call", [lambda: mix(Source("empty")), lambda: held_out("empty")], ids=["source", "held out"])
def test_a_suite_without_rows_is_refused(call):
    SUITES["empty"] = []
    with pytest.raises(SettingsRejected, match="Suite empty has no rows"):
        call()


def held_out(suite: str):
    return held_out_examples(suite, load, ChatFormat(tiny_tokenizer()), 2000)


def test_the_order_is_the_seeds():
    def ids(seed: int) -> list[str]:
        return [e.prompt_id for e in mix(Source("safety", 8), Source("general", 8), seed=seed)]

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)


def test_a_row_without_a_reference_and_a_row_too_long_are_refused_by_name():
    with pytest.raises(SettingsRejected, match="Row b1 of bare has no reference"):
        mix(Source("bare"))
    with pytest.raises(SettingsRejected, match=r"Row s1 of safety has \d+ tokens, over max_length 20"):
        mix(Source("safety"), max_length=20)


def test_the_summary_counts_repeats_and_only_replies_as_trained():
    (safety,) = summarise(mix(Source("safety", 4)))
    assert (safety.suite, safety.rows) == ("safety", 8)
    assert 0 < safety.trained_tokens < safety.tokens
