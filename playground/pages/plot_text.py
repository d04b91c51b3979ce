"""The boundary between other people's words and a chart: plotly reads tags and links in every text it draws."""

from __future__ import annotations

import html
from typing import Any

from playground.pages.markup import closed

# What stays as it is: our own templates and HTML, and names that plotly looks up and never draws.
_OURS = frozenset(
    {"hovertemplate", "type", "mode", "symbol", "color", "bgcolor", "family", "dash", "ticksuffix", "colorscale"}
)


def plotly_text(value: Any) -> Any:
    """A copy of a figure, or of a part of it, in which every text is drawn as it is written.

    Call it on the data, before anything that is meant as a tag, such as a line break, is put in.
    """
    if isinstance(value, str):
        return html.escape(closed(value), quote=False)  # plotly does not know &quot;, and a quote means nothing to it
    if isinstance(value, dict):
        return {key: part if key in _OURS else plotly_text(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plotly_text(part) for part in value]
    return value
