"""The app with fakes behind it, served on this machine and driven by the Chromium that is installed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported

from playground.pages import Services, build_app, launch_options
from tests.fakes import FakeEngine, FakeJudge, FakeReadiness, fake_services

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ARTIFACTS = Path(__file__).parents[1] / "artifacts"
PATIENCE_MS = 90_000  # the machine may be busy with a training beside the tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@dataclass
class Served:
    """One running app and the fakes behind it."""

    url: str
    services: Services
    engine: FakeEngine


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start the app; fakes may be given."""
    started = []

    def start(
        engine: FakeEngine | None = None, judge: FakeJudge | None = None, readiness: FakeReadiness | None = None
    ) -> Served:
        engine = engine or FakeEngine(delay_s=0.005)
        judges = [judge] if judge else [FakeJudge(delay_s=0.05), FakeJudge("openai:gpt-4o-2024-08-06")]
        services = fake_services(tmp_path, engine, judges, readiness)
        app = build_app(services)
        _, url, _ = app.launch(**launch_options(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True))
        started.append((app, services))
        return Served(url, services, engine)

    yield start
    for app, services in started:
        app.close(verbose=False)
        services.store.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no Chromium at {CHROMIUM}")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Person:
    """A person at a page: what they do, and what the browser saw meanwhile."""

    page: object
    url: str
    outside: list[str] = field(default_factory=list)  # requests that left this machine
    dialogs: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)  # of the Content-Security-Policy, as the console tells them
    reached: list[str] = field(default_factory=list)  # other hosts that a request was really sent to

    def open(self, accept: bool = True) -> Person:
        self.page.goto(self.url)  # type: ignore[attr-defined]
        self.page.wait_for_selector("#send")  # type: ignore[attr-defined]
        if accept:
            self.page.click("#accept-warning")  # type: ignore[attr-defined]
        return self

    def tab(self, name: str) -> None:
        page: Any = self.page
        tab = page.get_by_role("tab", name=name, exact=True)
        if not tab.count():  # on a narrow screen the last ones stand in a menu
            page.click("#pages .overflow-menu > button")
            tab = page.locator("#pages .overflow-dropdown button", has_text=name)
        tab.click()

    def ask(self, question: str | None = None) -> None:
        if question is not None:
            self.page.fill("#question textarea", question)  # type: ignore[attr-defined]
        self.page.click("#send")  # type: ignore[attr-defined]

    def wait_for_answers(self) -> None:
        for side in ("left", "right"):
            self.page.wait_for_selector(f"#answer-{side} .foot")  # type: ignore[attr-defined]
        self.page.wait_for_selector("#send", state="visible")  # type: ignore[attr-defined]

    def wait_for_verdicts(self) -> None:
        for side in ("left", "right"):
            self.page.wait_for_selector(f"#verdict-{side} section.verdict")  # type: ignore[attr-defined]

    def shot(self, name: str) -> None:
        ARTIFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)  # type: ignore[attr-defined]


@pytest.fixture
def visit(chromium: object) -> Iterator[Callable[..., Person]]:
    """A new browser profile on the served page; further arguments go to the profile (viewport, color_scheme)."""
    contexts = []

    def come(served: Served, **profile: object) -> Person:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, "locale": "ja-JP", **profile})  # type: ignore[attr-defined]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        person = Person(page, served.url)

        def outside(request: object) -> None:
            url = request.url  # type: ignore[attr-defined]
            if not re.match(rf"{re.escape(served.url)}|data:|blob:|about:", url):
                person.outside.append(url)

        def console(message: object) -> None:
            if "Content Security Policy" in message.text:  # type: ignore[attr-defined]
                person.violations.append(message.text)  # type: ignore[attr-defined]

        def failed(request: object) -> None:
            if "csp" not in str(request.failure).lower() and "BLOCKED" not in str(request.failure):  # type: ignore[attr-defined]
                person.reached.append(request.url)  # type: ignore[attr-defined]

        page.on("console", console)
        page.on("requestfailed", lambda request: failed(request) if request.url in person.outside else None)
        page.on("response", lambda answer: person.reached.append(answer.url) if answer.url in person.outside else None)
        page.on("request", outside)
        page.on("dialog", lambda dialog: (person.dialogs.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error: person.errors.append(str(error)))
        return person

    people: list[Person] = []
    yield lambda served, **profile: people.append(come(served, **profile)) or people[-1]
    for context in contexts:
        context.close()
    # Whatever the journey was: the page needs nothing that its policy forbids.
    assert [said for person in people for said in person.violations] == []
