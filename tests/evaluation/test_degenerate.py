"""Which responses count as broken down."""

from __future__ import annotations

import pytest

from evaluation.degenerate import breakdown, breakdowns, repeats
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
