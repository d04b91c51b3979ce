"""The watching half of the Train page: all runs, and the chosen one with its curves, answers and log.

What is shown comes from the run folders at every look, so it is there again after a reload and after a restart of the
app. A visitor's page looks every two seconds while the tab is open and something runs, and gets only what changed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gradio as gr

from evaluation.journal import read_run
from playground import catalog
from playground.adapter_imports import import_adapter
from playground.jobs import Job
from playground.pages import screen, train_charts, train_markup
from playground.pages.compare import PICK_JS, TO_COMPARE_JS, ComparePage, picked, to_detail_js
from playground.pages.errors import Refused, shown_to_user
from playground.pages.labels import Labels
from playground.pages.markup import esc
from playground.pages.memory import Memory, in_turn
from playground.pages.services import Services
from playground.pages.text import say
from playground.pages.train_form import FIRST
from playground.probing import Check, Stage
from playground.trainings import Curve, free_name, latest_sweep, log_tail

POLL_S = 2.0
CHART_S = 6.0  # between two drawings of a chart while it grows: Gradio builds it anew each time
WEIGHTS = "adapter/adapter_model.safetensors"


@dataclass
class Desk(Memory):
    """Where one visitor is on the Train page, in one gr.State."""

    curves: dict[str, Curve] = field(default_factory=dict)
    charted: float = 0.0  # monotonic seconds
    check: Check | None = None
    stage: Stage = field(default_factory=Stage)
    command: str = ""  # that does what was looked at
    preset: str = FIRST  # that filled the form
    own: list[str] = field(default_factory=list)  # chosen suites that are no preset's
    show_text: bool = False  # of protected rows
    adapter: str | None = None
    confirming: bool = False  # "Delete" was pressed once

    def curve(self, services: Services, run_id: str) -> Curve:
        """The run's curve, brought up to now."""
        curve = self.curves.setdefault(run_id, Curve(services.settings.runs / run_id))
        curve.read()
        return curve


# ---- handlers ------------------------------------------------------------------------------------------------------


def arrive(services: Services, desk: Desk, language: str) -> list[Any]:
    """The tab was opened: all of it is drawn."""
    desk.here = True
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
    desk.charted = 0.0
    return look(services, desk, language)


@in_turn
def look(services: Services, desk: Desk, language: str) -> list[Any]:
    """What has changed, in the order of `outputs` below."""
    if not desk.here:
        return [gr.skip()] * PIECES
    with shown_to_user(language):
        jobs = services.jobs.jobs()
        job = chosen(jobs, desk)
        curve = desk.curve(services, job.run_id) if job is not None else Curve(services.settings.runs)
        found = [(value, one, desk.curve(services, one.run_id)) for value, one in latest_sweep(jobs)]
        tail = log_tail(curve.run) if job is not None else ""
        can_keep = job is not None and keepable(services, job)
    training = job if job is not None and job.kind == "training" else None
    pieces = {
        "listing": train_markup.listing(jobs, services.jobs.devices(), desk.run_id, language),
        "summary": train_markup.summary(job, curve, language),
        "held_out": train_markup.held_out(curve, language),
        "samples": train_markup.samples(curve, language),
        "command": train_markup.command(curve.command, language),
        "log": train_markup.log(tail, language),
        "sweep": train_markup.sweep(found, language),
    }
    return [
        *(desk.fresh(name, value) for name, value in pieces.items()),
        *charts(desk, training, curve, language),
        *(
            desk.fresh(name, gr.update(**state), state)
            for name, state in buttons(job, curve, can_keep, language).items()
        ),
        desk.fresh("folder", gr.update(visible=job is not None), job is not None),
        desk.fresh("timer", gr.Timer(active=busy(jobs)), busy(jobs)),
    ]


def chosen(jobs: Sequence[Job], desk: Desk) -> Job | None:
    """The run that is shown: the visitor's, else the one at work, else the newest training."""
    known = {job.run_id: job for job in jobs}
    if desk.run_id not in known:
        trainings = [job for job in jobs if job.kind == "training"]
        desk.run_id = trainings[0].run_id if trainings else next(iter(known), None)
    return known.get(desk.run_id or "")


def busy(jobs: Sequence[Job]) -> bool:
    return any(not job.ended for job in jobs)


