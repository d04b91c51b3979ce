"""Pieces of HTML for the Benchmark page. As in markup.py, all that others wrote passes through `esc`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from evaluation.benchmark import words
from evaluation.benchmark.people import People
from evaluation.benchmark.turns import turn_of
from evaluation.benchmark.words import Words
from evaluation.metrics import Rate
from evaluation.prompts.taxonomy import english_name
from evaluation.statistics import Interval
from evaluation.types import SCORES, Judgement, Response
from playground.jobs import Job
from playground.pages import markup
from playground.pages.diff import highlight
from playground.pages.markup import esc, veil
from playground.pages.text import TEXT, say
from playground.pages.text_errors import line_for
from playground.pages.train_markup import duration, facts, place, state, table
from playground.published import PUBLISHED
from playground.scoreboard import ENOUGH_JUDGED, FIGURES, MEANS, Board, Figure, Paired
from playground.store.pairs import Change, Opened
from playground.store.progress import Progress
from playground.store.sql_box import Table

OUTCOMES = ("complete", "truncated", "repeating", "empty", "error", "cancelled", "unanswered")
VERDICTS = ("scored", "unparsed", "judge_refused", "unreachable", "not_run")


def harm_name(harm_type: str, language: str) -> str:
    return (english_name(harm_type) or harm_type) if language == "en" else harm_type


def number(figure: Figure, rate: Rate) -> str:
    """A value with its interval; shares in percent."""
    if rate.value is None:
        return "–"

    def one(value: float) -> str:
        return f"{value:.2f}" if figure in MEANS else words.percent(value)

    if rate.low is None or rate.high is None:
        return one(rate.value)
    low, high = (f"{v:.2f}" if figure in MEANS else f"{100 * v:.0f}" for v in (rate.low, rate.high))
    return f"{one(rate.value)} [{low}, {high}]"


def count(rate: Rate) -> str:
    """Judged and missing, as they stand beside every value."""
    return f"{rate.judged} / {rate.missing}"


def warning(board: Board, language: str) -> str:
    """What stands on every figure of a run of which too little was judged, or nothing."""
    share = board.judged_share()
    if share is None or share >= ENOUGH_JUDGED:
        return ""
    return say(language, "bench.few", share=f"{100 * share:.0f}")


# ---- a run ----


def summary(job: Job | None, told: Sequence[Progress], board: Board | None, words_: Words | None, language: str) -> str:
    """How the run stands, and the sentence that it comes to."""
    if job is None:
        return f'<div class="card detail"><p class="quiet">{esc(say(language, "bench.none"))}</p></div>'
    tone = "problem" if job.status in ("failed", "lost", "queued") else "fine"
    parts = [
        f'<p class="run"><span class="label">{esc(job.run_id)}</span>{state(job, language)}</p>',
        f"<h3>{esc(job.name)}</h3>",
        f"<p>{esc(place(job, language))}</p>" if job.position is not None else "",
        f'<p class="{tone}">{esc(line_for(job.reason, language))}</p>' if job.reason else "",
        progress(job, told[-1] if told else None, language),
    ]
    if board is not None and board.judges:
        named = ", ".join(
            f"{say(language, f'bench.scale.{scale}')}: {markup.judge_name(judge, language)} ({identity[:12]})"
            for scale, (judge, identity) in board.judges.items()
        )
        parts.append(f'<p class="fine">{esc(named)}</p>')
    if words_ is not None:
        parts.append(f'<p class="bench-sentence">{esc(words_.en if language == "en" else words_.ja)}</p>')
    if board is not None and (few := warning(board, language)):
        # While the run goes on the share changes every two seconds: an alert would be read out each time.
        role = ' role="alert"' if job.ended else ""
        parts.append(f'<p class="problem"{role}>{esc(few)}</p>')
    return f'<section class="card detail">{"".join(parts)}</section>'


def progress(job: Job, newest: Progress | None, language: str) -> str:
    if newest is None:
        if job.status != "running":
            return ""
        return f'<p class="quiet waiting" role="status">{esc(say(language, "bench.preparing"))}</p>'
    known = [
        (say(language, "bench.answered"), f"{newest.answered:,} / {newest.total:,}"),
        (say(language, "bench.judged"), f"{newest.judged:,}"),
        (say(language, "bench.missing"), f"{newest.missing:,}"),
    ]
    if newest.tokens_per_s:
        known.append((say(language, "mix.speed"), say(language, "mix.speed.value", rate=newest.tokens_per_s)))
    if newest.cost_usd is not None:
        cost = f"${newest.cost_usd:.4f}" if newest.cost_usd else say(language, "bench.cost.none")
        known.append((say(language, "bench.cost"), cost))
    if newest.eta_s is not None and not job.ended:
        known.append((say(language, "watch.eta"), duration(newest.eta_s, language)))
    label = esc(say(language, "bench.answered"))
    return f'<progress value="{newest.answered}" max="{max(newest.total, 1)}" aria-label="{label}"></progress>{facts(known)}'


# ---- numbers ----


def scoreboard(board: Board, chosen: str, published: bool, language: str) -> str:
    """Every figure of every model with its interval, judged and missing; below it, what is published."""
    shown = [figure for figure in FIGURES if board.suites(figure, chosen)]
    if not shown:
        return ""
    title = say(language, "bench.scoreboard")
    header = [say(language, "bench.model"), *(say(language, f"bench.figure.{figure}") for figure in shown)]
    rows: list[list[object]] = []  # a figure above its count: eight columns fit a desk
    for model in board.models:
        rates = [(figure, board.rate(model, figure, board.suites(figure, chosen))) for figure in shown]
        rows.append([model, *(f"{number(figure, rate)}\n{count(rate)}" for figure, rate in rates)])
    note = f'<p class="fine">{esc(say(language, "bench.scoreboard.note"))}</p>'
    return (
        f'<section class="card quality"><h3>{esc(title)}</h3>{table(header, rows, title)}{note}'
        f"{statuses(board, language)}{_published(language) if published else ''}</section>"
    )


def statuses(board: Board, language: str) -> str:
    """How the Responses and the readings ended, counted: what is missing is never a number among the scores."""
    title = say(language, "bench.statuses")
    verdicts = {model: board.verdicts(model) for model in board.models}
    outcomes = {model: board.outcomes(model) for model in board.models}
    seen = [v for v in VERDICTS if v == "scored" or any(found[v] for found in verdicts.values())]
    ends = [o for o in OUTCOMES if o == "complete" or any(found[o] for found in outcomes.values())]
    header = [
        say(language, "bench.model"),
        *(say(language, f"bench.outcome.{end}") for end in ends),
        *(say(language, f"bench.verdict.{verdict}") for verdict in seen),
    ]
    rows = [
        [model, *(outcomes[model][end] for end in ends), *(verdicts[model][verdict] for verdict in seen)]
        for model in board.models
    ]
    return f"<h4>{esc(title)}</h4>{table(header, rows, title)}"


def _published(language: str) -> str:
    title = say(language, "bench.published")
    header = [
        say(language, key)
        for key in ("bench.model", "bench.prompts", "bench.figure.violation", "bench.figure.acceptable", "bench.figure.mean",
                    "bench.judged_by", "bench.source")
    ]  # fmt: skip
    people = say(language, "bench.people")
    rows = [
        [row.name, row.prompts, f"{row.violation:.1%}", f"{row.acceptable:.1%}", f"{row.mean:.2f}",
         people if row.judged_by == "people" else row.judged_by, row.source]
        for row in PUBLISHED
    ]  # fmt: skip
    note = f'<p class="fine">{esc(say(language, "bench.published.note"))}</p>'
    return f'<h4 class="published">{esc(title)}</h4>{table(header, rows, title)}{note}'


def compared(found: Paired | None, told: Sequence[Words], models: tuple[str, str], language: str) -> str:
    """The paired comparison in sentences, and harm type by harm type."""
    if found is None or not told:
        return ""
    sentences = "".join(f"<p>{esc(one.en if language == 'en' else one.ja)}</p>" for one in told)
    title = say(language, "bench.compared", left=models[0], right=models[1])
    mean = found.mean
    if mean.value is not None:
        bounds = f" [{mean.low:+.2f}, {mean.high:+.2f}]" if mean.low is not None and mean.high is not None else ""
        difference = f"{found.left_mean:.2f} → {found.right_mean:.2f} ({mean.value:+.2f}{bounds})"
        sentences += f"<p>{esc(say(language, 'bench.mean.change', change=difference))}</p>"
    header = [
        say(language, key) for key in ("bench.harm", "bench.pairs", "bench.before", "bench.after", "bench.p", "bench.p_holm")
    ]  # fmt: skip
    rows = [
        [
            harm_name(test.harm_type, language),
            f"{test.pairs}{' · ' + say(language, 'bench.small') if test.small else ''}",
            words.percent(test.left),
            words.percent(test.right),
            "–" if test.p_value is None else words.p_number(test.p_value),
            "–" if test.p_holm is None else words.p_number(test.p_holm),
        ]
        for test in found.by_harm_type
    ]
    details = table(header, rows, title) if rows else ""
    note = f'<p class="fine">{esc(say(language, "bench.small.note"))}</p>' if rows else ""
    return f'<section class="card quality"><h3>{esc(title)}</h3>{sentences}{details}{note}</section>'


def people(told: Sequence[People], language: str) -> str:
    """What people said of imported Responses beside the judge's reading of the same, and how far the two agree."""
    if not told:
        return ""
    title = say(language, "bench.people.title")
    parts = []
    for one in told:
        head = f"<h4>{esc(one.suite)}</h4>"
        if one.reason is not None or one.scale is None:
            parts.append(
                f'{head}<p class="quiet">{esc(say(language, "bench.people.unread", reason=one.reason or ""))}</p>'
            )
            continue
        figure: Figure = "violation" if one.scale == "safety" else "refusal"
        header = [
            say(language, "bench.model"),
            say(language, f"bench.people.{figure}"),
            say(language, f"bench.people.judge.{figure}"),
        ]
        rows = [
            [row.model, *(f"{number(figure, rate)} · {count(rate)}" for rate in (row.people, row.judge))]
            for row in one.models
        ]
        agreed = say(
            language, "bench.people.agreement", both=one.both, kappa=_interval(one.kappa),
            sensitivity=_interval(one.sensitivity), specificity=_interval(one.specificity), columns=", ".join(one.columns),
        )  # fmt: skip
        parts.append(f'{head}{table(header, rows, title)}<p class="fine">{esc(agreed)}</p>')
    note = f'<p class="fine">{esc(say(language, "bench.people.note"))}</p>'
    return f'<section class="card quality"><h3>{esc(title)}</h3>{"".join(parts)}{note}</section>'


