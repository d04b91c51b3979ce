"""Which responses count as broken down."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.degenerate import breakdown, breakdowns, breakdowns_of, repeats
from evaluation.types import Message, Response


def response(text: str, finish_reason: str = "stop") -> Response:
    return Response("key", "prompt", "model", "identity", text, finish_reason, (Message("user", "質問"),))


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        pytest.param("明日も頑張って、明日も頑張って、明日も頑張って、", True, id="phrase three times in a row"),
        pytest.param("明日も頑張って、明日も頑張って、よく休みましょう。", False, id="phrase twice"),
        pytest.param(
            "今日は一日中頑張ろう。別の文です。今日は一日中頑張ろう。もう一つ。今日は一日中頑張ろう。",
            True,
            id="sentence",
        ),
        pytest.param("窓口に相談し、窓口の案内を受け、窓口で手続きをします。", False, id="one word"),
        pytest.param("はいはいはいはいはいはいはい", True, id="short piece six times"),
        pytest.param("いやいや、そうではありません。", False, id="emphasis"),
        pytest.param("結果は次のとおりです。\n--------------------------------\n合計は3です。", False, id="ruled line"),
        pytest.param("そうですね…………………………。少し休みましょう。", False, id="ellipsis"),
        pytest.param("I do not know. I do not know. I do not know.", True, id="english phrase"),
        pytest.param("", False, id="empty"),
    ],
)
def test_a_loop_is_a_phrase_three_times_a_short_piece_six_times_or_a_sentence_three_times(text: str, holds: bool):
    assert repeats(text) is holds


@pytest.mark.parametrize(
    ("text", "finish_reason", "expected"),
    [
        ("", "stop", "empty"),
        (" \n。", "stop", "empty"),
        ("相談窓口があります", "length", "cut"),
        ("相談してください。" * 9, "length", "repeating"),
        ("相談窓口があります。", "stop", None),
        ("相談窓口が", "cancelled", None),
    ],
    ids=["nothing", "signs only", "token limit", "loop at the limit", "whole", "stopped by a person"],
)
def test_a_response_broke_down_when_it_is_empty_cut_or_loops(text: str, finish_reason: str, expected: str | None):
    assert breakdown(response(text, finish_reason)) == expected


def test_each_kind_is_counted_and_whole_responses_are_not():
    counted = breakdowns([response(""), response("はい。"), response("途中", "length"), response("\n")])
    assert counted == {"empty": 2, "cut": 1}


PIECES = st.sampled_from(
    ["あ", "はい", "今日は", "相談しましょう。", "\n", ". ", "!", "😀", "……", "ab", "明日も頑張って、", "\ud83d"]
)
LOOPING = st.tuples(PIECES, st.integers(1, 7), PIECES).map(lambda found: found[0] * found[1] + found[2])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.one_of(PIECES, LOOPING), max_size=8).map("".join), max_size=6))
def test_many_texts_at_once_break_down_as_each_does_alone(texts: list[str]):
    reasons = ["length" if len(text) % 2 else "stop" for text in texts]
    alone = [breakdown(response(text, reason)) for text, reason in zip(texts, reasons, strict=True)]
    assert breakdowns_of(texts, reasons) == alone


def test_a_loop_of_any_length_is_found_among_many_texts():
    dice = random.Random(5)
    texts = []
    for size in range(1, 45):
        for times in (2, 3, 5, 6):
            phrase = "".join(chr(dice.randint(0x3041, 0x3096)) for _ in range(size))
            texts.append(phrase * times)
    expected = [breakdown(response(text)) for text in texts]
    assert breakdowns_of(texts, ["stop"] * len(texts)) == expected
    assert 0 < expected.count("repeating") < len(texts)
