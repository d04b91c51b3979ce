"""What somebody has unfolded stays so while the piece around it is drawn anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.browser.conftest import Person, Served
from tests.fakes import REPLIES, FakeEngine

OPEN = "document.querySelector('#answer-left details.thinking').open"


def test_thoughts_can_be_read_while_they_are_written(serve: Callable[..., Served], visit: Callable[..., Person]):
    thoughtful = {model: f"<think>{'考える。' * 60}</think>{reply}" for model, reply in REPLIES.items()}
    page: Any = visit(serve(engine=FakeEngine(replies=thoughtful, delay_s=0.1))).open().page
    page.click("#send")
    page.click("#answer-left details.thinking summary")
    before = page.inner_text("#answer-left details.thinking p")
    page.wait_for_function(
        "(was) => document.querySelector('#answer-left details.thinking p').textContent.length > was + 20",
        arg=len(before),
    )
    assert page.evaluate(OPEN)
    page.click("#answer-left details.thinking summary")
    page.wait_for_timeout(500)
    assert not page.evaluate(OPEN)