def _interval(found: Interval) -> str:
    if found.value is None:
        return "–"
    bounds = f" [{found.low:.2f}, {found.high:.2f}]" if found.low is not None and found.high is not None else ""
    return f"{found.value:.2f}{bounds}"


def speeds(board: Board, language: str) -> str:
    """What one stream of each model made, and what judging cost."""
    known = []
    for model in board.models:
        tokens, seconds = board.speed(model)
        if tokens and seconds:
            known.append((model, say(language, "bench.pace.stream", rate=tokens / seconds)))
    cost = board.cost_usd()
    known.append((say(language, "bench.cost"), say(language, "bench.cost.none") if cost is None else f"${cost:.4f}"))
    return facts(known)


def matrix_note(agreed: int, both: int, kappa: float | None, language: str) -> str:
    value = "–" if kappa is None else f"{kappa:.2f}"
    share = words.percent(agreed / both) if both else "–"
    return f'<p class="fine">{esc(say(language, "bench.matrix.note", both=both, share=share, kappa=value))}</p>'


# ---- which prompts changed, and one of them ----


def changes(
    found: Mapping[Literal["better", "worse"], tuple[Sequence[Change], int]], hidden: set[str], chosen: str | None, language: str
) -> str:  # fmt: skip
    """What got better and what got worse, each a button. `hidden`: suites whose texts nobody has asked for yet."""
    parts = []
    for kind, (listed, total) in found.items():
        title = say(language, f"bench.changed.{kind}", count=total)
        more = total - len(listed)
        rest = f'<p class="found">{esc(say(language, "bench.more", count=more))}</p>' if more > 0 else ""
        items = "".join(
            _change(change, change.suite in hidden, change.prompt_id == chosen, language) for change in listed
        )
        body = (
            f'<ul class="rows">{items}</ul>' if items else f'<p class="quiet">{esc(say(language, "bench.nothing"))}</p>'
        )
        parts.append(f'<section class="changes {kind}"><h3>{esc(title)}</h3>{body}{rest}</section>')
    return "".join(parts)


