"""Pieces of HTML for the Train page. As in markup.py, all that others wrote passes through `esc`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from playground.jobs import DeviceUse, Job
from playground.pages import device_words
from playground.pages.history import when
from playground.pages.markup import esc, veil
from playground.pages.text import say
from playground.pages.text_errors import line_for
from playground.pages.train_form import Form, safety_share
from playground.probing import Stage
from playground.trainings import Curve

MOST_ENDED = 30  # ended runs in the list
TONES = {"finished": "good", "failed": "bad", "lost": "bad", "cancelled": "fair"}


def duration(seconds: float, language: str) -> str:
    """Seconds in the unit that a person would use."""
    for key, of, below in (("watch.seconds", 1, 90), ("watch.minutes", 60, 90)):
        if seconds / of < below:
            return say(language, key, value=seconds / of)
    return say(language, "watch.hours", value=seconds / 3600)


def size(number: float) -> str:
    """Bytes as MB or GB."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"


def heading(key: str, more: str, language: str) -> str:
    note = f'<p class="quiet">{esc(say(language, more))}</p>' if more else ""
    return f'<div class="section"><h2>{esc(say(language, key))}</h2>{note}</div>'


def problem(words: object) -> str:
    return f'<p class="problem" role="alert">{esc(words)}</p>' if words else ""


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    return (
        '<dl class="figures">' + "".join(f"<div><dt>{esc(k)}</dt><dd>{esc(v)}</dd></div>" for k, v in pairs) + "</dl>"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> str:
    """A table whose first column names its rows."""
    head = "".join(f'<th scope="col">{esc(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{esc(row[0])}</th>' + "".join(f"<td>{esc(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(caption)}"><table class="numbers">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def command(text: str, language: str) -> str:
    """A command to copy."""
    if not text:
        return ""
    button = f'<button type="button" class="copy" data-copied="{esc(say(language, "copied"))}">{esc(say(language, "copy"))}</button>'
    return (
        f'<div class="command"><p class="label">{esc(say(language, "train.command"))}</p>'
        f'<pre class="reply" tabindex="0">{esc(text)}</pre><div class="foot"><span></span>{button}</div></div>'
    )


# ---- before the start ----


def rows_now(total: int, safety: int, missing: Sequence[str], language: str) -> str:
    share = safety / total if total else 0.0
    words = say(language, "train.rows.now", total=total, safety=safety, share=share)
    absent = say(language, "train.rows.unknown", suites=", ".join(missing)) if missing else ""
    note = f'<p class="problem">{esc(absent)}</p>' if absent else ""
    return f'<p class="mix-now" role="status">{esc(words)}</p>{note}'


def waiting(key: str, language: str) -> str:
    return f'<p class="quiet waiting" role="status">{esc(say(language, key))}</p>'


def mix(stage: Stage, form: Form, language: str) -> str:
    """The mix, and what it will cost once that is known."""
    seen = stage.preview
    if seen is None:
        return "" if stage.done else waiting("mix.reading", language)
    header = [say(language, key) for key in ("mix.suite", "mix.rows", "mix.tokens", "mix.trained", "mix.share")]
    rows = [
        (
            f"{part['suite']}{' · ' + say(language, 'mix.safety') if part['suite'] in (form.safety or ()) else ''}",
            f"{part['rows']:,}",
            f"{part['tokens']:,}",
            f"{part['trained_tokens']:,}",
            f"{seen['shares'][part['suite']]:.1%}",
        )
        for part in seen["mix"]
    ]
    told = say(
        language,
        "mix.safety.share",
        share=safety_share(form, seen["shares"]),
        trained=safety_share(form, seen["trained_shares"]),
    )
    title = say(language, "mix.title")
    warnings = "".join(f'<p class="fine">{esc(line_for(warning, language))}</p>' for warning in seen["warnings"])
    return (
        f'<section class="card quality"><h3>{esc(title)}</h3>{table(header, rows, title)}<p>{esc(told)}</p>'
        f"{_cost(stage, seen, language)}{warnings}</section>"
    )


def _cost(stage: Stage, seen: Mapping[str, Any], language: str) -> str:
    known = [
        (say(language, "mix.steps"), f"{seen['steps']:,}"),
        (say(language, "mix.all_tokens"), f"{seen['tokens']:,}"),
    ]
    cost = stage.cost
    if cost is None:
        busy = say(language, "mix.busy", reason=line_for(stage.busy, language)) if stage.busy else ""
        after = f"<p>{esc(busy)}</p>" if busy else "" if stage.done else waiting("mix.measuring", language)
        return facts(known) + after
    known += [
        (say(language, "mix.time"), duration(cost["seconds"], language)),
        (say(language, "mix.speed"), say(language, "mix.speed.value", rate=cost["tokens_per_s"])),
        (say(language, "mix.memory"), size(cost["peak_bytes"])),
    ]
    note = say(language, "mix.cost.note", device=cost["device"])
    return f'{facts(known)}<p class="fine">{esc(note)}</p>'


def seen_rows(stage: Stage, veiled: bool, language: str) -> str:
    """Five rows as the model gets them, what is learned marked, also for a screen reader."""
    if stage.preview is None:
        return ""
    learned = esc(say(language, "mix.seen.learned"))
    items = []
    for row in stage.preview["rows"]:
        title = say(language, "mix.seen.row", **{k: row[k] for k in ("suite", "prompt_id", "tokens")})
        spans = "".join(
            f'<mark class="learned" title="{learned}">{veil(text, veiled)}</mark>' if trained else veil(text, veiled)
            for text, trained in row["pieces"]
        )
        items.append(f'<article><p class="label">{esc(title)}</p><div class="reply seen">{spans}</div></article>')
    legend = f'<p class="legend"><mark class="learned">{esc(say(language, "mix.seen.legend"))}</mark></p>'
    return f'<section class="card quality worst"><h3>{esc(say(language, "mix.seen"))}</h3>{legend}{"".join(items)}</section>'


# ---- the list of runs ----


def state(job: Job, language: str) -> str:
    tone = TONES.get(job.status, "none")
    live = " live" if job.status in ("running", "stopping") else ""
    return f'<b class="state {tone}{live}">{esc(say(language, f"watch.state.{job.status}"))}</b>'


def listing(jobs: Sequence[Job], devices: Sequence[DeviceUse], chosen: str | None, language: str) -> str:
    """Who has which device, then runs at work, the queue in its order and the ended, each a button."""
    used = device_words.strip(devices, language)
    if not jobs:
        return f'{used}<p class="quiet">{esc(say(language, "watch.none"))}</p>'
    ended = [job for job in jobs if job.ended]
    shown = [job for job in jobs if not job.ended] + ended[:MOST_ENDED]
    more = len(ended) - MOST_ENDED
    rest = f'<p class="found">{esc(say(language, "watch.more", count=more))}</p>' if more > 0 else ""
    return f'{used}<ul class="rows">{"".join(_entry(job, job.run_id == chosen, language) for job in shown)}</ul>{rest}'


def _entry(job: Job, current: bool, language: str) -> str:
    below = [say(language, f"work.{job.kind}") if job.kind in ("training", "benchmark", "judging") else job.kind]
    if job.position is not None:
        below.append(place(job, language))
    elif job.started_at or job.queued_at:
        below.append(when(job.started_at or job.queued_at or ""))
    return (
        f'<li><button type="button" class="entry" data-pick="{esc(job.run_id)}"{" aria-current=true" if current else ""}>'
        f'<span class="run"><span class="text">{esc(job.name)}</span>{state(job, language)}</span>'
        f"<small>{esc(' · '.join(below))}</small></button></li>"
    )


def place(job: Job, language: str) -> str:
    """Where a waiting run stands, and who has the device."""
    holder = job.waits_for
    if holder is None:
        return say(language, "watch.place", device=job.device, position=job.position)
    return say(
        language, "watch.after", device=job.device, position=job.position, party=device_words.party(holder, language)
    )


# ---- one run ----


def summary(job: Job | None, curve: Curve, language: str) -> str:
    """How the run stands: its state, why it ended, how far it is."""
    if job is None:
        return f'<div class="card detail"><p class="quiet">{esc(say(language, "watch.pick"))}</p></div>'
    reason = ""
    if job.reason:
        reason = f'<p class="{"problem" if job.status in ("failed", "lost", "queued") else "fine"}">{esc(line_for(job.reason, language))}</p>'
    parts = [
        f'<p class="run"><span class="label">{esc(job.run_id)}</span>{state(job, language)}</p>',
        f"<h3>{esc(job.name)}</h3>",
        f"<p>{esc(place(job, language))}</p>" if job.position is not None else "",
        reason,
        progress(job, curve, language) if job.kind == "training" else "",
        *(f'<p class="fine">{esc(line_for(warning, language))}</p>' for warning in curve.warnings),
    ]
    if job.status == "finished" and curve.end.get("adapter") and not curve.end.get("model_id"):
        parts.append(f'<p class="fine">{esc(say(language, "watch.elsewhere"))}</p>')
    return f'<section class="card detail">{"".join(parts)}</section>'


def progress(job: Job, curve: Curve, language: str) -> str:
    if not curve.newest:
        if job.status != "running":
            return ""
        words = say(language, "watch.preparing", stage=line_for(curve.stage, language)) if curve.stage else ""
        return f'<p class="quiet waiting" role="status">{esc(words or say(language, "watch.preparing.first"))}</p>'
    newest = curve.newest
    bar = f'<progress value="{curve.step}" max="{curve.steps}" aria-label="{esc(say(language, "watch.step"))}"></progress>'
    known = [
        (say(language, "watch.step"), f"{curve.step:,} / {curve.steps:,}"),
        (say(language, "watch.loss"), f"{newest['loss']:.3f}"),
        (say(language, "mix.speed"), say(language, "mix.speed.value", rate=newest["tokens_per_s"])),
    ]
    if not job.ended:
        known.append((say(language, "watch.eta"), duration(newest["eta_s"], language)))
    return bar + facts(known)


def held_out(curve: Curve, language: str) -> str:
    """The held-out losses in figures: the chart for those who do not see it."""
    ends = curve.held_out_ends()
    if not ends:
        return ""
    title = say(language, "watch.held_out")
    header = [say(language, key) for key in ("mix.suite", "watch.before", "watch.now", "watch.change")]
    rows = [
        (suite, f"{before:.3f}", *(("–", "–") if now is None else (f"{now:.3f}", f"{now - before:+.3f}")))
        for suite, (before, now) in ends.items()
    ]
    return f'<section class="quality"><h3>{esc(title)}</h3>{table(header, rows, title)}</section>'


def samples(curve: Curve, language: str) -> str:
    """What it answers to the fixed questions: before it learned anything, now, and in between."""
    if not curve.samples:
        return ""
    steps = sorted(curve.samples)
    items = []
    for number, first in enumerate(curve.samples[steps[0]]):
        texts = {step: curve.samples[step][number]["text"] for step in steps if number < len(curve.samples[step])}
        before = _answer(say(language, "watch.samples.before"), first["text"], "left")
        now = _answer(say(language, "watch.samples.step", step=steps[-1]), texts.get(steps[-1], ""), "right")
        middle = "".join(
            f'<p class="label">{esc(say(language, "watch.samples.step", step=step))}</p><div class="reply">{esc(texts[step])}</div>'
            for step in steps[1:-1]
            if step in texts
        )
        count = max(0, len(steps) - 2)
        between = say(language, "watch.samples.between", count=count)
        folded = f'<details class="earlier"><summary>{esc(between)}</summary>{middle}</details>' if middle else ""
        sides = f'<div class="past-sides">{before}{now if len(steps) > 1 else ""}</div>'
        items.append(f"<article><h4>{esc(first['question'])}</h4>{sides}{folded}</article>")
    return f'<section class="card quality samples"><h3>{esc(say(language, "watch.samples"))}</h3>{"".join(items)}</section>'


def _answer(label: str, text: str, side: str) -> str:
    return f'<div class="past-side {side}"><p class="label">{esc(label)}</p><div class="reply">{esc(text)}</div></div>'


def log(text: str, language: str) -> str:
    if not text:
        return f'<p class="quiet">{esc(say(language, "watch.log.none"))}</p>'
    return f'<pre class="log" tabindex="0">{esc(text)}</pre>'


def sweep(found: Sequence[tuple[int, Job, Curve]], language: str) -> str:
    """The runs of a sweep side by side, by multiplier."""
    if not found:
        return ""
    suites = list(dict.fromkeys(suite for _, _, curve in found for suite in curve.held_out))
    header = [say(language, "watch.sweep.value"), say(language, "watch.sweep.state"), *suites]
    rows = [
        (
            f"{value}x",
            say(language, f"watch.state.{job.status}"),
            *(_newest(curve, suite) for suite in suites),
        )
        for value, job, curve in found
    ]
    title = say(language, "watch.sweep")
    note = f'<p class="fine">{esc(say(language, "watch.sweep.note"))}</p>'
    return f'<section class="card quality"><h3>{esc(title)}</h3>{table(header, rows, title)}{note}</section>'


def _newest(curve: Curve, suite: str) -> str:
    before, now = curve.held_out_ends().get(suite, (None, None))
    return "–" if before is None or now is None else f"{before:.3f} → {now:.3f}"
