"""Buttons whose work can take more than a second: a ring turns in them, and a screen reader knows, until it has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr


def press(
    button: gr.Button, handler: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any], **options: Any
) -> Any:
    """`button.click` with the mark on the button while `handler` works, and off again also when it has failed.

    The button needs an elem_id. Returns what `click` returns.
    """
    if not button.elem_id:
        raise ValueError("A button that shows its work needs an elem_id.")
    # Gradio hands the values of the outputs over as well; what comes back are the inputs.
    on = (
        f"(...values) => {{ window.playground.busy('{button.elem_id}', true); return values.slice(0, {len(inputs)}); }}"
    )
    clicked = button.click(handler, [*inputs], [*outputs], js=on, **options)
    off = f"() => {{ window.playground.busy('{button.elem_id}', false); }}"
    clicked.success(None, js=off)
    clicked.failure(None, js=off)  # `then` is promised for both, but Gradio 6 leaves it out after an error
    return clicked
