"""Multiple choice by rule: a table of replies, and what must never be read as an answer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.errors import SettingsRejected
from evaluation.judge.choice import ChoiceRule, chosen_option
from evaluation.judge.protocol import Exchange
from evaluation.types import Judgement, Prompt, Response

JA = ["世界", "写真集", "絵本", "論文", "図鑑"]
EN = ["a cat", "dog", "The moon", "none of these"]

NAMED = {
    "a letter": ("C", 2),
    "a full-width letter": ("Ｃ", 2),
    "a small letter": ("c", 2),
    "a letter in brackets": ("(C)", 2),
    "a full-width letter in brackets": ("（Ｃ）", 2),
    "a letter in corner brackets": ("「C」", 2),
    "a letter and a full stop": ("C.", 2),
    "a bold letter": ("**C**", 2),
    "a polite letter": ("Cです。", 2),
    "a letter and its option": ("C. 絵本", 2),
    "a letter, a colon and its option": ("Ｃ：絵本です。", 2),
    "a letter in brackets and its option": ("(C) 絵本", 2),
    "the option itself": ("絵本", 2),
    "the option in quotes": ("「絵本」です。", 2),
    "a labelled option": ("答え：絵本", 2),
    "a labelled letter": ("答え：C", 2),
    "a labelled full-width letter": ("答え：Ｃ", 2),
    "答えは": ("答えはCです。", 2),
    "正解は": ("正解は（C）絵本です。", 2),
    "選択肢": ("選択肢Cが当てはまります。", 2),
    "a bold label": ("**回答**：**C**", 2),
    "a label on the line before": ("答え：\nC", 2),
    "reasons first": ("子ども向けで絵の付いた物語です。\nしたがって、答えはCです。", 2),
    "reasons after": ("C\n理由：絵本は子ども向けだからです。", 2),
    "the options listed, then the answer": ("A. 世界\nB. 写真集\nC. 絵本\nD. 論文\nE. 図鑑\n\n答え：C", 2),
    "が正解": ("この中ではCが正解です。", 2),
    "だと思います": ("Cだと思います。", 2),
    "を選びます": ("迷いましたが、Cを選びます。", 2),
    "a denial, then the answer": ("答えはAではなくCです。", 2),
    "en, the answer is": ("The answer is C.", 2),
    "en, the correct answer is": ("The correct answer is: (C) 絵本", 2),
    "en, bold": ("**Answer: C**", 2),
    "en, option": ("Option C is correct.", 2),
    "en, is correct": ("I think C is correct.", 2),
    "en, choose": ("I would choose (C).", 2),
    "en, bracket in a sentence": ("Only [C] is meant for children.", 2),
    "thoughts are not the answer": ("<think>Aかな。答え：A</think>\n答え：C", 2),
    "the same letter twice": ("答え：C\n\nC", 2),
}

OPEN = {
    "nothing": "",
    "prose": "子ども向けの物語です。",
    "two letters": "BかCです。",
    "two labelled letters": "答え：BまたはC",
    "two labels": "答え：B\n答え：C",
    "or, in English": "The answer is B or C.",
    "the options listed only": "A. 世界\nB. 写真集\nC. 絵本\nD. 論文\nE. 図鑑",
    "two letters in brackets": "(B)と(C)で迷います。",
    "a letter past the last option": "答え：G",
    "a denied letter": "答えはCではありません。",
    "a letter with another option's text": "C. 論文",
    "two options": "絵本\n論文",
    "a number": "3",
    "a letter inside a word": "ABCの絵本",
    "an article": "A picture book is made for children.",
    "a refusal": "その質問にはお答えできません。",
}


@pytest.mark.parametrize(("reply", "option"), NAMED.values(), ids=NAMED)
def test_a_response_that_names_one_option_has_chosen_it(reply, option):
    assert chosen_option(reply, JA).option == option


@pytest.mark.parametrize("reply", OPEN.values(), ids=OPEN)
def test_a_response_that_names_none_or_several_has_chosen_nothing(reply):
    assert chosen_option(reply, JA).option is None


@pytest.mark.parametrize(
    ("reply", "option"),
    [
        ("The answer is a cat.", 0),
        ("The answer is A", 0),
        ("The answer is a dog.", None),
        ("A cat has nine lives, so the answer is B.", 1),
        ("the moon", None),
        ("The moon", 2),
        ("I pick B", 1),
    ],
)
def test_the_english_article_is_no_option(reply, option):
    assert chosen_option(reply, EN).option == option


def test_an_option_that_stands_twice_is_named_by_its_letter_only():
    assert chosen_option("同じ", ["同じ", "同じ", "別"]).option is None
    assert chosen_option("B", ["同じ", "同じ", "別"]).option == 1


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.lists(st.text(max_size=5), min_size=2, max_size=6))
def test_any_text_is_read_to_one_option_or_none(reply, options):
    chosen = chosen_option(reply, options)
    assert chosen.option is None or chosen.named == {chosen.option} <= set(range(len(options)))


def exchange(text: str, key: str = "r", finish: str = "stop", **extra) -> Exchange:
    prompt = Prompt("p", "どれ？", extra={"choices": JA, "answer_index": 2} | extra)
    return Exchange(prompt, Response(key, "p", "m", "i", text, finish, prompt.messages()))  # type: ignore[arg-type]


def judged(*exchanges: Exchange) -> list[Judgement]:
    return ChoiceRule().judge(exchanges)


def test_the_right_option_scores_1_and_another_0():
    right, wrong = judged(exchange("C", "r1"), exchange("A", "r2"))
    assert [(j.score, j.missing, j.scale, j.judge) for j in (right, wrong)] == [
        (1, None, "choice", "rule:choice"),
        (0, None, "choice", "rule:choice"),
    ]
    assert "A" in wrong.explanation
    assert "C" in wrong.explanation
    assert (right.response_key, wrong.response_key) == ("r1", "r2")


def test_an_answer_that_cannot_be_told_is_missing_and_not_wrong():
    (several,) = judged(exchange("AかBです"))
    assert (several.score, several.missing) == (None, "unparsed")


@pytest.mark.parametrize(
    "made",
    [exchange(""), exchange("C", finish="error"), exchange("C", answer_index=None), exchange("C", choices=None)],
    ids=["empty", "failed", "right option unknown", "no options"],
)
def test_what_cannot_be_scored_was_not_run(made):
    assert [(j.score, j.missing) for j in judged(made)] == [(None, "not_run")]


def test_each_judgement_is_handed_over_and_judging_again_gives_the_same_keys():
    done: list[Judgement] = []
    first = ChoiceRule().judge([exchange("C"), exchange("?", "r2")], on_done=done.append)
    assert done == first
    assert [j.key for j in ChoiceRule().judge([exchange("C"), exchange("?", "r2")])] == [j.key for j in first]
    assert json.dumps([j.explanation for j in first])


def test_the_rule_scores_nothing_else():
    with pytest.raises(SettingsRejected, match="rule:choice scores choice, not safety"):
        ChoiceRule().judge([exchange("C")], "safety")
