"""What the page looks like in both themes, on a phone and on a desk. The pictures are in tests/artifacts/: look at them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from playground.pages.text import say
from tests.browser.conftest import Person, Served

SIZES = {
    "phone": {"width": 390, "height": 844},
    "small": {"width": 360, "height": 740},
    "desk": {"width": 1280, "height": 900},
}

# Contrast of every piece of text that can be seen against the first opaque background behind it (WCAG 2 formula).
LOW_CONTRAST = """() => {
    const parse = (text) => { const v = text.match(/[\\d.]+/g).map(Number); return [v[0], v[1], v[2], v.length > 3 ? v[3] : 1]; };
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (element) => {
        for (let e = element; e; e = e.parentElement) {
            const colour = parse(getComputedStyle(e).backgroundColor);
            if (colour[3] > 0.99) return colour;
        }
        return parse(getComputedStyle(document.body).backgroundColor);
    };
    const low = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || !element.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
        if (element.closest('button:disabled, [aria-hidden=true], script, style, dialog:not([open])')) continue;
        if (element.getClientRects().length === 0) continue;
        const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
        const size = parseFloat(getComputedStyle(element).fontSize);
        const large = size >= 24 || (size >= 18.66 && parseInt(getComputedStyle(element).fontWeight) >= 700);
        if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) {
            low.push(`${((a + 0.05) / (b + 0.05)).toFixed(2)} ${element.tagName}.${element.className}: ${walker.currentNode.textContent.trim().slice(0, 20)}`);
        }
    }
    return low;
}"""

# Placeholders that do not fit on the one line that a box gives them.
CUT_PLACEHOLDERS = """() => {
    const pen = document.createElement('canvas').getContext('2d');
    return [...document.querySelectorAll('input[placeholder], textarea[placeholder]')]
        .filter((box) => box.placeholder && box.checkVisibility({visibilityProperty: true}) && box.getClientRects().length)
        .filter((box) => {
            const style = getComputedStyle(box);
            pen.font = `${getComputedStyle(box, '::placeholder').fontSize} ${style.fontFamily}`;
            return pen.measureText(box.placeholder).width > box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
        }).map((box) => box.placeholder);
}"""


def is_sound(person: Person) -> None:
    """No sideways scrolling, all text readable, and no placeholder cut off."""
    page = person.page
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert page.evaluate(LOW_CONTRAST) == []
    assert page.evaluate(CUT_PLACEHOLDERS) == []


@pytest.mark.parametrize(
    ("theme", "size"),
    [("light", "phone"), ("dark", "phone"), ("light", "desk"), ("dark", "desk"), ("light", "small")],
)
def test_every_page_fits_and_is_readable(
    serve: Callable[..., Served], visit: Callable[..., Person], theme: str, size: str
):
    person = visit(serve(), viewport=SIZES[size], color_scheme=theme).open(accept=False)
    page = person.page
    page.wait_for_selector("#content-warning[open]")
    is_sound(person)
    person.shot(f"{theme}-{size}-0-warning")
    page.click("#accept-warning")
    page.wait_for_selector("#pane-left .badge code")
    page.wait_for_selector("#readiness .banner", state="detached")
    is_sound(person)
    person.shot(f"{theme}-{size}-1-first")
    person.tab(say("ja", "tab.browse"))
    page.click("#prompts li:nth-child(3) .entry")
    page.wait_for_selector("#prompt-detail h2")
    is_sound(person)
    person.shot(f"{theme}-{size}-2-browse")
    page.click("#use-prompt")
    page.wait_for_selector("#send", state="visible")
    person.ask()
    person.wait_for_verdicts()
    page.click("#diff input")
    page.wait_for_selector("#answer-left mark")
    page.click("#vote-right")
    page.wait_for_selector("#vote-note .done")
    page.click("#sampling button")
    is_sound(person)
    person.shot(f"{theme}-{size}-3-judged")
    person.tab(say("ja", "tab.history"))
    page.click("#history-list .entry")
    page.wait_for_selector("#history-open article")
    is_sound(person)
    person.shot(f"{theme}-{size}-4-history")


def test_every_control_can_be_reached_by_key_and_shows_the_focus(
    serve: Callable[..., Served], visit: Callable[..., Person]
):
    page = visit(serve()).open().page
    page.wait_for_selector("#pane-left .badge code")
    page.focus("#question textarea")
    reached: set[str] = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                """() => {
                    const at = document.activeElement;
                    if (at === document.body) return '';  // past the last control, on the way round
                    const style = getComputedStyle(at);
                    const seen = parseFloat(style.outlineWidth) > 0 && style.outlineStyle !== 'none' || style.boxShadow !== 'none'
                        || at.matches('[type=radio]');
                    return seen ? (at.closest('[id]')?.id ?? '') : `no focus ring: ${at.outerHTML.slice(0, 80)}`;
                }"""
            )
        )
    assert [name for name in reached if name.startswith("no focus ring")] == []
    assert {"send", "diff", "new", "judge-auto"} <= reached


def test_motion_stops_for_those_who_asked_for_less(serve: Callable[..., Served], visit: Callable[..., Person]):
    page = visit(serve(), reduced_motion="reduce").open().page
    moving = page.evaluate("document.getAnimations().filter((a) => a.playState === 'running').length")
    assert moving == 0
