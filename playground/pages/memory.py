"""What a visitor's page holds already, so that only what changed is sent to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gradio as gr


@dataclass
class Memory:
    """The pieces of one page as they were last sent. A page's desk, in its gr.State, is one of these."""

    drawn: dict[str, str] = field(default_factory=dict)

    def fresh(self, name: str, value: Any, content: object = None) -> Any:
        """The value for the piece of that name, or a skip when the page has it already."""
        text = repr(value if content is None else content)
        if self.drawn.get(name) == text:
            return gr.skip()
        self.drawn[name] = text
        return value
