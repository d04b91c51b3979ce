"""The page of the vLLM server: how it stands, start and stop, and the end of its log.

What it shows is the server's, not the visitor's: two who have the page open see the same, and either can stop it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from playground.pages import markup, serving_markup, train_markup
from playground.pages.errors import shown_to_user
from playground.pages.labels import Labels
from playground.pages.memory import Memory, in_turn
from playground.pages.services import Services
from playground.pages.text import say
from playground.serving import ServerFailed
from playground.serving.environment import find_environment

POLL_S = 2.0


@dataclass(frozen=True)
class ServingPage:
    """What the frame needs of this page: what one visitor's browser holds, and the timer that looks again."""

    desk: gr.State
    timer: gr.Timer


# ---- handlers ------------------------------------------------------------------------------------------------------


@in_turn
def arrive(services: Services, desk: Memory, language: str) -> list[Any]:
    """The tab was opened. Servers that somebody else runs are asked from now on."""
    desk.here = True
    if services.vllm.state().external:
        services.vllm.start()
    return redraw(services, desk, language)


@in_turn
def leave(desk: Memory) -> Any:
    """Another tab was opened."""
    desk.here = False
    return desk.fresh("timer", gr.Timer(active=False), False)


@in_turn
def redraw(services: Services, desk: Memory, language: str) -> list[Any]:
    """Everything again, as in another language; nothing while the tab is closed."""
    desk.drawn.clear()
    return look(services, desk, language)


@in_turn
def look(services: Services, desk: Memory, language: str) -> list[Any]:
    """What has changed, in the order of `NAMES`."""
    if not desk.here:
        return [gr.skip()] * len(NAMES)
    with shown_to_user(language):
        state = services.vllm.state()
        tail = services.vllm.log_tail()
    more = "serving.more.external" if state.external else "serving.more"
    can_start = not state.external and state.phase in ("off", "failed")
    can_stop = not state.external and state.phase in ("starting", "ready")
    return [
        desk.fresh("heading", markup.heading(say(language, "serving.title"), say(language, more))),
        desk.fresh("state", serving_markup.state(state, _hint(state.external), language)),
        desk.fresh("start", gr.update(visible=can_start), can_start),
        desk.fresh("stop", gr.update(visible=can_stop), can_stop),
        desk.fresh("log", train_markup.log(tail, language)),
        desk.fresh("folder", gr.update(visible=not state.external), not state.external),
        desk.fresh("timer", gr.Timer(active=True), True),
    ]


def _hint(external: bool) -> str:
    """Why a server of our own could not be started, where that is plain before anybody tries."""
    if external:
        return ""
    try:
        find_environment()
    except ServerFailed as error:
        return str(error)
    return ""


@in_turn
def start(services: Services, desk: Memory, language: str) -> list[Any]:
    with shown_to_user(language):
        services.vllm.start()
    return look(services, desk, language)


@in_turn
def stop(services: Services, desk: Memory, language: str) -> list[Any]:
    """Ask it to end; the page looks on while it does."""
    with shown_to_user(language):
        services.vllm.stop(wait=False)
    return look(services, desk, language)


# ---- layout --------------------------------------------------------------------------------------------------------

NAMES = ("heading", "state", "start", "stop", "log", "folder", "timer")


def build(services: Services, labels: Labels, language: Any, tab: gr.Tab) -> ServingPage:
    """Draw the page inside the tab that the caller has opened."""
    desk = gr.State(Memory())
    parts: dict[str, Any] = {"timer": gr.Timer(POLL_S, active=False)}
    for name in ("heading", "state"):
        parts[name] = gr.HTML("", elem_id=f"serving-{name}", apply_default_css=False, js_on_load=None)
    with gr.Row(elem_classes="tools"):
        for name, key, variant in (("start", "serving.start", "primary"), ("stop", "serving.stop", "stop")):
            button = gr.Button(say("ja", key), variant=variant, visible=False, elem_id=f"serving-{name}", size="md")
            parts[name] = labels.add(button, value=key)
    folder = gr.Accordion(say("ja", "serving.log"), open=False, elem_id="serving-log")
    with labels.add(folder, label="serving.log"):
        parts["log"] = gr.HTML("", elem_id="serving-log-text", apply_default_css=False, js_on_load=None)
    parts["folder"] = folder

    outputs = [parts[name] for name in NAMES]
    where = [desk, language]
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    tab.select(partial(arrive, services), where, outputs, **quiet)
    parts["timer"].tick(partial(look, services), where, outputs, **quiet)
    language.change(partial(redraw, services), where, outputs, **quiet)
    for name, handler in (("start", start), ("stop", stop)):
        parts[name].click(partial(handler, services), where, outputs, **quiet)
    return ServingPage(desk, parts["timer"])
