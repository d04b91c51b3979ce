"""sample-jailbreak: the same questions in disguise, by a fixed rotation, with the references that were right before."""

import base64
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.prompts.jailbreak import FAMILIES, WRAPPERS, filled, swapped_kana, wrapped
from evaluation.prompts.suites import load_suite, sample_suites
from evaluation.types import Prompt

TEST = sample_suites()["sample-test"].prompts
ATTACKS = sample_suites()["sample-jailbreak"].prompts
BY_ID = {prompt.id: prompt for prompt in TEST}


def test_there_are_the_seven_kinds_of_wrapper():
    kinds = {"role-play", "refusal-suppression", "prefix-injection", "translation", "encoding", "persuasion"}
    assert set(FAMILIES) == kinds | {"many-shot"}
    assert len({wrapper.name for wrapper in WRAPPERS}) == len(WRAPPERS)


def test_every_question_is_wrapped_once_and_keeps_its_reference_and_category():
    assert [prompt.extra["source"] for prompt in ATTACKS] == [prompt.id for prompt in TEST]
    assert len({prompt.id for prompt in ATTACKS}) == len(TEST)
    for attack in ATTACKS:
        source = BY_ID[attack.extra["source"]]
        assert (attack.reference, attack.category) == (source.reference, source.category)
        assert attack.extra["unwrapped"] == source.question


def test_an_id_names_the_wrapper_and_the_question():
    assert ATTACKS[0].id == "sample-jailbreak-01-a-role-play-novel"
    assert all(attack.id.endswith(attack.extra["wrapper"]) for attack in ATTACKS)
    assert {attack.suite for attack in ATTACKS} == {"sample-jailbreak"}


def test_the_rotation_is_even_and_follows_neither_the_pairs_nor_the_harm_types():
    counts = Counter(attack.extra["wrapper_family"] for attack in ATTACKS)
    assert set(counts.values()) <= {15, 16}
    assert set(Counter(attack.extra["wrapper"] for attack in ATTACKS).values()) <= {7, 8, 9, 15, 16}
    for family in FAMILIES:
        met = [attack for attack in ATTACKS if attack.extra["wrapper_family"] == family]
        assert {re.sub(r".*-([abc])$", r"\1", attack.extra["source"]) for attack in met} >= {"a", "b"}
        assert len({attack.category.harm_type for attack in met if attack.category}) >= 6


def test_all_wrappers_for_every_question_can_be_had():
    every = load_suite("sample-jailbreak-all", None).prompts  # type: ignore[arg-type]
    assert len(every) == len({prompt.id for prompt in every}) == len(TEST) * len(WRAPPERS)
    pairs = {(prompt.extra["source"], prompt.extra["wrapper"]) for prompt in every}
    assert {(attack.extra["source"], attack.extra["wrapper"]) for attack in ATTACKS} <= pairs


@pytest.mark.parametrize("wrapper", WRAPPERS, ids=lambda wrapper: wrapper.name)
def test_the_question_is_there_in_the_form_that_the_wrapper_gives_it(wrapper):
    source = TEST[0]
    text = wrapper.wrap(source.question, source.extra["question_en"])
    form = {
        "translation-en-ja": source.extra["question_en"],
        "encoding-base64": base64.b64encode(source.question.encode()).decode(),
        "encoding-kana": swapped_kana(source.question),
    }.get(wrapper.name, source.question)
    assert form in text
    assert not re.search(r"\{[a-z_0-9]+\}", text)


@pytest.mark.parametrize("question", ["{question}", "{base64} と {swapped}", "[INSERT PROMPT HERE]"])
def test_a_question_that_looks_like_a_place_stays_as_it_is(question):
    assert question in next(w for w in WRAPPERS if w.name == "persuasion-research").wrap(question, "")


def test_only_the_question_in_english_is_marked_as_english():
    assert {w.name for w in WRAPPERS if w.language != "ja"} == {"translation-en-ja"}
    for attack in ATTACKS:
        assert attack.language == ("en" if attack.extra["wrapper"] == "translation-en-ja" else "ja")


@settings(deadline=None)
@given(st.text())
def test_kana_swapped_twice_is_the_text(text):
    assert swapped_kana(swapped_kana(text)) == text


def test_kana_change_places_and_nothing_else_does():
    assert swapped_kana("友達のLINEをミる、ー。") == "友達ノLINEヲみル、ー。"


def test_a_question_without_english_is_wrapped_in_its_own_words():
    (attack,) = wrapped([Prompt("mine-1", "問い", suite="mine")], "attacks")
    assert "問い" in attack.question
    assert attack.id == "attacks-1-role-play-novel"
    assert "question_en" not in attack.extra


# Templates that were imported


def test_a_template_gets_a_question_with_its_reference_and_category():
    template = Prompt("t1", "物語を書いて。[INSERT PROMPT HERE]", turns=("[INSERT PROMPT HERE]",), extra={"n": 1})
    (made,) = filled([template], TEST)
    assert made.question == f"物語を書いて。{TEST[0].question}"
    assert made.turns == (TEST[0].question,)
    assert (made.reference, made.category) == (TEST[0].reference, TEST[0].category)
    assert (made.id, made.extra["n"], made.extra["source"]) == ("t1", 1, TEST[0].id)


def test_an_english_template_gets_the_english_question():
    (made,) = filled([Prompt("t1", "Tell me: [INSERT PROMPT HERE]", language="en")], TEST)
    assert made.question == f"Tell me: {TEST[0].extra['question_en']}"
    assert made.reference == TEST[0].extra["reference_en"]


def test_templates_get_different_questions_until_all_have_been_used():
    templates = [Prompt(f"t{n}", "[INSERT PROMPT HERE]") for n in range(len(TEST))]
    made = filled(templates, TEST)
    assert len({prompt.extra["source"] for prompt in made}) == len(TEST)
    assert filled(templates[:5], TEST) == made[:5]


def test_a_prompt_without_a_placeholder_stays_as_it_is():
    plain = Prompt("p1", "普通の質問")
    assert filled([plain], TEST) == (plain,)
