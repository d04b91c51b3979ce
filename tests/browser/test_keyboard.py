"""The whole way by keyboard alone, with a focus that can be seen at every step, and what a screen reader is told meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from playground import benchmarks
from playground.pages.text import say
from tests.browser.conftest import Person, Served
from tests.browser.fake_benchmark import tools
from tests.browser.test_journeys import eventually
from tests.browser.walk import furnish
from tests.fakes import REPLIES, FakeEngine

MOST_TABS = 150
# Whether the focus is inside the selector, and whether it can be seen.
FOCUS = """(selector) => {
    const at = document.activeElement;
    if (at === document.body) return {there: false, seen: true, html: ''};
    const style = getComputedStyle(at);
    const ring = (element) => {
        const own = getComputedStyle(element);
        return parseFloat(own.outlineWidth) > 0 && own.outlineStyle !== 'none' || own.boxShadow !== 'none';
    };
    const seen = ring(at) || at.matches('input') && ring(at.closest('label, .wrap') ?? at) || at.matches('[role=tabpanel]');
    return {there: at.matches(selector) || Boolean(at.closest(selector)), seen, html: at.outerHTML.slice(0, 120)};
}"""

# What a screen reader is told does not stand long: the next thing takes its place.
KEEP_WHAT_IS_HEARD = """() => {
    window.announced = [];
    new MutationObserver(() => window.announced.push(document.getElementById('heard').textContent))
        .observe(document.getElementById('heard'), {childList: true});
}"""
HEARD = "(words) => window.announced.some((told) => told.includes(words))"


def tab_to(page: Any, selector: str, key: str = "Tab") -> None:
    """Press Tab until the focus is there. Every stop on the way must show it."""
    for _ in range(MOST_TABS):
        page.keyboard.press(key)
        focus = page.evaluate(FOCUS, selector)
        assert focus["seen"], f"no focus to be seen: {focus['html']}"
        if focus["there"]:
            return
    raise AssertionError(f"{selector} is not reached in {MOST_TABS} steps")


def open_tab(page: Any, name: str) -> None:
    """From wherever the focus is to a tab of the page."""
    page.evaluate("document.activeElement.blur(); window.getSelection().removeAllRanges()")
    tab_to(page, "#pages [role=tab]")
    for _ in range(10):
        if page.evaluate("document.activeElement.textContent.trim()") == name:
            page.keyboard.press("Enter")
            return
        page.keyboard.press("ArrowRight")
    raise AssertionError(f"there is no tab {name}")


def test_from_the_warning_to_the_vote_by_keys_alone(serve: Callable[..., Served], visit: Callable[..., Person]):
    served = serve(engine=FakeEngine(delay_s=1.0))
    page: Any = visit(served).open(accept=False).page
    page.wait_for_selector("#content-warning[open]")
    page.evaluate(KEEP_WHAT_IS_HEARD)
    page.keyboard.press("Enter")
    page.wait_for_selector("#content-warning", state="hidden")
    tab_to(page, "a.skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.matches('[role=tabpanel]')")
    tab_to(page, "#question textarea")
    page.keyboard.press("Control+A")
    page.keyboard.type("keys only")
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer-left .reply:has-text('相')")
    page.wait_for_selector("#answer-left[aria-busy=true]")
    tab_to(page, "#stop")
    page.keyboard.press("Space")
    page.wait_for_selector("#answer-left .foot")
    page.wait_for_function(HEARD, arg=say("ja", "status.cancelled"))
    served.engine.delay_s = 0.03
    page.wait_for_function(HEARD, arg=say("ja", "score.5"))  # what was written until then is judged too
    page.evaluate("window.announced.length = 0")
    tab_to(page, "#again")
    page.keyboard.press("Enter")
    page.wait_for_selector("#verdict-right section.verdict")
    page.wait_for_function(HEARD, arg=say("ja", "score.5"))
    page.wait_for_selector("#answer-right[aria-busy=false]")
    tab_to(page, "#vote-right")
    page.keyboard.press("Space")
    page.wait_for_selector("#vote-note .done")
    tab_to(page, "#judge-now")
    page.keyboard.press("Enter")
    assert eventually(lambda: len(served.services.judges["embedded"]().seen) >= 4)  # type: ignore[attr-defined]


def test_from_a_category_to_compare_by_keys_alone(serve: Callable[..., Served], visit: Callable[..., Person]):
    page: Any = visit(serve()).open().page
    open_tab(page, say("ja", "tab.browse"))
    tab_to(page, "#taxonomy .category:not([aria-current])")
    page.keyboard.press("Enter")
    page.wait_for_selector("#definition .path")
    page.wait_for_function("document.activeElement.matches('#taxonomy .category[aria-current]')")
    tab_to(page, "#prompts .entry")
    page.keyboard.press("Enter")
    page.wait_for_selector("#prompt-detail h2")
    page.wait_for_function("document.activeElement.matches('#prompts .entry[aria-current]')")
    question = page.inner_text("#prompt-detail h2")
    tab_to(page, "#use-prompt")
    page.keyboard.press("Enter")
    page.wait_for_selector("#send", state="visible")
    assert page.input_value("#question textarea") == question
    page.wait_for_function("document.activeElement.matches('[role=tabpanel]')")
    tab_to(page, "#question textarea")


def test_trainings_and_benchmarks_are_started_and_read_by_keys_alone(
    serve: Callable[..., Served], visit: Callable[..., Person], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(benchmarks, "open_for", lambda asked, suites, settings, **more: tools(settings))
    furnish(tmp_path)
    served = serve()
    page: Any = visit(served).open().page
    open_tab(page, say("ja", "tab.train"))
    page.wait_for_selector("#adapter-list .entry")
    tab_to(page, "#train-name")
    page.keyboard.press("Control+A")
    page.keyboard.type("by-keys")
    tab_to(page, "#train-start")
    page.keyboard.press("Enter")
    page.wait_for_selector("#train-list .entry:has-text('by-keys')")
    open_tab(page, say("ja", "tab.bench"))
    page.wait_for_selector("#bench-forecast .mix-now")
    tab_to(page, "#bench-start")
    page.keyboard.press("Enter")
    assert eventually(lambda: sum(job.status == "queued" for job in served.services.jobs.jobs()) == 2)
    for _ in range(5):
        tab_to(page, "#bench-list .entry")
        if "made up" in page.evaluate("document.activeElement.textContent"):
            break
    page.keyboard.press("Enter")
    page.wait_for_selector("#bench-pace .main-svg")
    tab_to(page, "#bench-changes .entry")
    page.keyboard.press("Enter")
    page.wait_for_selector("#bench-pair .past-side")


def test_hidden_text_is_kept_from_a_screen_reader_until_somebody_asks(
    serve: Callable[..., Served], visit: Callable[..., Person]
):
    page: Any = visit(serve()).open().page
    open_tab(page, say("ja", "tab.browse"))
    page.click("#suite input")
    page.get_by_role("option", name="取り込み").click()
    page.wait_for_selector("#prompts .veiled")
    secret = "取り込んだ質問 0"
    read_out = page.locator("#prompts").aria_snapshot()
    assert secret not in read_out
    page.check("#show-text input")
    page.wait_for_selector("#prompts .veiled", state="detached")
    assert secret in page.locator("#prompts").aria_snapshot()


def test_a_reply_is_heard_once_and_whole(serve: Callable[..., Served], visit: Callable[..., Person]):
    page: Any = visit(serve(engine=FakeEngine(delay_s=0.02))).open().page
    page.evaluate(KEEP_WHAT_IS_HEARD)
    page.click("#send")
    page.wait_for_selector("#verdict-right section.verdict")
    page.wait_for_function(HEARD, arg=say("ja", "score.5"))
    said = page.evaluate("window.announced")
    assert len(said) <= 6
    assert not any(REPLIES["general"][:8] in line for line in said)
