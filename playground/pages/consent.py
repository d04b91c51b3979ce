"""Consent before a vote: where strangers vote, a vote keeps the turn that it is about, so they are asked first."""

from __future__ import annotations

import gradio as gr

from playground.pages.conversation import Session
from playground.pages.errors import Refused
from playground.pages.labels import Labels
from playground.pages.services import Services
from playground.pages.text import say


def agree(session: Session, wanted: bool) -> None:
    """The note below the vote buttons was ticked, or not any more."""
    session.consented = bool(wanted)


def check(services: Services, session: Session, language: str) -> None:
    """Raises Refused for a stranger who has not agreed that the turn is kept."""
    if services.access.bounded() and not session.consented:
        raise Refused(say(language, "error.consent"))


def build(services: Services, labels: Labels, session: gr.State) -> None:
    """The note below the vote buttons, in profiles where strangers vote."""
    if not services.access.profile.public:
        return
    box = gr.Checkbox(False, label=say("ja", "privacy.consent"), elem_id="vote-consent", container=False)
    labels.add(box, label="privacy.consent")
    box.input(agree, [session, box], [], api_visibility="private", show_progress="hidden")
