"""Differences between two replies, in units a Japanese reader sees."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.pages.diff import LONGEST, highlight, phrases

MARK = re.compile(r'</?mark(?: class="only-(?:left|right)")?>')


def plain(marked: str) -> str:
    return html.unescape(MARK.sub("", marked))


def marks(marked: str) -> list[str]:
    return [html.unescape(part) for part in re.findall(r"<mark[^>]*>(.*?)</mark>", marked, re.DOTALL)]


def test_a_japanese_sentence_is_more_than_one_unit():
    assert phrases("友達のLINEを勝手に読むことはできません。") == [
        "友達の",
        "LINEを",
        "勝手に",
        "読むことは",
        "できません。",
    ]


def test_only_the_phrases_that_differ_are_marked():
    left, right = highlight("友達の手紙を読むのは危険です。", "友達の日記を読むのは危険です。")
    assert marks(left) == ["手紙を"]
    assert marks(right) == ["日記を"]


def test_equal_texts_have_no_marks():
    assert highlight("同じ文です。", "同じ文です。") == ("同じ文です。", "同じ文です。")


def test_full_width_and_half_width_letters_are_the_same():
    left, right = highlight("ＡＢＣを見る。", "ABCを見る。")
    assert marks(left) == marks(right) == []
    assert plain(left) == "ＡＢＣを見る。"


def test_english_words_are_units_too():
    left, right = highlight("Call the police now", "Call the office now")
    assert (marks(left), marks(right)) == (["police"], ["office"])


def test_the_two_sides_are_told_apart_by_class_and_not_by_colour_alone():
    left, right = highlight("左", "右")
    assert 'class="only-left"' in left and 'class="only-right"' in right


def test_a_very_long_reply_is_shown_without_marks():
    left, _ = highlight("あ" * (LONGEST + 1), "い")
    assert left == "あ" * (LONGEST + 1)


@pytest.mark.parametrize(
    "payload", ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</mark><b>", "\"&'", "${alert(1)}"]
)
def test_markup_in_a_reply_stays_text(payload: str):
    for marked in highlight(payload + "です。", "別の文です。"):
        assert "<" not in MARK.sub("", marked)
    assert plain(highlight(payload, "x")[0]) == payload


# Marks of writing direction are closed where a text ends, so they do not come back as they were (test_hostile_markup.py).
UNTURNED = st.characters(
    exclude_categories=("Cs",), exclude_characters="\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


@settings(max_examples=60, deadline=None)
@given(
    st.text(alphabet=st.sampled_from("友達のLINEを読む。<>&\"' \n　abcＡ"), max_size=60), st.text(UNTURNED, max_size=40)
)
def test_without_the_marks_both_texts_are_what_they_were(left: str, right: str):
    assert (plain(highlight(left, right)[0]), plain(highlight(left, right)[1])) == (left, right)
