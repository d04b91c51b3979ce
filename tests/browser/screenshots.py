"""`make screenshots`: the real app with the embedded model, each page in both themes, on a desk and a phone."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported

from playwright.sync_api import Page, sync_playwright

import app
from playground.pages import build_app, launch_options
from playground.settings import Settings
from tests.browser.conftest import ARGUMENTS, CHROMIUM

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "docs" / "screenshots"
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
PATIENCE_MS = 180_000


def main() -> int:
    """Take all pictures. Returns the exit status."""
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        (home / "models").symlink_to(Settings().home / "models")
        services = app.build_services(Settings(home=home))
        services.engine.identity("base")  # waits for the model
        blocks = build_app(services)
        _, url, _ = blocks.launch(**launch_options(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True))
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
            for theme in ("light", "dark"):
                for size, viewport in SIZES.items():
                    page = browser.new_context(viewport=viewport, color_scheme=theme).new_page()
                    page.set_default_timeout(PATIENCE_MS)
                    _journey(page, url, f"{theme}-{size}")
            browser.close()
        blocks.close(verbose=False)
        services.store.close()
    return 0


def _journey(page: Page, url: str, name: str) -> None:
    page.goto(url)
    page.wait_for_selector("#send")
    _shot(page, f"warning-{name}", full_page=False)
    page.click("#accept-warning")
    _shot(page, f"start-{name}")
    page.click("#send")
    for side in ("left", "right"):
        page.wait_for_selector(f"#verdict-{side} section.verdict")
    _shot(page, f"compare-{name}")
    for tab, title in (("質問を探す", "browse"), ("履歴", "history")):
        page.get_by_role("tab", name=tab, exact=True).click()
        page.wait_for_timeout(1500)
        _shot(page, f"{title}-{name}")


def _shot(page: Page, name: str, **options: Any) -> None:
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(400)
    page.screenshot(path=OUT / f"{name}.png", **{"full_page": True, **options})
    print(name)


if __name__ == "__main__":
    sys.exit(main())
