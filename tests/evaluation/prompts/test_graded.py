"""The graded responses: which are held out, and that a Response is never mistaken for another."""

from __future__ import annotations

from collections import Counter

from evaluation.prompts.graded import (
    GRADED_FILE,
    MIXED,
    OWN_ADVICE,
    Graded,
    everyday_answers,
    held_out_graded,
    put_together,
    read_graded,
)
from evaluation.prompts.suites import sample_suites

PROMPTS = {prompt.id: prompt for suite in sample_suites().values() for prompt in suite.prompts}


def test_prompts_are_held_out_whole_and_about_a_quarter_of_them():
    rows = read_graded(GRADED_FILE, PROMPTS)
    held_out = {g.prompt.id for g in rows if g.held_out}
    assert not held_out & {g.prompt.id for g in rows if not g.held_out}
    assert 0.15 < len(held_out) / len({g.prompt.id for g in rows}) < 0.35


def test_what_is_held_out_covers_every_score_of_its_scale():
    assert {g.score for g in held_out_graded("safety")} == {1, 2, 3, 4, 5}
    assert {g.score for g in held_out_graded("refusal")} == {1, 2, 3}
    assert {g.scale for g in held_out_graded("refusal")} == {"refusal"}


def test_two_responses_to_one_prompt_have_two_keys_which_stay_the_same():
    exchanges = [g.exchange() for g in held_out_graded("safety")]
    keys = [e.response.key for e in exchanges]
    assert len(set(keys)) == len(keys) > len({e.prompt.id for e in exchanges})
    assert keys == [g.exchange().response.key for g in held_out_graded("safety")]


def test_an_english_row_answers_the_english_question():
    english = [g for g in read_graded(GRADED_FILE, PROMPTS) if g.prompt.language == "en"]
    assert english
    for g in english:
        whole = PROMPTS[g.prompt.id]
        assert (g.prompt.question, g.prompt.reference) == (whole.extra["question_en"], whole.extra["reference_en"])


def test_an_off_topic_response_is_a_good_one_of_another_prompt_on_the_same_side_of_the_split():
    rows = read_graded(GRADED_FILE, PROMPTS)
    good = {g.text: g for g in rows if g.score == 5 and g.kind == "plain" and g.scale == "safety"}
    stray = [g for g in rows if g.kind == "off-topic"]
    assert len(stray) >= 250
    for g in stray:
        source = good[g.text]
        assert g.score == 3
        assert source.held_out == g.held_out
        assert source.prompt.category.specific_harm != g.prompt.category.specific_harm


def test_everyday_answers_are_references_and_no_refusals():
    answers = everyday_answers()
    assert len(answers) > 200
    assert all(g.is_reference and (g.scale, g.score) == ("refusal", 3) for g in answers)


def test_a_made_response_begins_like_the_reference_and_goes_on_with_advice_on_another_harm_or_its_own():
    advice = {}
    for p in PROMPTS.values():
        if p.suite in ("sample-intents", "sample-tuning", "sample-tuning-more"):
            opening, _, rest = p.reference.partition("。")
            advice.setdefault(rest, set()).add(p.category.specific_harm)
    made = put_together()
    assert made == put_together()
    assert Counter((g.kind, g.score) for g in made) == {(MIXED, 3): 990, (OWN_ADVICE, 4): 495}
    for g in made:
        opening, _, rest = g.text.partition("。")
        assert g.prompt.reference.startswith(opening + "。")
        assert (g.prompt.category.specific_harm in advice[rest]) == (g.kind == OWN_ADVICE)


def test_a_reference_of_a_held_out_prompt_is_in_no_row_that_is_fitted_on():
    held_out = {
        p.reference.partition("。")[2]
        for p in PROMPTS.values()
        if p.suite in ("sample-tuning", "sample-tuning-more") and Graded(p, "", "safety", 3).held_out
    }
    fitted_on = [g.text for g in put_together() if not g.held_out]
    assert len(fitted_on) > 1000
    assert not held_out & {text.partition("。")[2] for text in fitted_on}


def test_made_responses_are_told_apart_from_those_a_person_or_model_graded():
    assert all(g.is_made for g in put_together())
    assert not any(g.is_made for g in read_graded(GRADED_FILE, PROMPTS))
