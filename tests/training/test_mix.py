"""From suites to training rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from evaluation.errors import SettingsRejected
from evaluation.prompts.imports import read_prompts
from evaluation.prompts.suites import load_suite, save_imported
from evaluation.types import Message, Prompt
from tests.tiny import tiny_tokenizer
from training.chat import ChatFormat
from training.leaks import installed_tests
from training.mix import Mix, build_mix, conversation_of
from training.presets import PRESETS
from training.settings import SftSettings, Source

SUITES: dict[str, list[Prompt]] = {
    "safety": [Prompt("s1", "危ない質問", "慎重な答え"), Prompt("s2", "別の質問", "別の答え")],
    "general": [Prompt("g1", "料理", "作り方"), Prompt("g2", "試験用", "答え", extra={"split": "test"})],
    "many": [Prompt(f"m{n}", f"質問その{n}番", f"答え{n}") for n in range(200)],
    "renamed": [Prompt("other-id", "危ない質問", "慎重な答え")],
    "bare": [Prompt("b1", "答えのない質問")],
    "empty": [],
}


def load(name: str) -> Sequence[Prompt]:
    return SUITES[name]


def mix(*sources: Source, **changes: Any) -> Mix:
    settings = SftSettings(**{"name": "x", "sources": sources, "max_length": 2000, **changes})
    return build_mix(settings, load, ChatFormat(tiny_tokenizer()))


def ids(made: Mix) -> dict[str, int]:
    return {e.prompt_id: times for e, times in zip(made.examples, made.times, strict=True)}


def test_each_row_comes_as_often_as_its_sources_multiplier_says():
    assert ids(mix(Source("safety", 16), Source("general", 2))) == {"s1": 16, "s2": 16, "g1": 2}


def test_a_source_multiplied_by_zero_is_left_out():
    assert ids(mix(Source("safety", 0), Source("general"))) == {"g1": 1}


# --- held out ---


def test_a_row_of_the_test_split_is_never_trained_on_and_is_what_is_held_out():
    made = mix(Source("general", 3), held_out=("general",))
    assert ids(made) == {"g1": 3}
    assert [e.prompt_id for e in made.held_out["general"]] == ["g2"]


def test_a_suite_that_is_not_trained_on_is_held_out_whole():
    made = mix(Source("general"), held_out=("safety",))
    assert [e.prompt_id for e in made.held_out["safety"]] == ["s1", "s2"]


def test_a_source_without_a_test_split_keeps_a_share_of_its_rows_out():
    made = mix(Source("many"), held_out=("many",), held_out_share=0.2)
    held = {e.prompt_id for e in made.held_out["many"]}
    assert held.isdisjoint(ids(made)) and len(held) + len(ids(made)) == 200
    assert 20 <= len(held) <= 60
    assert len(ids(mix(Source("many")))) == 200, "nothing is kept out that nobody measures"


def test_a_source_too_small_for_a_share_is_trained_on_whole_and_not_measured():
    made = mix(Source("safety"), held_out=("safety",), held_out_share=1e-9)
    assert ids(made) == {"s1": 1, "s2": 1} and made.held_out == {}
    assert "so small" in made.warnings[0]


def test_the_runs_of_a_sweep_are_measured_on_the_same_rows():
    def held(multiplier: int) -> list[str]:
        made = mix(Source("general"), Source("many", multiplier), held_out=("many",))
        return [e.prompt_id for e in made.held_out["many"]]

    assert held(0) == held(1) == held(16)


def test_the_share_does_not_depend_on_the_seed_or_on_the_order_of_the_rows():
    def held(**changes: Any) -> set[str]:
        made = mix(Source("many"), held_out=("many",), held_out_rows=200, **changes)
        return {e.prompt_id for e in made.held_out["many"]}

    first = held()
    SUITES["many"].reverse()
    assert held(seed=5) == first


def test_at_most_so_many_rows_of_a_suite_are_measured_and_always_the_same():
    def held(seed: int) -> list[str]:
        return [
            e.prompt_id for e in mix(Source("general"), held_out=("many",), held_out_rows=7, seed=seed).held_out["many"]
        ]

    assert len(held(0)) == 7
    assert held(0) == held(0) != held(1)


def test_a_row_cannot_be_held_out_under_one_name_and_trained_on_under_another():
    with pytest.raises(SettingsRejected, match=r"Rows of safety are test questions of renamed.*s1 \(like other-id\)"):
        mix(Source("safety"), held_out=("renamed",))


def test_the_shipped_recipes_train_on_nothing_that_is_for_testing(tmp_path):
    chat = ChatFormat(tiny_tokenizer())
    for recipe in PRESETS.values():
        if any(not source.suite.startswith("sample-") for source in recipe.sources):
            continue  # sets that a person imports
        settings = SftSettings(**{**vars(recipe), "max_length": 100_000})
        tests = installed_tests(tmp_path, [source.suite for source in recipe.sources])
        made = build_mix(settings, lambda name: load_suite(name, tmp_path).prompts, chat, tests)
        assert made.examples and set(made.held_out) == set(recipe.held_out)


# --- refused ---


@pytest.mark.parametrize(
    "call",
    [lambda: mix(Source("empty")), lambda: mix(Source("general"), held_out=("empty",))],
    ids=["source", "held out"],
)
def test_a_suite_without_rows_is_refused(call):
    with pytest.raises(SettingsRejected, match="Suite empty has no rows"):
        call()


def test_a_row_without_a_reference_and_a_row_too_long_are_refused_by_name():
    with pytest.raises(SettingsRejected, match="Row b1 of bare has no reference"):
        mix(Source("bare"))
    with pytest.raises(SettingsRejected, match=r"Row s1 of safety has \d+ tokens, over max_length 20"):
        mix(Source("safety"), max_length=20)


def test_long_rows_are_left_out_where_the_settings_say_so_and_counted():
    SUITES["mixed"] = [SUITES["safety"][0], Prompt("long", "長い" * 400, "答え")]
    made = mix(Source("mixed"), max_length=600, leave_out_long=True)
    assert ids(made) == {"s1": 1}
    assert made.warnings == ["1 rows of mixed are over 600 tokens and are left out."]


# --- counted ---


def test_the_summary_counts_repeats_and_only_replies_as_trained():
    safety, general = mix(Source("safety", 4), Source("general")).summary()
    assert (safety.suite, safety.rows, general.suite, general.rows) == ("safety", 8, "general", 1)
    eos = 1
    assert safety.trained_tokens == 4 * sum(len(p.reference.encode()) + eos for p in SUITES["safety"])
    assert safety.trained_tokens < safety.tokens


def test_the_hash_of_a_mix_tells_rows_and_repeats():
    hashes = {mix(*sources).sha256() for sources in ([Source("safety")], [Source("safety", 2)], [Source("general")])}
    assert len(hashes) == 3
    assert mix(Source("safety")).sha256() == mix(Source("safety")).sha256()


# --- the forms that sets come in, through the importers ---

TALK = [("user", "質問一"), ("assistant", "答え一"), ("user", "質問二"), ("assistant", "答え二")]
FORMS: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str]]]] = {
    "messages": ([{"messages": [{"role": r, "content": c} for r, c in TALK]}], TALK),
    "messages with a system line": (
        [{"messages": [{"role": r, "content": c} for r, c in [("system", "丁寧に。"), *TALK]]}],
        [("system", "丁寧に。"), *TALK],
    ),
    "sharegpt": (
        [{"conversations": [{"from": "human" if r == "user" else "gpt", "value": c} for r, c in TALK]}],
        TALK,
    ),
    "alpaca": (
        [{"instruction": "要約せよ。", "input": "本文。", "output": "要約。"}],
        [("user", "要約せよ。\n\n本文。"), ("assistant", "要約。")],
    ),
    "answercarefully": (
        [{"ID": "x-1", "text": "質問一", "output": "答え一", "meta": {"risk-area": "悪用"}}],
        TALK[:2],
    ),
    "ichikara": ([{"ID": "ichikara-1-1", "text": "質問一", "output": "答え一"}], TALK[:2]),
    "multiple choice": (
        [{"question": "空の色は？", "choices": ["赤", "青"], "label": 1}],
        [
            ("user", "空の色は？\n\nA. 赤\nB. 青\n\nA〜Bのうち、正しいものの記号を一つだけ答えてください。"),
            ("assistant", "B"),
        ],
    ),
    "oasst tree": (
        [
            {
                "message_tree_id": "t",
                "prompt": {
                    "message_id": "t",
                    "text": "質問一",
                    "role": "prompter",
                    "replies": [{"message_id": "u", "text": "答え一", "role": "assistant", "rank": 0, "replies": []}],
                },
            }
        ],
        TALK[:2],
    ),
}


@pytest.mark.parametrize(("rows", "taught"), FORMS.values(), ids=FORMS)
def test_a_set_in_any_form_teaches_every_assistant_turn(tmp_path: Path, rows, taught):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    save_imported(read_prompts(file, "own"), tmp_path)
    tokenizer = tiny_tokenizer()
    settings = SftSettings(name="x", sources=(Source("own"),), max_length=2000)
    (made,) = build_mix(settings, lambda name: load_suite(name, tmp_path).prompts, ChatFormat(tokenizer)).examples
    loss = tokenizer.decode([i for i, on in zip(made.ids, made.trained_on, strict=True) if on])
    assert loss == "".join(f"{content}{tokenizer.eos_token}" for role, content in taught if role == "assistant")
    text = tokenizer.decode(list(made.ids))
    assert Counter(c in text for _, c in taught) == {True: len(taught)}


def conversation(*turns: tuple[str, str], reference: str | None = None) -> Prompt:
    extra = {"conversation": [{"role": role, "content": content} for role, content in turns]}
    return Prompt("c", "質問", reference, extra=extra)


def test_a_conversation_that_ends_with_a_question_gets_the_reference_or_ends_before_it():
    end = conversation(*TALK[:3], reference="参考")
    assert conversation_of(end, "s")[-1] == Message("assistant", "参考")
    assert conversation_of(conversation(*TALK[:3]), "s")[-1] == Message("assistant", "答え一")


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        pytest.param(conversation(("user", "質問")), "no reference", id="only a question"),
        pytest.param(Prompt("c", "一", None, turns=("二",)), "no reference", id="questions without replies"),
        pytest.param(conversation(("user", "質問"), ("assistant", " ")), "empty response", id="a blank reply"),
    ],
)
def test_a_row_that_teaches_nothing_is_refused(prompt, told):
    with pytest.raises(SettingsRejected, match=f"Row c of s has .*{told}|Row c of s has an {told}"):
        conversation_of(prompt, "s")
