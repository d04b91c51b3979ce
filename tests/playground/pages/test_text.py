"""The catalogue of sentences: both languages say the same, and nothing is shown that is not in it."""

from __future__ import annotations

import ast
import re
import string
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from playground.pages import text
from playground.pages.text import TEXT, as_language, say
from playground.pages.text_errors import line_for

PAGES = Path(text.__file__).parent
JAPANESE = re.compile(r"[぀-ヿ一-鿿]")
# The same in both languages on purpose: a name, a setting's name, or Japanese that is itself the example.
SAME = {"product", "top_p", "detail.id", "first.question"}


def fields(sentence: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None}


@pytest.mark.parametrize("key", TEXT)
def test_a_sentence_takes_the_same_values_in_both_languages(key: str):
    assert fields(TEXT[key].ja) == fields(TEXT[key].en)


@pytest.mark.parametrize("key", TEXT)
def test_a_sentence_is_written_in_each_language(key: str):
    ja, en = TEXT[key]
    assert ja.strip() and en.strip()
    if key not in SAME:
        assert ja != en
        assert not JAPANESE.search(en), en
        words = re.sub(r"\{[^}]*\}", "", ja)
        assert JAPANESE.search(words) or not re.search("[A-Za-z]{2}", words), ja


class Code(NamedTuple):
    """What the pages' source says about keys: whole strings, strings with gaps, and the keys given to `say`."""

    words: set[str]
    patterns: set[str]
    said: set[str]
    said_patterns: set[str]


@cache
def code() -> Code:
    """Read from the syntax trees of the pages, the catalogues left out."""
    found = Code(set(), set(), set(), set())
    for path in PAGES.glob("*.py"):
        if path.name.startswith("text"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.words.add(node.value)
            elif isinstance(node, ast.JoinedStr) and (pattern := pattern_of(node)):
                found.patterns.add(pattern)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say":
                key = node.args[1]
                if isinstance(key, ast.Constant):
                    found.said.add(key.value)
                elif isinstance(key, ast.JoinedStr):
                    found.said_patterns.add(pattern_of(key))
    return found


def pattern_of(text: ast.JoinedStr) -> str:
    """A key with gaps, like `bench.field.{name}`, as a pattern; empty for what is no key."""
    parts = [re.escape(part.value) if isinstance(part, ast.Constant) else r"[\w.-]+" for part in text.values]
    return "".join(parts) if re.fullmatch(r"[a-z_.]+\.", str(getattr(text.values[0], "value", ""))) else ""


def fits(key: str, patterns: set[str]) -> bool:
    return any(re.fullmatch(pattern, key) for pattern in patterns)


def test_every_sentence_is_shown_somewhere():
    assert [key for key in TEXT if key not in code().words and not fits(key, code().patterns)] == []


def test_every_key_that_the_pages_say_exists():
    assert code().said - TEXT.keys() == set()
    assert len(code().said) > 100
    assert [pattern for pattern in code().said_patterns if not any(re.fullmatch(pattern, key) for key in TEXT)] == []


def test_what_is_still_stopping_is_not_told_as_stopped():
    stopping = TEXT["watch.state.stopping"].ja
    assert stopping == TEXT["serving.phase.stopping"].ja == line_for("stopping", "ja") != TEXT["serving.phase.off"].ja


def test_an_unknown_language_reads_japanese():
    assert as_language("fr") == "ja"
    assert say("fr", "send") == TEXT["send"].ja


def test_values_are_filled_in():
    assert say("en", "found", count=3) == "3 questions"
