"""What the pages that watch runs know of a visitor: the run shown, and what the page holds already."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from playground.pages.errors import Refused
from playground.pages.text import say


@dataclass
class Memory:
    """The pieces of one page as they were last sent. A page's desk, in its gr.State, is one of these."""

    drawn: dict[str, str] = field(default_factory=dict)
    here: bool = False  # the tab is open
    run_id: str | None = None  # the run that is shown

    def fresh(self, name: str, value: Any, content: object = None) -> Any:
        """The value for the piece of that name, or a skip when the page has it already."""
        text = repr(value if content is None else content)
        if self.drawn.get(name) == text:
            return gr.skip()
        self.drawn[name] = text
        return value

    def current(self, language: str) -> str:
        """The run that is shown. Raises Refused when there is none."""
        if self.run_id is None:
            raise Refused(say(language, "error.run"))
        return self.run_id
