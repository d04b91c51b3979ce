"""What each role is shown in a shared profile, signed in by the form; the server's own checks are the role matrix's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from playground.pages.text import say
from playground.users import ROLES, at_least
from tests.browser.conftest import Person
from tests.playground.access.serving import PASSWORD, served, settings_for, users_file

# Part of the page -> the tab it is on and the least role that it is drawn for.
PARTS = {
    "#train-start": ("train", "operator"),
    "#adapter-import-part": ("train", "owner"),
    "#serving-state section": ("serving", "operator"),
    "#bench-form": ("bench", "operator"),
    "#history-search": ("history", "visitor"),
}
ONLY_FOR_OPERATORS = ("train", "serving")
LOCALES = {None: "en-GB", "rater": "ja-JP", "operator": "en-GB", "owner": "ja-JP"}


def test_each_role_is_shown_what_it_may_use_in_the_language_of_its_browser(
    visit: Callable[..., Person], tmp_path: Path
):
    settings = settings_for(tmp_path, profile="gpu", users=users_file(tmp_path / "users.json"))
    assert set(LOCALES) - {None} <= set(ROLES)
    with served(settings) as app:
        for role, locale in LOCALES.items():
            person = visit(app, locale=locale)
            language = locale[:2]
            page: Any = person.page
            if role is not None:
                page.goto(f"{app.url}sign-in")
                page.fill("[name=name]", role)
                page.fill("[name=password]", "not this one")
                page.click("button")
                page.wait_for_selector("[role=alert]")
                page.fill("[name=name]", role)
                page.fill("[name=password]", PASSWORD)
                page.click("button")
            person.open()
            page.wait_for_selector(f"#send:has-text('{say(language, 'send')}')")
            words = say(language, f"access.role.{role}" if role else "access.sign_in")
            page.wait_for_selector(f"#who .signed-in:has-text('{words}')")
            shown = set()
            for part, (tab, least) in PARTS.items():
                if at_least(role or "visitor", "operator") or tab not in ONLY_FOR_OPERATORS:
                    person.tab(say(language, f"tab.{tab}"))
                    page.wait_for_selector(part, state="visible" if at_least(role or "visitor", least) else "hidden")  # type: ignore[arg-type]
                    shown.add(tab)
            tabs = page.locator("#pages [role=tab]:visible").all_inner_texts()
            named = {say(language, f"tab.{tab}") for tab in ONLY_FOR_OPERATORS}
            assert (
                bool(named & set(tabs)) is (set(ONLY_FOR_OPERATORS) <= shown) is at_least(role or "visitor", "operator")
            )
            if role is not None:
                page.click("#who button")
                page.wait_for_selector("form[action='/sign-in']")
            assert person.errors == []


def test_the_way_out_is_within_the_width_of_a_phone(visit: Callable[..., Person], tmp_path: Path):
    settings = settings_for(tmp_path, profile="gpu", users=users_file(tmp_path / "users.json"))
    with served(settings) as app:
        for locale in ("ja-JP", "en-GB"):
            person = visit(app, locale=locale, viewport={"width": 360, "height": 740})
            page: Any = person.page
            page.goto(f"{app.url}sign-in")
            page.fill("[name=name]", "operator")
            page.fill("[name=password]", PASSWORD)
            page.click("button")
            person.open()
            page.wait_for_selector("#who form button")
            edges = "(name) => { const box = document.querySelector(name).getBoundingClientRect(); return [box.left, box.right]; }"
            for part in ("#who form button", "#who span", ".brand strong", "#language", "#theme-switch"):
                left, right = page.evaluate(edges, part)
                assert left >= 0 and right <= 360, part
            assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
