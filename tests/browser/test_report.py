"""The report in a browser that has no network, opened from disk as a colleague would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.benchmark.recorded import read_recorded
from evaluation.report import build_report
from tests.browser.conftest import PATIENCE_MS
from tests.evaluation.benchmark.made import Made, two_models
from tests.evaluation.report.test_page import hostile


class Seen:
    """A page, what it asked for, and what went wrong on it."""

    def __init__(self, page: object, file: Path) -> None:
        self.page, self.asked, self.wrong = page, [], []
        page.set_default_timeout(PATIENCE_MS)  # type: ignore[attr-defined]
        page.on("request", lambda request: self.asked.append(request.url))  # type: ignore[attr-defined]
        page.on("dialog", lambda dialog: (self.wrong.append(dialog.message), dialog.dismiss()))  # type: ignore[attr-defined]
        page.on("pageerror", lambda error: self.wrong.append(str(error)))  # type: ignore[attr-defined]
        page.on("console", lambda said: self.wrong.append(said.text))  # type: ignore[attr-defined]
        page.goto(file.as_uri())  # type: ignore[attr-defined]

    def text(self) -> str:
        return str(self.page.inner_text("main"))  # type: ignore[attr-defined]


@pytest.fixture
def read(chromium: object, tmp_path: Path) -> Iterator[Callable[..., Seen]]:
    """Write a run's report and open the file in a browser whose network is cut."""
    contexts = []

    def come(made: Made, **profile: object) -> Seen:
        recorded = read_recorded(tmp_path / "runs" / made.write(tmp_path / "runs"), tmp_path)
        file = tmp_path / "report.html"
        file.write_text(build_report([recorded], "2026-01-02T03:04:05Z"), encoding="utf-8")
        context = chromium.new_context(offline=True, **profile)  # type: ignore[attr-defined]
        contexts.append(context)
        return Seen(context.new_page(), file)

    yield come
    for context in contexts:
        context.close()


def test_it_opens_from_disk_without_a_network_and_asks_for_nothing(read):
    seen = read(two_models(90))
    assert "違反回答率 33 % → 11 %（90 組）" in seen.text()
    assert seen.page.locator("svg circle").first.is_visible()
    assert [url for url in seen.asked if not url.startswith("file://")] == [] and len(seen.asked) == 1
    assert seen.wrong == []


def test_its_reader_chooses_the_language(read):
    seen = read(two_models(90))
    assert "Violation rate" not in seen.text()
    seen.page.get_by_label("English").check()
    assert "violation 33 % -> 11 % over 90 pairs" in seen.text()
    assert "違反回答率" not in seen.text() and "Hate speech" in seen.text()


def test_it_follows_light_and_dark_and_fits_a_phone(read):
    papers = set()
    for scheme in ("light", "dark"):
        seen = read(two_models(30), color_scheme=scheme, viewport={"width": 390, "height": 800})
        papers.add(seen.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert len(papers) == 2


def test_hostile_text_stays_text_when_it_is_opened(read):
    seen = read(hostile())
    for summary in seen.page.locator("summary").all():
        summary.click()
    assert '<script>alert("canary")</script>' in seen.text()
    assert seen.page.locator("main script, main img, main a, main [onload], main [onerror]").count() == 0
    assert (seen.wrong, len(seen.asked)) == ([], 1)


def test_it_prints_in_one_language_on_white_paper_with_both_models(read):
    made = two_models(30)
    made.responses = [replace(response, text="長い回答です。" * 40) for response in made.responses]
    seen = read(made, color_scheme="dark")
    seen.page.emulate_media(media="print")
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not seen.page.get_by_label("English").is_visible()
    assert seen.page.pdf(format="A4").startswith(b"%PDF")
