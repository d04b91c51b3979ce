"""The Benchmark page: what to measure, Run, how it goes, and what came of it down to a single pair.

As on the Train page, what is shown comes from the run folders at every look, here through the index, so it is there
again after a reload and after a restart. results_view.py computes, results_charts.py and results_markup.py draw,
results_page.py lays out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

import gradio as gr

from evaluation.errors import UserFacingError
from playground import benchmarks
from playground.engine.router import Router
from playground.jobs import DeviceUse, Job
from playground.jobs.benchmark_work import open_for_judging
from playground.jobs.sources import settings_for
from playground.pages import (
    bench_form,
    device_words,
    markup,
    results_markup,
    results_view,
    screen,
    train_markup,
)
from playground.pages.errors import Refused, shown_to_user
from playground.pages.memory import in_turn
from playground.pages.results_view import CHARTS, Desk, View
from playground.pages.services import Services
from playground.pages.text import say
from playground.pages.text_errors import line_for
from playground.pages.train_watch import Desk as TrainDesk
from playground.pages.train_watch import made_by_run

CHART_S = 6.0  # between two drawings of the charts while they grow: Gradio builds them anew each time
KINDS = ("benchmark", "judging")


# ---- handlers ------------------------------------------------------------------------------------------------------


def arrive(services: Services, desk: Desk, language: str) -> list[Any]:
    """The tab was opened: bring in what happened elsewhere, and draw all of it."""
    desk.here = True
    with shown_to_user(language):
        services.store.ingest_all()
    return redraw(services, desk, language)


@in_turn
def leave(desk: Desk) -> Any:
    """Another tab was opened: nobody needs to be told how the runs go."""
    desk.here = False
    return desk.fresh("timer", gr.Timer(active=False), False)


@in_turn
def redraw(services: Services, desk: Desk, language: str) -> list[Any]:
    """Everything again, as in another language; nothing while the tab is closed."""
    desk.drawn.clear()
    desk.charted_as = None
    return refresh(services, desk, language)


def refresh(services: Services, desk: Desk, language: str) -> list[Any]:
    """Something was chosen: the charts too, at once."""
    desk.charted = 0.0
    return look(services, desk, language)


@in_turn
def look(services: Services, desk: Desk, language: str) -> list[Any]:
    """What has changed, in the order of NAMES."""
    if not desk.here:
        return [gr.skip()] * len(NAMES)
    with shown_to_user(language):
        jobs = [job for job in services.jobs.jobs() if job.kind in KINDS]
        job = chosen(jobs, desk)
        if job is not None:
            services.store.ingest_run(services.settings.runs / job.run_id)
        drawing = job is None or job.ended or time.monotonic() - desk.charted >= CHART_S
        found = results_view.view(services, desk, job, drawing=drawing) if job is not None else None
        if drawing:
            desk.people = found.people if found is not None else ()
        drawn = charts(desk, found, language) if drawing else [gr.skip()] * len(CHARTS)
    pieces = {
        "listing": listing(jobs, services.jobs.devices(), desk, language),
        "summary": results_markup.summary(
            job,
            found.told if found else (),
            found.board if found else None,
            next(iter(found.sentences), None) if found else None,
            language,
        ),
        **texts(found, desk, language),
    }
    busy = any(not one.ended for one in jobs)
    states = {**buttons(job, found, language), **results_view.controls(found, desk, language)}
    states |= {f"{name}_box": {"visible": name in desk.charts} for name in CHARTS}
    return [
        *(desk.fresh(name, value) for name, value in pieces.items()),
        *drawn,
        *(desk.fresh(name, gr.update(**states[name]), states[name]) for name in STATES),
        desk.fresh("timer", gr.Timer(active=busy), busy),
    ]  # fmt: skip


def chosen(jobs: Sequence[Job], desk: Desk) -> Job | None:
    """The run that is shown: the visitor's, else the one at work, else the newest."""
    known = {job.run_id: job for job in jobs}
    if desk.run_id not in known:
        desk.run_id = next(iter(known), None)
    return known.get(desk.run_id or "")


