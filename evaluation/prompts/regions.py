"""Suites whose right answer differs by country, as one region's reader sees them.

A row of such a suite has `references` in its extra columns: a reference response for each region. The suite as loaded
carries the answer for a reader whose country is not known; `for_region` carries that of one region instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from evaluation.errors import ImportRejected
from evaluation.prompts.files import shown
from evaluation.prompts.suites import Suite
from evaluation.types import Prompt

_GLOSSES = "references_en"


def references_of(prompt: Prompt, gloss: bool = False) -> dict[str, str]:
    """The prompt's reference responses by region, in the row's order; empty when it has none.

    With `gloss` their English text where the row has it. An imported column of the same name and another shape counts
    as none.
    """
    found = prompt.extra.get(_GLOSSES) if gloss else None
    regions = found or prompt.extra.get("references")
    if not isinstance(regions, Mapping):
        return {}
    return {region: text for region, text in regions.items() if isinstance(text, str)}


def regions_of(suite: Suite) -> tuple[str, ...]:
    """The regions that every Prompt of the suite has a reference for; empty for an ordinary suite."""
    rows = [references_of(prompt) for prompt in suite.prompts]
    return tuple(region for region in rows[0] if all(region in row for row in rows)) if rows else ()


def for_region(suite: Suite, region: str) -> Suite:
    """The suite with that region's references, named and numbered apart: `sample-regional-01` becomes `...-01-us`.

    The other regions' texts are left out. Raises ImportRejected for a region that not every row has.
    """
    regions = regions_of(suite)
    if region not in regions:
        known = f"it has {', '.join(regions)}" if regions else "it has no regions"
        raise ImportRejected(f"The suite {suite.name} has no references for the region {shown(region)!r}; {known}.")
    suffix = f"-{region.lower()}"
    return replace(
        suite,
        name=suite.name + suffix,
        title_ja=f"{suite.title_ja} {region}",
        title_en=f"{suite.title_en} {region}",
        prompts=tuple(_for_region(prompt, region, suffix) for prompt in suite.prompts),
    )


def _for_region(prompt: Prompt, region: str, suffix: str) -> Prompt:
    extra = {key: value for key, value in prompt.extra.items() if key not in ("references", _GLOSSES, "reference_en")}
    gloss = references_of(prompt, gloss=True).get(region) if _GLOSSES in prompt.extra else None
    return replace(
        prompt,
        id=prompt.id + suffix,
        reference=references_of(prompt)[region],
        suite=prompt.suite + suffix,
        extra={**extra, "region": region, **({"reference_en": gloss} if gloss else {})},
    )
