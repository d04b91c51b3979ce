"""The shipped sample set keeps the promises that its page makes."""

import json
import re
from collections import Counter

import pytest

from evaluation.prompts.suites import SAMPLES, load_suite, sample_suites
from evaluation.prompts.taxonomy import SPECIFIC_HARMS

SAFETY = ("sample-tuning", "sample-test", "sample-borderline")
# Anything that could be dialled: hash numbers, and digit groups that begin with 0 as Japanese numbers do.
NUMBER = re.compile(r"(?<![\d.])(?:#\d{4}|0\d{1,4}-\d{1,5}(?:-\d{2,6})?|0\d{9,10})(?!\d)")
SHORT_NUMBER = re.compile(r"(?<![\d#.\-])(1\d{2})番?(?=(?:に|へ|番|や|、|（|\(|「)[^円人年月日時分個件％%])")


@pytest.fixture(scope="module")
def suites():
    return sample_suites()


@pytest.fixture(scope="module")
def helplines():
    return {row["number"]: row["name"] for row in json.loads((SAMPLES / "helplines.json").read_text(encoding="utf-8"))}


def test_ids_are_unique_over_the_whole_set(suites):
    ids = Counter(prompt.id for suite in suites.values() for prompt in suite.prompts)
    assert [key for key, count in ids.items() if count > 1] == []


@pytest.mark.parametrize("name", ["sample-tuning", "sample-test"])
def test_every_specific_harm_has_a_row_to_tune_on_and_one_to_test_on(suites, name):
    there = {prompt.category.specific_harm for prompt in suites[name].prompts}
    assert [harm.ja for harm in SPECIFIC_HARMS if harm.ja not in there] == []


@pytest.mark.parametrize("name", SAFETY)
def test_references_are_80_to_250_characters(suites, name):
    assert [p.id for p in suites[name].prompts if not 80 <= len(p.reference) <= 250] == []


@pytest.mark.parametrize("name", SAFETY)
def test_every_phone_number_is_one_of_the_known_helplines(suites, helplines, name):
    unknown = {
        (prompt.id, number)
        for prompt in suites[name].prompts
        for text in (prompt.question, prompt.reference, prompt.extra["reference_en"])
        for number in NUMBER.findall(text) + SHORT_NUMBER.findall(text)
        if number not in helplines
    }
    assert unknown == set()


def test_a_made_up_phone_number_would_be_found(helplines):
    text = "#7119や0120-279-338、03-1234-5678、0312345678、#1234に。117に電話を。"
    found = NUMBER.findall(text) + SHORT_NUMBER.findall(text)
    assert [number for number in found if number not in helplines] == ["03-1234-5678", "0312345678", "#1234", "117"]


def grams(text: str) -> set[str]:
    plain = re.sub(r"\s+", "", text)
    return {plain[n : n + 3] for n in range(len(plain) - 2)}


def test_no_test_question_is_nearly_a_tuning_question(suites):
    general = suites["sample-general"]
    tuning = [*suites["sample-tuning"].prompts, *general.split("tuning")]
    tested = [*suites["sample-test"].prompts, *suites["sample-borderline"].prompts, *general.split("test")]
    known = [(prompt.id, grams(prompt.question)) for prompt in tuning]
    near = [
        (prompt.id, key)
        for prompt in tested
        for own in [grams(prompt.question)]
        for key, other in known
        if len(own & other) > 0.6 * len(own | other)
    ]
    assert near == []


def test_every_row_has_its_english_text(suites):
    missing = [
        prompt.id
        for suite in suites.values()
        for prompt in suite.prompts
        if not (prompt.extra["question_en"].strip() and prompt.extra["reference_en"].strip())
    ]
    assert missing == []


def test_general_rows_are_split_in_tuning_and_test(suites):
    general = suites["sample-general"]
    parts = [general.split(name) for name in ("tuning", "test")]
    assert all(parts)
    assert sum(map(len, parts)) == len(general.prompts)


def test_each_sample_suite_has_its_metrics_and_nothing_to_protect(suites):
    assert {name: suite.metrics for name, suite in suites.items()} == {
        "sample-tuning": ("safety",),
        "sample-test": ("safety",),
        "sample-borderline": ("refusal", "safety"),
        "sample-general": ("usefulness",),
    }
    assert not any(suite.protected for suite in suites.values())


def test_a_sample_suite_is_read_once(tmp_path):
    assert load_suite("sample-test", tmp_path) is load_suite("sample-test", tmp_path)
