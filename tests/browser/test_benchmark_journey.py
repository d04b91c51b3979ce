"""What a person does on the Benchmark page: the one button, close the page, stop, resume, and down to a single pair."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from playground import benchmarks
from playground.jobs import Supervisor
from playground.pages import build_app, launch_options
from playground.pages.text import say
from tests.browser.conftest import Person, Served
from tests.browser.fake_benchmark import tools
from tests.browser.test_journeys import eventually
from tests.browser.test_look import SIZES, is_sound
from tests.fakes import FakeEngine, fake_services
from tests.playground.pages.test_results import benchmark, judged_again

FAKE_BENCHMARK = (sys.executable, "-m", "tests.browser.fake_benchmark")


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The app with a supervisor at work, whose benchmarks are true ones over fakes."""
    monkeypatch.setattr(benchmarks, "open_for", lambda asked, suites, settings, **more: tools(settings))
    engine = FakeEngine(delay_s=0.005)
    jobs = Supervisor(tmp_path, program=FAKE_BENCHMARK)
    services = replace(fake_services(tmp_path, engine), jobs=jobs)
    jobs.start()
    blocks = build_app(services)
    _, url, _ = blocks.launch(**launch_options(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True))
    yield Served(url, services, engine)
    for job in jobs.jobs():
        if not job.ended:
            jobs.cancel(job.run_id)
    assert eventually(lambda: all(job.ended for job in jobs.jobs()))
    jobs.close()
    blocks.close(verbose=False)
    services.store.close()


def opened(person: Person) -> Any:
    person.tab(say("ja", "tab.bench"))
    page: Any = person.page
    page.wait_for_selector("#bench-forecast .mix-now")
    return page


def test_the_one_button_leads_to_charts_and_to_a_single_pair(app: Served, visit: Callable[..., Person], tmp_path: Path):
    person = visit(app).open()
    page = opened(person)
    page.fill("#bench-limit input", "40")
    page.wait_for_selector("#bench-forecast :text('160 件の回答')")
    page.dblclick("#bench-start")
    page.wait_for_selector("#bench-list .state.live")
    page.wait_for_selector("#bench-summary progress")
    assert page.locator("#bench-list .entry").count() == 1
    page.wait_for_selector("#bench-score .main-svg")  # a chart before the end
    page.close()

    again = visit(app).open()
    page = opened(again)
    page.click("#bench-halt")
    page.wait_for_selector("#bench-list .state.fair")
    (tmp_path / "go").touch()
    page.click("#bench-resume")
    page.wait_for_selector("#bench-list .state.good")
    assert page.locator("#bench-list .entry").count() == 1
    page.wait_for_selector("#bench-summary .bench-sentence:text('100 % → 0 %')")
    for chart in ("score", "heat", "dumbbell", "distribution", "trade", "pace"):
        page.wait_for_selector(f"#bench-{chart} .main-svg")
    page.click("#bench-changes .better .entry >> nth=0")
    page.wait_for_selector("#bench-pair .past-side.right .verdict.good .why")
    page.wait_for_selector("#bench-pair .past-side.left .verdict.bad .why")
    assert page.locator("#bench-pair mark").count() > 2
    page.click("#bench-pair details.reference summary")
    for button, starts in (("report", b"<!DOCTYPE html>"), ("tables", b"PK")):
        page.click(f"#bench-{button}")
        with page.expect_download() as download:
            page.click(f"#bench-file a[download*='{'report' if button == 'report' else 'export'}']")
        assert Path(download.value.path()).read_bytes().startswith(starts)
    page.click("#bench-sql button")
    page.click("#bench-sql-run")
    page.wait_for_selector("#bench-sql-rows table :text('answercarefully-sample')")
    assert [*person.outside, *again.outside, *person.errors, *again.errors] == []


@pytest.mark.parametrize(
    ("theme", "size"), [("light", "desk"), ("dark", "desk"), ("light", "small"), ("dark", "phone")]
)
def test_the_page_fits_and_is_readable(
    app: Served, visit: Callable[..., Person], tmp_path: Path, theme: str, size: str
):
    run = benchmark(tmp_path)
    judged_again(tmp_path, run)
    person = visit(app, viewport=SIZES[size], color_scheme=theme).open()
    page = opened(person)
    page.wait_for_selector("#bench-list .entry >> nth=1")
    page.click(f"#bench-list [data-pick='{run.path.name}']")
    page.wait_for_selector("#bench-pace .main-svg")
    page.click("#bench-published input")
    page.wait_for_selector("#bench-board .published")
    page.click("#bench-changes .entry >> nth=0")
    page.wait_for_selector("#bench-pair .past-side")
    page.click("#bench-sql button")
    page.click("#bench-sql-run")
    page.wait_for_selector("#bench-sql-rows table")
    is_sound(person)
    person.shot(f"{theme}-{size}-7-bench")
    page.click("#bench-advanced button")
    page.get_by_text("English", exact=True).click()
    page.wait_for_selector(f"#bench-board :text('{say('en', 'bench.figure.violation')}')")
    page.wait_for_selector(f"#bench-start:text('{say('en', 'bench.start')}')")
    is_sound(person)
    person.shot(f"{theme}-{size}-7-bench-en")
    assert person.errors == []
