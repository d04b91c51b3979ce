"""What is kept of conversations, said on the History page, and "delete all"."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from playground.pages import asking, history, markup
from playground.pages.busy import press
from playground.pages.conversation import Session
from playground.pages.errors import shown_to_user
from playground.pages.labels import Labels
from playground.pages.services import Services
from playground.pages.text import say

# ---- handlers ------------------------------------------------------------------------------------------------------


def told(services: Services, language: str) -> str:
    """What becomes of the conversations that the History page shows."""
    if services.access.bounded():
        words = say(language, "privacy.session", minutes=round(services.access.profile.grace_s / 60))
    else:
        days = services.settings.retention_days
        words = say(language, "privacy.retention", days=f"{days:g}") if days else say(language, "privacy.kept")
    return f'<p class="quiet">{markup.esc(words)}</p>'


def ask_to_purge(wanted: bool) -> Any:
    """ "Delete all" was pressed, or taken back."""
    return gr.update(visible=wanted)


def purge(services: Services, session: Session, desk: history.Desk, *where: Any) -> list[Any]:
    """Delete every conversation that the caller may read. What follows on Compare is a new one."""
    language = where[-1]
    with shown_to_user(language):
        count = services.chat.delete_all()
    asking.forget(session)
    desk.run_id, desk.confirming, desk.page = None, False, 0
    gr.Info(say(language, "privacy.purged", count=count), title=say(language, "alert.note"))
    return [gr.update(visible=False), *history.show(services, desk, *where)]


def close(services: Services) -> None:
    """The page's connection ended; its conversations follow unless it comes back."""
    if services.access.visits is not None:
        services.access.visits.close(services.access.caller().session)


# ---- layout --------------------------------------------------------------------------------------------------------


def build(services: Services, labels: Labels, language: Any, session: gr.State, drawn: history.Drawn) -> gr.HTML:
    """The last part of the History page: what is kept, and "delete all". Returns what `told` fills."""
    mine = services.access.profile.public
    with gr.Row(elem_classes="tools"):
        note = gr.HTML("", elem_id="privacy-note", apply_default_css=False, js_on_load=None)
        key = "privacy.purge.mine" if mine else "privacy.purge"
        ask = labels.add(gr.Button(say("ja", key), elem_id="purge", size="md", min_width=220), value=key)
    with gr.Row(visible=False, elem_classes=["tools", "confirm"]) as confirm:

        def question(lang: str) -> str:
            return f"<p>{markup.esc(say(lang, 'privacy.confirm'))}</p>"

        labels.add_computed(
            gr.HTML(question("ja"), apply_default_css=False, js_on_load=None), lambda lang: {"value": question(lang)}
        )
        yes = labels.add(
            gr.Button(say("ja", "history.confirm.yes"), variant="stop", elem_id="purge-yes", size="md", min_width=110),
            value="history.confirm.yes",
        )
        no = labels.add(
            gr.Button(say("ja", "history.confirm.no"), elem_id="purge-no", size="md", min_width=110),
            value="history.confirm.no",
        )
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    ask.click(partial(ask_to_purge, True), [], [confirm], **quiet)
    no.click(partial(ask_to_purge, False), [], [confirm], **quiet)
    press(yes, partial(purge, services), [session, *drawn.where], [confirm, *drawn.outputs], **quiet)
    return note
