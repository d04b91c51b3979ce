"""The numbers on the cells of the heat map and of the judge matrix can be read in both themes."""

from __future__ import annotations

import re

import pytest

from playground.pages.frame import ASSETS
from playground.pages.results_charts import AGREED, BAD, _scale
from playground.pages.theme import PlaygroundTheme

RULE = re.compile(r"\.annotation-text \{ fill: var\(--([a-z-]+)\) !important; \}")


def light(colour: tuple[float, ...]) -> float:
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def from_hex(text: str) -> tuple[float, ...]:
    return tuple(int(text[at : at + 2], 16) for at in (1, 3, 5))


@pytest.mark.parametrize("dark", ["", "_dark"])
@pytest.mark.parametrize("colour", [BAD, AGREED])
@pytest.mark.parametrize("step", [0, 1])
def test_numbers_on_cells_have_the_contrast_of_text(colour: str, step: int, dark: str):
    told = RULE.search((ASSETS / "app.css").read_text(encoding="utf-8"))
    assert told is not None
    theme = PlaygroundTheme()
    text = from_hex(getattr(theme, told[1].replace("-", "_") + dark))
    page = from_hex(getattr(theme, f"body_background_fill{dark}"))
    *cell, share = (float(number) for number in re.findall(r"[\d.]+", _scale(colour)[step][1]))
    behind = tuple(share * c + (1 - share) * p for c, p in zip(cell, page, strict=True))
    one, other = sorted((light(text), light(behind)))
    assert (other + 0.05) / (one + 0.05) >= 4.5
