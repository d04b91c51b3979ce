"""The adapters part of the Train page: what there is and where it came from, and what can be done with each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from playground import adapters
from playground.adapter_imports import import_adapter
from playground.adapters import AdapterInfo
from playground.pages import train_markup, train_watch
from playground.pages.busy import press
from playground.pages.compare import PICK_JS, TO_COMPARE_JS, ComparePage, picked, to_detail_js
from playground.pages.errors import Refused, shown_to_user
from playground.pages.history import when
from playground.pages.labels import Labels
from playground.pages.markup import esc
from playground.pages.services import Services
from playground.pages.text import say
from playground.pages.train_watch import Desk

# ---- what the page shows -------------------------------------------------------------------------------------------


def listing(found: Sequence[AdapterInfo], chosen: str | None, language: str) -> str:
    """The adapters, each a button."""
    return f'<ul class="rows">{"".join(_entry(info, info.name == chosen, language) for info in found)}</ul>'


def _entry(info: AdapterInfo, current: bool, language: str) -> str:
    data = ", ".join(say(language, "adapters.rows", suite=suite, rows=rows) for suite, rows in info.data)
    facts = [
        train_markup.size(info.size_bytes),
        *([when(info.made_at)] if info.made_at else []),
        origin(info, language),
    ]
    warnings = "".join(f'<small class="caution">{esc(warning)}</small>' for warning in info.warnings)
    return (
        f'<li><button type="button" class="entry" data-pick="{esc(info.name)}"{" aria-current=true" if current else ""}>'
        f'<span class="text">{esc(info.name)}</span><small>{esc(data or say(language, "adapters.nodata"))}</small>'
        f"<small>{esc(' · '.join(facts))} · "
        f'<span title="{esc(info.sha256)}">{esc(say(language, "adapters.identity", sha=info.sha256[:12]))}</span></small>'
        f"{warnings}</button></li>"
    )


def origin(info: AdapterInfo, language: str) -> str:
    """Where it was made."""
    if info.shipped:
        return say(language, "adapters.shipped")
    if info.run_id:
        return say(language, "adapters.from.run", run=info.run_id)
    if info.source:
        return say(language, "adapters.from.source", source=info.source)
    return say(language, "adapters.from.unknown")


# ---- handlers ------------------------------------------------------------------------------------------------------


def show(services: Services, desk: Desk, language: str) -> list[Any]:
    """Everything in this part, in the order of `outputs` below."""
    with shown_to_user(language):
        found = adapters.list_adapters(services.settings)
    info = next((one for one in found if one.name == desk.adapter), None)
    own = info is not None and not info.shipped
    told = say(language, "adapters.chosen", name=info.name) if info else say(language, "adapters.pick")
    return [
        listing(found, desk.adapter, language),
        f'<p class="found" role="status">{esc(told)}</p>',
        gr.update(visible=info is not None),
        gr.update(visible=own),
        gr.update(visible=own and desk.confirming),
        gr.update(value=None, visible=False),
    ]


def pick(services: Services, desk: Desk, language: str, clicked: str) -> list[Any]:
    with shown_to_user(language):
        desk.adapter, desk.confirming = adapters.find(services.settings, clicked).name, False
    return show(services, desk, language)


def chosen(desk: Desk, language: str) -> str:
    if desk.adapter is None:
        raise Refused(say(language, "error.adapter"))
    return desk.adapter


def rename(services: Services, desk: Desk, language: str, new: str) -> list[Any]:
    with shown_to_user(language):
        desk.adapter = adapters.rename(services.settings, chosen(desk, language), str(new).strip()).name
    tell(say(language, "adapters.renamed", name=desk.adapter), language)
    return ["", *show(services, desk, language)]


def ask_to_delete(services: Services, wanted: bool, desk: Desk, language: str) -> list[Any]:
    desk.confirming = wanted
    return show(services, desk, language)


def delete(services: Services, desk: Desk, language: str) -> list[Any]:
    with shown_to_user(language):
        name = chosen(desk, language)
        if not desk.confirming:
            raise Refused(say(language, "error.adapter"))
        adapters.delete(services.settings, name)
    desk.adapter, desk.confirming = None, False
    tell(say(language, "adapters.deleted", name=name), language)
    return show(services, desk, language)


def export(services: Services, desk: Desk, language: str) -> Iterator[Any]:
    """A zip to download. Gradio copies it into its cache, which it clears by itself, before it asks for more; then ours goes."""
    with shown_to_user(language):
        name = chosen(desk, language)
    # A folder of its own, so that the file has the adapter's name.
    with tempfile.TemporaryDirectory(prefix="playground-export-", ignore_cleanup_errors=True) as folder:
        with shown_to_user(language):
            to = adapters.export(services.settings, name, Path(folder) / f"{name}.zip")
        yield gr.update(value=str(to), visible=True)


def bring_in(services: Services, desk: Desk, language: str, source: str, name: str) -> list[Any]:
    with shown_to_user(language):
        found = import_adapter(services.settings, str(source), str(name))
    desk.adapter, desk.confirming = found.name, False
    tell(say(language, "adapters.imported", name=found.name), language)
    return ["", "", *show(services, desk, language)]


def push(services: Services, desk: Desk, language: str, repository: str, public: bool) -> None:
    with shown_to_user(language):
        name = chosen(desk, language)
        address = adapters.push(services.settings, name, str(repository).strip(), private=not public)
    tell(say(language, "adapters.pushed", address=address), language)


def compare_adapter(services: Services, desk: Desk, language: str) -> list[Any]:
    with shown_to_user(language):
        name = chosen(desk, language)
    return train_watch.compare_with(services, name, language)


def tell(words: str, language: str) -> None:
    """A note in the corner. Names and addresses are made of letters that mean nothing in HTML, but are escaped all the same."""
    gr.Info(esc(words), title=say(language, "alert.note"))


# ---- layout --------------------------------------------------------------------------------------------------------


def build(
    services: Services, labels: Labels, language: Any, desk: gr.State, tabs: gr.Tabs, page: ComparePage
) -> list[Any]:
    """Draw this part inside the tab that the caller has opened; `show` draws it anew. Returns the outputs of `show`."""

    def box(key: str, name: str, info: str = "", **options: Any) -> gr.Textbox:
        texts = {"label": key, **({"info": info} if info else {})}
        shown = {prop: say("ja", words) for prop, words in texts.items()}
        drawn = gr.Textbox("", max_lines=1, elem_id=f"adapter-{name}", min_width=200, **shown, **options)
        labels.add(drawn, **texts)
        return drawn

    def button(key: str, name: str, variant: str = "secondary") -> gr.Button:
        drawn = gr.Button(say("ja", key), variant=variant, elem_id=f"adapter-{name}", size="md", min_width=130)  # type: ignore[arg-type]
        labels.add(drawn, value=key)
        return drawn

    title = gr.HTML(
        train_markup.heading("adapters.title", "adapters.more", "ja"), apply_default_css=False, js_on_load=None
    )
    labels.add_computed(title, lambda lang: {"value": train_markup.heading("adapters.title", "adapters.more", lang)})
    with gr.Row(elem_classes="shelf"):
        with gr.Column(min_width=300, scale=7):
            rows = gr.HTML("", elem_id="adapter-list", apply_default_css=False, js_on_load=PICK_JS)
        with gr.Column(min_width=280, scale=5, elem_classes=["card", "adapter-desk"]):
            note = gr.HTML("", elem_id="adapter-note", apply_default_css=False, js_on_load=None)
            with gr.Column(visible=False) as any_chosen:
                with gr.Row(elem_classes="tools"):
                    compared = button("adapters.compare", "compare", "primary")
                    exported = button("adapters.export", "export")
                file = labels.add(
                    gr.File(label=say("ja", "adapters.file"), visible=False, interactive=False, elem_id="adapter-file"),
                    label="adapters.file",
                )
                accordion = gr.Accordion(say("ja", "adapters.push"), open=False, elem_id="adapter-push-part")
                with labels.add(accordion, label="adapters.push"):
                    repository = box("adapters.repository", "repository")
                    public = labels.add(
                        gr.Checkbox(False, label=say("ja", "adapters.public"), container=False), label="adapters.public"
                    )
                    pushed = button("adapters.push", "push")
            with gr.Column(visible=False) as own_chosen:
                new = box("adapters.new_name", "new-name", max_length=adapters.LONGEST_NAME)
                with gr.Row(elem_classes="tools"):
                    renamed = button("adapters.rename", "rename")
                    removed = button("adapters.delete", "delete")
            with gr.Row(visible=False, elem_classes=["tools", "confirm"]) as confirm:
                question = gr.HTML(f"<p>{say('ja', 'adapters.confirm')}</p>", apply_default_css=False, js_on_load=None)
                labels.add_computed(question, lambda lang: {"value": f"<p>{esc(say(lang, 'adapters.confirm'))}</p>"})
                yes = button("history.confirm.yes", "yes", "stop")
                no = button("history.confirm.no", "no")
            accordion = gr.Accordion(say("ja", "adapters.import"), open=False, elem_id="adapter-import-part")
            with labels.add(accordion, label="adapters.import"):
                source = box("adapters.source", "source", "adapters.source.info")
                name = box("adapters.as", "as", max_length=adapters.LONGEST_NAME)
                brought = button("adapters.import", "import")

    outputs = [rows, note, any_chosen, own_chosen, confirm, file]
    where = [desk, language]
    quiet = {"api_visibility": "private", "show_progress": "hidden"}

    # Not a partial: Gradio reads the annotation of a plain function to know that it wants the event.
    def on_pick(desk: Desk, language: str, event: gr.EventData) -> list[Any]:
        return pick(services, desk, language, picked(event))

    rows.pick(on_pick, where, outputs, **quiet).then(None, js=to_detail_js("adapter-note"))
    renamed.click(partial(rename, services), [*where, new], [new, *outputs], **quiet)
    removed.click(partial(ask_to_delete, services, True), where, outputs, **quiet)
    no.click(partial(ask_to_delete, services, False), where, outputs, **quiet)
    yes.click(partial(delete, services), where, outputs, **quiet)
    press(exported, partial(export, services), where, [file], **quiet)
    press(brought, partial(bring_in, services), [*where, source, name], [source, name, *outputs], **quiet)
    press(pushed, partial(push, services), [*where, repository, public], [], **quiet)
    compared.click(partial(compare_adapter, services), where, train_watch.compare_targets(page, tabs), **quiet).then(
        None, js=TO_COMPARE_JS
    )
    language.change(partial(show, services), where, outputs, **quiet)
    return outputs
