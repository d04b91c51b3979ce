"""The Benchmark page: what to measure, Run, how it goes, and what came of it down to a single pair.

As on the Train page, what is shown comes from the run folders at every look, here through the index, so it is there
again after a reload and after a restart. results_view.py computes, results_charts.py and results_markup.py draw.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import gradio as gr

from evaluation.errors import UserFacingError
from playground import benchmarks
from playground.engine.router import Router
from playground.jobs import DeviceUse, Job
from playground.jobs.sources import settings_for
from playground.pages import (
    bench_form,
    device_words,
    markup,
    results_markup,
    results_sql,
    results_view,
    screen,
    train_markup,
)
from playground.pages.bench_form import Drawn
from playground.pages.compare import PICK_JS, picked
from playground.pages.errors import Refused, shown_to_user
from playground.pages.labels import Labels
from playground.pages.results_view import CHARTS, Desk, View
from playground.pages.services import Services
from playground.pages.text import say
from playground.pages.text_errors import line_for
from playground.pages.train_watch import Desk as TrainDesk
from playground.pages.train_watch import Watch, made_by_run

POLL_S = 2.0
CHART_S = 6.0  # between two drawings of the charts while they grow: Gradio builds them anew each time
KINDS = ("benchmark", "judging")
TO_RUN_JS = "() => document.getElementById('bench-run').scrollIntoView({block: 'nearest'})"
TO_PAIR_JS = "() => document.getElementById('bench-pair').scrollIntoView({block: 'nearest'})"


# ---- handlers ------------------------------------------------------------------------------------------------------


def arrive(services: Services, desk: Desk, language: str) -> list[Any]:
    """The tab was opened: bring in what happened elsewhere, and draw all of it."""
    desk.here = True
    with shown_to_user(language):
        services.store.ingest_all()
    return redraw(services, desk, language)


def leave(desk: Desk) -> Any:
    """Another tab was opened: nobody needs to be told how the runs go."""
    desk.here = False
    return desk.fresh("timer", gr.Timer(active=False), False)


def redraw(services: Services, desk: Desk, language: str) -> list[Any]:
    """Everything again, as in another language; nothing while the tab is closed."""
    desk.drawn.clear()
    desk.charted_as = None
    return refresh(services, desk, language)


def refresh(services: Services, desk: Desk, language: str) -> list[Any]:
    """Something was chosen: the charts too, at once."""
    desk.charted = 0.0
    return look(services, desk, language)


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
            found.sentence if found else None,
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
        "compared": results_markup.compared(found.paired, (found.left or "", found.right or ""), language),
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
        "above": {"visible": answered},
        "show_text": {"visible": found is not None and results_view.any_protected(found)},
    }


def start(services: Services, desk: Desk, language: str, *values: Any) -> list[Any]:
    """The one button: put the form's benchmark into the queue. A refusal stays on the page."""
    with shown_to_user(language):
        try:
            if services.readiness.status().state == "loading":
                raise Refused(say(language, "error.not_loaded"))
            desk.run_id = bench_form.start(services, values)
        except UserFacingError as error:
            return [train_markup.problem(line_for(error, language)), *look(services, desk, language)]
    desk.prompt_id = None
    gr.Info(say(language, "bench.started"), title=say(language, "alert.note"))
    return ["", *refresh(services, desk, language)]


def judge_again(services: Services, desk: Desk, language: str, judge: object) -> list[Any]:
    """Have the run's Responses read by another judge, in a run of its own."""
    with shown_to_user(language):
        if judge not in services.judges:
            raise Refused(say(language, "error.judge", judge=judge))
        asked = settings_for(desk.current(language), str(judge), services.settings.home)
        router = cast(Router, services.engine)
        desk.run_id = benchmarks.start_judging(services.jobs, services.settings, router, asked)
    gr.Info(say(language, "bench.rejudging"), title=say(language, "alert.note"))
    return refresh(services, desk, language)


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
    beside = bench_form.counterpart(model, models)
    return [
        gr.update(choices=screen.model_choices(services, language), value=[*([beside] if beside else []), model]),
        gr.Tabs(selected="bench"),
    ]


# ---- layout --------------------------------------------------------------------------------------------------------

