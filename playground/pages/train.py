"""The Train page: what to train, what the model will see and what it costs, Start; train_watch.py shows how it goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from evaluation.errors import UserFacingError
from playground import trainings
from playground.pages import adapters, markup, train_markup, train_watch
from playground.pages.compare import ComparePage
from playground.pages.errors import shown_to_user
from playground.pages.labels import Labels
from playground.pages.services import Services
from playground.pages.text import say
from playground.pages.text_errors import line_for
from playground.pages.train_form import (
    FIELDS,
    FIRST,
    METHODS,
    OWN,
    PRECISIONS,
    Form,
    all_choices,
    as_form,
    base_choices,
    data_choices,
    form_of,
    multiplier_choices,
    own_sources,
    preset_choices,
    rows_now,
    settings_of,
    sweep_of,
)
from playground.pages.train_watch import Desk
from playground.probing import Check, Stage
from training.settings import SftSettings

CHECK_POLL_S = 0.5


# ---- handlers ------------------------------------------------------------------------------------------------------


def fill(services: Services, desk: Desk, language: str, name: str) -> list[Any]:
    """A preset was chosen: every field, then how many rows that is."""
    if name == desk.preset:
        # A dropdown that the focus only passes says that it was used: that must not undo what was typed since.
        return [gr.skip()] * len(FIELDS)
    with shown_to_user(language):
        form = form_of(name)
        taken = trainings.taken_names(services.settings, services.jobs.jobs())
    desk.preset, desk.own = name, []
    values = {field: getattr(form, field) for field in FIELDS} | {"name": trainings.free_name(form.name, taken)}
    updates = [gr.update(value=values[field]) for field in FIELDS[1:]]
    updates[FIELDS.index("own") - 1] = gr.update(value=form.own, visible=form.multiplier == OWN)
    return [*updates, count(services, language, *values.values())]


def hold_out(desk: Desk, *values: Any) -> Any:
    """Other data was chosen: the suites whose loss is measured, with what is one's own among the data.

    What was taken out of that list by hand stays out.
    """
    form = as_form(values)
    own = own_sources(form)
    if own == desk.own:
        return gr.skip()
    kept = [suite for suite in form.held_out or () if suite not in desk.own or suite in own]
    more = [suite for suite in own if suite not in desk.own and suite not in kept]
    desk.own = own
    return kept + more


def count(services: Services, language: str, *values: Any) -> str:
    """How many rows the choices mean: at once, without a tokenizer."""
    total, safety, missing = rows_now(as_form(values), services.suites())
    return train_markup.rows_now(total, safety, missing, language)


def choices_now(services: Services, language: str, name: object) -> list[Any]:
    """A name that is free, and what can be chosen now: what was imported since the page was built is among it.

    A name that is free already is left alone: who was faster than this answer is typing another.
    """
    suites = services.suites()
    taken = trainings.taken_names(services.settings, services.jobs.jobs())
    free = trainings.free_name(str(name), taken)
    offered = {kind: data_choices(suites, kind, language) for kind in ("safety", "general")}
    every = all_choices(suites)
    return [
        gr.skip() if free == name else gr.update(value=free),
        gr.update(choices=base_choices(services, language)),
        *(gr.update(choices=choices) for choices in (offered["safety"], offered["general"], every, every)),
    ]


def check(services: Services, desk: Desk, language: str, *values: Any) -> Iterator[list[Any]]:
    """Look at the training in a process of its own: first its rows, then what three steps cost."""
    form = as_form(values)
    end_check(desk)
    desk.stage, desk.command = Stage(), ""
    try:
        sft = settings_of(form)
        _check_base(services, sft, language)
        desk.command = trainings.command_of(sft)
        desk.check = Check(sft, services.settings.home)
    except (UserFacingError, OSError) as error:
        yield checked(services, desk, form, language, line_for(error, language))
        return
    mine = desk.check
    try:
        while True:
            stage = mine.stage()
            if stage != desk.stage or not stage.done:
                desk.stage = stage
                yield checked(services, desk, form, language, line_for(stage.problem or "", language))
            if stage.done:
                return
            time.sleep(CHECK_POLL_S)
            if desk.check is not mine:  # stopped, or asked for anew
                desk.stage = Stage(desk.stage.preview, done=True)
                yield checked(services, desk, form, language, "")
                return
    finally:
        mine.close()
        if desk.check is mine:
            desk.check = None


def checked(services: Services, desk: Desk, form: Form, language: str, problem: str) -> list[Any]:
    """The pieces below the buttons: problem, mix, rows, command, the text switch, Check and Stop."""
    going = not desk.stage.done and not problem
    held_back = holds_protected(services, desk.stage)
    return [
        train_markup.problem(problem),
        "" if problem else train_markup.mix(desk.stage, form, language),
        train_markup.seen_rows(desk.stage, held_back and not desk.show_text, language),
        train_markup.command(desk.command, language) if desk.stage.preview else "",
        gr.update(visible=held_back, value=desk.show_text),
        gr.update(visible=not going),
        gr.update(visible=going),
    ]


def holds_protected(services: Services, stage: Stage) -> bool:
    """Whether a row that is shown comes from a suite whose texts stay hidden until somebody asks."""
    protected = {suite.name for suite in services.suites() if suite.protected}
    return any(row["suite"] in protected for row in (stage.preview or {}).get("rows", ()))


def unveil(services: Services, desk: Desk, language: str, wanted: bool) -> str:
    """The "show text" switch, for this visit."""
    desk.show_text = bool(wanted)
    hidden = holds_protected(services, desk.stage) and not desk.show_text
    return train_markup.seen_rows(desk.stage, hidden, language)


def redraw(services: Services, desk: Desk, language: str, *values: Any) -> list[Any]:
    """What was computed about the form, in another language."""
    form = as_form(values)
    hidden = holds_protected(services, desk.stage) and not desk.show_text
    mix = train_markup.mix(desk.stage, form, language) if desk.stage.preview else ""
    command = train_markup.command(desk.command, language) if desk.stage.preview else ""
    return [count(services, language, *values), mix, train_markup.seen_rows(desk.stage, hidden, language), command]


def end_check(desk: Desk) -> None:
    """End the look at a training: the device is wanted, or nobody wants to know any more."""
    going, desk.check = desk.check, None
    if going is not None:
        going.close()


def start(services: Services, desk: Desk, language: str, *values: Any) -> list[Any]:
    """Put the form's training into the queue."""
    return _begin(services, desk, language, lambda form: [settings_of(form)], values)


