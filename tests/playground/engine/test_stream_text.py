"""From tokens to text: whole characters, and never a stop string."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.engine.text import TextStream
from tests.tiny import tiny_tokenizer

BYTES = tiny_tokenizer()  # one token a byte
STOP = ("\n### 指示", "\n### 応答")


class Words:
    """A tokenizer whose tokens are byte strings of any length, as byte-level BPE has them."""

    def __init__(self, *words: bytes) -> None:
        self._words = words

    def decode(self, ids: list[int], **_: Any) -> str:
        return b"".join(self._words[i] for i in ids).decode(errors="replace")


def ids_of(text: str) -> list[int]:
    return list(BYTES(text, add_special_tokens=False).input_ids)


def pushed(tokenizer: Any, ids: list[int], stop: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    """The pieces shown, the flush last, and whether a stop string came."""
    stream, pieces = TextStream(tokenizer, stop), []
    for token in ids:
        text, stopped = stream.push(token)
        pieces.append(text)
        if stopped:
            return pieces, True
    return [*pieces, stream.flush()], False


def test_a_character_of_several_tokens_comes_whole():
    pieces, _ = pushed(BYTES, ids_of("あ漢😀é"))
    assert [piece for piece in pieces if piece] == ["あ", "漢", "😀", "é"]


def test_an_end_within_a_character_shows_a_replacement_mark_once():
    pieces, _ = pushed(BYTES, ids_of("あい")[:-1])
    assert [piece for piece in pieces if piece] == ["あ", "�"]


def test_special_tokens_have_no_text():
    pieces, _ = pushed(BYTES, [*ids_of("あ"), BYTES.bos_token_id, *ids_of("い")])
    assert "".join(pieces) == "あい"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        pytest.param("はい。\n### 指示:\n次の質問", "はい。", id="in-the-middle"),
        pytest.param("\n### 応答", "", id="at-once"),
        pytest.param("一\n### 指\n### 指示", "一\n### 指", id="after-a-false-start"),
        pytest.param("一\n\n### 応答", "一\n", id="a-line-break-before"),
        pytest.param("一\n### 応答と\n### 指示", "一", id="the-first-of-two"),
    ],
)
def test_nothing_of_a_stop_string_or_behind_it_is_shown(said, shown):
    pieces, stopped = pushed(BYTES, ids_of(said), STOP)
    assert stopped
    assert "".join(pieces) == shown


def test_text_that_only_begins_like_a_stop_string_is_shown_in_the_end():
    pieces, stopped = pushed(BYTES, ids_of("答え\n### 指"), STOP)
    assert not stopped
    assert "".join(pieces) == "答え\n### 指"
    assert pieces[-1] == "\n### 指", "it was held back until the end"


def test_a_stop_string_in_one_token_with_text_on_both_sides_ends_the_text():
    pieces, stopped = pushed(Words("一\n### 指示:二".encode()), [0], STOP)
    assert (pieces, stopped) == (["一"], True)


def test_a_stop_string_whose_token_tears_a_later_character_is_not_shown_at_the_end():
    torn = "\n### 指示あ".encode()[:-1]
    pieces, _ = pushed(Words("一".encode(), torn), [0, 1], STOP)
    assert "".join(pieces) == "一"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 258), max_size=40))
def test_what_is_pushed_and_flushed_is_the_whole_decode(ids):
    pieces, _ = pushed(BYTES, ids)
    assert "".join(pieces) == BYTES.decode(ids, skip_special_tokens=True)


@settings(max_examples=150, deadline=None)
@given(
    st.text("ab\n# 指示応答", max_size=30),
    st.lists(st.integers(1, 9), min_size=30, max_size=30),
)
def test_however_text_is_cut_into_tokens_the_same_is_shown(text, sizes):
    data, words = text.encode(), []
    for size in sizes:
        words.append(data[:size])
        data = data[size:]
    words.append(data)
    pieces, stopped = pushed(Words(*words), list(range(len(words))), STOP)
    ends = [at for at in (text.find(stop) for stop in STOP) if at >= 0]
    assert stopped == bool(ends)
    assert "".join(pieces) == (text[: min(ends)] if ends else text)
