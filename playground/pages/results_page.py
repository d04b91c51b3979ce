"""The Benchmark page's layout and what each of its events calls; results.py has the handlers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from playground.pages import (
    bench_form,
    markup,
    results_files,
    results_sql,
    screen,
    train_markup,
)
from playground.pages.bench_form import Drawn
from playground.pages.compare import PICK_JS, picked, to_detail_js
from playground.pages.labels import Labels
from playground.pages.results import (
    NAMES,
    arrive,
    bench_adapter,
    choose,
    forecast_again,
    halt,
    judge_again,
    look,
    pick_pair,
    pick_run,
    redraw,
    resume,
    start,
)
from playground.pages.results_view import Desk
from playground.pages.services import Services
from playground.pages.text import say
from playground.pages.train_watch import Watch, to_run_js

POLL_S = 2.0
TO_PAIR_JS = "() => document.getElementById('bench-pair').scrollIntoView({block: 'nearest'})"


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
            with gr.Row(visible=False, elem_classes="tools fields", elem_id="bench-again-part") as parts["again"]:
                judge = gr.Dropdown(
                    screen.judge_choices(services, "ja"), label=say("ja", "bench.again"), filterable=False,
                    elem_id="bench-again-judge", min_width=220,
                )  # fmt: skip
                labels.add_computed(
                    judge, lambda lang: {"label": say(lang, "bench.again"), "choices": screen.judge_choices(services, lang)}
                )  # fmt: skip
                cap = gr.Number(
                    None,
                    label=say("ja", "bench.field.spend_cap_usd"),
                    elem_id="bench-again-cap",
                    min_width=180,
                )
                labels.add(cap, label="bench.field.spend_cap_usd")
                again = labels.add(
                    gr.Button(say("ja", "bench.again.button"), elem_id="bench-again", size="md"),
                    value="bench.again.button",
                )
                ahead = _html("again-forecast")
            parts["keep"] = results_files.build(services, labels, desk, language)
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
    _wire(services, parts, form, again, [judge, cap], ahead, desk, language, tab)
    return Bench(desk, parts["timer"], form)


def _wire(
    services: Services, parts: dict[str, Any], form: Drawn, again: Any, anew: list[Any], ahead: gr.HTML, desk: Any, language: Any,
    tab: gr.Tab,
) -> None:  # fmt: skip
    outputs, where = [parts[name] for name in NAMES], [desk, language]
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    offered = [*(form.parts[name] for name in ("models", "suites", "judge")), anew[0]]
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
        None, js=to_run_js("bench")
    )
    parts["timer"].tick(partial(look, services), where, outputs, **quiet)
    parts["halt"].click(partial(halt, services), where, outputs, **quiet)
    parts["resume"].click(partial(resume, services), where, outputs, **quiet)
    again.click(partial(judge_again, services), [*where, *anew], outputs, **quiet)
    look_ahead: list[Any] = [partial(forecast_again, services), [*where, anew[0]], [ahead]]
    gr.on([anew[0].change, tab.select, language.change], *look_ahead, **quiet)
    for name in ("suite", "left", "right", "other", "published", "show_text"):
        parts[name].input(partial(choose, services, name), [*where, parts[name]], outputs, **quiet)

    # Not partials: Gradio reads the annotation of a plain function to know that it wants the event.
    def on_run(desk: Desk, language: str, event: gr.EventData) -> list[Any]:
        return pick_run(services, desk, language, picked(event))

    def on_pair(desk: Desk, language: str, event: gr.EventData) -> list[Any]:
        return pick_pair(services, desk, language, picked(event))

    shown = parts["listing"].pick(on_run, where, outputs, **quiet)
    shown.then(*look_ahead, **quiet)
    shown.then(None, js=to_detail_js("bench-run"))
    parts["changes"].pick(on_pair, where, outputs, **quiet).then(None, js=TO_PAIR_JS)


def connect(services: Services, bench: Bench, watch: Watch, train_desk: gr.State, language: Any, tabs: gr.Tabs) -> None:
    """ "Benchmark it" on the Train page fills the form here."""
    watch.bench.click(
        partial(bench_adapter, services), [train_desk, language], [bench.form.parts["models"], tabs],
        api_visibility="private", show_progress="hidden",
    )  # fmt: skip