def start_sweep(services: Services, desk: Desk, language: str, *values: Any) -> list[Any]:
    """Put one training for each multiplier into the queue."""
    return _begin(services, desk, language, sweep_of, values)


def _begin(services: Services, desk: Desk, language: str, plan: Any, values: Any) -> list[Any]:
    """The problem, if there is one, then all that `look` shows. A refusal stays on the page: it may name many rows."""
    with shown_to_user(language):
        try:
            plans: list[SftSettings] = plan(as_form(values))
            for sft in plans:
                _check_base(services, sft, language)
            runs = trainings.start(services.jobs, services.settings, plans)
        except UserFacingError as error:
            return [train_markup.problem(line_for(error, language)), *train_watch.look(services, desk, language)]
        end_check(desk)
    desk.run_id, desk.charted = runs[0], 0.0
    key = "train.started" if len(runs) == 1 else "train.started.sweep"
    words = say(language, key, count=len(runs)) if len(runs) > 1 else say(language, key)
    gr.Info(words, title=say(language, "alert.note"))
    return ["", *train_watch.look(services, desk, language)]


def _check_base(services: Services, sft: SftSettings, language: str) -> None:
    services.access.check_checkpoints([sft.base], [base for _, base in base_choices(services, language)], language)


# ---- layout --------------------------------------------------------------------------------------------------------

