"""The Browse page: the taxonomy with counts, the questions of a suite, one question in detail, and its way to Compare."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gradio as gr

from evaluation.prompts.regions import references_of
from evaluation.prompts.suites import Suite
from evaluation.prompts.taxonomy import english_name, harm_type_of
from evaluation.types import Category, Prompt
from playground.pages import asking, markup
from playground.pages.compare import PICK_JS, TO_COMPARE_JS, ComparePage, picked, to_detail_js
from playground.pages.conversation import Session
from playground.pages.errors import shown_to_user
from playground.pages.labels import Labels
from playground.pages.services import Services
from playground.pages.text import say

PER_PAGE = 20
LONGEST_SEARCH = 200  # characters
PATH_MARK = "\x1f"  # joins the levels of a category in the page; no name contains it


@dataclass
class Shelf:
    """Where one visitor is in Browse, in one gr.State."""

    category: tuple[str, ...] = ()
    page: int = 0
    prompt_id: str | None = None
    shown: set[str] = field(default_factory=set)  # suites whose text this visitor has asked to see


# ---- what the page shows -------------------------------------------------------------------------------------------


def folded(text: str) -> str:
    """Text as search compares it: full-width and half-width alike, case ignored."""
    return unicodedata.normalize("NFKC", text).casefold()


def levels(category: Category | None) -> tuple[str, ...]:
    """The known levels of a category from the top; empty when there is none."""
    return (
        tuple(level for level in (category.risk_area, category.harm_type, category.specific_harm) if level)
        if category
        else ()
    )


def matching(prompts: Sequence[Prompt], category: tuple[str, ...], search: str) -> list[Prompt]:
    """Prompts inside the category whose question, gloss or id contains every word of the search."""
    words = folded(search).split()
    found = []
    for prompt in prompts:
        text = folded(f"{prompt.question} {prompt.id} {prompt.extra.get('question_en', '')}")
        if levels(prompt.category)[: len(category)] == category and all(word in text for word in words):
            found.append(prompt)
    return found


def is_veiled(suite: Suite, shelf: Shelf) -> bool:
    """Whether this visitor sees the suite's text blurred. The sample set is harmless enough to show at once."""
    return (suite.protected or not suite.name.startswith("sample-")) and suite.name not in shelf.shown


def taxonomy(prompts: Sequence[Prompt], chosen: tuple[str, ...], language: str) -> str:
    """The three levels with counts, in the order the suite has them; the chosen path is open."""
    counts: Counter[tuple[str, ...]] = Counter()
    for prompt in prompts:
        path = levels(prompt.category)
        counts.update(path[:depth] for depth in range(1, len(path) + 1))
    uncategorised = sum(not levels(prompt.category) for prompt in prompts)

    def button(path: tuple[str, ...], name: str, count: int, expanded: str = "") -> str:
        current = ' aria-current="true"' if path == chosen else ""
        return (
            f'<button type="button" class="category" data-pick="{markup.esc(PATH_MARK.join(path))}"{current}{expanded}>'
            f"<span>{markup.esc(name)}</span><small>{count}</small></button>"
        )

    def name_of(path: tuple[str, ...]) -> str:
        return (english_name(path[-1]) or path[-1]) if language == "en" else path[-1]

    def branch(parent: tuple[str, ...]) -> str:
        items = []
        for path in (path for path in counts if path[:-1] == parent):
            below, opened = branch(path), chosen[: len(path)] == path
            expanded = f' aria-expanded="{"true" if opened else "false"}"' if below else ""
            head = button(path, name_of(path), counts[path], expanded)
            items.append(f"<li>{head}{below if opened else ''}</li>")
        return f"<ul>{''.join(items)}</ul>" if items else ""

    rest = (
        f'<p class="quiet">{markup.esc(say(language, "category.unknown"))}: {uncategorised}</p>'
        if uncategorised
        else ""
    )
    everything = button((), say(language, "category.all"), len(prompts))
    return f'<nav class="taxonomy" aria-label="{markup.esc(say(language, "categories"))}">{everything}{branch(())}{rest}</nav>'


