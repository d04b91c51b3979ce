"""`make screenshots`: each page, on a desk and a phone, those for reading in both themes; the answers are the embedded model's.

Its benchmark is a true one over a few prompts. True trainings and servers would take the machine from the pictures: the
Train page shows a pretended training in the middle of its work (fake_training.py), the vLLM page a pretended server.
`--fakes` puts fakes in place of the model too, to see in a minute whether the way through the pages still works; those
pictures go to tests/artifacts.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported

from playwright.sync_api import Page, sync_playwright

import app
from playground import trainings
from playground.jobs import Supervisor
from playground.pages import Services, build_app, launch_options
from playground.pages.text import say
from playground.settings import Settings
from tests.browser.conftest import ARGUMENTS, ARTIFACTS, CHROMIUM, Person
from tests.browser.test_train_journey import FAKE_TRAINING
from tests.fakes import fake_services
from tests.playground.pages.test_results import benchmark
from tests.playground.pages.test_serving_page import READY, FakeServer
from training.presets import preset

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "docs" / "screenshots"
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
PATIENCE_MS = 180_000
LIMIT = 30  # prompts of the benchmark
MOST_PX = 2600  # of a page's height; long lists and tables go on below
TWO_ARE_ENOUGH, TWO = ("quality", "train", "bench", "serving"), ("light-desktop", "dark-phone")


def main(arguments: list[str]) -> int:
    """Take all pictures. Returns the exit status."""
    fakes = arguments == ["--fakes"]
    out = ARTIFACTS / "screenshots" if fakes else OUT
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        services = _fake(Path(scratch)) if fakes else _real(Path(scratch))
        services = replace(services, vllm=FakeServer(replace(READY, since=time.time())))  # type: ignore[arg-type]
        services.jobs.start()
        run = trainings.start(services.jobs, services.settings, [replace(preset("quick"), name="my-adapter")])[0]
        blocks = build_app(services)
        _, url, _ = blocks.launch(**launch_options(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True))
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
            for theme in ("light", "dark"):
                for size, viewport in SIZES.items():
                    context = browser.new_context(viewport=viewport, color_scheme=theme, locale="ja-JP")
                    page = context.new_page()
                    page.set_default_timeout(PATIENCE_MS)
                    _journey(page, url, out, f"{theme}-{size}")
                    context.close()
            browser.close()
        services.jobs.cancel(run)
        blocks.close(verbose=False)
        services.jobs.close()
        services.store.close()
    return 0


def _real(home: Path) -> Services:
    """The app as it is, with a benchmark of its shipped pair, and trainings that are pretended."""
    from playground.cli.main import main as playground

    (home / "models").symlink_to(Settings().home / "models")
    os.environ["PLAYGROUND_HOME"] = str(home)
    asked = ["--suite", "sample-test", "--models", "general,answercarefully-sample", "--judge", "embedded"]
    if playground(["bench", *asked, "--limit", str(LIMIT)]) != 0:
        raise SystemExit("The benchmark for the pictures failed.")
    services = app.build_services(Settings(home=home))
    services.engine.identity("base")  # waits for the model
    return replace(services, jobs=Supervisor(home, program=FAKE_TRAINING))


def _fake(home: Path) -> Services:
    benchmark(home)
    return replace(fake_services(home), jobs=Supervisor(home, program=FAKE_TRAINING))


def _journey(page: Page, url: str, out: Path, name: str) -> None:
    page.goto(url)
    page.wait_for_selector("#send")
    _shot(page, out, f"warning-{name}", full_page=False)
    page.click("#accept-warning")
    _shot(page, out, f"start-{name}")
    page.click("#send")
    for side in ("left", "right"):
        page.wait_for_selector(f"#verdict-{side} section.verdict")
    _shot(page, out, f"compare-{name}")
    for title, there in (
        ("browse", "#prompts .entry"),
        ("history", "#history-list .entry"),
        ("quality", "#quality-worst article"),
        ("train", "#train-samples article"),
        ("bench", "#bench-list .entry"),
        ("serving", "#serving-state .good"),
    ):
        if title in TWO_ARE_ENOUGH and name not in TWO:
            continue
        Person(page, url).tab(say("ja", f"tab.{title}"))
        page.wait_for_selector(there)
        if title == "browse":
            page.click("#prompts li:nth-child(5) .entry")
            page.wait_for_selector("#prompt-detail h2")
        if title == "bench":
            page.click("#bench-list .entry:has-text('ベンチマーク')")
            page.wait_for_selector("#bench-pace .main-svg")
        page.wait_for_timeout(1500)
        _shot(page, out, f"{title}-{name}")


def _shot(page: Page, out: Path, name: str, **options: Any) -> None:
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(400)
    width, height = page.evaluate("[innerWidth, document.documentElement.scrollHeight]")
    if not options:
        options = {"full_page": True, "clip": {"x": 0, "y": 0, "width": width, "height": min(height, MOST_PX)}}
    page.screenshot(path=out / f"{name}.png", **options)
    print(name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