# (field, component, its options) of the advanced settings: small ones, then those that need room.
# No bounds: Gradio would refuse a number beyond them itself, in English alone; `settings_of` says what is wrong.
_SMALL: tuple[tuple[str, type[Any], dict[str, Any]], ...] = (
    ("general_multiplier", gr.Number, {"precision": 0}),
    ("epochs", gr.Number, {}),
    ("learning_rate", gr.Number, {"step": 1e-5}),
    ("method", gr.Dropdown, {"choices": list(METHODS), "filterable": False}),
    ("lora_rank", gr.Number, {"precision": 0}),
    ("lora_alpha", gr.Number, {"precision": 0}),
    ("lora_dropout", gr.Number, {"step": 0.01}),
    ("batch_size", gr.Number, {"precision": 0}),
    ("micro_batch_size", gr.Number, {"precision": 0}),
    ("max_length", gr.Number, {"precision": 0}),
    ("precision", gr.Dropdown, {"choices": list(PRECISIONS), "filterable": False}),
    ("seed", gr.Number, {"precision": 0}),
    ("checks", gr.Number, {"precision": 0}),
    ("held_out_rows", gr.Number, {"precision": 0}),
)
_WIDE: tuple[tuple[str, type[Any], dict[str, Any]], ...] = (
    ("leave_out_long", gr.Checkbox, {}),
    ("gradient_checkpointing", gr.Checkbox, {}),
    ("held_out", gr.Dropdown, {"multiselect": True}),
    ("allow_overlap", gr.Dropdown, {"multiselect": True}),
)


def _fields(services: Services, labels: Labels) -> dict[str, Any]:
    """Draw the form; the components by field."""
    form, suites = form_of(FIRST), services.suites()
    drawn: dict[str, Any] = {}

    def chooser(name: str, label: str, choices: Any, info: str = "", **options: Any) -> None:
        texts = {"label": label, **({"info": info} if info else {})}
        shown = {prop: say("ja", key) for prop, key in texts.items()}
        drawn[name] = gr.Dropdown(
            choices("ja"), value=getattr(form, name), elem_id=f"train-{name}", min_width=260, **shown, **options
        )
        labels.add_computed(
            drawn[name], lambda lang: {p: say(lang, k) for p, k in texts.items()} | {"choices": choices(lang)}
        )

    with gr.Row(elem_classes="fields"):
        chooser("preset", "train.preset", preset_choices, filterable=False)
        chooser("base", "train.base", partial(base_choices, services), "train.base.info", allow_custom_value=True)
    with gr.Row(elem_classes="fields"):
        for kind, label in (("safety", "train.safety"), ("general", "train.general")):
            chooser(
                kind, label, lambda lang, kind=kind: data_choices(services.suites(), kind, lang), "train.data.info",
                multiselect=True,
            )  # fmt: skip
    with gr.Row(elem_classes="fields"):
        drawn["multiplier"] = gr.Radio(
            multiplier_choices("ja"), value=form.multiplier, label=say("ja", "train.multiplier"),
            elem_id="train-multiplier", min_width=260,
        )  # fmt: skip
        labels.add_computed(
            drawn["multiplier"],
            lambda lang: {"label": say(lang, "train.multiplier"), "choices": multiplier_choices(lang)},
        )
        own = gr.Number(
            form.own, label=say("ja", "train.own"), precision=0, visible=form.multiplier == OWN, elem_id="train-own",
            min_width=120,
        )  # fmt: skip
        drawn["own"] = labels.add(own, label="train.own")
        name = gr.Textbox(
            form.name, label=say("ja", "train.name"), info=say("ja", "train.name.info"), max_lines=1, max_length=64,
            elem_id="train-name", min_width=200,
        )  # fmt: skip
        drawn["name"] = labels.add(name, label="train.name", info="train.name.info")
    accordion = gr.Accordion(say("ja", "train.advanced"), open=False, elem_id="train-advanced")
    with labels.add(accordion, label="train.advanced"):
        rest = gr.HTML(
            f'<p class="quiet">{say("ja", "train.preset.rest")}</p>', apply_default_css=False, js_on_load=None
        )
        labels.add_computed(
            rest, lambda lang: {"value": f'<p class="quiet">{markup.esc(say(lang, "train.preset.rest"))}</p>'}
        )
        for group, width in ((_SMALL, 170), (_WIDE, 280)):
            with gr.Row(elem_classes="fields"):
                for field, kind, options in group:
                    key = f"train.field.{field}"
                    if field in ("held_out", "allow_overlap"):
                        options = {**options, "choices": all_choices(suites)}
                    part = kind(
                        value=getattr(form, field),
                        label=say("ja", key),
                        elem_id=f"train-{field}",
                        min_width=width,
                        **options,
                    )
                    drawn[field] = labels.add(part, label=key)
    return drawn


