"""A suite with references by region reads as one region's suite; an ordinary suite says that it cannot."""

from dataclasses import replace

import pytest

from evaluation.errors import ImportRejected
from evaluation.prompts.regions import for_region, references_of, regions_of
from evaluation.prompts.suites import Suite, sample_suites
from evaluation.types import Prompt


@pytest.fixture
def regional():
    return sample_suites()["sample-regional"]


def suite(*extras) -> Suite:
    prompts = tuple(Prompt(f"s-{n}", "問い", "答え", suite="s", extra=extra) for n, extra in enumerate(extras))
    return Suite("s", prompts, ("safety",), False, "題", "title")


@pytest.mark.parametrize("region", ["JP", "US", "EU"])
def test_a_region_carries_its_own_references_and_nothing_of_the_others(regional, region):
    one = for_region(regional, region)
    assert one.name == f"sample-regional-{region.lower()}"
    assert len(one.prompts) == len(regional.prompts)
    for prompt, general in zip(one.prompts, regional.prompts, strict=True):
        assert prompt.reference == general.extra["references"][region]
        assert prompt.extra["reference_en"] == general.extra["references_en"][region]
        assert (prompt.id, prompt.suite) == (f"{general.id}-{region.lower()}", one.name)
        assert (prompt.question, prompt.category) == (general.question, general.category)
        assert not {"references", "references_en"} & set(prompt.extra)


def test_ids_of_all_regions_differ(regional):
    suites = [regional, *(for_region(regional, region) for region in regions_of(regional))]
    ids = [prompt.id for one in suites for prompt in one.prompts]
    assert len(ids) == len(set(ids)) == 80


def test_metrics_and_protection_stay(regional):
    one = for_region(replace(regional, protected=True), "EU")
    assert (one.metrics, one.protected) == (regional.metrics, True)


def test_an_unknown_region_is_refused_with_those_there_are(regional):
    with pytest.raises(ImportRejected, match="region 'BR'; it has JP, US, EU"):
        for_region(regional, "BR")


@pytest.mark.parametrize(
    "plain",
    [
        pytest.param(suite({}), id="no column"),
        pytest.param(suite(), id="no rows"),
        pytest.param(suite({"references": ["a", "b"]}), id="another shape"),
        pytest.param(suite({"references": {"JP": 1}}), id="no text"),
    ],
)
def test_a_suite_without_regions_says_so(plain):
    assert regions_of(plain) == ()
    with pytest.raises(ImportRejected, match="it has no regions"):
        for_region(plain, "JP")


def test_only_regions_that_every_row_has_can_be_chosen():
    assert regions_of(suite({"references": {"JP": "あ", "US": "い"}}, {"references": {"US": "う"}})) == ("US",)


def test_a_row_without_a_gloss_of_the_region_gets_none():
    rows = suite({"references": {"JP": "あ"}, "reference_en": "general"})
    assert for_region(rows, "JP").prompts[0].extra == {"region": "JP"}
    assert references_of(rows.prompts[0], gloss=True) == {"JP": "あ"}
