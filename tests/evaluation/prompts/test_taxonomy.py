"""The built-in taxonomy: complete, unambiguous, in both languages."""

import re

import pytest

from evaluation.prompts.taxonomy import (
    HARM_TYPES,
    RISK_AREAS,
    SPECIFIC_HARMS,
    category_of,
    english_name,
    harm_type_of,
)
from evaluation.types import Category


def test_there_are_5_risk_areas_12_harm_types_and_55_specific_harms_numbered_in_order():
    assert (len(RISK_AREAS), len(HARM_TYPES)) == (5, 12)
    assert [harm.number for harm in SPECIFIC_HARMS] == list(range(1, 56))


def test_no_two_places_share_a_name_in_either_language():
    places = [*RISK_AREAS, *HARM_TYPES, *SPECIFIC_HARMS]
    assert len({place.ja for place in places}) == len({place.en for place in places}) == len(places)


def test_slugs_are_unique_and_safe_in_urls():
    slugs = [place.slug for place in (*RISK_AREAS, *HARM_TYPES)]
    assert len(set(slugs)) == len(slugs)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", slug) for slug in slugs)


@pytest.mark.parametrize("kind", HARM_TYPES, ids=lambda kind: kind.slug)
def test_a_harm_type_is_defined_in_both_languages(kind):
    assert kind.definition_ja.endswith("。")
    assert kind.definition_en.endswith(".")


@pytest.mark.parametrize(
    ("name", "category"),
    [
        pytest.param("誤情報", Category("誤情報"), id="risk area"),
        pytest.param("メンタルヘルス", Category("AIとの対話によるリスク", "メンタルヘルス"), id="harm type"),
        pytest.param(
            " 自傷行為\n", Category("AIとの対話によるリスク", "メンタルヘルス", "自傷行為"), id="specific harm"
        ),
        pytest.param("coding", None, id="unknown"),
    ],
)
def test_a_name_on_any_level_leads_to_its_path(name, category):
    assert category_of(name) == category


def test_a_specific_harm_a_harm_type_and_a_slug_lead_to_the_same_harm_type():
    found = {harm_type_of(name) for name in ("自傷行為", "メンタルヘルス", "mental-health")}
    assert {kind.slug for kind in found if kind} == {"mental-health"}
    assert harm_type_of("誤情報") is None  # a risk area has several


def test_unknown_names_have_no_translation():
    assert english_name("詐欺") is None
    assert english_name("自傷行為") == "Self-harm"