def charts(desk: Desk, job: Job | None, curve: Curve, language: str) -> list[Any]:
    """Both charts, not more often than the eye needs them while they grow."""
    if job is not None and not job.ended and time.monotonic() - desk.charted < CHART_S:
        return [gr.skip(), gr.skip()]
    figures = {
        "loss": train_charts.loss_chart(curve, language) if job else None,
        "rate": train_charts.rate_chart(curve, language) if job else None,
    }
    if all(figures.values()):  # the first ones are shown at once
        desk.charted = time.monotonic()
    return [
        desk.fresh(name, gr.update(value=figure, visible=figure is not None), figure.plot if figure is not None else "")
        for name, figure in figures.items()
    ]


def buttons(job: Job | None, curve: Curve, can_keep: bool, language: str) -> dict[str, dict[str, Any]]:
    """What can be done with the run now."""
    status = job.status if job is not None else ""
    halt = "watch.cancel" if status == "queued" else "watch.stop"
    made = bool(status == "finished" and curve.end.get("model_id"))
    return {
        "halt": {
            "visible": status in ("queued", "running", "stopping"),
            "interactive": status != "stopping",
            "value": say(language, halt),
        },
        "resume": {"visible": status in ("failed", "cancelled", "lost")},
        "compare": {"visible": made},
        "bench": {"visible": made},
        "keep": {"visible": can_keep},
    }


def keepable(services: Services, job: Job) -> bool:
    """Whether the run stopped with an adapter of the embedded base, which nobody has brought to the others yet."""
    run = services.settings.runs / job.run_id
    if job.kind != "training" or job.status not in ("cancelled", "failed", "lost") or not (run / WEIGHTS).is_file():
        return False
    return read_run(run).settings.get("base") == "embedded"


def pick(services: Services, desk: Desk, language: str, clicked: str) -> list[Any]:
    """A run was clicked in the list."""
    with shown_to_user(language):
        if services.jobs.job(clicked) is None:
            raise Refused(say(language, "error.run"))
    desk.run_id, desk.charted = clicked, 0.0
    return look(services, desk, language)


def halt(services: Services, desk: Desk, language: str) -> list[Any]:
    """Stop the run and keep its checkpoint, or take it out of the queue."""
    with shown_to_user(language):
        services.jobs.cancel(desk.current(language))
    return look(services, desk, language)


def resume(services: Services, desk: Desk, language: str) -> list[Any]:
    with shown_to_user(language):
        services.jobs.resume(desk.current(language))
    return look(services, desk, language)


def keep(services: Services, desk: Desk, language: str) -> list[Any]:
    """Bring the adapter of a run that was stopped to the others, under a free name."""
    with shown_to_user(language):
        run = services.settings.runs / desk.current(language)
        job = services.jobs.job(run.name)
        if job is None or not keepable(services, job):
            raise Refused(say(language, "error.run"))
        name = free_name(job.name, {"base", *catalog.adapters(services.settings)})
        import_adapter(services.settings, str(run / "adapter"), name, run_id=run.name)
    gr.Info(esc(say(language, "watch.kept", name=name)), title=say(language, "alert.note"))
    return look(services, desk, language)


def made_by_run(services: Services, desk: Desk, language: str) -> str:
    """The adapter that the chosen run has made."""
    return str(desk.curve(services, desk.current(language)).end.get("model_id") or "")


def compare_run(services: Services, desk: Desk, language: str) -> list[Any]:
    """Open Compare with the run's adapter on the right."""
    with shown_to_user(language):
        model = made_by_run(services, desk, language)
    return compare_with(services, model, language)


def compare_with(services: Services, model: str, language: str) -> list[Any]:
    """Both model lists as they are now, this one chosen on the right, and the tab. The engine loads it without restart."""
    with shown_to_user(language):
        if services.readiness.status().state == "loading":
            raise Refused(say(language, "error.not_loaded"))
        services.engine.identity(model)  # brings it in, or says why it cannot be
        choices = screen.model_choices(services, language)
    return [gr.update(choices=choices), gr.update(choices=choices, value=model), gr.Tabs(selected="compare")]


# ---- layout --------------------------------------------------------------------------------------------------------

