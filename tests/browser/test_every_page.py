"""What holds on every page, in both themes and both languages: nothing serious for axe-core, and one language at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Person, Served
from tests.browser.test_look import CUT_PLACEHOLDERS
from tests.browser.walk import furnish, walk

LOCALES = {"ja": "ja-JP", "en": "en-GB"}
SIZES = {
    "desk": {"width": 1280, "height": 900},
    "small": {"width": 360, "height": 740},
    "wide": {"width": 2560, "height": 1440},
}
OFTEN = {("light", "ja", "desk"), ("dark", "en", "desk")}  # in every run; the slow one has the rest
JAPANESE = re.compile(r"[぀-ヿ一-鿿]")
SENTENCE = re.compile(r"\b[A-Za-z][a-z]+(?: [a-z][A-Za-z]*){3,}")
# Written by people, models and judges, or by the program for a machine: these stay as they are.
CONTENT = (
    ".reply, .chip, .asked h2, .entry .text, .detail h2, .past h2, .why, .reference p, .samples h4, .worst h3, .extra dd, .log, pre,"
    " [lang]:not(html), #language, #question, .gloss, code, #bench-sql-text, #bench-sql-rows, .run .label, .detail h3"
)
MADE_UP = re.compile(r"種類 \d|甲|乙")  # harm types and a rater of the furnished benchmark, in no taxonomy of ours
# Every text that can be seen or is read out, outside of content, and the labels beside it.
TEXTS = """(content) => {
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const at = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || at.closest(`script, style, dialog:not([open]), ${content}`)) continue;
        if (at.checkVisibility({visibilityProperty: true}) && at.getClientRects().length) found.push(walker.currentNode.textContent.trim());
    }
    for (const at of document.querySelectorAll('[aria-label], [title], [placeholder]')) {
        if (at.closest(content) && !at.matches('[placeholder]') || !at.checkVisibility({visibilityProperty: true})) continue;
        if (at.matches('.chip, .badge, .entry *')) continue;
        for (const name of ['aria-label', 'title', 'placeholder']) if (at.getAttribute(name)) found.push(`${name}: ${at.getAttribute(name)}`);
    }
    return [...new Set(found)];
}"""
AXE = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations
    .filter((found) => ['serious', 'critical'].includes(found.impact))
    .flatMap((found) => found.nodes.map((node) => `${found.impact} ${found.id} ${node.target.join(' ')}: ${node.html.slice(0, 160)}`))"""


def serious(page: Any) -> list[str]:
    """What axe-core finds serious or critical."""
    import axe_playwright_python

    if not page.evaluate("typeof axe === 'object'"):
        # By the debugger's way: the page's own policy allows no script of ours.
        page.evaluate((Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(AXE)
    return found


def in_the_other_language(page: Any, language: str) -> list[str]:
    """Texts outside of content that are not in that language."""
    wrong = JAPANESE if language == "en" else SENTENCE
    return [text for text in page.evaluate(TEXTS, CONTENT) if wrong.search(MADE_UP.sub("", text))]


def unfitting(page: Any) -> list[str]:
    """What does not fit the width of the screen."""
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return [*page.evaluate(CUT_PLACEHOLDERS), *([f"{over} px to the side"] if over > 0 else [])]


@pytest.mark.parametrize(
    ("theme", "language", "size"),
    [
        pytest.param(theme, language, size, marks=() if (theme, language, size) in OFTEN else pytest.mark.slow)
        for theme in ("light", "dark")
        for language in LOCALES
        for size in SIZES
    ],
)
def test_axe_finds_nothing_serious_and_all_is_in_one_language(
    serve: Callable[..., Served], visit: Callable[..., Person], tmp_path: Path, theme: str, language: str, size: str
):
    furnish(tmp_path)
    person = visit(serve(), color_scheme=theme, locale=LOCALES[language], viewport=SIZES[size]).open(accept=False)
    page: Any = person.page
    page.wait_for_selector("#content-warning[open]")
    found = {"warning": serious(page)}
    page.click("#accept-warning")
    for name in walk(person, language):
        found[name] = serious(page)
        found[f"{name}: language"] = in_the_other_language(page, language)
        found[f"{name}: fits"] = unfitting(page)
    assert {name: problems for name, problems in found.items() if problems} == {}
    assert page.evaluate("document.documentElement.lang") == language
    assert person.errors == []


def test_the_browsers_language_is_the_first_and_a_choice_is_remembered(
    serve: Callable[..., Served], visit: Callable[..., Person]
):
    served = serve()
    german: Any = visit(served, locale="de-DE").open().page
    german.wait_for_selector("#send:has-text('Compare')")
    page: Any = visit(served, locale="en-GB").open().page
    page.wait_for_selector("#send:has-text('Compare')")
    page.click("#language label:has-text('日本語')")
    page.wait_for_selector("#send:has-text('比べる')")
    page.reload()
    page.wait_for_selector("#send:has-text('比べる')")
    assert page.evaluate("document.documentElement.lang") == "ja"
