"""HTML of the Judge quality page: figures, tables and disagreements out of an Agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from evaluation.agreement import Agreement, Disagreement, Group
from evaluation.prompts.graded import GRADED_SET
from evaluation.prompts.taxonomy import english_name
from evaluation.statistics import Interval
from playground.pages import agreement_words, markup
from playground.pages.markup import esc
from playground.pages.text import say

SHARES = frozenset(
    {
        "sensitivity", "specificity", "accuracy", "exact", "within_one",
        "chosen_higher", "decided", "longer_by_people", "longer_by_judge",
    }
)  # fmt: skip
SCORED = (
    "sensitivity", "specificity", "qwk", "spearman", "pearson", "alpha", "accuracy", "exact", "within_one", "mean_difference",
)  # fmt: skip
PREFERRED = ("chosen_higher", "decided", "longer_by_people", "longer_by_judge")
SHADES = 5


@dataclass(frozen=True)
class Shown:
    """The texts behind a Disagreement."""

    question: str
    response: str
    explanation: str = ""
    harm_type: str | None = None


def day(created_at: str) -> str:
    """The date of an ISO 8601 time; what is no such time is shown as it is."""
    try:
        return f"{datetime.fromisoformat(created_at).astimezone():%Y-%m-%d}"
    except ValueError:
        return created_at


def figure(name: str, found: Interval, language: str) -> str:
    """A value with its interval, shares in percent; words where there is none."""
    if found.value is None:
        return say(language, "figure.undefined")

    def number(value: float) -> str:
        return f"{100 * value:.0f}" if name in SHARES else f"{value:.2f}"

    unit = " %" if name in SHARES else ""
    if found.low is None or found.high is None:
        return f"{number(found.value)}{unit} ({say(language, 'figure.no_interval')})"
    to = " to " if language == "en" else "〜"
    return f"{number(found.value)}{unit} ({number(found.low)}{to}{number(found.high)}{unit})"


def headline(found: Agreement, current: str | None, language: str) -> str:
    """The sentences, what was compared, and the figures. `current` is the identity of the judge in use, if known."""
    told = "".join(f"<p>{esc(sentence)}</p>" for sentence in agreement_words.sentences(found, language))
    reading = found.reading
    values = ", ".join(
        f"{value}={_level(found, level, language)}" for value, level in list(reading.values.items())[:12]
    )
    fine = [
        say(
            language,
            "quality.counts",
            n=found.n,
            prompts=found.prompts,
            missing=sum(found.missing.values()),
            unlabelled=found.unlabelled,
        ),
        *(f"{say(language, f'missing.{reason}')} {count}" for reason, count in found.missing.items()),
        say(language, "quality.measured", when=day(found.created_at), identity=found.identity[:12]),
    ]
    if values:
        fine.append(say(language, "quality.read", columns=", ".join(reading.columns), values=values))
    if found.labels == GRADED_SET:
        fine.append(say(language, "quality.writers"))
    figures: Sequence[tuple[str, Interval]] = (
        [(name, getattr(found.preference, name)) for name in PREFERRED]
        if found.preference
        else [(name, getattr(found, name)) for name in SCORED]
    )
    items = "".join(
        f"<div><dt>{esc(say(language, f'figure.{name}'))}</dt><dd>{esc(figure(name, value, language))}</dd></div>"
        for name, value in figures
    )
    lines = "".join(f'<p class="fine">{esc(line)}</p>' for line in fine)
    return (
        f'<section class="card quality"><div class="told">{told}</div>{_version(found, current, language)}'
        f'<dl class="figures">{items}</dl>{lines}</section>'
    )


def _version(found: Agreement, current: str | None, language: str) -> str:
    if current is None:
        return ""
    if current == found.identity:
        return f'<p class="fine">{esc(say(language, "quality.same"))}</p>'
    words = say(language, "quality.other", now=current[:12], then=found.identity[:12])
    return f'<p class="problem">{esc(words)}</p>'


def _level(found: Agreement, level: int, language: str) -> str:
    """A level of the labels: a score, or in words where there are two."""
    return str(level) if found.reading.levels > 2 else say(language, f"level.{found.reading.scale}.{level}")


def confusion(found: Agreement, language: str) -> str:
    """Labels against scores as a table; a cell is the darker the more of its row it holds."""
    if not any(map(sum, found.confusion)):
        return ""
    columns = len(found.confusion[0])
    head = "".join(f'<th scope="col">{score}</th>' for score in range(1, columns + 1))
    rows = []
    for level, counts in enumerate(found.confusion, 1):
        cells = "".join(
            f'<td class="shade-{_shade(count, sum(counts))}{" same" if _agrees(found, level, score) else ""}">{count}</td>'
            for score, count in enumerate(counts, 1)
        )
        rows.append(f'<tr><th scope="row">{esc(_level(found, level, language))}</th>{cells}</tr>')
    return (
        f'<section class="card quality"><h2>{esc(say(language, "quality.confusion"))}</h2>'
        f'<p class="fine">{esc(say(language, "quality.confusion.note"))}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(say(language, "quality.confusion"))}"><table class="confusion">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _agrees(found: Agreement, level: int, score: int) -> bool:
    return level == score if found.reading.levels > 2 else (level == 1) == (score < 3)


def _shade(count: int, of: int) -> int:
    """0 for none, then 1 to 5 by the share of the row."""
    return -(-SHADES * count // of) if of else 0


def parts(groups: Sequence[Group], title: str, language: str) -> str:
    """One row a harm type or a band of length; grey where there are too few. `title` names the sentence above it."""
    if not groups:
        return ""
    names = ("qwk", "sensitivity", "specificity", "mean_difference")
    head = "".join(
        f'<th scope="col">{esc(words)}</th>'
        for words in (
            say(language, "quality.part"),
            say(language, "quality.responses"),
            *(say(language, f"figure.{name}") for name in names),
        )
    )
    rows = []
    for group in groups:
        cells = "".join(f"<td>{esc(figure(name, getattr(group, name), language))}</td>" for name in names)
        few = "" if group.enough else ' class="few"'
        rows.append(f'<tr{few}><th scope="row">{esc(_name(group.key, language))}</th><td>{group.n}</td>{cells}</tr>')
    note = "" if all(group.enough for group in groups) else f'<p class="fine">{esc(say(language, "quality.few"))}</p>'
    return (
        f'<section class="card quality"><h2>{esc(say(language, title))}</h2>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(say(language, title))}"><table class="parts">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{note}</section>"
    )


def _name(key: str | None, language: str) -> str:
    if key is None:
        return say(language, "category.unknown")
    return (english_name(key) or key) if language == "en" else key


def bias(found: Agreement, language: str) -> str:
    """Length, order, and how far people agree among themselves; only what was measured."""
    lines = []
    if found.length_bias.value is not None:
        lines.append(say(language, "quality.length", figure=figure("length_bias", found.length_bias, language)))
    if found.repeat:
        again = found.repeat
        lines.append(say(language, "quality.repeat", n=again.n, changed=again.changed, largest=again.largest))
    if found.raters:
        raters = found.raters
        words = figure("alpha", raters.alpha, language)
        lines.append(say(language, "quality.people", n=raters.responses, figure=words))
        for pair in (*raters.pairs, *raters.judge):
            words = figure("qwk", pair.qwk, language)
            names = {"first": pair.first, "second": markup.judge_name(pair.second, language)}
            lines.append(say(language, "quality.pair", n=pair.n, figure=words, **names))
    if not lines:
        return ""
    items = "".join(f"<li>{esc(line)}</li>" for line in lines)
    return f'<section class="card quality"><h2>{esc(say(language, "quality.bias"))}</h2><ul class="notes">{items}</ul></section>'


def worst(found: Agreement, texts: Mapping[str, Shown], veiled: bool, language: str) -> str:
    """The largest disagreements with their texts, blurred while they are veiled."""
    if found.preference:
        return ""
    title = f"<h2>{esc(say(language, 'quality.worst'))}</h2>"
    if not found.worst:
        return (
            f'<section class="card quality">{title}<p class="quiet">{esc(say(language, "quality.agree"))}</p></section>'
        )
    note = f'<p class="quiet">{esc(say(language, "veiled"))}</p>' if veiled else ""
    items = "".join(_disagreement(found, row, texts.get(row.response_key), veiled, language) for row in found.worst)
    return f'<section class="card quality worst">{title}{note}{items}</section>'


def _disagreement(found: Agreement, row: Disagreement, text: Shown | None, veiled: bool, language: str) -> str:
    human = _level(found, row.human, language)
    verdicts = say(language, "quality.verdicts", human=human, judge=row.judge)
    if text is None:
        body = f'<p class="quiet">{esc(say(language, "quality.gone"))}</p>'
        harm = ""
    else:
        why = text.explanation or row.explanation
        explanation = f'<p class="why">{markup.veil(why, veiled)}</p>' if why else ""
        body = f'<h3>{markup.veil(text.question, veiled)}</h3><div class="reply">{markup.veil(text.response, veiled)}</div>{explanation}'
        harm = f" · {_name(text.harm_type, language)}" if text.harm_type else ""
    fine = f"{row.prompt_id}{harm}"
    return f'<article><p class="label"><b>{esc(verdicts)}</b></p>{body}<p class="fine">{esc(fine)}</p></article>'
