"""A walk through every page with something on each of them, for what has to hold everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playground.pages.text import say
from tests.browser.conftest import Person
from tests.playground.pages.test_results import benchmark, judged_again
from tests.playground.pages.test_train_watch import step, training


def furnish(home: Path) -> None:
    """A training that has ended, and a benchmark that two judges have read."""
    with training(home) as folder:
        for number in range(3, 10):
            step(folder, number, 4.0 / number)
        folder.event(
            "metric", stage="samples", step=9, samples=[{"prompt_id": "p", "question": "質問", "text": "答え"}]
        )
        folder.event("finished", adapter="x", model_id="mine")
    judged_again(home, benchmark(home))


def walk(person: Person, language: str) -> Iterator[str]:
    """Go from page to page; yields the name of each once all of it is drawn. The warning must have been accepted."""
    page: Any = person.page
    page.wait_for_selector("#pane-left .badge code")
    person.ask()
    person.wait_for_verdicts()
    page.click("#diff input")
    page.wait_for_selector("#answer-left mark")
    page.click("#vote-right")
    page.wait_for_selector("#vote-note .done")
    page.click("#sampling button")
    page.click("#unlock input")
    reset = (
        "初期値に戻す" if language == "ja" else "Reset to default value"
    )  # Gradio's own words, put into Japanese by head.html
    page.wait_for_selector(f"#sampling [aria-label='{reset}'] >> nth=5")
    yield "compare"
    person.tab(say(language, "tab.browse"))
    page.click("#prompts li:nth-child(3) .entry")
    page.wait_for_selector("#prompt-detail h2")
    yield "browse"
    person.tab(say(language, "tab.history"))
    page.click("#history-list .entry")
    page.wait_for_selector("#history-open article")
    yield "history"
    person.tab(say(language, "tab.quality"))
    page.wait_for_selector("#quality-worst article")
    yield "quality"
    person.tab(say(language, "tab.train"))
    page.wait_for_selector("#adapter-list .entry")
    page.click("#train-advanced > button")
    page.click("#adapter-list .entry")
    page.wait_for_selector("#adapter-export", state="visible")
    page.wait_for_selector("#train-rate .main-svg")
    yield "train"
    person.tab(say(language, "tab.bench"))
    page.wait_for_selector("#bench-list .entry >> nth=1")
    page.click("#bench-list .entry:has-text('made up')")
    page.wait_for_selector("#bench-pace .main-svg")
    page.click("#bench-published input")
    page.wait_for_selector("#bench-board .published")
    page.click("#bench-changes .entry >> nth=0")
    page.wait_for_selector("#bench-pair .past-side")
    page.click("#bench-advanced > button")
    yield "bench"
    person.tab(say(language, "tab.serving"))
    page.wait_for_timeout(500)
    yield "serving"
