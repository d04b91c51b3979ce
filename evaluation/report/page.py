"""The report's page: one section for each run, out of its results and the texts that may be shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

from evaluation.benchmark import words
from evaluation.benchmark.answers import Answers, Outcome, Verdict
from evaluation.benchmark.comparison import Change, Comparison
from evaluation.benchmark.people import People
from evaluation.benchmark.recorded import Recorded
from evaluation.benchmark.results import BenchResults, Figures, ModelResults
from evaluation.errors import SettingsRejected
from evaluation.metrics import Rate
from evaluation.prompts.taxonomy import english_name
from evaluation.report import figures
from evaluation.report.text import TEXT, both, esc, say
from evaluation.statistics import Interval
from evaluation.types import SCORES, Response, Scale

MOST_CHANGES = 200  # prompts listed on each side; the export has all of them
MEANS: Mapping[str, Scale] = {"mean_score": "safety", "usefulness": "usefulness"}
FIGURES = (
    "violation_rate", "acceptable_rate", "mean_score", "refusal_rate", "contrast_violation_rate", "usefulness",
    "attack_success", "choice_accuracy", "broken_down",
)  # fmt: skip


def build_report(runs: Sequence[Recorded], made_at: str) -> str:
    """The whole page as text. Texts of protected suites are not in it. `made_at` is an ISO 8601 time."""
    body = "".join(_run(run) for run in runs)
    reading = "".join(f"<p>{say(f'reading.{part}')}</p>" for part in ("rates", "missing", "test", "judge"))
    # The policy forbids what the page does not need: every script, and every request.
    return f"""<!DOCTYPE html>