def definition(chosen: tuple[str, ...], language: str) -> str:
    """The chosen category, with the definition of its harm type where the built-in taxonomy has one."""
    if not chosen:
        return ""
    kind = harm_type_of(chosen[1]) if len(chosen) > 1 else None
    words = (kind.definition_en if language == "en" else kind.definition_ja) if kind else ""
    path = markup.category_path(Category(*chosen), language)
    return f'<div class="definition">{path}{f"<p>{markup.esc(words)}</p>" if words else ""}</div>'


def rows(found: Sequence[Prompt], chosen: str | None, veiled: bool, language: str) -> str:
    """One page of questions, each a button."""
    if not found:
        return f'<p class="quiet">{markup.esc(say(language, "found.none"))}</p>'
    note = f'<p class="quiet">{markup.esc(say(language, "veiled"))}</p>' if veiled else ""
    items = []
    for prompt in found:
        names = markup.category_names(prompt.category, language)
        current = ' aria-current="true"' if prompt.id == chosen else ""
        items.append(
            f'<li><button type="button" class="entry" data-pick="{markup.esc(prompt.id)}"{current}><span class="text">{markup.veil(prompt.question, veiled)}</span>'
            f"<small>{markup.esc(names[-1] if names else say(language, 'category.unknown'))}</small></button></li>"
        )
    return f'{note}<ul class="rows">{"".join(items)}</ul>'


def detail(prompt: Prompt | None, veiled: bool, language: str) -> str:
    """One question with all that is known about it."""
    if prompt is None:
        return f'<div class="card detail"><p class="quiet">{markup.esc(say(language, "detail.empty"))}</p></div>'
    extra = dict(prompt.extra)
    gloss = extra.pop("question_en", None)
    parts = [
        markup.category_path(prompt.category, language),
        f'<h2 class="text">{markup.veil(prompt.question, veiled)}</h2>',
    ]
    if gloss:
        parts.append(
            f'<p class="gloss" lang="en"><b>{markup.esc(say(language, "detail.gloss"))}</b> {markup.veil(str(gloss), veiled)}</p>'
        )
    if prompt.turns:
        turns = "".join(f"<li>{markup.veil(turn, veiled)}</li>" for turn in prompt.turns)
        parts.append(f"<p class='label'>{markup.esc(say(language, 'detail.turns'))}</p><ol>{turns}</ol>")
    regions = references_of(prompt, gloss=language == "en")
    if regions:
        extra = {name: value for name, value in extra.items() if name not in ("references", "references_en")}
    if not veiled:
        parts += [
            markup.reference(prompt.reference, language, opened=True),
            markup.extra_rows(regions, language, title="detail.regions"),
            markup.extra_rows(extra, language),
        ]
    parts.append(
        f'<p class="fine">{markup.esc(prompt.suite)} · {markup.esc(say(language, "detail.id"))} {markup.esc(prompt.id)}</p>'
    )
    return f'<div class="card detail">{"".join(parts)}</div>'


# ---- handlers ------------------------------------------------------------------------------------------------------


def suite_named(services: Services, name: object) -> Suite | None:
    return next((suite for suite in services.suites() if suite.name == name), None)


def suite_choices(services: Services, language: str) -> list[tuple[str, str]]:
    choices = []
    for suite in services.suites():
        title = suite.title_en if language == "en" else suite.title_ja
        choices.append((say(language, "suite.choice", title=title, count=len(suite.prompts)), suite.name))
    return choices


