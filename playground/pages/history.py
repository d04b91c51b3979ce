"""The History page: what was asked, answered, judged and voted before, after a restart too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import gradio as gr

from evaluation.types import Judgement, Prompt, Response
from playground.pages import asking, markup, screen, verdicts
from playground.pages.busy import press
from playground.pages.compare import PICK_JS, TO_COMPARE_JS, ComparePage, picked, to_detail_js
from playground.pages.conversation import SIDES, Session, typed_prompt
from playground.pages.errors import shown_to_user
from playground.pages.labels import Labels
from playground.pages.services import Services
from playground.pages.text import say
from playground.store.history import Conversation, Entry, HistoryPage, Turn
from playground.store.history import Side as EntrySide

PER_PAGE = 20
ANY = ""  # value of a filter that is off; a dropdown cannot hold None as a choice


@dataclass
class Desk:
    """Where one visitor is in History, in one gr.State."""

    page: int = 0
    run_id: str | None = None
    confirming: bool = False  # "Delete" was pressed once


@dataclass(frozen=True)
class Drawn:
    """What other parts of the page need: inputs and outputs of `show`."""

    where: list[Any]
    outputs: list[Any]


# ---- what the page shows -------------------------------------------------------------------------------------------


def when(created_at: str) -> str:
    """An ISO 8601 time as `2026-01-31 21:34 JST`, in the server's zone; what is no such time is shown as it is."""
    try:
        return f"{datetime.fromisoformat(created_at).astimezone():%Y-%m-%d %H:%M %Z}"
    except ValueError:
        return created_at


def mini(side: EntrySide, language: str) -> str:
    """A side's model and score in a list; a missing verdict in words."""
    if side.score is not None:
        tone = "bad" if side.score < 3 else "fair" if side.score == 3 else "good"
        score = f'<b class="mini {tone}">{side.score} / 5</b>'
    else:
        score = f'<b class="mini none">{markup.esc(say(language, "missing"))}</b>'
    return f'<span class="side"><code>{markup.esc(side.response.model)}</code>{score}</span>'


def rows(page: HistoryPage, filtered: bool, chosen: str | None, language: str) -> str:
    """One page of pairs, the newest first, each a button that opens its conversation."""
    if not page.entries:
        return f'<p class="quiet">{markup.esc(say(language, "history.none" if filtered else "history.empty"))}</p>'
    return f'<ul class="rows">{"".join(row(entry, entry.run_id == chosen, language) for entry in page.entries)}</ul>'


def row(entry: Entry, current: bool, language: str) -> str:
    vote = markup.choice_name(entry.choice, language)
    return (
        f'<li><button type="button" class="entry" data-pick="{markup.esc(entry.run_id)}"{" aria-current=true" if current else ""}>'
        f'<span class="text">{markup.esc(entry.pair.question)}</span>'
        f'<small class="sides">{mini(entry.left, language)}{mini(entry.right, language)}</small>'
        f"<small>{markup.esc(when(entry.pair.created_at))} · {markup.esc(vote)}</small></button></li>"
    )


def opened(conversation: Conversation | None, language: str) -> str:
    """One conversation in full: every turn with both answers, their verdicts and the vote."""
    if conversation is None:
        return f'<div class="card detail"><p class="quiet">{markup.esc(say(language, "history.pick"))}</p></div>'
    turns = "".join(past_turn(turn, number, language) for number, turn in enumerate(conversation.turns, 1))
    count = say(language, "history.turns", count=len(conversation.turns))
    return f'<div class="card detail past"><p class="fine">{markup.esc(when(conversation.info.created_at))} · {markup.esc(count)}</p>{turns}</div>'


def past_turn(turn: Turn, number: int, language: str) -> str:
    judged: dict[str, Judgement] = {judgement.response_key: judgement for judgement in turn.judgements}
    vote = turn.ratings[-1].choice if turn.ratings else None
    reference = markup.reference(turn.prompt.reference if turn.prompt else None, language)
    category = markup.category_path(turn.prompt.category if turn.prompt else None, language)
    label = say(language, "asked.number", number=number)
    sides = "".join(past_side(side, getattr(turn, side), judged, language) for side in SIDES)
    return (
        f'<article><p class="label">{markup.esc(label)}</p><h2>{markup.esc(turn.pair.question)}</h2>{category}'
        f'<div class="past-sides">{sides}</div>{reference}'
        f'<p class="fine">{markup.esc(say(language, "history.vote"))}: {markup.esc(markup.choice_name(vote, language))}</p></article>'
    )