<html lang="ja">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="robots" content="noindex">
<title>安全性ベンチマークの報告書 / Safety benchmark report</title>
<style>{_style()}</style>
</head>
<body>
<input type="radio" name="language" id="ja" checked><label for="ja" lang="ja">日本語</label>
<input type="radio" name="language" id="en"><label for="en" lang="en">English</label>
<main>
<h1>{say("title")}</h1>
<p class="quiet">{say("made", when=made_at[:16].replace("T", " "))}</p>
{body}
<h2>{say("reading")}</h2>
{reading}
</main>
</body>
</html>
"""


@cache
def _style() -> str:
    return (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def _run(run: Recorded) -> str:
    info = run.info
    counts = {"prompts": len(run.prompts), "responses": len(run.responses), "judgements": len(run.judgements)}
    parts = [
        f"<h2>{say('run', run=run.run_id)}</h2>",
        f'<p class="quiet">{say("about", when=info.created_at[:16].replace("T", " "), **counts)}<br>',
        f"{say('suites', suites=', '.join(dict.fromkeys(p.suite for p in run.prompts)))}<br>{_judges(run)}</p>",
    ]
    if run.status != "finished":
        parts.append(_warning(say("not_finished", status=run.status)))
    if run.bad_lines:
        parts.append(_warning(say("bad_lines", count=run.bad_lines)))
    try:
        found = run.results
    except SettingsRejected as error:
        parts.append(_warning(say("no_numbers", reason=str(error))))
    else:
        parts += _numbers(run, found)
    settings = {key: value for key, value in asdict(info).items() if key != "run_id"}
    shown = json.dumps(settings, ensure_ascii=False, indent=2)
    parts.append(f"<details><summary>{say('settings')}</summary><pre>{esc(shown)}</pre></details>")
    return "\n".join(parts)


def _judges(run: Recorded) -> str:
    if not run.judges:
        return say("no_judge")
    return "<br>".join(_judge_of(scale, judge, identity) for scale, (judge, identity) in run.judges.items())


def _judge_of(scale: Scale, judge: str, identity: str) -> str:
    told, who = TEXT["judge_of"], {"judge": judge, "identity": identity[:12]}
    return both(words.Words(told.ja.format(scale=TEXT[scale].ja, **who), told.en.format(scale=scale, **who)))


def _warning(markup: str) -> str:
    return f'<p class="warning" role="note">{markup}</p>'


def _numbers(run: Recorded, found: BenchResults) -> Iterator[str]:
    warnings = "".join(_warning(both(warning)) for warning in found.warnings)
    yield warnings
    for comparison in found.comparisons:
        yield f"<h3>{say('against', left=comparison.left, right=comparison.right)}</h3>"
        sentences = [*words.all_sentences(comparison)] or [words.NOTHING]
        yield f'<p class="sentence">{both(sentences[0])}</p>'
        yield "".join(f"<p>{both(sentence)}</p>" for sentence in sentences[1:])
    yield f"<h3>{say('scoreboard')}</h3>{warnings}{_scoreboard(found)}"
    if any(model.by_harm_type for model in found.models):
        yield f"<h3>{say('by_harm_type')}</h3>{warnings}{_heat_map(found.models)}"
        yield f'<p class="quiet">{say("small_note")}</p>'
    for comparison in found.comparisons:
        if any(row.pairs for row in comparison.by_harm_type):
            yield _harm_types(comparison)
    if any(sum(model.score_counts.values()) for model in found.models):
        yield f"<h3>{say('distribution')}</h3>{warnings}{_distributions(found.models)}"
    if len(found.suites) > 1:
        yield f"<h3>{say('by_suite')}</h3>{warnings}{_by_suite(found)}"
    for told in run.people:
        yield _people(told)
    yield f"<h3>{say('statuses')}</h3>{_statuses(found.models)}"
    for comparison in found.comparisons:
        yield _changes(run, comparison)


# ---- tables --------------------------------------------------------------------------------------------------------


def _table(header: Iterable[str], rows: Iterable[str], numbers: Iterable[int] = ()) -> str:
    right = set(numbers)
    head = "".join(
        f'<th scope="col"{" class=number" if n in right else ""}>{cell}</th>' for n, cell in enumerate(header)
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _row(*cells: str) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _cell(markup: object, kind: str = "") -> str:
    return f'<td class="{kind}">{markup}</td>' if kind else f"<td>{markup}</td>"


def _number(markup: object) -> str:
    return _cell(markup, "number")


def _told(name: str, rate: Rate) -> str:
    """A value with its interval; words where there is none."""
    if rate.value is None:
        return say("undefined")
    show = (lambda value: f"{value:.2f}") if name in MEANS else words.percent
    return esc(
        show(rate.value) + ("" if rate.low is None or rate.high is None else f" ({show(rate.low)} – {show(rate.high)})")
    )


def _ends(name: str) -> tuple[float, float]:
    return SCORES[MEANS[name]] if name in MEANS else (0, 1)


def _measured(figure: Figures, name: str) -> Rate | None:
    rate: Rate | None = getattr(figure, name)
    return None if rate is None or rate.judged + rate.missing == 0 else rate


def _rate_rows(labelled: Sequence[tuple[str, Figures]]) -> Iterator[str]:
    for name in FIGURES:
        for label, figure in labelled:
            if (rate := _measured(figure, name)) is not None:
                yield _row(
                    _cell(say(name)), _cell(label, "name"), _number(_told(name, rate)),
                    _cell(figures.interval(rate, *_ends(name))), _number(rate.judged), _number(rate.missing),
                )  # fmt: skip


def _scoreboard(found: BenchResults) -> str:
    header = (say("figure"), say("model"), say("value"), "", say("judged"), say("missing"))
    return _table(header, _rate_rows([(esc(model.model), model.overall) for model in found.models]), (2, 4, 5))


def _by_suite(found: BenchResults) -> str:
    rows = [
        row.replace("<tr>", f"<tr>{_cell(esc(suite), 'name')}", 1)
        for suite in found.suites
        for row in _rate_rows([(esc(m.model), m.by_suite[suite]) for m in found.models if suite in m.by_suite])
    ]
    header = (say("suite"), say("figure"), say("model"), say("value"), "", say("judged"), say("missing"))
    return _table(header, rows, (3, 5, 6))


def _harm_name(name: str) -> str:
    return both(words.Words(name, english_name(name) or name))


def _heat_map(models: Sequence[ModelResults]) -> str:
    names = dict.fromkeys(row.harm_type for model in models for row in model.by_harm_type)
    found = [{row.harm_type: row for row in model.by_harm_type} for model in models]

    def cell(by_name: Mapping[str, object], name: str) -> str:
        row = by_name.get(name)
        if row is None:
            return _number("")
        rate: Rate = row.violation_rate  # type: ignore[attr-defined]
        if rate.value is None:
            return _cell(say("undefined"), "number small")
        kind = "small" if row.small else f"shade-{figures.shade(rate.value)}"  # type: ignore[attr-defined]
        return _cell(f'{words.percent(rate.value)} <span class="quiet">n = {rate.judged}</span>', f"number {kind}")

    rows = (_row(_cell(_harm_name(name), "name"), *(cell(by_name, name) for by_name in found)) for name in names)
    return _table((say("harm_type"), *(esc(model.model) for model in models)), rows, range(1, len(models) + 1))


def _harm_types(comparison: Comparison) -> str:
    def corrected(p_holm: float | None, small: bool) -> str:
        return say("too_few") if small else "" if p_holm is None else esc(words.p_number(p_holm))

    rows = (
        _row(
            _cell(_harm_name(row.harm_type), "name"),
            _number(f"{words.percent(row.left)} → {words.percent(row.right)}"),
            _cell(figures.change(row.left, row.right)),
            _number(row.pairs),
            _number(corrected(row.p_holm, row.small)),
        ).replace("<tr>", '<tr class="small">' if row.small else "<tr>", 1)
        for row in comparison.by_harm_type
        if row.pairs
    )
    marks = f"{say('left_mark', left=comparison.left)} &nbsp; {say('right_mark', right=comparison.right)}"
    header = (say("harm_type"), say("change"), marks, say("pairs"), say("p_holm"))
    title = say("against", left=comparison.left, right=comparison.right)
    return f"<h3>{title}: {say('by_harm_type')}</h3>{_table(header, rows, (1, 3, 4))}"


def _distributions(models: Sequence[ModelResults]) -> str:
    scores = [*models[0].score_counts]
    rows = (
        _row(
            _cell(esc(model.model), "name"),
            _cell(figures.distribution(model.score_counts)),
            *(_number(model.score_counts[score]) for score in scores),
        )
        for model in models
    )
    return _table((say("model"), "", *map(str, scores)), rows, range(2, len(scores) + 2))


def _people(told: People) -> str:
    title = f"<h3>{say('people', suite=told.suite)}</h3>"
    if told.reason is not None:
        return title + _warning(say("people_unread", reason=told.reason))
    name = "violation_rate" if told.scale == "safety" else "refused"

    def row(model: str, by: str, rate: Rate) -> str:
        return _row(
            _cell(esc(model), "name"), _cell(by), _number(_told(name, rate)), _cell(figures.interval(rate, 0, 1)),
            _number(rate.judged), _number(rate.missing),
        )  # fmt: skip

    rows = [
        line
        for own in told.models
        for line in (row(own.model, say("by_people"), own.people), row(own.model, say("by_judge"), own.judge))
    ]
    header = (say("model"), say(name), say("value"), "", say("judged"), say("missing"))
    agreed = say(
        "people_agreement", both=told.both, kappa=_bounds(told.kappa), sensitivity=_bounds(told.sensitivity),
        specificity=_bounds(told.specificity), columns=", ".join(told.columns),
    )  # fmt: skip
    return f'{title}{_table(header, rows, (2, 4, 5))}<p>{agreed}</p><p class="quiet">{say("people_note")}</p>'


def _bounds(found: Interval) -> str:
    if found.value is None:
        return "–"
    return f"{found.value:.2f}" + (
        "" if found.low is None or found.high is None else f" ({found.low:.2f} – {found.high:.2f})"
    )


def _statuses(models: Sequence[ModelResults]) -> str:
    def listed(counts: Mapping[Verdict, int] | Mapping[Outcome, int]) -> str:
        return " / ".join(f"{say(name)} {count}" for name, count in counts.items() if count)

    rows = (
        _row(
            _cell(esc(model.model), "name"),
            _cell(listed(model.overall.verdicts)),
            _cell(listed(model.overall.outcomes)),
        )
        for model in models
    )
    return _table((say("model"), say("judgements"), say("responses")), rows)


# ---- prompts -------------------------------------------------------------------------------------------------------


def _changes(run: Recorded, comparison: Comparison) -> str:
    left, right = run.answers[comparison.left], run.answers[comparison.right]
    parts = [f"<h3>{say('against', left=comparison.left, right=comparison.right)}</h3>"]
    for kind, changes in (("better", comparison.better), ("worse", comparison.worse)):
        count = len({change.prompt_id for change in changes})
        parts.append(f"<h4>{say(kind, count=count)}</h4>")
        parts.append("".join(_change(run, change, left, right) for change in changes[:MOST_CHANGES]))
        if not changes:
            parts.append(f"<p>{say('nothing')}</p>")
        if len(changes) > MOST_CHANGES:
            parts.append(f'<p class="quiet">{say("more", count=len(changes) - MOST_CHANGES)}</p>')
    return "".join(parts)


def _change(run: Recorded, change: Change, left: Answers, right: Answers) -> str:
    prompt = left.prompts[change.prompt_id]
    harm = f" · {_harm_name(prompt.category.harm_type)}" if prompt.category and prompt.category.harm_type else ""
    scores = f"{say(change.scale)} {change.left:g} → {change.right:g}"
    title = f"<bdi>{esc(change.prompt_id)}</bdi> · {esc(prompt.suite)}{harm} · {scores}"
    if run.is_protected(change.prompt_id):
        return f'<p>{title} <span class="quiet">{say("withheld")}</span></p>'
    asked = "\n\n".join((prompt.question, *prompt.turns))
    parts = [f"<p>{say('prompt')}</p>{_text(asked)}"]
    if prompt.reference is not None:
        parts.append(f"<p>{say('reference')}</p>{_text(prompt.reference)}")
    for side in (left, right):
        replies = [(turn, response) for (_, turn), response in side.of(prompt.id) if response is not None]
        parts += [_answer(side, response, change.scale, turn if prompt.turns else None) for turn, response in replies]
    return f'<details><summary>{title}</summary><p class="quiet">{say("texts")}</p>{"".join(parts)}</details>'


def _answer(side: Answers, response: Response, scale: Scale, turn: int | None) -> str:
    judgement = side.judgements.get((response.key, scale))
    reason = ""
    if judgement is not None and judgement.explanation:
        score = judgement.missing if judgement.score is None else judgement.score
        reason = f"<p>{say('reason', score=score)}</p>{_text(judgement.explanation)}"
    title = say("answer", model=side.model) if turn is None else say("answer_to_turn", model=side.model, turn=turn)
    return f"<p>{title}</p>{_text(response.text)}{reason}"


def _text(text: str) -> str:
    return f'<pre dir="auto">{esc(text)}</pre>'