def show(services: Services, shelf: Shelf, name: object, search: object, language: str) -> list[Any]:
    """Everything on the page, in the order of `outputs` below."""
    with shown_to_user(language):
        words = asking.checked_text(search, "search", LONGEST_SEARCH, language)
        suite = suite_named(services, name)
    prompts = suite.prompts if suite else []
    veiled = suite is not None and is_veiled(suite, shelf)
    found = matching(prompts, shelf.category, words)
    pages = max(1, -(-len(found) // PER_PAGE))
    shelf.page = min(max(shelf.page, 0), pages - 1)
    part = found[shelf.page * PER_PAGE : (shelf.page + 1) * PER_PAGE]
    prompt = next((prompt for prompt in prompts if prompt.id == shelf.prompt_id), None)
    count = say(language, "found", count=len(found))
    where = f" · {say(language, 'page', page=shelf.page + 1, pages=pages)}" if pages > 1 else ""
    can_veil = suite is not None and (veiled or suite.name in shelf.shown)
    return [
        taxonomy(prompts, shelf.category, language),
        definition(shelf.category, language),
        f'<p class="found" role="status">{markup.esc(count + where)}</p>',
        rows(part, shelf.prompt_id, veiled, language),
        gr.update(interactive=shelf.page > 0, visible=pages > 1),
        gr.update(interactive=shelf.page < pages - 1, visible=pages > 1),
        detail(prompt, veiled, language),
        gr.update(interactive=prompt is not None),
        gr.update(visible=can_veil, value=not veiled),
    ]


def choose_suite(services: Services, shelf: Shelf, name: object, search: object, language: str) -> list[Any]:
    shelf.category, shelf.page, shelf.prompt_id = (), 0, None
    return show(services, shelf, name, search, language)


def find(services: Services, shelf: Shelf, name: object, search: object, language: str) -> list[Any]:
    shelf.page = 0
    return show(services, shelf, name, search, language)


def turn_page(services: Services, by: int, shelf: Shelf, name: object, search: object, language: str) -> list[Any]:
    shelf.page += by
    return show(services, shelf, name, search, language)


def choose_category(
    services: Services, shelf: Shelf, name: object, search: object, language: str, clicked: str
) -> list[Any]:
    """A click on a category; a second click on the same one goes a level up."""
    path = tuple(level for level in clicked.split(PATH_MARK) if level)[:3]
    shelf.category = path[:-1] if path == shelf.category else path
    shelf.page = 0
    return show(services, shelf, name, search, language)


def choose_prompt(
    services: Services, shelf: Shelf, name: object, search: object, language: str, clicked: str
) -> list[Any]:
    shelf.prompt_id = clicked
    return show(services, shelf, name, search, language)


def unveil(services: Services, shelf: Shelf, name: object, search: object, language: str, wanted: bool) -> list[Any]:
    """The "show text" switch, for this suite and this visit."""
    if wanted:
        shelf.shown.add(str(name))
    else:
        shelf.shown.discard(str(name))
    return show(services, shelf, name, search, language)


def use(services: Services, shelf: Shelf, session: Session, name: object, language: str) -> list[Any]:
    """Put the question into Compare's box with its reference, and go there."""
    with shown_to_user(language):
        suite = suite_named(services, name)
        prompt = next((prompt for prompt in suite.prompts if prompt.id == shelf.prompt_id), None) if suite else None
        if prompt is None:
            raise asking.Refused(say(language, "error.prompt"))
    return [asking.pick(session, prompt), gr.Tabs(selected="compare")]


# ---- layout --------------------------------------------------------------------------------------------------------


def build(services: Services, labels: Labels, language: Any, tabs: gr.Tabs, tab: gr.Tab, page: ComparePage) -> None:
    """Draw the page inside the tab that the caller has opened."""
    shelf = gr.State(Shelf())
    choices = suite_choices(services, "ja")
    names = [name for _, name in choices]
    first = "sample-test" if "sample-test" in names else next(iter(names), None)
    start = show(services, Shelf(), first, "", "ja")

    labels.add_computed(
        gr.HTML(
            markup.heading(say("ja", "browse.title"), say("ja", "browse.more")),
            apply_default_css=False,
            js_on_load=None,
        ),
        lambda lang: {"value": markup.heading(say(lang, "browse.title"), say(lang, "browse.more"))},
    )
    with gr.Row(elem_classes="filters"):
        suite = gr.Dropdown(
            choices, value=first, label=say("ja", "suite"), elem_id="suite", filterable=False, min_width=240
        )
        labels.add_computed(suite, lambda lang: {"label": say(lang, "suite"), "choices": suite_choices(services, lang)})
        search = labels.add(
            gr.Textbox(
                "",
                label=say("ja", "search"),
                placeholder=say("ja", "search.placeholder"),
                elem_id="browse-search",
                min_width=240,
                max_lines=1,
            ),
            label="search",
            placeholder="search.placeholder",
        )
    shown = labels.add(
        gr.Checkbox(
            False, label=say("ja", "show.text"), elem_id="show-text", visible=start[8]["visible"], container=False
        ),
        label="show.text",
    )
    with gr.Row(elem_classes="shelf"):
        with gr.Column(elem_classes="shelf-tree", min_width=240, scale=3):
            tree = gr.HTML(start[0], elem_id="taxonomy", apply_default_css=False, js_on_load=PICK_JS)
        with gr.Column(elem_classes="shelf-list", min_width=300, scale=5):
            about = gr.HTML("", elem_id="definition", apply_default_css=False, js_on_load=None)
            count = gr.HTML(start[2], apply_default_css=False, js_on_load=None)
            listing = gr.HTML(start[3], elem_id="prompts", apply_default_css=False, js_on_load=PICK_JS)
            with gr.Row(elem_classes="pager"):
                back = labels.add(
                    gr.Button(
                        say("ja", "previous"), size="sm", interactive=False, visible=start[4]["visible"], min_width=80
                    ),
                    value="previous",
                )
                forward = labels.add(
                    gr.Button(say("ja", "next"), size="sm", visible=start[5]["visible"], min_width=80), value="next"
                )
        with gr.Column(elem_classes="shelf-detail", elem_id="browse-detail", min_width=300, scale=5):
            card = gr.HTML(start[6], elem_id="prompt-detail", apply_default_css=False, js_on_load=None)
            send = labels.add(
                gr.Button(say("ja", "use"), variant="primary", interactive=False, elem_id="use-prompt"), value="use"
            )

    outputs = [tree, about, count, listing, back, forward, card, send, shown]
    where = [shelf, suite, search, language]
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    # What was imported since the page was drawn shows up when the tab is chosen.
    tab.select(lambda lang: gr.update(choices=suite_choices(services, lang)), [language], [suite], **quiet)
    suite.change(partial(choose_suite, services), where, outputs, **quiet)
    search.change(partial(find, services), where, outputs, trigger_mode="always_last", **quiet)

    # Not partials: Gradio reads the annotation of a plain function to know that it wants the event.
    def pick_category(shelf: Shelf, name: str, search: str, language: str, event: gr.EventData) -> list[Any]:
        return choose_category(services, shelf, name, search, language, picked(event))

    def pick_prompt(shelf: Shelf, name: str, search: str, language: str, event: gr.EventData) -> list[Any]:
        return choose_prompt(services, shelf, name, search, language, picked(event))

    tree.pick(pick_category, where, outputs, **quiet)
    listing.pick(pick_prompt, where, outputs, **quiet).then(None, js=to_detail_js("browse-detail"))
    back.click(partial(turn_page, services, -1), where, outputs, **quiet)
    forward.click(partial(turn_page, services, 1), where, outputs, **quiet)
    shown.input(partial(unveil, services), [*where, shown], outputs, **quiet)
    send.click(partial(use, services), [shelf, page.session, suite, language], [page.box, tabs], **quiet).then(
        None, js=TO_COMPARE_JS
    )
    language.change(partial(show, services), where, outputs, **quiet)