def past_side(side: str, response: Response, judged: Mapping[str, Judgement], language: str) -> str:
    pane = markup.done_pane(response, language)
    judgement = judged.get(response.key)
    return (
        f'<section class="past-side {side}"><p class="badge"><span><b>{markup.esc(say(language, side))}</b> <code>{markup.esc(response.model)}</code></span>'
        f"<span><b>{markup.esc(say(language, 'identity.id'))}</b> <code>{markup.esc(response.identity)}</code></span></p>"
        f'{pane["before"]}<div class="reply">{pane["text"]}</div>{pane["after"]}{markup.verdict(judgement, language) if judgement else ""}</section>'
    )


# ---- handlers ------------------------------------------------------------------------------------------------------


def show(services: Services, desk: Desk, search: object, model: object, vote: object, language: str) -> list[Any]:
    """Everything on the page, in the order of `outputs` below."""
    with shown_to_user(language):
        words = asking.checked_text(search, "history.search", 200, language)
        filters: dict[str, Any] = {
            "search": words,
            "model": str(model) if model else None,
            "choice": vote if vote in verdicts.CHOICES else None,
        }
        page = services.chat.page(**filters, limit=PER_PAGE, offset=desk.page * PER_PAGE)
        pages = max(1, -(-page.total // PER_PAGE))
        if desk.page >= pages:  # the last line of a page was deleted, or a filter left fewer pages
            desk.page = pages - 1
            page = services.chat.page(**filters, limit=PER_PAGE, offset=desk.page * PER_PAGE)
        conversation = services.chat.conversation(desk.run_id) if desk.run_id else None
    position = say(language, "page", page=desk.page + 1, pages=pages)
    there = conversation is not None
    return [
        rows(page, any(filters.values()), desk.run_id, language),
        f'<p class="found" role="status">{markup.esc(position)}</p>' if pages > 1 else "",
        gr.update(interactive=desk.page > 0, visible=pages > 1),
        gr.update(interactive=desk.page < pages - 1, visible=pages > 1),
        opened(conversation, language),
        gr.update(visible=there),
        gr.update(visible=there and not desk.confirming),
        gr.update(visible=there and desk.confirming),
    ]


def find(services: Services, desk: Desk, *where: Any) -> list[Any]:
    desk.page = 0
    return show(services, desk, *where)


def turn_page(services: Services, by: int, desk: Desk, *where: Any) -> list[Any]:
    desk.page = max(0, desk.page + by)
    return show(services, desk, *where)


def open_conversation(
    services: Services, desk: Desk, search: object, model: object, vote: object, language: str, clicked: str
) -> list[Any]:
    with shown_to_user(language):
        if services.chat.conversation(clicked) is None:
            raise asking.Refused(say(language, "error.gone"))
    desk.run_id, desk.confirming = clicked, False
    return show(services, desk, search, model, vote, language)


def ask_to_delete(services: Services, wanted: bool, desk: Desk, *where: Any) -> list[Any]:
    desk.confirming = wanted
    return show(services, desk, *where)


def delete(services: Services, session: Session, desk: Desk, *where: Any) -> list[Any]:
    """Delete the open conversation for good. If it is the one on Compare, what follows there is a new one."""
    language = where[-1]
    with shown_to_user(language):
        if desk.run_id is None or not desk.confirming:
            raise asking.Refused(say(language, "error.gone"))
        services.chat.delete_conversation(desk.run_id)
    if session.conversation.log_id == desk.run_id:
        asking.forget(session)
    desk.run_id, desk.confirming = None, False
    gr.Info(say(language, "history.deleted"), title=say(language, "alert.note"))
    return show(services, desk, *where)


def use(services: Services, desk: Desk, session: Session, language: str) -> list[Any]:
    """Put the conversation's first question into Compare's box, with its reference if it had one, and go there."""
    with shown_to_user(language):
        conversation = services.chat.conversation(desk.run_id) if desk.run_id else None
        if conversation is None or not conversation.turns:
            raise asking.Refused(say(language, "error.gone"))
    first = conversation.turns[0]
    prompt: Prompt = first.prompt or typed_prompt(first.pair.question)
    return [asking.pick(session, prompt), gr.Tabs(selected="compare")]


# ---- layout --------------------------------------------------------------------------------------------------------


def model_filter(services: Services, language: str) -> list[tuple[str, str]]:
    return [(say(language, "any"), ANY), *screen.model_choices(services, language)]


def models_now(services: Services, language: str) -> Any:
    """The filter with the models that there are now: an adapter may have come since the page was drawn."""
    return gr.update(choices=model_filter(services, language))


def vote_filter(language: str) -> list[tuple[str, str]]:
    return [(say(language, "any"), ANY), *[(say(language, f"vote.{choice}"), choice) for choice in verdicts.CHOICES]]


def build(services: Services, labels: Labels, language: Any, tabs: gr.Tabs, tab: gr.Tab, page: ComparePage) -> Drawn:
    """Draw the page inside the tab that the caller has opened; it reads the log each time the tab is chosen."""
    desk = gr.State(Desk())
    labels.add_computed(
        gr.HTML(
            markup.heading(say("ja", "history.title"), say("ja", "history.more")),
            apply_default_css=False,
            js_on_load=None,
        ),
        lambda lang: {"value": markup.heading(say(lang, "history.title"), say(lang, "history.more"))},
    )
    with gr.Row(elem_classes="filters"):
        search = labels.add(
            gr.Textbox(
                "",
                label=say("ja", "history.search"),
                placeholder=say("ja", "search.placeholder"),
                max_lines=1,
                min_width=240,
                elem_id="history-search",
            ),
            label="history.search",
            placeholder="search.placeholder",
        )
        model = gr.Dropdown(
            model_filter(services, "ja"),
            value=ANY,
            label=say("ja", "history.model"),
            filterable=False,
            min_width=180,
            elem_id="history-model",
        )
        labels.add_computed(
            model, lambda lang: {"label": say(lang, "history.model"), "choices": model_filter(services, lang)}
        )
        vote = gr.Dropdown(
            vote_filter("ja"),
            value=ANY,
            label=say("ja", "history.vote"),
            filterable=False,
            min_width=140,
            elem_id="history-vote",
        )
        labels.add_computed(vote, lambda lang: {"label": say(lang, "history.vote"), "choices": vote_filter(lang)})
    with gr.Row(elem_classes="shelf"):
        with gr.Column(elem_classes="shelf-list", min_width=300, scale=4):
            listing = gr.HTML("", elem_id="history-list", apply_default_css=False, js_on_load=PICK_JS)
            count = gr.HTML("", apply_default_css=False, js_on_load=None)
            with gr.Row(elem_classes="pager"):
                back = labels.add(
                    gr.Button(say("ja", "previous"), size="sm", visible=False, min_width=80), value="previous"
                )
                forward = labels.add(gr.Button(say("ja", "next"), size="sm", visible=False, min_width=80), value="next")
        with gr.Column(elem_classes="shelf-detail", elem_id="history-detail", min_width=300, scale=7):
            card = gr.HTML(opened(None, "ja"), elem_id="history-open", apply_default_css=False, js_on_load=None)
            with gr.Row(elem_classes="tools"):
                again = labels.add(
                    gr.Button(
                        say("ja", "history.use"),
                        variant="primary",
                        visible=False,
                        elem_id="history-use",
                        size="md",
                        min_width=220,
                    ),
                    value="history.use",
                )
                remove = labels.add(
                    gr.Button(
                        say("ja", "history.delete"), visible=False, elem_id="history-delete", size="md", min_width=180
                    ),
                    value="history.delete",
                )
            with gr.Row(visible=False, elem_classes=["tools", "confirm"]) as confirm:
                labels.add_computed(
                    gr.HTML(f"<p>{say('ja', 'history.confirm')}</p>", apply_default_css=False, js_on_load=None),
                    lambda lang: {"value": f"<p>{markup.esc(say(lang, 'history.confirm'))}</p>"},
                )
                yes = labels.add(
                    gr.Button(
                        say("ja", "history.confirm.yes"),
                        variant="stop",
                        elem_id="history-yes",
                        size="md",
                        min_width=110,
                    ),
                    value="history.confirm.yes",
                )
                no = labels.add(
                    gr.Button(say("ja", "history.confirm.no"), size="md", min_width=110), value="history.confirm.no"
                )

    outputs = [listing, count, back, forward, card, again, remove, confirm]
    where = [desk, search, model, vote, language]
    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    tab.select(partial(show, services), where, outputs, **quiet)
    tab.select(partial(models_now, services), [language], [model], **quiet)
    for event in (search.change, model.change, vote.change):
        event(partial(find, services), where, outputs, trigger_mode="always_last", **quiet)
    language.change(partial(show, services), where, outputs, **quiet)

    # Not a partial: Gradio reads the annotation of a plain function to know that it wants the event.
    def on_pick(desk: Desk, search: str, model: str, vote: str, language: str, event: gr.EventData) -> list[Any]:
        return open_conversation(services, desk, search, model, vote, language, picked(event))

    listing.pick(on_pick, where, outputs, **quiet).then(None, js=to_detail_js("history-detail"))
    back.click(partial(turn_page, services, -1), where, outputs, **quiet)
    forward.click(partial(turn_page, services, 1), where, outputs, **quiet)
    remove.click(partial(ask_to_delete, services, True), where, outputs, **quiet)
    no.click(partial(ask_to_delete, services, False), where, outputs, **quiet)
    press(yes, partial(delete, services), [page.session, *where], outputs, **quiet)
    again.click(partial(use, services), [desk, page.session, language], [page.box, tabs], **quiet).then(
        None, js=TO_COMPARE_JS
    )
    return Drawn(where, outputs)
