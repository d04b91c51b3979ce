"""What a person does on the Train page: start, close the page, find the run again, stop, resume, compare."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from playground.jobs import Supervisor
from playground.pages import build_app, launch_options, train
from playground.pages.text import say
from playground.probing import Check
from tests.browser.conftest import Person, Served
from tests.browser.test_journeys import eventually
from tests.browser.test_look import SIZES, is_sound
from tests.fakes import REPLIES, FakeEngine, fake_services
from tests.playground.pages.test_train import SOUND, fake_probe

FAKE_TRAINING = (sys.executable, "-m", "tests.browser.fake_training")


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The app with a supervisor at work, whose trainings are pretended, as is the look before a start."""
    probe = fake_probe(tmp_path, SOUND)
    monkeypatch.setattr(train, "Check", lambda sft, home: Check(sft, home, probe))
    engine = FakeEngine(replies={**REPLIES, "mine": "学習した答えです。"}, delay_s=0.005)
    jobs = Supervisor(tmp_path, program=FAKE_TRAINING)
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


def opened(person: Person) -> Person:
    person.tab(say("ja", "tab.train"))
    person.page.wait_for_selector("#train-start")  # type: ignore[attr-defined]
    person.page.wait_for_selector("#adapter-list .entry")  # type: ignore[attr-defined]
    return person


def test_a_training_is_started_once_survives_the_page_is_stopped_resumed_and_compared(
    app: Served, visit: Callable[..., Person], tmp_path: Path
):
    person = opened(visit(app).open())
    page = person.page
    page.fill("#train-name input, #train-name textarea", "mine")
    page.click("#train-check")
    page.wait_for_selector("#train-mix :text('5.6 GB')")
    assert page.locator("#train-seen mark.learned").count() == 2  # the legend and the row
    page.dblclick("#train-start")
    page.wait_for_selector("#train-list .state.live")
    assert page.locator("#train-list .entry").count() == 1
    page.wait_for_selector("#train-loss .main-svg")
    page.wait_for_selector(f"#train-samples :text('{say('ja', 'watch.samples.step', step=6)}')")
    assert "--preset" not in page.inner_text("#train-command pre")
    page.close()

    again = opened(visit(app).open())
    page = again.page
    page.wait_for_selector("#train-summary progress")
    page.click("#train-halt")
    page.wait_for_selector("#train-list .state.fair")
    (tmp_path / "go").touch()
    page.click("#train-resume")
    page.wait_for_selector("#train-compare")
    assert page.locator("#train-list .entry").count() == 1
    assert "12 / 12" in page.inner_text("#train-summary")
    page.click("#train-compare")
    page.wait_for_selector("#send", state="visible")
    assert "mine" in page.input_value("#model-right input")
    again.ask()
    again.wait_for_answers()
    assert page.inner_text("#answer-right .reply") == "学習した答えです。"
    assert [*person.outside, *again.outside, *person.errors, *again.errors] == []


def test_adapters_are_chosen_by_key_and_exported(app: Served, visit: Callable[..., Person]):
    page = opened(visit(app).open()).page
    page.focus("#adapter-list .entry")
    page.keyboard.press("Enter")
    page.wait_for_selector("#adapter-export", state="visible")
    assert not page.is_visible("#adapter-rename")
    page.click("#adapter-export")
    page.wait_for_selector("#adapter-file a")
    assert "general" in page.inner_text("#adapter-file")


@pytest.mark.parametrize(
    ("theme", "size"), [("light", "desk"), ("dark", "desk"), ("light", "small"), ("dark", "phone")]
)
def test_the_page_fits_and_is_readable(app: Served, visit: Callable[..., Person], theme: str, size: str):
    person = opened(visit(app, viewport=SIZES[size], color_scheme=theme).open())
    page = person.page
    page.fill("#train-name input, #train-name textarea", "mine")
    page.click("#train-check")
    page.wait_for_selector("#train-mix :text('5.6 GB')")
    page.click("#train-sweep-start")
    page.wait_for_selector(f"#train-samples :text('{say('ja', 'watch.samples.step', step=6)}')")
    page.click("#adapter-list .entry")
    page.wait_for_selector("#adapter-export", state="visible")
    is_sound(person)
    person.shot(f"{theme}-{size}-6-train")
    page.click("#train-advanced button")
    page.get_by_text("English", exact=True).click()
    page.wait_for_selector(f"#train-summary :text('{say('en', 'watch.loss')}')")
    page.wait_for_selector(f"#train-loss :text('{say('en', 'watch.step')}')")
    page.wait_for_selector(f"#train-start:text('{say('en', 'train.start')}')")
    is_sound(person)
    person.shot(f"{theme}-{size}-6-train-en")
