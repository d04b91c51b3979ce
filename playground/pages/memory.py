"""What the pages that watch runs know of a visitor: the run shown, and what the page holds already."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import gradio as gr

from playground.pages.errors import Refused
from playground.pages.text import say

P = ParamSpec("P")
T = TypeVar("T")


class Turn:
    """A lock that a copy of its owner does not share: Gradio copies the first desk for each visitor."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Turn:
        return Turn()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *failure: object) -> None:
        self._lock.release()


@dataclass
class Memory:
    """The pieces of one page as they were last sent. A page's desk, in its gr.State, is one of these."""

    drawn: dict[str, str] = field(default_factory=dict)
    here: bool = False  # the tab is open
    run_id: str | None = None  # the run that is shown
    turn: Turn = field(default_factory=Turn, repr=False, compare=False)

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


def in_turn(handler: Callable[P, T]) -> Callable[P, T]:
    """The handler of one visitor's page, never while another of theirs is under way.

    Gradio runs a visitor's events side by side. On a slow machine the drawing of a page that was just opened would end
    after that of a run started meanwhile, and put the older list back for good.
    """

    @wraps(handler)
    def taking_turns(*values: P.args, **more: P.kwargs) -> T:
        with next(value for value in values if isinstance(value, Memory)).turn:
            return handler(*values, **more)

    return taking_turns
