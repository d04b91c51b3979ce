"""The frame around the pages: header, language, content warning, how far the engine has come, and the tabs."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from playground.pages import (
    browse,
    compare,
    history,
    markup,
    privacy,
    quality,
    results,
    results_page,
    screen,
    serving,
    sign_in,
    train,
    train_watch,
)
from playground.pages.access import Access, Buttons, guard
from playground.pages.conversation import SIDES
from playground.pages.headers import safe_headers
from playground.pages.labels import Labels
from playground.pages.services import Services
from playground.pages.text import as_language, say
from playground.pages.theme import PlaygroundTheme

ASSETS = Path(__file__).parent / "assets"
READINESS_POLL_S = 1.0
MOST_WAITING = (
    1_024  # events in the queue: a page sends several at a click, and to refuse one is an error on the screen
)
# Gradio sums up its last 10,000 events with pandas after every single event, for a monitoring page that is not served.
QUIET_QUEUE = {"GRADIO_ANALYTICS_MAX_EVENTS": "1", "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000000"}
MOST_THREADS = 320  # Gradio runs no more events at once, and a visitor who stands in line holds one

# The browser remembers a language that was chosen; Python only ever sees the value of the switch.
REMEMBER_LANGUAGE = "(language) => { window.playground.store.set('playground-language', language); return []; }"
FOLLOW_LANGUAGE = "(language) => { document.documentElement.lang = language; return [language]; }"
RECALL_LANGUAGE = "() => [window.playground.language()]"


def masthead(language: str) -> str:
    return (
        f'<a class="skip" href="#pages">{markup.esc(say(language, "skip"))}</a>'
        f'<header class="brand"><span class="mark" aria-hidden="true"></span><p><strong>{markup.esc(say(language, "product"))}</strong>'
        f"<span>{markup.esc(say(language, 'tagline'))}</span></p></header>"
    )


def theme_switch(language: str) -> str:
    words = markup.esc(say(language, "theme"))
    return f'<button type="button" id="theme-switch" title="{words}" aria-label="{words}"><span aria-hidden="true"></span></button>'


def content_warning() -> str:
    """The entry warning, in both languages at once: a first visitor has not chosen one yet."""
    parts = "".join(
        f'<div lang="{language}"><h2>{markup.esc(say(language, "warning.title"))}</h2><p>{markup.esc(say(language, "warning.body"))}</p></div>'
        for language in ("ja", "en")
    )
    accept = " / ".join(markup.esc(say(language, "warning.accept")) for language in ("ja", "en"))
    return (
        f'<dialog id="content-warning" aria-labelledby="content-warning-text"><div id="content-warning-text">{parts}</div>'
        f'<button type="button" id="accept-warning">{accept}</button></dialog>'
    )


def readiness(services: Services, left: str, right: str, language: object) -> list[Any]:
    """The banner and both badges; once the engine has settled, asking ends."""
    status = services.readiness.status()
    settled = status.state != "loading"
    badges = [screen.badge(services, model, language) for model in (left, right)] if settled else [gr.skip()] * 2
    return [markup.banner(status, as_language(language)), *badges, gr.Timer(active=not settled)]


def greet(services: Services, buttons: Buttons, language: str) -> list[Any]:
    """Who is signed in, what is kept of them, and which tabs are of use to them, once the page is there."""
    tab = gr.update(visible=services.access.caller().may("operator"))
    tabs = [tab, tab] if services.access.profile.training else [tab]
    return [sign_in.who(services, buttons, language), privacy.told(services, language), *tabs]


def build_app(services: Services) -> gr.Blocks:
    """Draw the whole app. Launch it with `launch_options()`; nothing is loaded or read from the engine but its model ids.

    Every function that a browser can call goes through the check of `services.access`.
    """
    labels = Labels()
    buttons: Buttons = {}  # filled at the end, when all of them are there
    with gr.Blocks(
        title=say("ja", "product"), analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True
    ) as app:
        gr.HTML(content_warning(), apply_default_css=False, js_on_load=None, elem_id="warning-host")
        with gr.Row(elem_id="masthead"):
            labels.add_computed(
                gr.HTML(masthead("ja"), apply_default_css=False, js_on_load=None),
                lambda lang: {"value": masthead(lang)},
            )
            language = gr.Radio(
                [("日本語", "ja"), ("English", "en")], value="ja", label=say("ja", "language"), show_label=False, container=False,
                elem_id="language", scale=0, min_width=180,
            )  # fmt: skip
            labels.add(language, label="language")
            labels.add_computed(
                gr.HTML(theme_switch("ja"), apply_default_css=False, js_on_load=None, elem_id="theme-host"),
                lambda lang: {"value": theme_switch(lang)},
            )
            who = sign_in.build(services)
        banner = gr.HTML(
            markup.banner(services.readiness.status(), "ja"),
            elem_id="readiness",
            apply_default_css=False,
            js_on_load=None,
        )
        with gr.Tabs(selected="compare", elem_id="pages") as tabs:
            with labels.add(gr.Tab(say("ja", "tab.compare"), id="compare"), label="tab.compare") as compare_tab:
                compare_page = compare.build(services, labels, language)
            with labels.add(gr.Tab(say("ja", "tab.browse"), id="browse"), label="tab.browse") as browse_tab:
                browse.build(services, labels, language, tabs, browse_tab, compare_page)
            with labels.add(gr.Tab(say("ja", "tab.history"), id="history"), label="tab.history") as history_tab:
                past = history.build(services, labels, language, tabs, history_tab, compare_page)
                kept = privacy.build(services, labels, language, compare_page.session, past)
            with labels.add(gr.Tab(say("ja", "tab.quality"), id="quality"), label="tab.quality") as quality_tab:
                quality.build(services, labels, language, quality_tab)
            # Not drawn where nobody can train: what is not there cannot be called.
            train_tab, watch = None, None
            if services.access.profile.training:
                with labels.add(gr.Tab(say("ja", "tab.train"), id="train"), label="tab.train") as train_tab:
                    desk, watch = train.build(services, labels, language, tabs, train_tab, compare_page)
            with labels.add(gr.Tab(say("ja", "tab.bench"), id="bench"), label="tab.bench") as bench_tab:
                bench = results_page.build(services, labels, language, bench_tab)
            with labels.add(gr.Tab(say("ja", "tab.serving"), id="serving"), label="tab.serving") as serving_tab:
                server = serving.build(services, labels, language, serving_tab)

        models = [compare_page.models[side] for side in SIDES]
        badges = [compare_page.badges[side] for side in SIDES]
        timer = gr.Timer(READINESS_POLL_S)
        quiet = {"api_visibility": "private", "show_progress": "hidden"}
        timer.tick(partial(readiness, services), [*models, language], [banner, *badges, timer], **quiet)
        app.load(partial(readiness, services), [*models, language], [banner, *badges, timer], **quiet)
        language.change(labels.updates, [language], labels.components(), js=FOLLOW_LANGUAGE, **quiet)
        language.input(None, [language], [], js=REMEMBER_LANGUAGE, **quiet)
        language.change(partial(readiness, services), [*models, language], [banner, *badges, timer], **quiet)
        drawn_train_tab = [train_tab] if train_tab else []
        every_tab = [compare_tab, browse_tab, history_tab, quality_tab, *drawn_train_tab, bench_tab, serving_tab]
        for tab in every_tab:
            if watch is not None and tab is not train_tab:
                tab.select(train_watch.leave, [desk], [watch.timer], **quiet)
            if tab is not bench_tab:
                tab.select(results.leave, [bench.desk], [bench.timer], **quiet)
            if tab is not serving_tab:
                tab.select(serving.leave, [server.desk], [server.timer], **quiet)
        if watch is not None:
            results_page.connect(services, bench, watch, desk, language, tabs)
        # An adapter may have come since the app was built, and an operator has more to choose from than a stranger.
        for arrived in (compare_tab.select, app.load):
            arrived(partial(screen.choices_now, services), [language], [*models, compare_page.judge], **quiet)
        app.load(as_language, [language], [language], js=RECALL_LANGUAGE, **quiet)
        app.unload(partial(privacy.close, services))
        for event in (app.load, language.change):
            greeted = [who, kept, *drawn_train_tab, serving_tab]
            event(partial(greet, services, buttons), [language], greeted, **quiet)
    buttons.update(guard(app, services.access, language))
    for name, value in QUIET_QUEUE.items():
        os.environ.setdefault(name, value)  # read when the queue is made
    if importlib.util.find_spec("matplotlib") is None:
        # Gradio tries to import it twice for each piece of an answer, and a look for what is not there asks the disk
        # anew each time: at 25 visitors a fifth of the event loop. With this entry an import fails at once.
        sys.modules.setdefault("matplotlib", None)  # type: ignore[arg-type]
    app.queue(api_open=False, max_size=MOST_WAITING, default_concurrency_limit=16)
    return app


def launch_options(access: Access | None = None, *, hosts: Iterable[str] = (), **over: Any) -> dict[str, Any]:
    """Keyword arguments for `build_app(...).launch(...)`; `over` adds host and port or replaces one of them.

    `hosts`: the names by which the app may be asked; none of them: any.

    `access` is that of the services: it says who may come in. Nothing replaces the headers: other middleware stands behind.

    Nothing of a visitor leaves the page: no run history in the browser, no sharing, no monitoring page, no API. Set
    GRADIO_ANALYTICS_ENABLED=False in the environment before gradio is imported.
    """
    entry = sign_in.launch_options(access or Access())
    kwargs = {**entry.pop("app_kwargs", {}), **over.pop("app_kwargs", {})}
    kwargs["middleware"] = [*safe_headers([ASSETS / "head.html"], hosts=hosts), *kwargs.get("middleware", ())]
    return {
        "theme": PlaygroundTheme(),
        "css_paths": [ASSETS / "app.css"],
        "head_paths": [ASSETS / "head.html"],
        "max_threads": MOST_THREADS,
        "run_history": False,
        "enable_monitoring": False,
        "footer_links": [],
        "mcp_server": False,
        "show_error": False,
        "share": False,
        "strict_cors": True,
        "allowed_paths": [],
        "ssr_mode": False,
        "_frontend": False,  # no look at its own page, which a busy machine cannot answer in Gradio's three seconds
        "pwa": False,
        "state_session_capacity": 1_000,  # visitors; one more makes the app forget who came first
        **entry,
        **over,
        "app_kwargs": kwargs,
    }
