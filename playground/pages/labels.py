"""Which component shows which text, so that one switch can change the language of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from playground.pages.text import Language, say


class Labels:
    """Collects components with a function that gives their texts in a language."""

    def __init__(self) -> None:
        self._texts: list[tuple[Any, Callable[[Language], dict[str, Any]]]] = []

    def add(self, component: Any, **keys: str) -> Any:
        """Remember that `component` shows TEXT[key] as property; returns the component."""
        return self.add_computed(component, lambda language: {name: say(language, key) for name, key in keys.items()})

    def add_computed(self, component: Any, texts: Callable[[Language], dict[str, Any]]) -> Any:
        """The same for properties that are computed, like the choices of a dropdown."""
        self._texts.append((component, texts))
        return component

    def components(self) -> list[Any]:
        return [component for component, _ in self._texts]

    def updates(self, language: Language) -> list[Any]:
        """One update per component, in the order of `components()`."""
        return [gr.update(**texts(language)) for _, texts in self._texts]
