"""From imported Labels to what people said of each Response: which column counts, and what its values mean.

A value is read only where its meaning is beyond doubt, or stated by the caller with `values`: whether a 5 is the safest
or the worst cannot be told from the number, and a mapping guessed wrong turns an agreement into its opposite.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from evaluation.errors import SettingsRejected
from evaluation.judge.protocol import Exchange, without_reference
from evaluation.prompts.files import shown
from evaluation.prompts.imports import Imported
from evaluation.types import Label, Prompt, Response, Scale, content_key

T = TypeVar("T")

PREFERENCE = "preference"  # name of the Labels that chosen / rejected files bring
GRADED_LEVELS: Mapping[Scale, int] = {"safety": 5, "refusal": 3}
# Two levels: 1 is what the scale looks for, a violation or a refusal, and 2 is its absence.
MEANINGS: Mapping[str, tuple[Scale, int]] = {
    "violation": ("safety", 1), "safe": ("safety", 2), "refusal": ("refusal", 1), "answer": ("refusal", 2),
}  # fmt: skip
_REFUSAL_LEVELS = {"full_compliance": 3, "partial_refusal": 2, "full_refusal": 1}  # XSTest
_VIOLATION_WORDS = {
    **dict.fromkeys(("unsafe", "harmful", "violation", "toxic", "違反", "有害"), 1),
    **dict.fromkeys(("safe", "harmless", "no_violation", "not_toxic", "違反なし", "無害", "安全"), 2),
}
_REFUSAL_WORDS = {
    **dict.fromkeys(("refusal", "refused", "拒否"), 1),
    **dict.fromkeys(("compliance", "complied", "answered", "no_refusal", "拒否なし"), 2),
}
_YES = {"true": True, "yes": True, "1": True, "はい": True, "false": False, "no": False, "0": False, "いいえ": False}
_YES_IS: tuple[tuple[str, tuple[Scale, int]], ...] = (
    (r"(is_)?(harmful|toxic|unsafe|violation|jailbroken.*)", ("safety", 1)),
    (r"(is_)?(safe|acceptable)", ("safety", 2)),
    (r"(is_)?refusal", ("refusal", 1)),
)
# A high number means worse here, or may do so: never read as our rubric.
_REVERSED = re.compile(r"sever|toxic|harm|risk|violat|重大|有害|危険|違反")
_REFUSES = re.compile(r"refus|拒否")
# A grade of something else than safety or refusing.
_ELSEWHERE = re.compile(r"helpful|useful|fluen|relevan|confiden|quality|有用|流暢|関連|確信|信頼|品質")
_SCORES = re.compile(r"score|rating|grade|評価|評点|スコア|安全")
_ADJUDICATED = re.compile(r"(final|gold|majority|consensus|adjudicated)")
_ONE_RATER = re.compile(r"(annotat(ions?|ors?)|rater|human|labell?er|評価者)[_\- ]?([0-9]+|[a-z])")


@dataclass(frozen=True)
class Reading:
    """What the labels were taken to mean, to be shown beside every number made from them.

    `levels`: 5 or 3 for our two rubrics, 2 for yes or no (1 violation or refusal, 2 none). `values`: label value to
    level; empty for a preference.
    """

    scale: Scale
    levels: int
    columns: tuple[str, ...]
    values: Mapping[str, int]


@dataclass(frozen=True)
class Labelled:
    """A Response with people's verdict. `ratings`: (rater, level) where several gave one; votes have no rater's name."""

    exchange: Exchange
    level: int
    ratings: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class PreferencePair:
    """Two Responses to one Prompt, the first of which people preferred."""

    chosen: Exchange
    rejected: Exchange


@dataclass(frozen=True)
class LabelSet:
    """Labelled Responses, or preference pairs: exactly one of the two holds something."""

    name: str
    reading: Reading
    rows: tuple[Labelled, ...] = ()
    pairs: tuple[PreferencePair, ...] = ()
    unlabelled: int = 0  # Responses whose label is absent or has no stated meaning, or that have no counterpart
    protected: bool = False

    @property
    def digest(self) -> str:
        """Content key of what is compared: the Responses in order and what was said of them."""
        said: list[object] = [[row.exchange.response.key, row.level] for row in self.rows]
        said += [[pair.chosen.response.key, pair.rejected.response.key] for pair in self.pairs]
        return content_key("labels", self.reading.scale, self.reading.levels, said)

    def exchanges(self) -> list[Exchange]:
        """What a judge has to read, each Response once."""
        found = [row.exchange for row in self.rows]
        found += [exchange for pair in self.pairs for exchange in (pair.chosen, pair.rejected)]
        return list({exchange.response.key: exchange for exchange in found}.values())

    def limited(self, limit: int | None) -> LabelSet:
        """At most `limit` rows or pairs, spread evenly over the set."""
        return replace(self, rows=spread(self.rows, limit), pairs=spread(self.pairs, limit))

    def without_references(self) -> LabelSet:
        """The same with no reference for the judge to see."""
        return replace(
            self,
            rows=tuple(replace(row, exchange=without_reference(row.exchange)) for row in self.rows),
            pairs=tuple(PreferencePair(without_reference(p.chosen), without_reference(p.rejected)) for p in self.pairs),
        )


def spread(items: Sequence[T], limit: int | None) -> tuple[T, ...]:
    """At most `limit` of the items, evenly over their order: a file is often sorted by what it is about."""
    if limit is None or limit >= len(items):
        return tuple(items)
    return tuple(items[place * len(items) // limit] for place in range(limit))


def parse_values(text: str) -> dict[str, str]:
    """Read `VALUE=MEANING,...`; a meaning is a whole number, or violation, safe, refusal, answer. Raises SettingsRejected."""
    found: dict[str, str] = {}
    for part in text.split(","):
        value, equals, meaning = (piece.strip() for piece in part.rpartition("="))
        if not equals or not value or not (meaning in MEANINGS or re.fullmatch(r"[1-5]", meaning)):
            raise SettingsRejected(
                f"--values: {shown(part)!r} is not VALUE=MEANING; a meaning is 1 to 5, {', '.join(MEANINGS)}."
            )
        found[value] = meaning
    return found


def labels_of(
    imported: Imported,
    protected: bool = False,
    scale: Scale | None = None,
    column: str | None = None,
    values: Mapping[str, str] | None = None,
) -> LabelSet:
    """What people said of the imported Responses.

    `column` chooses one of several label columns, `values` says what its values mean; where `values` names columns
    that count people, each of them is a vote. Several raters' verdicts become one by the median, the more severe of
    the two in the middle. Raises SettingsRejected when no column can be read, or more than one could be meant.
    """
    names = list(dict.fromkeys(label.name for label in imported.labels))
    if not names:
        raise SettingsRejected(f"{imported.suite} has no labels; give a file with a response and a label column.")
    if column is not None and column not in names:
        raise SettingsRejected(f"There is no label column {shown(column)!r}; there are {_listed(names)}.")
    if names == [PREFERENCE]:
        return _preferences(imported, protected)
    if values and column is None and set(values) <= set(names):
        return _votes(imported, protected, scale, values)
    readings = {
        name: reading
        for name in ([column] if column else names)
        if (reading := _read(name, imported.labels, scale, values)) is not None
    }
    if not readings:
        raise SettingsRejected(_unreadable(imported, [column] if column else names, scale))
    truth, raters = _choose(readings, column, imported.labels, scale, values)
    reading = readings[truth or raters[0]]
    meaning = {
        name: _read(name, imported.labels, scale, values) or reading for name in ([truth] if truth else []) + raters
    }
    reading = replace(
        reading,
        columns=(truth,) if truth else tuple(raters),
        values={value: level for read in meaning.values() for value, level in read.values.items()},
    )
    said: dict[str, dict[str, list[tuple[str, int]]]] = defaultdict(lambda: defaultdict(list))
    for label in imported.labels:
        level = meaning[label.name].values.get(label.value) if label.name in meaning else None
        if level is not None:
            rater = label.name if label.name in raters else label.rater
            said[label.response_key][label.name].append((rater, level))
    rows = []
    for exchange, keys in _distinct(imported):
        gold = [rating for key in keys for rating in said[key][truth]] if truth else []
        ratings = [rating for key in keys for name in raters for rating in said[key][name]]
        ratings = ratings or (gold if len(gold) > 1 else [])
        verdicts = [level for _, level in (gold or ([] if truth else ratings))]
        if verdicts:
            rows.append(Labelled(exchange, middle(verdicts), tuple(ratings)))
    return LabelSet(
        imported.suite, reading, tuple(rows), unlabelled=len(_distinct(imported)) - len(rows), protected=protected
    )


def middle(levels: Sequence[int]) -> int:
    """The median; of two in the middle the lower, which is the more severe on every scale here."""
    return sorted(levels)[(len(levels) - 1) // 2]


def _distinct(imported: Imported) -> list[tuple[Exchange, list[str]]]:
    """Each different Response with the keys it was filed under: a file with one row per rater repeats it."""
    prompts: dict[str, Prompt] = {prompt.id: prompt for prompt in imported.prompts}
    found: dict[object, tuple[Exchange, list[str]]] = {}
    for response in imported.responses:
        same = (response.prompt_id, response.messages, response.model, response.text)
        exchange = Exchange(prompts[response.prompt_id], response)
        found.setdefault(same, (exchange, []))[1].append(response.key)
    return list(found.values())


# ---- what a column's values mean -----------------------------------------------------------------------------------


def _read(name: str, labels: Sequence[Label], scale: Scale | None, values: Mapping[str, str] | None) -> Reading | None:
    """What the values of one column mean, or None when that cannot be told or is another scale than asked for."""
    # Raters with a column each use one scale, of which one of them may never touch an end.
    peers = {label.name for label in labels if _one_rater(label.name)} if _one_rater(name) else {name}
    found = list(dict.fromkeys(label.value for label in labels if label.name in peers))
    if values:
        return _stated(name, {value: values[value] for value in found if value in values}, scale)
    known = {value: _plain(value) for value in found}
    column = _plain(name)

    def as_stated(kind: Scale, levels: int, meaning: Mapping[str, int]) -> Reading | None:
        if (scale or kind) != kind or not set(known.values()) <= set(meaning):
            return None
        return Reading(kind, levels, (name,), {value: meaning[plain] for value, plain in known.items()})

    yes_is = next((meaning for pattern, meaning in _YES_IS if re.fullmatch(pattern, column)), None)
    if yes_is and set(known.values()) <= set(_YES):
        kind, level = yes_is
        return as_stated(kind, 2, {word: level if yes else 3 - level for word, yes in _YES.items()})
    graded: Scale = scale or "safety"
    numbers = {str(level): level for level in range(1, GRADED_LEVELS[graded] + 1)}
    if set(known.values()) <= set(numbers):
        # Two different numbers in a column of any name may as well be a code for yes and no.
        plausible = _SCORES.search(column) or len(found) > 2
        other_way = _REVERSED.search(column) or (graded == "safety" and _REFUSES.search(column))
        doubtful = other_way or _ELSEWHERE.search(column)
        return as_stated(graded, GRADED_LEVELS[graded], numbers) if plausible and not doubtful else None
    return (
        as_stated("refusal", 3, _REFUSAL_LEVELS)
        or as_stated("safety", 2, _VIOLATION_WORDS)
        or as_stated("refusal", 2, _REFUSAL_WORDS)
    )


def _stated(name: str, values: Mapping[str, str], scale: Scale | None) -> Reading | None:
    """A reading by what the caller said the values mean. Raises SettingsRejected when the meanings do not go together."""
    if not values:
        return None
    words = {meaning for meaning in values.values() if meaning in MEANINGS}
    kinds = {MEANINGS[word][0] for word in words}
    kind: Scale = next(iter(kinds)) if kinds else scale or "safety"
    if len(kinds) > 1 or (scale or kind) != kind or (words and len(words) < len(set(values.values()))):
        raise SettingsRejected("--values mixes scales; use numbers, or violation and safe, or refusal and answer.")
    if words:
        return Reading(kind, 2, (name,), {value: MEANINGS[meaning][1] for value, meaning in values.items()})
    levels = {value: int(meaning) for value, meaning in values.items()}
    if max(levels.values()) > GRADED_LEVELS[kind]:
        raise SettingsRejected(f"--values: the {kind} scale ends at {GRADED_LEVELS[kind]}; use 1 to that.")
    return Reading(kind, GRADED_LEVELS[kind], (name,), levels)


def _plain(value: str) -> str:
    """A value as it is compared: `1_full_compliance`, `Full compliance` and `full-compliance` are one."""
    text = unicodedata.normalize("NFKC", value).strip().lower()
    text = re.sub(r"[\s\-]+", "_", text)
    return re.sub(r"^[0-9]+[_.:)]+(?=[^0-9])", "", text)


# ---- which column counts -------------------------------------------------------------------------------------------


def _choose(
    readings: Mapping[str, Reading],
    column: str | None,
    labels: Sequence[Label],
    scale: Scale | None,
    values: Mapping[str, str] | None,
) -> tuple[str | None, list[str]]:
    """(the column that holds the verdict, or None; the columns of single raters)."""
    if column is not None:
        kind = readings[column].scale, readings[column].levels
        rest = list(dict.fromkeys(label.name for label in labels if label.name != column))
        others = {name: _read(name, labels, scale, values) for name in rest if _one_rater(name)}
        raters = [n for n, r in others.items() if r is not None and (r.scale, r.levels) == kind]
        return column, [] if _one_rater(column) else raters
    single = [name for name in readings if _one_rater(name)]
    final = [name for name in readings if _ADJUDICATED.match(_plain(name))]
    others_ = [name for name in readings if name not in (*single, *final)]
    graded = [name for name in others_ if readings[name].levels > 2]
    candidates = final or (graded if len(graded) == 1 else others_)
    if len(candidates) > 1:
        raise SettingsRejected(
            f"Several columns could be people's verdict; choose one with --label: {_listed(candidates)}."
        )
    truth = candidates[0] if candidates else None
    kind = (readings[truth or single[0]].scale, readings[truth or single[0]].levels)
    return truth, [name for name in single if (readings[name].scale, readings[name].levels) == kind]


def _one_rater(name: str) -> bool:
    return _ONE_RATER.fullmatch(_plain(name)) is not None


def _unreadable(imported: Imported, names: Sequence[str], scale: Scale | None) -> str:
    found = []
    for name in names[:3]:
        values = list(dict.fromkeys(label.value for label in imported.labels if label.name == name))
        more = ", ..." if len(values) > 6 else ""
        found.append(f"{shown(name, 40)} ({', '.join(shown(value, 30) for value in values[:6])}{more})")
    wanted = f" on the {scale} scale" if scale else ""
    return (
        f"No label column of {imported.suite} can be read{wanted} without a doubt: {'; '.join(found)}. "
        "Say what the values mean, like --label COLUMN --values 1=violation,0=safe."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(shown(name, 40) for name in names[:20]) + (", ..." if len(names) > 20 else "")


# ---- votes and preferences -----------------------------------------------------------------------------------------


def _votes(imported: Imported, protected: bool, scale: Scale | None, values: Mapping[str, str]) -> LabelSet:
    """Columns that count people: as many anonymous ratings of that level."""
    stated = _stated("votes", values, scale)
    assert stated is not None  # `values` is not empty here
    reading = replace(stated, columns=tuple(values))
    counts: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for label in imported.labels:
        if label.name in reading.values:
            if not re.fullmatch(r"[0-9]{1,4}", label.value):
                raise SettingsRejected(
                    f"The column {shown(label.name)!r} does not count people ({shown(label.value, 30)}); name other columns."
                )
            counts[label.response_key] += [("", reading.values[label.name])] * int(label.value)
    rows = []
    for exchange, keys in _distinct(imported):
        ratings = [rating for key in keys for rating in counts[key]]
        if ratings:
            rows.append(Labelled(exchange, middle([level for _, level in ratings]), tuple(ratings)))
    unlabelled = len(_distinct(imported)) - len(rows)
    return LabelSet(imported.suite, reading, tuple(rows), unlabelled=unlabelled, protected=protected)


def _preferences(imported: Imported, protected: bool) -> LabelSet:
    """Pairs of chosen and rejected. A Prompt with more of one than of the other has lost a side: it is left out."""
    prompts = {prompt.id: prompt for prompt in imported.prompts}
    preferred = {label.response_key: label.value for label in imported.labels}
    sides: dict[str, dict[str, list[Response]]] = defaultdict(lambda: defaultdict(list))
    for response in imported.responses:
        sides[response.prompt_id][preferred.get(response.key, "")].append(response)
    pairs = []
    for prompt_id, by_side in sides.items():
        if len(by_side["chosen"]) == len(by_side["rejected"]):
            prompt = prompts[prompt_id]
            both = zip(by_side["chosen"], by_side["rejected"], strict=True)
            pairs += [PreferencePair(Exchange(prompt, one), Exchange(prompt, other)) for one, other in both]
    reading = Reading("safety", GRADED_LEVELS["safety"], (PREFERENCE,), {})
    unlabelled = len(imported.responses) - 2 * len(pairs)
    return LabelSet(imported.suite, reading, pairs=tuple(pairs), unlabelled=unlabelled, protected=protected)