def build(
    services: Services, labels: Labels, language: Any, tabs: gr.Tabs, tab: gr.Tab, page: ComparePage
) -> tuple[gr.State, train_watch.Watch]:
    """Draw the page inside the tab that the caller has opened. Returns the desk and what other tabs need."""
    desk = gr.State(Desk(), delete_callback=end_check)

    def title(lang: str) -> str:
        return markup.heading(say(lang, "train.title"), say(lang, "train.more"))

    labels.add_computed(
        gr.HTML(title("ja"), apply_default_css=False, js_on_load=None), lambda lang: {"value": title(lang)}
    )
    with gr.Column(elem_classes="composer"):
        drawn = _fields(services, labels)
        values = [drawn[field] for field in FIELDS]
        rows = gr.HTML("", elem_id="train-rows", apply_default_css=False, js_on_load=None)
        with gr.Row(elem_classes="tools"):
            looked = labels.add(
                gr.Button(say("ja", "train.check"), elem_id="train-check", size="md"), value="train.check"
            )
            stopped = labels.add(
                gr.Button(say("ja", "train.check.stop"), visible=False, elem_id="train-check-stop", size="md"),
                value="train.check.stop",
            )
            swept = labels.add(
                gr.Button(say("ja", "train.sweep"), elem_id="train-sweep-start", size="md"), value="train.sweep"
            )
            begun = labels.add(
                gr.Button(say("ja", "train.start"), variant="primary", elem_id="train-start", size="md"),
                value="train.start",
            )
    problem, mix, seen, command = (
        gr.HTML("", elem_id=f"train-{name}", apply_default_css=False, js_on_load=None)
        for name in ("problem", "mix", "seen", "preview-command")
    )
    shown = labels.add(
        gr.Checkbox(False, label=say("ja", "show.text"), elem_id="train-show", visible=False, container=False),
        label="show.text",
    )
    watch = train_watch.build(services, labels, language, desk, tabs, page)
    adapter_list = adapters.build(services, labels, language, desk, tabs, page)

    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    where = [desk, language]
    below = [problem, mix, seen, command, shown, looked, stopped]
    preset = drawn["preset"]
    preset.input(partial(fill, services), [*where, preset], [*values[1:], rows], **quiet)
    gr.on(
        [drawn[name].input for name in ("safety", "general")], hold_out, [desk, *values], [drawn["held_out"]],
        trigger_mode="always_last", **quiet,
    )  # fmt: skip
    drawn["multiplier"].change(
        lambda times: gr.update(visible=times == OWN), [drawn["multiplier"]], [drawn["own"]], **quiet
    )
    gr.on(
        [drawn[name].input for name in ("safety", "general", "multiplier", "own", "general_multiplier")],
        partial(count, services), [language, *values], [rows], trigger_mode="always_last", **quiet,
    )  # fmt: skip
    looked.click(
        partial(check, services), [*where, *values], below, concurrency_limit=2, concurrency_id="probe", **quiet
    )
    stopped.click(end_check, [desk], [], concurrency_limit=None, **quiet)
    shown.input(partial(unveil, services), [*where, shown], [seen], **quiet)
    for button, handler in ((begun, start), (swept, start_sweep)):
        button.click(partial(handler, services), [*where, *values], [problem, *watch.outputs], **quiet).then(
            None, js=train_watch.to_run_js("train")
        )
    language.change(partial(redraw, services), [*where, *values], [rows, mix, seen, command], **quiet)
    offered = [drawn[name] for name in ("name", "base", "safety", "general", "held_out", "allow_overlap")]
    tab.select(partial(train_watch.arrive, services), where, watch.outputs, **quiet)
    tab.select(partial(choices_now, services), [language, drawn["name"]], offered, **quiet)
    tab.select(partial(count, services), [language, *values], [rows], **quiet)
    tab.select(partial(adapters.show, services), where, adapter_list, **quiet)
    return desk, watch