NAMES = (
    "listing", "summary", "held_out", "samples", "command", "log", "sweep", "loss", "rate", "halt", "resume", "compare",
    "bench", "keep", "folder", "timer",
)  # fmt: skip
PIECES = len(NAMES)


@dataclass(frozen=True)
class Watch:
    """What the form and other tabs need of this half: the outputs of `look`, the timer and a button among them."""

    outputs: list[Any]
    timer: gr.Timer
    bench: gr.Button


def to_run_js(page: str) -> str:
    """After Start: the run comes into sight, or the refusal, which stands above it and would be scrolled away."""
    return f"""async () => {{
        await new Promise(done => setTimeout(done, 60));
        const refusal = document.querySelector("#{page}-problem [role=alert]");
        (refusal || document.getElementById("{page}-run")).scrollIntoView({{block: "nearest"}});
    }}"""


def _html(name: str, **more: Any) -> gr.HTML:
    return gr.HTML("", elem_id=f"train-{name}", apply_default_css=False, **{"js_on_load": None, **more})


def build(services: Services, labels: Labels, language: Any, desk: gr.State, tabs: gr.Tabs, page: ComparePage) -> Watch:
    """Draw this half inside the tab that the caller has opened."""
    parts: dict[str, Any] = {"timer": gr.Timer(POLL_S, active=False)}
    labels.add_computed(
        gr.HTML(train_markup.heading("watch.title", "", "ja"), apply_default_css=False, js_on_load=None),
        lambda lang: {"value": train_markup.heading("watch.title", "", lang)},
    )
    with gr.Row(elem_classes="shelf"):
        with gr.Column(elem_classes="shelf-list", min_width=280, scale=4):
            parts["listing"] = _html("list", js_on_load=PICK_JS)
        with gr.Column(min_width=300, scale=8, elem_id="train-run"):
            parts["summary"] = _html("summary")
            with gr.Row(elem_classes="tools"):
                parts["halt"] = gr.Button("", variant="stop", visible=False, elem_id="train-halt", size="md")
                for name, key, variant in (
                    ("resume", "watch.resume", "primary"),
                    ("compare", "watch.compare", "primary"),
                    ("bench", "bench.adapter", "secondary"),
                    ("keep", "watch.keep", "secondary"),
                ):
                    button = gr.Button(
                        say("ja", key), variant=variant, visible=False, elem_id=f"train-{name}", size="md"
                    )
                    parts[name] = labels.add(button, value=key)
            for name, key in (("loss", "watch.chart.loss"), ("rate", "watch.rate")):
                plot = gr.Plot(
                    label=say("ja", key), show_label=False, container=False, visible=False,
                    elem_id=f"train-{name}", elem_classes="chart",
                )  # fmt: skip
                parts[name] = labels.add(plot, label=key)
            for name in ("held_out", "samples", "command"):
                parts[name] = _html(name.replace("_", "-"))
            folder = gr.Accordion(say("ja", "watch.log"), open=False, visible=False, elem_id="train-log")
            with labels.add(folder, label="watch.log"):
                parts["log"] = _html("log-text")
            parts["folder"] = folder
    parts["sweep"] = _html("sweep")

    outputs = [parts[name] for name in NAMES]
    where = [desk, language]
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    parts["timer"].tick(partial(look, services), where, outputs, **quiet)
    language.change(partial(redraw, services), where, outputs, **quiet)
    for name, handler in (("halt", halt), ("resume", resume), ("keep", keep)):
        parts[name].click(partial(handler, services), where, outputs, **quiet)

    # Not a partial: Gradio reads the annotation of a plain function to know that it wants the event.
    def on_pick(desk: Desk, language: str, event: gr.EventData) -> list[Any]:
        return pick(services, desk, language, picked(event))

    parts["listing"].pick(on_pick, where, outputs, **quiet).then(None, js=to_detail_js("train-run"))
    parts["compare"].click(partial(compare_run, services), where, compare_targets(page, tabs), **quiet).then(
        None, js=TO_COMPARE_JS
    )
    return Watch(outputs, parts["timer"], parts["bench"])


def compare_targets(page: ComparePage, tabs: gr.Tabs) -> list[Any]:
    """The outputs of `compare_with`."""
    models: Mapping[Any, Any] = page.models
    return [models["left"], models["right"], tabs]
