"""The graded responses: which are held out, and that a Response is never mistaken for another."""

from __future__ import annotations

from evaluation.prompts.graded import GRADED_FILE, everyday_answers, held_out_graded, read_graded
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
