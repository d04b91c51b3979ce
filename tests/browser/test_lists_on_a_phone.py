"""On a phone a list stands above what is picked from it: a tap leads there, or it would seem to do nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.journal import create_run
from playground.pages.text import say
from tests.browser.conftest import Person, Served
from tests.browser.test_look import SIZES

RUNS = 16  # more than a phone's screen holds


@pytest.mark.parametrize(("tab", "kind"), [("train", "training"), ("bench", "benchmark")])
def test_a_run_that_was_tapped_comes_into_sight(
    serve: Callable[..., Served], visit: Callable[..., Person], tmp_path: Path, tab: str, kind: Any
):
    for number in range(RUNS):
        settings = {"name": f"run-{number}", "base": "embedded", "models": ["a", "b"]}
        with create_run(tmp_path / "runs", kind, settings, {}) as folder:
            folder.event("started")
            folder.event("finished")
    person = visit(serve(), viewport=SIZES["phone"]).open()
    page: Any = person.page
    person.tab(say("ja", f"tab.{tab}"))
    page.click(f"#{tab}-list .entry >> nth=1")
    page.wait_for_selector(f"#{tab}-list li:nth-child(2) .entry[aria-current]")
    page.wait_for_timeout(500)
    top = page.evaluate("(name) => document.getElementById(name).getBoundingClientRect().top", f"{tab}-run")
    assert -5 < top < SIZES["phone"]["height"] - 100
