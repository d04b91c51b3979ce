"""Multiple choice is scored by rule: the letter that a response gives is the right one or it is not.

The rules err on the side of "no answer": a response that names no option, or more than one, is unparsed, which is not
wrong. Letters are those the question was asked with (A, B, C, ...; see `evaluation.prompts.choices`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evaluation.judge.parse import without_thoughts
from evaluation.judge.protocol import Exchange, not_judgeable, now, refuse_other_scales, without_verdict
from evaluation.prompts.choices import LETTERS
from evaluation.types import Judgement, Scale, content_key, judgement_key

RULES_VERSION = "1"  # part of the identity: raise it when a rule below changes

_OPEN, _CLOSE = r"[\s\"'`*_~(\[{「『【〔<#\-]*+", r"[\s\"'`*_~)\]}」』】〕>]*+"
# A letter that is no part of a Latin word or number.
_LETTER = r"(?<![A-Za-z0-9])(?P<letter>[A-Za-z])(?![A-Za-z0-9'])"
_LABELLED = re.compile(
    r"(?:(?:答え|こたえ|解答|回答|正解|正答|選択|答)[*_」』\])]*+(?:は|[:=]|\s)|選択肢|\b(?:choose|select|pick|go with)\s"
    r"|\b(?:answer|option|choice)[*_\])]*+(?:\s+is\b|\s*[:=]|\s+would be\b|\s))"
    + r"[\s:=は]*+"
    + _OPEN
    + r"(?:(?:option|choice|選択肢|記号)\s*)?"
    + _OPEN
    + _LETTER,
    re.IGNORECASE,
)
_BRACKETED = re.compile(r"[(\[「『【]\s*" + _LETTER + r"\s*[)\]」』】]")
_SAID = re.compile(
    _LETTER
    + _CLOSE
    + r"(?=です|だ(?:と|\s|$)|である|が(?:正解|正しい|正答|適切|答え|最も|当て)|を選|と(?:思|考え|なり)"
    r"|\s*(?:is|seems) (?:the )?(?:correct|right|best)\b)"
)
_LINE = re.compile(r"^" + _OPEN + _LETTER + _CLOSE + r"(?P<after>[.:、,)]?" + _CLOSE + r")(?P<text>.*)$")
_DENIED = re.compile(
    _CLOSE
    + r"(?:では(?:な|あり)|じゃ(?:な|あり)|(?:は|が)(?:誤り|間違|不正解|違)|以外|\s*(?:is|are)(?: not|n't)\b|\s*(?:is )?(?:wrong|incorrect)\b)"
)
_PREFIX = re.compile(r"^\W*(?:答え|解答|回答|正解|正答|(?:the )?(?:correct )?answer)\s*(?:は|[:=]|is\b)", re.IGNORECASE)
_QUOTES = " \t*_`\"'「」『』。."
_SENTENCE_END = re.compile(r"[。\n!?]|\.(?=\s|$)")


@dataclass(frozen=True)
class Chosen:
    """The option a response names, as an index from 0, or None with the options it seems to name."""

    option: int | None
    named: frozenset[int]


def chosen_option(response: str, options: Sequence[str]) -> Chosen:
    """Which of `options` a response names. Pure; never raises.

    In this order, the first that finds anything decides: a label with a letter (答え：B, The answer is B), so that the
    options may be listed before it; a line that is a letter alone, a letter with its own option's text, or one option's
    text; a letter that a sentence declares (Bが正解, B is correct); a letter in brackets. A denied letter (Aではなく)
    counts for nothing, and a sentence that labels one letter and mentions another names both.
    """
    text = unicodedata.normalize("NFKC", without_thoughts(response)).strip()
    known = [unicodedata.normalize("NFKC", option).strip() for option in options]
    for find in (_labelled, _whole, _said, _bracketed):
        named = frozenset(find(text, known))
        if named:
            return Chosen(next(iter(named)) if len(named) == 1 else None, named)
    return Chosen(None, frozenset())


def _place(letter: str, options: Sequence[str]) -> int | None:
    place = LETTERS.find(letter.upper())
    return place if 0 <= place < len(options) else None


def _labelled(text: str, options: Sequence[str]) -> set[int]:
    named: set[int] = set()
    for match in _LABELLED.finditer(text):
        place = _place(match["letter"], options)
        if place is None or _DENIED.match(text, match.end()) or _is_a_word(text, match, options[place]):
            continue
        named.add(place)
        # "B or C", "BかC": another letter in the same sentence takes the certainty away.
        named |= _mentioned(
            _SENTENCE_END.split(text[match.end() :], maxsplit=1)[0].removeprefix(options[place]), options
        )
    return named


def _mentioned(sentence: str, options: Sequence[str]) -> set[int]:
    """Options whose capital letter stands in the sentence and is not denied."""
    found = ((match, _place(match["letter"], options)) for match in re.finditer(_LETTER, sentence))
    return {
        place
        for match, place in found
        if place is not None
        and match["letter"].isupper()
        and not _DENIED.match(sentence, match.end())
        and not _is_a_word(sentence, match, options[place])
    }


def _is_a_word(text: str, match: re.Match[str], option: str) -> bool:
    """Whether the letter is the English article or pronoun: "The answer is a dog", unless A's text is "dog"."""
    after = re.match(r" ([A-Za-z].*)", text[match.end("letter") :])
    return match["letter"] in "aAI" and after is not None and not after[1].startswith(option)


