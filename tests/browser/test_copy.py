"""The copy button: which reply it takes, and that it works where the browser offers no clipboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.browser.conftest import Person, Served

# As results_markup draws a side of a conversation: the turns before the last reply are in the same section.
SIDE = """<section class="past-side left" id="side"><div class="earlier-turn"><p class="label">q1</p><div class="reply">first reply</div></div>
<div class="reply">last reply</div><div class="foot"><p></p><button type="button" class="copy" data-copied="Copied">Copy</button></div></section>"""
LISTEN = """(html) => {
    document.body.insertAdjacentHTML('beforeend', html);
    window.copied = [];
    document.addEventListener('copy', () => window.copied.push(document.activeElement.value));
}"""
CLIPBOARDS = {
    "https": "{writeText: async (text) => { window.copied.push(text); }}",
    "http": "undefined",
    "refused": "{writeText: async () => { throw new Error('no'); }}",
}


@pytest.mark.parametrize("clipboard", CLIPBOARDS)
def test_the_reply_beside_the_button_is_copied(
    serve: Callable[..., Served], visit: Callable[..., Person], clipboard: str
):
    page: Any = visit(serve()).open().page
    page.evaluate(LISTEN, SIDE)
    page.evaluate(
        f"Object.defineProperty(navigator, 'clipboard', {{value: {CLIPBOARDS[clipboard]}, configurable: true}})"
    )
    page.locator("#side .copy").dblclick()
    page.wait_for_selector("#side .copy:has-text('Copied')")
    assert page.evaluate("window.copied[0]") == "last reply"
    page.wait_for_function("document.querySelector('#side .copy').textContent === 'Copy'")
