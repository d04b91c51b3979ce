"""A form that is refused says so where its button is: the way to the runs must not lead past it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from playground.pages.text import say
from tests.browser.conftest import Person, Served
from tests.browser.test_look import SIZES
from tests.browser.walk import furnish

IN_SIGHT = """(selector) => {
    const box = document.querySelector(selector).getBoundingClientRect();
    return box.top >= 0 && box.top < window.innerHeight;
}"""
# Page -> what is drawn last when it opens, a field, and a value of it that is refused.
FORMS = {
    "train": ("#train-rate .main-svg", "#train-name input, #train-name textarea", "base"),
    "bench": ("#bench-list .entry >> nth=1", "#bench-attempts input", "200"),
}


@pytest.mark.parametrize("size", ["desk", "small"])
@pytest.mark.parametrize("name", FORMS)
def test_the_reason_stays_on_the_screen(
    serve: Callable[..., Served], visit: Callable[..., Person], tmp_path: Path, name: str, size: str
):
    furnish(tmp_path)
    person = visit(serve(), viewport=SIZES[size]).open()
    page: Any = person.page
    drawn, field, value = FORMS[name]
    person.tab(say("ja", f"tab.{name}"))
    page.wait_for_selector(drawn)
    page.fill(field, value)
    page.click(f"#{name}-start")
    page.wait_for_selector(f"#{name}-problem [role=alert]")
    page.wait_for_timeout(500)
    assert page.evaluate(IN_SIGHT, f"#{name}-problem [role=alert]")