def _whole(text: str, options: Sequence[str]) -> set[int]:
    """Lines that are an option and nothing else; all lines count, so a list of the options names several."""
    named = set()
    for line in text.splitlines():
        bare = _PREFIX.sub("", line).strip().strip(_QUOTES).removesuffix("です").strip(_QUOTES)
        # An option that stands twice among the options says nothing about which of the two was meant, and one that is
        # a letter itself could mean the place or the text.
        if options.count(bare) == 1 and not re.fullmatch("[A-Za-z]", bare):
            named.add(options.index(bare))
            continue
        match = _LINE.match(line.strip())
        place = _place(match["letter"], options) if match else None
        if match is None or place is None:
            continue
        rest = match["text"].strip().strip(_QUOTES + ")")
        ending = rest in ("", "です", "だ", "である", options[place])
        if ending or (match["after"].strip() and rest.startswith(options[place]) and options[place]):
            named.add(place)
    return named


def _said(text: str, options: Sequence[str]) -> set[int]:
    """All letters of the sentences that declare one: "BかCです" names both."""
    named: set[int] = set()
    for sentence in _SENTENCE_END.split(text):
        if any(_place(match["letter"], options) is not None for match in _SAID.finditer(sentence)):
            named |= _mentioned(sentence, options)
    return named


def _bracketed(text: str, options: Sequence[str]) -> set[int]:
    """Capital letters in brackets, wherever they stand."""
    found = [(match, _place(match["letter"], options)) for match in _BRACKETED.finditer(text)]
    return {
        place
        for match, place in found
        if place is not None and match["letter"].isupper() and not _DENIED.match(text, match.end())
    }


class ChoiceRule:
    """The Judge of multiple choice: 1 when the response names the right option, 0 when it names another."""

    id = "rule:choice"
    identity = content_key("rule:choice", RULES_VERSION)
    scales: frozenset[Scale] = frozenset({"choice"})

    def judge(
        self,
        exchanges: Sequence[Exchange],
        scale: Scale = "choice",
        on_done: Callable[[Judgement], None] | None = None,
    ) -> list[Judgement]:
        """One Judgement per exchange, in order; see `protocol.Judge`."""
        refuse_other_scales(self, scale)
        done = []
        for exchange in exchanges:
            done.append(self._judge_one(exchange))
            if on_done:
                on_done(done[-1])
        return done

    def _judge_one(self, exchange: Exchange) -> Judgement:
        response, extra = exchange.response, exchange.prompt.extra
        options, right = extra.get("choices"), extra.get("answer_index")
        reason = not_judgeable(response)
        if reason is None and (not options or right is None):
            reason = "Not judged: the prompt does not say what its options are and which of them is right."
        if reason is not None or not options or right is None:
            return without_verdict(response, self.id, self.identity, "choice", "not_run", reason or "")
        chosen = chosen_option(response.text, options)
        if chosen.option is None:
            named = "、".join(LETTERS[place] for place in sorted(chosen.named))
            words = f"選択肢が一つに決まりません（{named}）。" if named else "選択肢の記号が見つかりません。"
            return without_verdict(response, self.id, self.identity, "choice", "unparsed", words)
        return Judgement(
            key=judgement_key(response.key, self.identity, "choice", 0),
            response_key=response.key,
            judge=self.id,
            identity=self.identity,
            scale="choice",
            score=int(chosen.option == right),
            explanation=f"回答は{LETTERS[chosen.option]}、正解は{LETTERS[right]}。",
            raw_text=LETTERS[chosen.option],
            with_reference=True,
            created_at=now(),
        )