TEXTS = ("listing", "summary", "board", "compared", "people", "trade_note", "matrix_note", "speeds", "changes", "pair")
BOXES = tuple(f"{name}_box" for name in CHARTS)  # a chart with its heading and what is said about it
STATES = ("halt", "resume", "again", "above", "show_text", "suite", "left", "right", "other", *BOXES)
NAMES = (*TEXTS, *CHARTS, *STATES, "timer")


@dataclass(frozen=True)
class Bench:
    """What the frame needs of this page."""

    desk: gr.State
    timer: gr.Timer
    form: Drawn


def _html(name: str, **more: Any) -> gr.HTML:
    return gr.HTML("", elem_id=f"bench-{name}", apply_default_css=False, **{"js_on_load": None, **more})


def _chart(name: str, parts: dict[str, Any], labels: Labels, *notes: str) -> gr.Column:
    """A chart under its heading, and pieces of HTML that go with it; not there while there is nothing to draw."""
    key = f"bench.chart.{name}"
    with gr.Column(visible=False) as box:
        title = gr.HTML(train_markup.heading(key, "", "ja"), apply_default_css=False, js_on_load=None)
        labels.add_computed(title, lambda lang: {"value": train_markup.heading(key, "", lang)})
        plot = gr.Plot(
            label=say("ja", key), show_label=False, container=False, visible=False, elem_id=f"bench-{name}",
            elem_classes="chart",
        )  # fmt: skip
        parts[name] = labels.add(plot, label=key)
        for note in notes:
            parts[note] = _html(note.replace("_", "-"))
    parts[f"{name}_box"] = box
    return box


def _lists(labels: Labels) -> dict[str, Any]:
    """The lists above the charts."""
    parts: dict[str, Any] = {}
    with gr.Row(elem_classes="filters"):
        for name in ("suite", "left", "right"):
            drawn = gr.Dropdown(
                [],
                label=say("ja", f"bench.list.{name}"),
                elem_id=f"bench-choose-{name}",
                filterable=False,
                min_width=200,
            )
            parts[name] = labels.add(drawn, label=f"bench.list.{name}")
    switch = gr.Checkbox(False, label=say("ja", "bench.show_published"), elem_id="bench-published", container=False)
    parts["published"] = labels.add(switch, label="bench.show_published")
    return parts


def build(services: Services, labels: Labels, language: Any, tab: gr.Tab) -> Bench:
    """Draw the page inside the tab that the caller has opened."""
    desk = gr.State(Desk())

    def title(lang: str) -> str:
        return markup.heading(say(lang, "bench.title"), say(lang, "bench.heading.more"))

    labels.add_computed(
        gr.HTML(title("ja"), apply_default_css=False, js_on_load=None), lambda lang: {"value": title(lang)}
    )
    with gr.Column(elem_classes="composer", elem_id="bench-form"):
        form = bench_form.build(services, labels, language)
    parts: dict[str, Any] = {"timer": gr.Timer(POLL_S, active=False)}
    labels.add_computed(
        gr.HTML(train_markup.heading("bench.runs", "", "ja"), apply_default_css=False, js_on_load=None),
        lambda lang: {"value": train_markup.heading("bench.runs", "", lang)},
    )
    with gr.Row(elem_classes="shelf"):
        with gr.Column(elem_classes="shelf-list", min_width=280, scale=4):
            parts["listing"] = _html("list", js_on_load=PICK_JS)
        with gr.Column(min_width=300, scale=8, elem_id="bench-run"):
            parts["summary"] = _html("summary")
            with gr.Row(elem_classes="tools"):
                parts["halt"] = gr.Button("", variant="stop", visible=False, elem_id="bench-halt", size="md")
                button = gr.Button(
                    say("ja", "watch.resume"), variant="primary", visible=False, elem_id="bench-resume", size="md"
                )
                parts["resume"] = labels.add(button, value="watch.resume")
            with gr.Row(visible=False, elem_classes="tools") as parts["again"]:
                judge = gr.Dropdown(
                    screen.judge_choices(services, "ja"), label=say("ja", "bench.again"), filterable=False,
                    elem_id="bench-again-judge", min_width=220,
                )  # fmt: skip
                labels.add_computed(
                    judge, lambda lang: {"label": say(lang, "bench.again"), "choices": screen.judge_choices(services, lang)}
                )  # fmt: skip
                again = labels.add(
                    gr.Button(say("ja", "bench.again.button"), elem_id="bench-again", size="md"),
                    value="bench.again.button",
                )
    with gr.Column(visible=False, elem_id="bench-results") as parts["above"]:
        parts |= _lists(labels)
        _chart("score", parts, labels)
        parts["board"] = _html("board")
        _chart("dumbbell", parts, labels)
        parts["compared"] = _html("compared")
        parts["people"] = _html("people")
        _chart("heat", parts, labels)
        _chart("distribution", parts, labels)
        _chart("trade", parts, labels, "trade_note")
        with _chart("matrix", parts, labels, "matrix_note"):
            other = gr.Dropdown([], label=say("ja", "bench.other"), elem_id="bench-choose-other", filterable=False)
            parts["other"] = labels.add(other, label="bench.other")
        _chart("pace", parts, labels)
        parts["speeds"] = _html("speeds")
        switch = gr.Checkbox(False, label=say("ja", "show.text"), elem_id="bench-show", visible=False, container=False)
        parts["show_text"] = labels.add(switch, label="show.text")
        with gr.Row(elem_classes="shelf"):
            with gr.Column(elem_classes="shelf-list", min_width=300, scale=4):
                parts["changes"] = _html("changes", js_on_load=PICK_JS)
            with gr.Column(elem_classes="shelf-detail", min_width=300, scale=7):
                parts["pair"] = _html("pair")
    if results_sql.allowed(services):
        results_sql.build(services, labels, language)
    _wire(services, parts, form, again, judge, desk, language, tab)
    return Bench(desk, parts["timer"], form)


