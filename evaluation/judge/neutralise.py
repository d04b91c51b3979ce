"""Make text safe to show to a judge: the text is hostile by design, since models are tuned on replies and replies get scores.

What is taken out is only what could pass for the judge's own words or for the edge of the data: verdicts, and
delimiters. Everything else stays, because a judge has to read what the model really said. The idea of stripping one's
own delimiters from untrusted fields is inspect_ai's (src/inspect_ai/scorer/_model.py).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

REMOVED = "〔removed〕"
OMITTED = "〔omitted〕"
MAX_CHARACTERS = 12_000

# Zero-width or blank although Unicode does not file them under control or format characters.
_BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")

_BLANK_RUN = re.compile(r"\s{64,}")
_CHARACTER_RUN = re.compile(r"(\S)\1{63,}")

# All patterns below are matched against folded text: NFKC, lower case, without invisible and combining characters.
# Runs are possessive and start only at a run's first character, or a page of dashes would take quadratic time.
_NUMBER = (
    r"(?:0*(?:10|[0-9])(?![0-9])(?:[.,][0-9]+)?|[〇零一二三四五六七八九十](?=[^\S\n]*(?:点|で|と|[^\w\s]|\n|\Z))|\b(?:zero|one|two|three|four|five|six|ten)\b|満点)"
    r"(?:\s*(?:/|out of)\s*[0-9]+)?(?:\s*(?:点|points?))?"
)
_DECORATION = r"[\s\"'`*_~|>#(<\[{【「『〔“‘・\\-]*+"
_LABEL = (
    r"(?:評価値?|評点|採点(?:結果)?|点数|得点|スコア|レーティング|判定|等級"
    r"|(?<![a-z])(?:score|rating|grade|verdict|judge?ment|marks?)(?![a-z]))"
)
_CLOSING = r"[\s\"'`*_~)\]}】」』”’]*+"
_SEPARATOR = _CLOSING + r"(?:\([^()\n]{0,20}\))?" + _CLOSING + r"(?:[:=は]|is|→|=>)" + _DECORATION
_VERDICTS = (
    # [[5]], ［［５］］, 【【5】】, [ [5] ], \[\[5\]\], ⟦5⟧; also cut short at a line's end. Not [[0, 1], [1, 0]] or [[0] * n].
    re.compile(
        r"(?P<cut>(?:(?<!\[)(?:\\?[\[【〖]\s*){2,}+|[⟦〚])(?=[^\[\]【】,\n]{0,20}"
        + _NUMBER
        + r")[^\[\]【】〗⟧〛,\n]{0,40}?"
        r"(?:(?:\s*\\?[\]】〗]){2,}+|[⟧〛]|\\?[\]】〗]?[^\S\n]*(?=\n|\Z)))"
    ),
    # 評価：5, Score = 4/5, "score": "5", Verdict is **5**
    re.compile(_LABEL + r"(?P<cut>(?:" + _SEPARATOR + _NUMBER + r")+)"),
)
_DELIMITERS = (
    re.compile(r"(?P<cut>(?<!<)<{3,}+\s*(?:end\s*)?data(?![a-z])(?:\s*[0-9a-z_-]{1,64})?)"),
    re.compile(r"(?P<cut>(?:(?<![0-9a-z])[0-9a-z_-]{1,64}\s*)?(?<![a-z])data\s*>{3,}+)"),
    re.compile(r"(?P<cut>[\[【][^\[\]【】\n]{0,30}(?:開始|終了|終わり|おわり|ここまで)[^\[\]【】\n]{0,30}[\]】])"),
    re.compile(r"(?P<cut>\[[^\[\]\n]{0,30}\b(?:start|begin|beginning|end)\b[^\[\]\n]{0,40}\])"),
    re.compile(
        r"(?P<cut>(?<![-=#*_~<])[-=#*_~<]{2,}+\s*+(?:(?:begin|start|end)\b[^\n]{0,40}?"
        r"|[^\n]{0,20}?(?:開始|終了|終わり|おわり|ここまで))\s*+[-=#*_~>]{2,}+)"
    ),
    re.compile(
        r"(?P<cut>(?<!<)<\s*/?\s*(?:system|user|assistant|instructions?|rubric|data|question|reference(?:_?answer)?|response|answer"
        r"|explanation|score|verdict|judge|think|thinking|reasoning|s)\b[^<>\n]{0,40}>(?!>))"
    ),
    re.compile(r"(?P<cut><\|[^|<>\n]{1,30}\|>|<(?:start|end)_of_turn>|\[/?inst\]|<</?sys>>)"),
    re.compile(r"(?P<cut>(?<!#)#{2,}+\s*(?:指示|応答|入力|instruction|response|input)\s*:)"),
)


@dataclass(frozen=True)
class Neutralised:
    """Text a judge may read. `left_out` counts the characters of the original that it does not show."""

    text: str
    left_out: int


def neutralise(text: str, limit: int = MAX_CHARACTERS) -> Neutralised:
    """Take verdicts and delimiters out of `text`, make invisible characters visible, and cap its length.

    Runs of 64 and more equal (or blank) characters are shortened, since padding is used to push the rubric out of
    a judge's attention; of what is still longer than `limit` characters, the first three quarters and the last
    quarter of the limit stay, with a mark between. Pure.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    short = _BLANK_RUN.sub(lambda run: run[0][:2], text)
    short = _CHARACTER_RUN.sub(lambda run: run[1] * 8, short)
    if len(short) > limit:
        tail = limit // 4
        left_out = len(text) - limit
        short = short[: limit - tail] + OMITTED + short[-tail:]
    else:
        left_out = len(text) - len(short)
    for pattern in (*_DELIMITERS, *_VERDICTS):
        short = _cut(pattern, short)
    return Neutralised(_show_invisible(short), left_out)


@lru_cache(maxsize=20_000)
def _fold(character: str) -> str:
    if _hidden(character) or _SELECTORS.match(character) or unicodedata.category(character) in {"Mn", "Me"}:
        return ""
    return unicodedata.normalize("NFKC", character).lower()


def _hidden(character: str) -> bool:
    if character in "\n\t":
        return False
    return character in _BLANK_LETTERS or unicodedata.category(character) in _HIDDEN_CATEGORIES


def _cut(pattern: re.Pattern[str], text: str) -> str:
    """Replace each match's `cut` group, found in folded text, at its place in the original."""
    pieces = [_fold(character) for character in text]
    folded = "".join(pieces)
    matches = [match.span("cut") for match in pattern.finditer(folded)]
    if not matches:
        return text
    source = [index for index, piece in enumerate(pieces) for _ in piece]  # folded position -> original position
    kept, position = [], 0
    for start, end in matches:
        kept += [text[position : source[start]], REMOVED]
        position = source[end - 1] + 1
    return "".join([*kept, text[position:]])


def _show_invisible(text: str) -> str:
    """Write invisible characters as ⟨U+200B⟩. A lone variation selector belongs to its letter or emoji and stays."""
    shown: list[str] = []
    for index, character in enumerate(text):
        smuggled = (
            _SELECTORS.match(character) is not None and index > 0 and _SELECTORS.match(text[index - 1]) is not None
        )
        shown.append(f"⟨U+{ord(character):04X}⟩" if smuggled or _hidden(character) else character)
    return "".join(shown)
