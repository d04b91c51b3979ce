"""Turns domain errors into alerts. Any other exception is a bug and keeps its traceback in the log."""

from __future__ import annotations

import html
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from evaluation.errors import UserFacingError
from playground.pages.text import say
from playground.pages.text_errors import line_for

log = logging.getLogger(__name__)


class Refused(UserFacingError):
    """What the visitor asked for cannot be done as asked; the text says what to change."""


@contextmanager
def shown_to_user(language: str) -> Iterator[None]:
    """Raise gr.Error, which Gradio shows, in place of whatever the block raises.

    The message is escaped because Gradio's alerts render HTML and an error may quote a visitor's text.
    """
    try:
        yield
    except UserFacingError as error:
        raise gr.Error(
            html.escape(line_for(error, language)), print_exception=False, title=say(language, "alert.refused")
        ) from error
    except (gr.Error, GeneratorExit):
        raise
    except Exception as error:
        log.exception("A handler failed")
        raise gr.Error(
            say(language, "error.unexpected"), print_exception=False, title=say(language, "alert.failed")
        ) from error
