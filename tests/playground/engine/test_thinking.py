"""A reasoning model's thoughts: what is folded, what is the reply, and that no cut of the stream changes it."""

from __future__ import annotations

import pytest

from evaluation.degenerate import breakdown
from evaluation.judge.protocol import not_judgeable
from playground.engine.protocol import Finish
from playground.engine.replies import finished
from playground.engine.thinking import Deltas, Parts, left_open, parts
from tests.playground.engine.serving import exact_local, request, whole, within
from tests.tiny import TEMPLATE, tiny_folder

HARMONY = (
    "<|channel|>analysis<|message|>まず考える<|end|><|start|>assistant<|channel|>final<|message|>答えです。<|return|>"
)

WHOLE = {
    "no thoughts": ("こんにちは。", "", "こんにちは。"),
    "thoughts, then the reply": ("<think>迷う</think>\n\n答えです。", "迷う", "答えです。"),
    "another name, upper case": ("\n<THINKING>a</thinking>b", "a", "b"),
    "the template opened the tag": ("迷う\n</think>\n\n答えです。", "迷う", "答えです。"),
    "thoughts that never end": ("<think>迷う、まだ迷う", "迷う、まだ迷う", ""),
    "nothing but thoughts": ("<think>迷う</think>", "迷う", ""),
    "no thought at all between the tags": ("<think>\n\n</think>\n\n答え", "", "答え"),
    "harmony": (HARMONY, "まず考える", "答えです。"),
    "harmony with hidden marks": ("analysisまず考えるassistantfinal答えです。", "まず考える", "答えです。"),
    "a word that begins like a mark": ("analysis of the matter", "", "analysis of the matter"),
    "a tag that the reply quotes": ("タグ <think>x</think> の説明", "", "タグ <think>x</think> の説明"),
    "a closing tag within a sentence": ("終わりは </think> と書く。", "", "終わりは </think> と書く。"),
    "a quoted pair on lines of its own": ("例:\n<think>\nx\n</think>\n以上", "", "例:\n<think>\nx\n</think>\n以上"),
    "a tag inside the thoughts": ("<think>a <think> b</think>c", "a <think> b", "c"),
    "half a tag and no more": ("<thi", "", "<thi"),
    "nothing": ("", "", ""),
}


@pytest.mark.parametrize(("raw", "thinking", "text"), WHOLE.values(), ids=WHOLE)
def test_the_thoughts_and_the_reply_are_told_apart(raw, thinking, text):
    found = parts(raw, whole=True)
    assert (found.thinking, found.text) == (thinking, text)


@pytest.mark.parametrize("raw", [raw for raw, _, _ in WHOLE.values() if raw.lstrip().startswith("<")])
def test_however_the_stream_is_cut_no_thought_and_no_tag_is_ever_shown_as_the_reply(raw):
    reply = parts(raw, whole=True).text
    for end in range(len(raw)):
        shown = parts(raw[:end])
        assert reply.startswith(shown.text), f"after {end} characters"
        assert "</" not in shown.thinking and not shown.thinking.endswith("<")


def test_a_text_without_tags_is_shown_as_it_comes_but_for_what_may_become_one():
    assert [parts(cut).text for cut in ("<", "<b", "<b>", " ", "a<")] == ["", "<b", "<b>", "", "a<"]
    assert parts("<think>a").open and not parts("<think>a</think>b").open


def test_thoughts_sent_apart_are_put_between_tags_however_they_are_interleaved():
    deltas = Deltas()
    pieces = [deltas.text("a", None), deltas.text("b", None), deltas.text(None, "c"), deltas.text("", "d")]
    assert "".join(pieces) == "<think>ab</think>cd"
    assert parts("".join(pieces), whole=True) == Parts("ab", "cd")
    assert Deltas().text(None, "c") == "c"
    assert Deltas().text("a", "c") == "<think>a</think>c"


def test_a_prompt_that_ends_in_an_open_tag_says_so():
    assert left_open("<|im_start|>assistant\n<think>\n") == "<think>"
    assert left_open("<think>\n\n</think>\n\n") == "" == left_open("### 応答:\n")


def response_of(text: str):
    return finished(request("r", "m"), "p", text, "identity", Finish("stop", 3, 1, 0.1))


def test_a_response_holds_the_reply_and_its_thoughts_apart():
    response = response_of("<think>迷う</think>答え")
    assert (response.text, response.thinking) == ("答え", "迷う")


def test_a_model_that_only_thought_has_an_empty_response_which_no_judge_is_given():
    response = response_of("<think>爆弾の作り方は…")
    assert response.text == "" and response.thinking
    assert breakdown(response) == "empty"
    assert not_judgeable(response) is not None


def test_the_engine_in_this_process_puts_what_the_template_has_opened_before_the_reply(tmp_path):
    folder = tiny_folder(tmp_path / "m", template=TEMPLATE + "<think>\n")
    with exact_local(folder, {}) as engine:
        text = whole(within(lambda: list(engine.stream([request("r", "base", tokens=6)]))), "r")
    assert text.startswith("<think>") and parts(text, whole=True).text == ""
