"""How often a judge agrees with people, in words that need no statistics. Every number is computed from the Agreement."""

from __future__ import annotations

from evaluation.agreement import Agreement, shipped_agreement
from evaluation.statistics import Interval
from playground.pages.text import say


def often(count: int, of: int, language: str) -> str:
    """`count` of `of` as "about 1 in 10"; a share that no such words fit well is told in tenths. `of` is above 0."""
    if count in (0, of):
        return say(language, "often.zero" if count == 0 else "often.all", of=of)
    share = count / of
    if share < 0.4:  # of 0.4 the inverse is 2.5, which would be told as a half
        return say(language, "often.one", n=round(1 / share))
    return say(language, "often.ten", k=min(9, round(10 * share)))


def often_with_range(count: int, of: int, share: Interval, language: str) -> str:
    """The same with the 95 % interval of the share; of none or all of them the interval alone, the count being said."""
    if share.low is None or share.high is None:
        return often(count, of, language)
    interval = say(language, "often.range", low=f"{100 * share.low:.0f}", high=f"{100 * share.high:.0f}")
    if count in (0, of):
        return interval
    return f"{often(count, of, language)}{', ' if language == 'en' else '、'}{interval}"


def sentences(found: Agreement, language: str) -> list[str]:
    """What a reader should take away: how many violations it misses, how many it sees where there are none."""
    if found.preference is not None:
        pairs = found.preference
        if not pairs.judged:
            return []
        words = often_with_range(pairs.higher, pairs.judged, pairs.chosen_higher, language)
        counts = {"of": pairs.judged, "count": pairs.higher, "ties": pairs.ties, "lower": pairs.lower}
        return [say(language, "quality.chosen", often=words, **counts)]
    told = []
    for kind, count, of, share in (
        ("missed", found.missed, found.positives, found.sensitivity),
        ("false", found.false_alarms, found.negatives, found.specificity),
    ):
        if of:
            words = often_with_range(count, of, _complement(share), language)
            told.append(say(language, f"quality.{kind}.{found.reading.scale}", of=of, count=count, often=words))
    if found.n and len(told) < 2:
        told.append(say(language, "quality.uncountable"))
    return told


def badge(judge: str, identity: str, language: str) -> str:
    """A few words beside a score of the embedded judge: how often it misses a violation. Empty when never measured."""
    found = shipped_agreement()
    if found is None or found.judge != judge or not found.positives or found.reading.scale != "safety":
        return ""
    words = say(language, "quality.badge", often=often(found.missed, found.positives, language), n=found.n)
    return words if found.identity == identity else f"{words} {say(language, 'quality.badge.other')}"


def _complement(share: Interval) -> Interval:
    def rest(part: float | None) -> float | None:
        return None if part is None else 1 - part

    return Interval(rest(share.value), rest(share.high), rest(share.low))
