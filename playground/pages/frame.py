"""The frame around the pages: header, language, content warning, how far the engine has come, and the tabs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from playground.pages import browse, compare, history, markup, quality, results, screen, train, train_watch
from playground.pages.conversation import SIDES
from playground.pages.labels import Labels
from playground.pages.services import Services
from playground.pages.text import as_language, say
from playground.pages.theme import PlaygroundTheme

ASSETS = Path(__file__).parent / "assets"
READINESS_POLL_S = 1.0

# The browser remembers the language; Python only ever sees the value of the switch.
REMEMBER_LANGUAGE = """(language) => {
    window.playground.store.set('playground-language', language);
    document.documentElement.lang = language;
    return [language];
}"""
RECALL_LANGUAGE = "() => [window.playground.store.get('playground-language') || 'ja']"


def masthead(language: str) -> str:
    return (
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


def build_app(services: Services) -> gr.Blocks:
    """Draw the whole app. Launch it with `launch_options()`; nothing is loaded or read from the engine but its model ids."""
    labels = Labels()
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
                history.build(services, labels, language, tabs, history_tab, compare_page)
            with labels.add(gr.Tab(say("ja", "tab.quality"), id="quality"), label="tab.quality") as quality_tab:
                quality.build(services, labels, language, quality_tab)
            with labels.add(gr.Tab(say("ja", "tab.train"), id="train"), label="tab.train") as train_tab:
                desk, watch = train.build(services, labels, language, tabs, train_tab, compare_page)
            with labels.add(gr.Tab(say("ja", "tab.bench"), id="bench"), label="tab.bench") as bench_tab:
                bench = results.build(services, labels, language, bench_tab)

        models = [compare_page.models[side] for side in SIDES]
        badges = [compare_page.badges[side] for side in SIDES]
        timer = gr.Timer(READINESS_POLL_S)
        quiet = {"api_visibility": "private", "show_progress": "hidden"}
        timer.tick(partial(readiness, services), [*models, language], [banner, *badges, timer], **quiet)
        app.load(partial(readiness, services), [*models, language], [banner, *badges, timer], **quiet)
        language.change(labels.updates, [language], labels.components(), js=REMEMBER_LANGUAGE, **quiet)
        language.change(partial(readiness, services), [*models, language], [banner, *badges, timer], **quiet)
        for tab in (compare_tab, browse_tab, history_tab, quality_tab, train_tab, bench_tab):
            if tab is not train_tab:
                tab.select(train_watch.leave, [desk], [watch.timer], **quiet)
            if tab is not bench_tab:
                tab.select(results.leave, [bench.desk], [bench.timer], **quiet)
        results.connect(services, bench, watch, desk, language, tabs)
        # An adapter may have come since the app was built.
        for arrived in (compare_tab.select, app.load):
            arrived(partial(screen.model_lists, services), [language], models, **quiet)
        app.load(as_language, [language], [language], js=RECALL_LANGUAGE, **quiet)
    app.queue(api_open=False, max_size=64, default_concurrency_limit=16)
    return app


def launch_options(**over: Any) -> dict[str, Any]:
    """Keyword arguments for `build_app(...).launch(...)`; `over` adds host and port or replaces one of them.

    Nothing of a visitor leaves the page: no run history in the browser, no sharing, no monitoring page, no API. Set
    GRADIO_ANALYTICS_ENABLED=False in the environment before gradio is imported.
    """
    return {
        "theme": PlaygroundTheme(),
        "css_paths": [ASSETS / "app.css"],
        "head_paths": [ASSETS / "head.html"],
        "run_history": False,
        "enable_monitoring": False,
        "footer_links": [],
        "mcp_server": False,
        "show_error": False,
        "share": False,
        "strict_cors": True,
        "max_file_size": "50mb",
        "allowed_paths": [],
        "ssr_mode": False,
        "pwa": False,
        "state_session_capacity": 200,
        **over,
    }
