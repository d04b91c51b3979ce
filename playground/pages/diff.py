"""What two replies do not share, in units a Japanese reader sees as words.

A Japanese sentence has no spaces, so a word pattern made for English sees it as one token; budoux cuts it into phrases.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from functools import cache

import budoux

from playground.pages.markup import esc

# difflib is quadratic in the worst case; two replies longer than this are shown without highlights.
LONGEST = 20_000  # characters


@cache
def _parser() -> budoux.Parser:
    return budoux.load_default_japanese_parser()


def phrases(text: str) -> list[str]:
    """Cut `text` into phrases and runs of white space. Joined, they are `text` again."""
    pieces: list[str] = []
    for piece in re.findall(r"\s+|\S+", text):
        pieces.extend([piece] if piece.isspace() else _parser().parse(piece))
    return pieces


def _same(phrase: str) -> str:
    # Full-width and half-width forms of a letter are no difference to a reader.
    return unicodedata.normalize("NFKC", phrase)


def highlight(left: str, right: str) -> tuple[str, str]:
    """Both texts as escaped HTML, with what the other side lacks inside <mark class="only-left|only-right">."""
    if len(left) > LONGEST or len(right) > LONGEST:
        return esc(left), esc(right)
    left_phrases, right_phrases = phrases(left), phrases(right)
    matcher = difflib.SequenceMatcher(None, [*map(_same, left_phrases)], [*map(_same, right_phrases)], autojunk=False)
    left_html: list[str] = []
    right_html: list[str] = []
    for kind, left_from, left_to, right_from, right_to in matcher.get_opcodes():
        for parts, css_class, text in (
            (left_html, "only-left", "".join(left_phrases[left_from:left_to])),
            (right_html, "only-right", "".join(right_phrases[right_from:right_to])),
        ):
            if kind == "equal" or not text.strip():
                parts.append(esc(text))
            else:
                parts.append(f'<mark class="{css_class}">{esc(text)}</mark>')
    return "".join(left_html), "".join(right_html)
