"""The shipped sample set keeps the promises that its page makes."""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from evaluation.prompts.regions import references_of
from evaluation.prompts.suites import SAMPLES, load_suite, sample_suites
from evaluation.prompts.taxonomy import SPECIFIC_HARMS

SAFETY = (
    "sample-tuning",
    "sample-test",
    "sample-borderline",
    "sample-regional",
    "sample-tuning-more",
    "sample-intents",
)
TUNING = ("sample-tuning", "sample-tuning-more", "sample-intents", "sample-daily")  # and a part of sample-general
REGIONS = ["JP", "US", "EU"]
LOOKED_UP = Path(__file__).parents[3] / "docs/help-lines-and-laws.md"
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


def references(prompt):
    return [prompt.reference, *references_of(prompt).values()]


def texts_of(prompt):
    return [*references(prompt), prompt.extra["reference_en"], *references_of(prompt, gloss=True).values()]


@pytest.mark.parametrize("name", SAFETY)
def test_references_are_80_to_250_characters(suites, name):
    assert [p.id for p in suites[name].prompts for text in references(p) if not 80 <= len(text) <= 250] == []


@pytest.mark.parametrize("name", SAFETY)
def test_every_phone_number_is_one_of_the_known_helplines(suites, helplines, name):
    unknown = {
        (prompt.id, number)
        for prompt in suites[name].prompts
        for text in (prompt.question, *texts_of(prompt))
        for number in NUMBER.findall(text) + SHORT_NUMBER.findall(text)
        if number not in helplines
    }
    assert unknown == set()


def test_a_helpline_without_a_source_is_said_to_be_from_knowledge():
    page = [line.split("|")[1:-1] for line in LOOKED_UP.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    said = {cells[0].strip(): (cells[3].strip(), cells[4].strip()) for cells in page if len(cells) == 5}
    for row in json.loads((SAMPLES / "helplines.json").read_text(encoding="utf-8")):
        address, found = said[row["number"]]
        assert ("knowledge" in found) == ("source" not in row), row
        assert row.get("source", address) == address


def test_a_made_up_phone_number_would_be_found(helplines):
    text = "#7119や0120-279-338、03-1234-5678、0312345678、#1234に。117に電話を。"
    found = NUMBER.findall(text) + SHORT_NUMBER.findall(text)
    assert [number for number in found if number not in helplines] == ["03-1234-5678", "0312345678", "#1234", "117"]


def grams(text: str) -> set[str]:
    plain = re.sub(r"\s+", "", text)
    return {plain[n : n + 3] for n in range(len(plain) - 2)}


def test_no_test_question_is_nearly_a_tuning_question(suites):
    general = suites["sample-general"]
    tuning = [*(p for name in TUNING for p in suites[name].prompts), *general.split("tuning")]
    tested = [
        prompt for name in ("sample-test", "sample-borderline", "sample-regional") for prompt in suites[name].prompts
    ] + [*general.split("test")]
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


def test_there_are_20_regional_rows_and_none_names_a_country_in_its_question(suites):
    prompts = suites["sample-regional"].prompts
    assert len(prompts) == 20
    assert [prompt.id for prompt in prompts if re.search("日本|アメリカ|米国|EU|欧州", prompt.question)] == []


def test_every_regional_row_answers_for_every_region_in_both_languages(suites):
    for prompt in suites["sample-regional"].prompts:
        assert list(references_of(prompt)) == list(references_of(prompt, gloss=True)) == REGIONS, prompt.id
        assert len(set(texts_of(prompt))) == 8, prompt.id
        assert "日本" in prompt.reference, prompt.id


def test_no_two_regional_questions_are_nearly_the_same_nor_like_one_of_another_suite(suites):
    names = ("sample-tuning", "sample-test", "sample-borderline", "sample-general", "sample-tuning-more")
    others = [p for name in names for p in suites[name].prompts]
    known = [(prompt.id, grams(prompt.question)) for prompt in others]
    near = []
    for prompt in suites["sample-regional"].prompts:
        own = grams(prompt.question)
        near += [(prompt.id, key) for key, other in known if len(own & other) > 0.5 * min(len(own), len(other))]
        known.append((prompt.id, own))
    assert near == []


@pytest.mark.parametrize("region", [None, *REGIONS])
def test_regional_references_open_and_close_differently(suites, region):
    texts = [references_of(p)[region] if region else p.reference for p in suites["sample-regional"].prompts]
    assert len({text[:8] for text in texts}) == len({text[-8:] for text in texts}) == len(texts)


def test_general_rows_are_split_in_tuning_and_test(suites):
    general = suites["sample-general"]
    parts = [general.split(name) for name in ("tuning", "test")]
    assert all(parts)
    assert sum(map(len, parts)) == len(general.prompts)


def test_each_sample_suite_has_its_metrics_and_nothing_to_protect(suites):
    assert {name: suite.metrics for name, suite in suites.items()} == {
        "sample-tuning": ("safety",),
        "sample-test": ("safety",),
        "sample-borderline": ("borderline",),
        "sample-general": ("usefulness",),
        "sample-regional": ("safety",),
        "sample-jailbreak": ("attack",),
        "sample-jailbreak-all": ("attack",),
        "sample-tuning-more": ("safety",),
        "sample-intents": ("safety",),
        "sample-daily": ("usefulness",),
    }
    assert not any(suite.protected for suite in suites.values())


def test_the_set_has_the_size_its_page_says(suites):
    assert {name: len(suite.prompts) for name, suite in suites.items()} == {
        "sample-tuning": 165,
        "sample-test": 111,
        "sample-borderline": 60,
        "sample-general": 200,
        "sample-regional": 20,
        "sample-jailbreak": 111,
        "sample-jailbreak-all": 111 * 13,
        "sample-tuning-more": 330,
        "sample-intents": 8909,
        "sample-daily": 1262,
    }


@pytest.mark.parametrize(("name", "rows"), [("sample-tuning", 3), ("sample-test", 2), ("sample-tuning-more", 6)])
def test_each_specific_harm_has_its_share_of_rows(suites, name, rows):
    counts = Counter(prompt.category.specific_harm for prompt in suites[name].prompts)
    assert {harm.ja: counts[harm.ja] for harm in SPECIFIC_HARMS if counts[harm.ja] < rows} == {}


def test_each_specific_harm_has_two_intents_whose_responses_share_all_but_their_opening(suites):
    intents = defaultdict(list)
    for p in suites["sample-intents"].prompts:
        intents[p.category.specific_harm, p.extra["intent"]].append(p.reference)
    assert Counter(harm for harm, _ in intents) == {harm.ja: 2 for harm in SPECIFIC_HARMS}
    for responses in intents.values():
        assert len(responses) >= 60
        assert len({response.split("。", 1)[1] for response in responses}) == 1
        assert len({response.split("。")[0] for response in responses}) == len(responses)


@pytest.mark.parametrize("name", ["sample-tuning", "sample-test", "sample-borderline", "sample-daily"])
def test_no_two_references_open_or_close_alike(suites, name):
    texts = {prompt.reference for prompt in suites[name].prompts}
    for end in (slice(8), slice(-8, None)):
        assert [piece for piece, count in Counter(text[end] for text in texts).items() if count > 1] == []


def test_a_sample_suite_is_read_once(tmp_path):
    assert load_suite("sample-test", tmp_path) is load_suite("sample-test", tmp_path)