def listing(jobs: Sequence[Job], devices: Sequence[DeviceUse], desk: Desk, language: str) -> str:
    if not jobs:
        nothing = f'<p class="quiet">{markup.esc(say(language, "bench.none"))}</p>'
        return f"{device_words.strip(devices, language)}{nothing}"
    return train_markup.listing(jobs, devices, desk.run_id, language)


def texts(found: View | None, desk: Desk, language: str) -> dict[str, str]:
    """The pieces of HTML below the run's summary."""
    if found is None or not found.board.replies:
        return dict.fromkeys(
            ("board", "compared", "people", "trade_note", "matrix_note", "speeds", "changes", "pair"), ""
        )
    trade = f'<p class="fine">{markup.esc(say(language, "bench.trade.note"))}</p>' if "trade" in desk.charts else ""
    return {
        "board": results_markup.scoreboard(found.board, desk.suite, desk.published, language),
        "compared": results_markup.compared(
            found.paired, found.sentences, (found.left or "", found.right or ""), language
        ),
        "people": results_markup.people(desk.people, language),
        "trade_note": trade,
        "matrix_note": results_view.matrix_note(found, language),
        "speeds": results_markup.speeds(found.board, language),
        "changes": results_view.listing(found, desk, language),
        "pair": results_view.pair(found, desk, language),
    }


def charts(desk: Desk, found: View | None, language: str) -> list[Any]:
    """Every chart. What they are drawn from is shared while it stays the same, so a second drawing is easily avoided."""
    drawn_from = (found, desk.suite, desk.published, language)
    if drawn_from == desk.charted_as:
        return [gr.skip()] * len(CHARTS)
    desk.charted_as = drawn_from
    drawn = results_view.charts(found, desk, language) if found is not None else dict.fromkeys(CHARTS)
    desk.charts = {name for name in CHARTS if drawn[name] is not None}
    if desk.charts:
        desk.charted = time.monotonic()
    return [
        desk.fresh(
            f"chart-{name}",
            gr.update(value=drawn[name], visible=drawn[name] is not None),
            getattr(drawn[name], "plot", ""),
        )
        for name in CHARTS
    ]


def buttons(job: Job | None, found: View | None, language: str) -> dict[str, dict[str, Any]]:
    """What can be done with the run now, and what of the page is there at all."""
    status = job.status if job is not None else ""
    answered = found is not None and bool(found.board.replies)
    return {
        "halt": {
            "visible": status in ("queued", "running", "stopping"),
            "interactive": status != "stopping",
            "value": say(language, "watch.cancel" if status == "queued" else "watch.stop"),
        },
        "resume": {"visible": status in ("failed", "cancelled", "lost")},
        "again": {"visible": answered and job is not None and job.ended},
        "keep": {"visible": answered},
        "above": {"visible": answered},
        "show_text": {"visible": found is not None and results_view.any_hidden(found)},
    }


def start(services: Services, desk: Desk, language: str, *values: Any) -> list[Any]:
    """The one button: put the form's benchmark into the queue. A refusal stays on the page."""
    with shown_to_user(language):
        try:
            if services.readiness.status().state == "loading":
                raise Refused(say(language, "error.not_loaded"))
            desk.run_id = bench_form.start(services, values, language)
        except UserFacingError as error:
            return [train_markup.problem(line_for(error, language)), *look(services, desk, language)]
    desk.prompt_id = None
    gr.Info(say(language, "bench.started"), title=say(language, "alert.note"))
    return ["", *refresh(services, desk, language)]