def _change(change: Change, veiled: bool, current: bool, language: str) -> str:
    harm = harm_name(change.harm_type, language) if change.harm_type else change.suite
    return (
        f'<li><button type="button" class="entry" data-pick="{esc(change.prompt_id)}"{" aria-current=true" if current else ""}>'
        f'<span class="text">{veil(change.question, veiled)}</span>'
        f"<small>{esc(harm)} · {esc(change.prompt_id)} · {change.left:g} → {change.right:g}</small></button></li>"
    )


def pair(found: Opened | None, board: Board, veiled: bool, language: str) -> str:
    """A prompt with both responses, what differs in them, the reference, and the judge's reasons."""
    if found is None:
        return f'<div class="card detail"><p class="quiet">{esc(say(language, "bench.pick"))}</p></div>'
    prompt = found.prompt
    texts = [side.text if side else "" for side in (found.left, found.right)]
    marked = (veil(texts[0], True), veil(texts[1], True)) if veiled else highlight(texts[0], texts[1])
    sides = "".join(
        _side(name, side, text, found, board, veiled, language)
        for name, side, text in zip(("left", "right"), (found.left, found.right), marked, strict=True)
    )
    reference = "" if veiled else markup.reference(prompt.reference, language)
    return (
        f'<div class="card detail past"><article><p class="label">{esc(prompt.suite)} · {esc(prompt.id)}</p>'
        f"<h2>{veil(prompt.question, veiled)}</h2>{markup.category_path(prompt.category, language)}"
        f'<div class="past-sides">{sides}</div>{"" if veiled else markup.legend(language)}{reference}</article></div>'
    )


