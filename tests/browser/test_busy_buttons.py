"""A button whose work takes a while says so until the work has ended, well or not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from evaluation.errors import UserFacingError
from playground.pages import adapters
from playground.pages.text import say
from tests.browser.conftest import PATIENCE_MS, Person, Served


def test_a_button_turns_while_its_work_goes_on_and_rests_when_it_has_failed(
    serve: Callable[..., Served], visit: Callable[..., Person], monkeypatch: pytest.MonkeyPatch
):
    ended = threading.Event()
    asked: list[tuple[str, str]] = []

    def slowly(settings: Any, source: str, name: str) -> Any:
        asked.append((source, name))
        ended.wait(PATIENCE_MS / 1000)
        raise UserFacingError("The disk is full.")

    monkeypatch.setattr(adapters, "import_adapter", slowly)
    person = visit(serve()).open()
    page: Any = person.page
    person.tab(say("ja", "tab.train"))
    page.click("#adapter-import-part > button")
    page.fill("#adapter-source input, #adapter-source textarea", "/somewhere")
    page.fill("#adapter-as input, #adapter-as textarea", "mine")
    page.click("#adapter-import")
    page.wait_for_selector("#adapter-import[aria-busy=true]")
    assert (
        page.evaluate("getComputedStyle(document.querySelector('#adapter-import'), '::after').animationName") == "turn"
    )
    ended.set()
    page.wait_for_selector("#adapter-import[aria-busy=false]")
    page.wait_for_selector("text=The disk is full.")
    assert asked == [("/somewhere", "mine")]
    assert person.errors == []
