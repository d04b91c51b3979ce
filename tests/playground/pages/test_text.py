"""The catalogue of sentences: both languages say the same, and nothing is shown that is not in it."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from playground.pages import text
from playground.pages.text import TEXT, as_language, say

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
        assert not JAPANESE.search(en)


def keys_used() -> set[str]:
    code = "\n".join(
        path.read_text(encoding="utf-8") for path in PAGES.glob("*.py") if not path.name.startswith("text")
    )
    return set(re.findall(r"""["']([a-z][a-z_]*(?:\.[a-z_0-9-]+)*)["']""", code))


def test_every_sentence_is_shown_somewhere():
    used = keys_used()
    # keys put together at run time
    built = ("model.", "tab.", "status.", "score.", "missing.", "vote.", "sampling.", "figure.", "level.", "quality.missed.", "quality.false.", "train.field.", "train.preset.", "watch.state.", "bench.field.", "bench.list.", "bench.figure.", "bench.scale.", "bench.outcome.", "bench.verdict.", "bench.chart.", "bench.axis.", "bench.changed.")  # fmt: skip
    assert [key for key in TEXT if key not in used and not key.startswith(built)] == []


def test_every_key_that_the_pages_say_exists():
    code = "\n".join(path.read_text(encoding="utf-8") for path in PAGES.glob("*.py"))
    said = set(re.findall(r"""say\(\s*[\w"']+,\s*["']([^"'{]+)["']""", code))
    assert said - TEXT.keys() == set()
    assert len(said) > 50


def test_an_unknown_language_reads_japanese():
    assert as_language("fr") == "ja"
    assert say("fr", "send") == TEXT["send"].ja


def test_values_are_filled_in():
    assert say("en", "found", count=3) == "3 questions"