def _wire(
    services: Services, parts: dict[str, Any], form: Drawn, again: Any, judge: Any, desk: Any, language: Any, tab: gr.Tab
) -> None:  # fmt: skip
    outputs, where = [parts[name] for name in NAMES], [desk, language]
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    offered = [form.parts[name] for name in ("models", "suites", "judge")]
    estimate = partial(bench_form.forecast, services)
    tab.select(partial(arrive, services), where, outputs, **quiet)
    tab.select(partial(bench_form.choices_now, services), [language], offered, **quiet)
    tab.select(estimate, [language, *form.values], [form.forecast], **quiet)
    language.change(partial(redraw, services), where, outputs, **quiet)
    language.change(estimate, [language, *form.values], [form.forecast], **quiet)
    gr.on(
        [part.change for part in form.values], estimate, [language, *form.values], [form.forecast],
        trigger_mode="always_last", **quiet,
    )  # fmt: skip
    form.start.click(partial(start, services), [*where, *form.values], [form.problem, *outputs], **quiet).then(
        None, js=TO_RUN_JS
    )
    parts["timer"].tick(partial(look, services), where, outputs, **quiet)
    parts["halt"].click(partial(halt, services), where, outputs, **quiet)
    parts["resume"].click(partial(resume, services), where, outputs, **quiet)
    again.click(partial(judge_again, services), [*where, judge], outputs, **quiet)
    for name in ("suite", "left", "right", "other", "published", "show_text"):
        parts[name].input(partial(choose, services, name), [*where, parts[name]], outputs, **quiet)

    # Not partials: Gradio reads the annotation of a plain function to know that it wants the event.
    def on_run(desk: Desk, language: str, event: gr.EventData) -> list[Any]:
        return pick_run(services, desk, language, picked(event))

    def on_pair(desk: Desk, language: str, event: gr.EventData) -> list[Any]:
        return pick_pair(services, desk, language, picked(event))

    parts["listing"].pick(on_run, where, outputs, **quiet)
    parts["changes"].pick(on_pair, where, outputs, **quiet).then(None, js=TO_PAIR_JS)


def connect(services: Services, bench: Bench, watch: Watch, train_desk: gr.State, language: Any, tabs: gr.Tabs) -> None:
    """ "Benchmark it" on the Train page fills the form here."""
    watch.bench.click(
        partial(bench_adapter, services), [train_desk, language], [bench.form.parts["models"], tabs],
        api_visibility="private", show_progress="hidden",
    )  # fmt: skip