def _side(
    side: str, response: Response | None, text: str, found: Opened, board: Board, veiled: bool, language: str
) -> str:  # fmt: skip
    if response is None:
        return (
            f'<section class="past-side {side}"><p class="quiet">{esc(say(language, "bench.unanswered"))}</p></section>'
        )
    # Thoughts repeat the question; they are not part of what `text` veils.
    shown = markup.done_pane(replace(response, thinking="") if veiled else response, language, text)
    verdicts = _verdicts(response, found, board, veiled, language)
    before = _conversation(response, found, board, veiled, language)
    return (
        f'<section class="past-side {side}"><p class="badge"><span><b>{esc(say(language, side))}</b> <code>{esc(response.model)}</code></span>'
        f"<span><b>{esc(say(language, 'identity.id'))}</b> <code>{esc(response.identity)}</code></span></p>"
        f'{before}{shown["before"]}<div class="reply">{shown["text"]}</div>{shown["after"]}{verdicts}</section>'
    )


def _verdicts(response: Response, found: Opened, board: Board, veiled: bool, language: str) -> str:
    """Of a judge that read twice the newest reading counts; a judge that no longer counts is not shown."""
    newest = {
        judgement.scale: judgement
        for judgement in found.judgements
        if judgement.response_key == response.key
        and board.judges.get(judgement.scale, ("", ""))[1] == judgement.identity
    }
    return "".join(verdict(judgement, veiled, language) for judgement in newest.values())


def _conversation(response: Response, found: Opened, board: Board, veiled: bool, language: str) -> str:
    """What was said before the last reply: each turn with how its reply was read, then the last question."""
    said = [message for message in response.messages if message.role != "system"]
    if len(said) < 2:
        return ""
    read = {turn_of(reply): reply for reply in found.earlier.get(response.model, ())}
    turns = []
    for turn, (asked, reply) in enumerate(zip(said[::2], said[1::2], strict=False), 1):
        verdicts = _verdicts(read[turn], found, board, veiled, language) if turn in read else ""
        turns.append(
            f'<div class="earlier-turn"><p class="label">{veil(asked.content, veiled)}</p>'
            f'<div class="reply">{veil(reply.content, veiled)}</div>{verdicts}</div>'
        )
    return f'{"".join(turns)}<div class="earlier-turn"><p class="label">{veil(said[-1].content, veiled)}</p></div>'


def verdict(judgement: Judgement, veiled: bool, language: str) -> str:
    """One reading on any scale. The reasons may quote the response, so they are hidden with it."""
    lowest, highest = SCORES[judgement.scale]
    name = say(language, f"bench.scale.{judgement.scale}")
    if judgement.score is None:
        tone = "none"
        head = f"<b>{esc(say(language, 'missing'))}</b> {esc(say(language, f'missing.{judgement.missing}'))}"
    else:
        share = (judgement.score - lowest) / (highest - lowest)
        tone = "bad" if share < 0.5 else "fair" if share == 0.5 else "good"
        key = f"score.{judgement.score}"
        meaning = say(language, key) if judgement.scale == "safety" and key in TEXT else ""
        head = f"<b>{esc(name)} {judgement.score} / {highest}</b> {esc(meaning)}"
    why = f'<p class="why">{veil(judgement.explanation, veiled)}</p>' if judgement.explanation else ""
    fine = f"{markup.judge_name(judgement.judge, language)} · {judgement.identity[:12]}"
    return (
        f'<section class="verdict {tone}"><p class="meaning">{head}</p>{why}<p class="fine">{esc(fine)}</p></section>'
    )


# ---- SQL ----


def rows(found: Table, language: str) -> str:
    """What the index answered."""
    title = say(language, "bench.sql")
    note = say(language, "bench.sql.cut" if found.cut else "bench.sql.rows", count=len(found.rows))
    return f'{table(found.columns, found.rows, title)}<p class="found" role="status">{esc(note)}</p>'
