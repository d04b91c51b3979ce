"""The Judge quality page: how far a judge agrees with people, as the agreement command measured it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gradio as gr

from evaluation.agreement import Agreement, from_document, shipped_agreement
from evaluation.errors import ImportRejected
from evaluation.prompts.graded import GRADED_SET, held_out_graded
from evaluation.types import Prompt
from playground.pages import markup, quality_markup
from playground.pages.errors import shown_to_user
from playground.pages.labels import Labels
from playground.pages.quality_markup import Shown
from playground.pages.services import Services
from playground.pages.text import say
from playground.pages.text_errors import line_for
from playground.store import judgements, prompts, responses, runs

log = logging.getLogger(__name__)

SHIPPED = "shipped"  # value of the choice that needs no run
MOST = 50  # runs offered


@dataclass
class Bench:
    """What one visitor has asked to see, in one gr.State."""

    shown: set[str] = field(default_factory=set)  # results whose hidden text is shown


# ---- what there is -------------------------------------------------------------------------------------------------


def finished(services: Services, run_id: str) -> dict[str, Any] | None:
    """The Agreement of a judging run as the command wrote it, or None while it is not finished or is another kind."""
    event = services.store.read(runs.latest_event, run_id, "finished")
    document = event.data.get("agreement") if event is not None else None
    return document if isinstance(document, dict) else None


def offered(services: Services) -> list[tuple[str, Agreement]]:
    """(choice, Agreement): the shipped one, then runs, newest first. What cannot be read is left out, with a line in the log."""
    found: list[tuple[str, Agreement]] = []
    shipped = shipped_agreement()
    if shipped is not None:
        found.append((SHIPPED, shipped))
    # Only those that measured it: "judge again" makes judging runs too, and many of them would push these off the list.
    for run_id, document in services.store.read(runs.said_at_the_end, "judging", "agreement", limit=MOST):
        try:
            found.append((run_id, from_document(document)))
        except ImportRejected as error:  # it must not hide the others
            log.warning("judging run %s is left out: %s", run_id, error)
    return found


def choices(services: Services, language: str) -> list[tuple[str, str]]:
    return [
        (
            say(
                language,
                "quality.choice",
                judge=markup.judge_name(found.judge, language),
                labels=found.labels,
                n=found.n,
                day=quality_markup.day(found.created_at),
            ),
            choice,
        )
        for choice, found in offered(services)
    ]


def chosen(services: Services, choice: object) -> Agreement | None:
    """The Agreement of a choice, which a browser sent. Raises ImportRejected when it cannot be read."""
    if choice == SHIPPED:
        return shipped_agreement()
    document = finished(services, str(choice)) if choice else None
    return from_document(document) if document is not None else None


def identity_in_use(services: Services, judge: str) -> str | None:
    """Identity of the judge of that id here, or None while it cannot be told: not offered, or its model not loaded."""
    if judge not in services.judges or (judge == "embedded" and services.readiness.status().state != "ready"):
        return None
    return services.judges[judge]().identity


def texts_of(services: Services, choice: str, found: Agreement) -> dict[str, Shown]:
    """What the disagreements are about, by response key."""
    if found.labels == GRADED_SET:
        exchanges = [graded.exchange() for graded in held_out_graded(found.reading.scale)]
        return {e.response.key: _shown(e.prompt, e.response.text, "") for e in exchanges}
    if choice == SHIPPED:
        return {}
    keys = [row.response_key for row in found.worst]
    asked = {prompt.id: prompt for prompt in services.store.read(prompts.of_run, choice)}
    said = {j.response_key: j.explanation for j in services.store.read(judgements.of_run, choice)}
    replies = services.store.read(responses.by_keys, choice, keys)
    return {
        key: _shown(asked[reply.prompt_id], reply.text, said.get(key, ""))
        for key, reply in replies.items()
        if reply.prompt_id in asked
    }


def _shown(prompt: Prompt, text: str, explanation: str) -> Shown:
    return Shown(prompt.question, text, explanation, prompt.category.harm_type if prompt.category else None)


def is_veiled(choice: object, found: Agreement, bench: Bench) -> bool:
    """Whether texts are hidden: all that people brought, protected or not; the sample set is harmless enough."""
    return (found.protected or found.labels != GRADED_SET) and str(choice) not in bench.shown


# ---- handlers ------------------------------------------------------------------------------------------------------


def show(services: Services, bench: Bench, choice: object, language: str) -> list[Any]:
    """Everything on the page, in the order of `outputs` below."""
    with shown_to_user(language):
        try:
            found = chosen(services, choice)
        except ImportRejected as error:
            words = say(language, "quality.unreadable", problem=line_for(error, language))
            return [f'<p class="problem" role="alert">{markup.esc(words)}</p>', *[""] * 5, gr.update(visible=False)]
        if found is None:
            words = say(language, "quality.none")
            return [f'<p class="quiet">{markup.esc(words)}</p>', *[""] * 5, gr.update(visible=False)]
        veiled = is_veiled(choice, found, bench)
        can_veil = bool(found.worst) and (veiled or str(choice) in bench.shown)
        texts = texts_of(services, str(choice), found) if found.worst else {}
        current = identity_in_use(services, found.judge)
    return [
        quality_markup.headline(found, current, language),
        quality_markup.confusion(found, language),
        quality_markup.parts(found.by_harm_type, "quality.by_harm", language),
        quality_markup.parts(found.by_length, "quality.by_length", language),
        quality_markup.bias(found, language),
        quality_markup.worst(found, texts, veiled, language),
        gr.update(visible=can_veil, value=not veiled),
    ]


def visit(services: Services, bench: Bench, choice: object, language: str) -> list[Any]:
    """The tab was chosen: bring in what the command has measured since, and keep the choice where it still exists."""
    with shown_to_user(language):
        services.store.ingest_all()
        found = choices(services, language)
    values = [value for _, value in found]
    kept = choice if choice in values else next(iter(values), None)
    return [gr.update(choices=found, value=kept), *show(services, bench, kept, language)]


def unveil(services: Services, bench: Bench, choice: object, language: str, wanted: bool) -> list[Any]:
    """The "show text" switch, for this result and this visit."""
    if wanted:
        bench.shown.add(str(choice))
    else:
        bench.shown.discard(str(choice))
    return show(services, bench, choice, language)


# ---- layout --------------------------------------------------------------------------------------------------------


def build(services: Services, labels: Labels, language: Any, tab: gr.Tab) -> None:
    """Draw the page inside the tab that the caller has opened; it is read anew each time the tab is chosen."""
    bench = gr.State(Bench())
    first = SHIPPED if shipped_agreement() is not None else None

    def title(lang: str) -> str:
        return markup.heading(say(lang, "quality.title"), say(lang, "quality.more"))

    labels.add_computed(
        gr.HTML(title("ja"), apply_default_css=False, js_on_load=None), lambda lang: {"value": title(lang)}
    )
    with gr.Row(elem_classes="filters"):
        chooser = gr.Dropdown(
            choices(services, "ja"),
            value=first,
            label=say("ja", "quality.choose"),
            elem_id="quality-choice",
            filterable=False,
            min_width=240,
        )
        labels.add_computed(
            chooser, lambda lang: {"label": say(lang, "quality.choose"), "choices": choices(services, lang)}
        )
    pieces = [
        gr.HTML("", elem_id=f"quality-{name}", apply_default_css=False, js_on_load=None)
        for name in ("headline", "confusion", "harms", "lengths", "bias")
    ]
    shown = labels.add(
        gr.Checkbox(False, label=say("ja", "show.text"), elem_id="quality-show", visible=False, container=False),
        label="show.text",
    )
    pieces.append(gr.HTML("", elem_id="quality-worst", apply_default_css=False, js_on_load=None))

    outputs = [*pieces, shown]
    where = [bench, chooser, language]
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    tab.select(partial(visit, services), where, [chooser, *outputs], **quiet)
    chooser.input(partial(show, services), where, outputs, **quiet)
    shown.input(partial(unveil, services), [*where, shown], outputs, **quiet)
    language.change(partial(show, services), where, outputs, **quiet)