def judge_again(
    services: Services, desk: Desk, language: str, judge: object, cap_usd: float | None = None
) -> list[Any]:
    """Have the run's Responses read by another judge, in a run of its own. `cap_usd` 0 or None: no cap."""
    with shown_to_user(language):
        if judge not in services.judges:
            raise Refused(say(language, "error.judge", judge=judge))
        asked = settings_for(
            desk.current(language),
            str(judge),
            services.settings.home,
            spend_cap_usd=float(cap_usd) if cap_usd else None,
        )
        router = cast(Router, services.engine)
        desk.run_id = benchmarks.start_judging(services.jobs, services.settings, router, asked)
    gr.Info(say(language, "bench.rejudging"), title=say(language, "alert.note"))
    return refresh(services, desk, language)


def forecast_again(services: Services, desk: Desk, language: str, judge: object) -> str:
    """What that would take, in a line; nothing before the models are ready and where nothing can be judged again."""
    job = services.jobs.job(desk.run_id) if desk.run_id else None
    if services.readiness.status().state != "ready" or job is None or not job.ended or judge not in services.judges:
        return ""
    try:
        asked = settings_for(desk.current(language), str(judge), services.settings.home)
        tools = open_for_judging(asked, services.settings, router=cast(Router, services.engine))
        # All responses of the run are read, about a second for 50,000; any run may hold a verdict that is reused.
        found = services.store.once(
            ("judging again", desk.run_id, judge),
            None,
            lambda: benchmarks.expected_judging(services.settings, tools, asked),
        )
    except UserFacingError as error:
        return f'<p class="fine">{markup.esc(line_for(error, language))}</p>'
    return f'<p class="fine" role="status">{markup.esc(" ".join(bench_form.work_ahead(found, language)))}</p>'


def pick_run(services: Services, desk: Desk, language: str, clicked: str) -> list[Any]:
    """A run was clicked in the list."""
    with shown_to_user(language):
        if services.jobs.job(clicked) is None:
            raise Refused(say(language, "error.run"))
    desk.run_id, desk.prompt_id, desk.other = clicked, None, None
    return refresh(services, desk, language)


def pick_pair(services: Services, desk: Desk, language: str, clicked: str) -> list[Any]:
    """A prompt was clicked among those that changed."""
    desk.prompt_id = clicked
    return look(services, desk, language)


def halt(services: Services, desk: Desk, language: str) -> list[Any]:
    """Stop the run and keep what it has, or take it out of the queue."""
    with shown_to_user(language):
        services.jobs.cancel(desk.current(language))
    return look(services, desk, language)


def resume(services: Services, desk: Desk, language: str) -> list[Any]:
    with shown_to_user(language):
        services.jobs.resume(desk.current(language))
    return look(services, desk, language)


def choose(services: Services, name: str, desk: Desk, language: str, value: Any) -> list[Any]:
    """One of the lists above the charts, or a switch."""
    before = desk.left, desk.right
    setattr(desk, name, value)
    if desk.left == desk.right:  # the same on both sides: the sides change places
        desk.right, desk.left = before
    return refresh(services, desk, language)


def bench_adapter(services: Services, train_desk: TrainDesk, language: str) -> list[Any]:
    """From the Train page: the adapter that a run made and its untuned counterpart into the form, and the tab."""
    with shown_to_user(language):
        model = made_by_run(services, train_desk, language)
        models = services.engine.model_ids()
        if model not in models:
            raise Refused(say(language, "error.model", model=model))
    return [
        gr.update(choices=screen.model_choices(services, language), value=bench_form.measured_together(model, models)),
        gr.Tabs(selected="bench"),
    ]


# What `look` hands over, in this order.
TEXTS = ("listing", "summary", "board", "compared", "people", "trade_note", "matrix_note", "speeds", "changes", "pair")
BOXES = tuple(f"{name}_box" for name in CHARTS)  # a chart with its heading and what is said about it
STATES = ("halt", "resume", "again", "keep", "above", "show_text", "suite", "left", "right", "other", *BOXES)
NAMES = (*TEXTS, *CHARTS, *STATES, "timer")
