"""The charts of a benchmark as plotly figures, plain dicts of counted numbers: no text of a prompt or a model.

As in train_charts.py, text and grid take their colours from app.css and follow light and dark; marks have mid-tones that
can be told apart on both, and shapes beside colours. A figure is made again in another language, never translated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gradio.components.plot import PlotData

from evaluation.benchmark.comparison import HarmTypeTest
from evaluation.benchmark.words import p_words
from evaluation.metrics import Rate
from evaluation.types import SCORES, Scale
from playground.pages.plot_text import plotly_text
from playground.published import Published
from playground.scoreboard import Figure, Point
from playground.store.pairs import Cell
from playground.store.progress import Progress

COLOURS = ("#6d78cf", "#23908a", "#bd6a2a", "#b2589a", "#7d8a3a", "#8a7bd0")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "hexagon")
GREY = "#8b8f9c"
NOTHING = "rgba(0,0,0,0)"
BAD = "189,106,42"  # how much is wrong: the more, the denser
AGREED = "109,120,207"
MOST_POINTS = 400  # of a line or a cloud
GAP = 0.14  # between two panels of a chart, a share of its height

Words = Mapping[str, str]  # what a chart says, by key; the page looks them up in its language


def style(number: int) -> tuple[str, str]:
    """Colour and shape of the model at that place."""
    return COLOURS[number % len(COLOURS)], SYMBOLS[number % len(SYMBOLS)]


def scoreboard(
    rows: Sequence[tuple[str, str, Rate]], published: Sequence[Published], words: Words, warning: str
) -> PlotData | None:
    """Shares with their intervals: (what is measured, model, Rate); published values hollow, without intervals."""
    known = [row for row in rows if row[2].value is not None]
    if not known:
        return None
    traces = []
    for number, model in enumerate(dict.fromkeys(model for _, model, _ in known)):
        colour, symbol = style(number)
        own = [(what, rate) for what, name, rate in known if name == model]
        values = [100 * (rate.value or 0) for _, rate in own]
        high = [100 * rate.high - v if rate.high is not None else 0 for (_, rate), v in zip(own, values, strict=True)]
        low = [v - 100 * rate.low if rate.low is not None else 0 for (_, rate), v in zip(own, values, strict=True)]
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": model, "x": values, "y": [what for what, _ in own],
                "error_x": {"type": "data", "symmetric": False, "array": high, "arrayminus": low, "color": colour, "thickness": 2, "width": 5},
                "marker": {"size": 11, "color": colour, "symbol": symbol},
                "text": [f"{rate.judged} / {rate.judged + rate.missing}" for _, rate in own],
                "hovertemplate": "%{x:.1f} % (%{text})",
            }
        )  # fmt: skip
    measured = {what for what, _, _ in known}
    for number, one in enumerate(published):
        shares = {what: share for what, share in ((words["violation"], one.violation), (words["acceptable"], one.acceptable)) if what in measured}  # fmt: skip
        if shares:
            traces.append(
                {
                    "type": "scatter", "mode": "markers", "name": f"{words['published']}: {one.name}",
                    "x": [100 * share for share in shares.values()], "y": [*shares],
                    "marker": {"size": 10, "color": GREY, "symbol": f"{SYMBOLS[number % len(SYMBOLS)]}-open", "line": {"width": 2}},
                    "hovertemplate": "%{x:.1f} %",
                }
            )  # fmt: skip
    # Models side by side would cover each other's intervals: each a little apart on the category axis.
    for number, trace in enumerate(traces):
        trace |= {"offsetgroup": str(number), "orientation": "h"}
    layout = {
        "xaxis": {"title": {"text": words["share"]}, "range": [-1, 101], "ticksuffix": " %", "zeroline": False},
        "yaxis": {"automargin": True, "autorange": "reversed", "type": "category"},
        "scattermode": "group",
    }
    rows_high = len(measured) * (28 + 18 * len(traces))
    return figure(traces, layout, 130 + rows_high, warning)


def heat_map(
    harm_types: Sequence[str], models: Sequence[str], cells: Mapping[tuple[str, str], tuple[Rate, bool]], words: Words,
    warning: str,
) -> PlotData | None:  # fmt: skip
    """Violation rate by harm type and model. A cell of fewer than 30 prompts is grey, with its number."""

    def grid(small: bool) -> list[list[float | None]]:
        return [
            [100 * rate.value if (cell := cells.get((harm, model))) and (rate := cell[0]).value is not None and cell[1] == small else None for model in models]
            for harm in harm_types
        ]  # fmt: skip

    def label(harm: str, model: str) -> str:
        cell = cells.get((harm, model))
        if cell is None or cell[0].value is None:
            return "–"
        return f"{100 * cell[0].value:.0f} % (n={cell[0].judged})"

    traces = [
        {
            "type": "heatmap", "x": [*models], "y": [*harm_types], "z": grid(small), "zmin": 0, "zmax": 100, "xgap": 3, "ygap": 3,
            "colorscale": [[0, "rgba(128,132,146,0.20)"], [1, "rgba(128,132,146,0.20)"]] if small else _scale(BAD),
            "showscale": not small, "hoverinfo": "skip",
            **({} if small else {"colorbar": {"thickness": 10, "ticksuffix": " %", "outlinewidth": 0}}),
        }
        for small in (True, False)
        if any(value is not None for row in grid(small) for value in row)
    ]  # fmt: skip
    if not traces:  # nothing is judged yet, or nothing will be
        return None
    notes = [
        {"x": model, "y": harm, "text": label(harm, model), "showarrow": False, "font": {"size": 12}}
        for harm in harm_types
        for model in models
    ]
    layout = {
        "xaxis": {"side": "top", "type": "category", "automargin": True},
        "yaxis": {"automargin": True, "autorange": "reversed", "type": "category"},
        "annotations": notes,
    }
    return figure(traces, layout, 120 + 34 * len(harm_types), warning)


def dumbbell(
    tests: Sequence[HarmTypeTest], names: Mapping[str, str], models: tuple[str, str], words: Words, warning: str
) -> PlotData | None:
    """Violations before and after, harm type by harm type: the tested ones by their change, the small ones grey below."""
    shown = [test for test in tests if test.left is not None and test.right is not None]
    if not shown:
        return None
    ranked = sorted((t for t in shown if not t.small), key=lambda t: (t.right or 0) - (t.left or 0))
    order = [*ranked, *(t for t in shown if t.small)]

    def name(test: HarmTypeTest) -> str:
        holm = "" if test.p_holm is None else f", {p_words(test.p_holm)}"
        return f"{names.get(test.harm_type, test.harm_type)} (n={test.pairs}{holm})"

    lines: dict[str, Any] = {"x": [], "y": []}
    for test in order:
        lines["x"] += [100 * (test.left or 0), 100 * (test.right or 0), None]
        lines["y"] += [name(test), name(test), None]
    traces: list[dict[str, Any]] = [
        {"type": "scatter", "mode": "lines", "showlegend": False, "hoverinfo": "skip", **lines, "line": {"color": GREY, "width": 3}}
    ]  # fmt: skip
    for number, (side, model) in enumerate(zip(("left", "right"), models, strict=True)):
        colour, symbol = style(number)
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": model, "x": [100 * getattr(t, side) for t in order],
                "y": [name(t) for t in order], "hovertemplate": "%{x:.1f} %",
                "marker": {"size": 12, "symbol": symbol, "color": [GREY if t.small else colour for t in order]},
            }
        )  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": words["violation"]}, "range": [-2, 102], "ticksuffix": " %", "zeroline": False},
        "yaxis": {"automargin": True, "autorange": "reversed", "type": "category"},
    }
    return figure(traces, layout, 120 + 32 * len(order), warning)


def trade_off(points: Sequence[Point], run_id: str, words: Words, warning: str) -> PlotData | None:
    """Violations against refusals and, below, against usefulness; what nobody judged has no panel.

    A mark for each model of each run; a sweep's marks are joined and say their multiplier.
    """
    panels = [side for side in ("refusal", "usefulness") if any(getattr(p, side) is not None for p in points)]
    sweeps: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        if point.sweep is not None:
            sweeps.setdefault((point.run_id, point.sweep), []).append(point)
    clouds = [(f"{name}-x*", sorted(own, key=lambda point: point.step)) for (_, name), own in sweeps.items()]
    others = [point for point in points if point.sweep is None][-MOST_POINTS:]
    for model in dict.fromkeys(point.model for point in others):
        clouds.append((model, [point for point in others if point.model == model]))
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    named: set[int] = set()  # both panels have one entry in the legend
    height = (1 - GAP * (len(panels) - 1)) / max(1, len(panels))
    for panel, side in enumerate(panels):
        axis = str(panel + 1) if panel else ""
        for number, (name, own) in enumerate(clouds):
            there = [point for point in own if getattr(point, side) is not None]
            if there:
                at = {"xaxis": f"x{axis}", "yaxis": f"y{axis}", "legendgroup": str(number), "showlegend": number not in named}  # fmt: skip
                traces.append(_cloud(there, side, name, style(number)[0], run_id) | at)
                named.add(number)
        span = {"range": [-3, 103], "ticksuffix": " %"}
        bottom = (len(panels) - 1 - panel) * (height + GAP)
        layout[f"xaxis{axis}"] = {
            "title": {"text": words[side]}, "anchor": f"y{axis}", "zeroline": False,
            **(span if side == "refusal" else {"range": [0.8, 10.2]}),
        }  # fmt: skip
        layout[f"yaxis{axis}"] = {
            "title": {"text": words["violation"]}, "domain": [bottom, bottom + height], "zeroline": False, **span
        }  # fmt: skip
    return figure(traces, layout, 400 * len(panels), warning) if traces else None


def _cloud(points: Sequence[Point], side: str, name: str, colour: str, run_id: str) -> dict[str, Any]:
    times, unit = (100, " %") if side == "refusal" else (1, "")
    return {
        "type": "scatter", "mode": "markers" if points[0].sweep is None else "lines+markers+text", "name": name,
        "x": [times * getattr(p, side) for p in points], "y": [100 * p.violation for p in points],
        "text": [f"{p.step}x" for p in points], "textposition": "top center", "textfont": {"size": 11},
        "customdata": [f"{p.model} · {p.run_id} · {p.judge}" for p in points],
        "hovertemplate": f"%{{customdata}}<br>%{{x:.1f}}{unit}, %{{y:.1f}} %<extra></extra>",
        "line": {"color": colour, "width": 2},
        # The run that is open is full, the others are hollow.
        "marker": {"size": 11, "color": colour, "line": {"width": 2}, "symbol": ["circle" if p.run_id == run_id else "circle-open" for p in points]},
        "cliponaxis": False,
    }  # fmt: skip


def distribution(scores: Mapping[str, Mapping[int, int]], words: Words, warning: str) -> PlotData | None:
    """How often each score was given, in percent of the judged, by model."""
    traces = []
    for number, (model, counted) in enumerate(scores.items()):
        total = sum(counted.values())
        if total:
            traces.append(
                {
                    "type": "bar", "name": model, "x": [str(score) for score in counted],
                    "y": [100 * count / total for count in counted.values()], "text": [f"{count}" for count in counted.values()],
                    "marker": {"color": style(number)[0]}, "hovertemplate": "%{y:.1f} % (%{text})", "textposition": "none",
                }
            )  # fmt: skip
    if not traces:
        return None
    layout = {
        "barmode": "group",
        "xaxis": {"title": {"text": words["score"]}, "type": "category"},
        "yaxis": {"title": {"text": words["share"]}, "ticksuffix": " %", "rangemode": "tozero", "zeroline": False},
    }
    return figure(traces, layout, 320, warning)


def judge_matrix(
    cells: Sequence[Cell], judges: tuple[str, str], scale: Scale, words: Words, warning: str
) -> PlotData | None:
    """Scores of one judge against another's, counted; without a score counts in a row and column of its own."""
    if not cells:
        return None
    lowest, highest = SCORES[scale]
    levels: list[int | None] = [*range(lowest, highest + 1), None]
    counts = {(cell.first, cell.second): cell.count for cell in cells}
    names = [words["unscored"] if level is None else str(level) for level in levels]
    grid = [[counts.get((first, second), 0) for second in levels] for first in levels]
    trace = {
        "type": "heatmap", "x": names, "y": names, "z": grid, "colorscale": _scale(AGREED), "showscale": False,
        "xgap": 3, "ygap": 3, "hoverinfo": "skip",
    }  # fmt: skip
    notes = [
        {"x": names[column], "y": names[row], "text": str(count), "showarrow": False, "font": {"size": 12}}
        for row, line in enumerate(grid)
        for column, count in enumerate(line)
    ]
    layout = {
        "xaxis": {"title": {"text": judges[1]}, "type": "category"},
        "yaxis": {"title": {"text": judges[0]}, "type": "category", "automargin": True},
        "annotations": notes,
    }
    return figure([trace], layout, 120 + 44 * len(levels), warning)


def pace(told: Sequence[Progress], words: Words, warning: str) -> PlotData | None:
    """Responses and readings done, by the seconds since the start, and what they cost."""
    if len(told) < 2:
        return None
    every = -(-len(told) // MOST_POINTS)
    shown = [*told[::every], *([] if (len(told) - 1) % every == 0 else [told[-1]])]
    cost = [f"${point.cost_usd:.4f}" if point.cost_usd is not None else "" for point in shown]
    traces = [
        {
            "type": "scatter", "mode": "lines", "name": words[name], "x": [point.seconds for point in shown],
            "y": [getattr(point, name) for point in shown], "line": {"color": style(number)[0], "width": 2, "dash": dash},
            "text": cost, "hovertemplate": "%{y} %{text}",
        }
        for number, (name, dash) in enumerate((("answered", "solid"), ("judged", "dash")))
    ]  # fmt: skip
    layout = {
        "hovermode": "x",
        "xaxis": {"title": {"text": words["seconds"]}, "rangemode": "tozero", "zeroline": False},
        "yaxis": {"title": {"text": words["done"]}, "rangemode": "tozero", "zeroline": False},
    }
    return figure(traces, layout, 260, warning)


def _scale(colour: str) -> list[list[Any]]:
    """Transparent to dense, so that the numbers on it stay readable on light and on dark."""
    return [[0, f"rgba({colour},0.05)"], [1, f"rgba({colour},0.60)"]]


def figure(traces: Sequence[Mapping[str, Any]], layout: Mapping[str, Any], height: int, warning: str) -> PlotData:
    """The figure with what all have in common; a `warning` stands in its upper left corner, above the legend."""
    warning = warning.replace("。", "。<br>", 1).replace(". ", ".<br>", 1)  # two sentences do not fit a phone's line
    traces, layout = plotly_text(traces), plotly_text(layout)
    legend = sum(trace.get("showlegend", True) and "name" in trace for trace in traces) > 0
    notes = [*layout.get("annotations", ())]
    if warning and not legend:
        notes.append(
            {"text": warning, "xref": "paper", "yref": "paper", "x": 0, "y": 1, "yshift": 22,
             "xanchor": "left", "yanchor": "bottom", "showarrow": False, "font": {"size": 12}}
        )  # fmt: skip
    common = {
        "height": height + (40 if warning else 0),
        "margin": {"l": 60, "r": 20, "t": 46 + (40 if warning else 0), "b": 48},
        "paper_bgcolor": NOTHING,
        "plot_bgcolor": NOTHING,
        "font": {"family": "inherit", "size": 13},
        "showlegend": legend,
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            # Within the legend, whose rows are as many as fit: nothing else knows where it ends.
            "title": {"text": warning, "side": "top", "font": {"size": 12}},
        },
        "hoverlabel": {"bgcolor": "#232a39", "font": {"color": "#ffffff"}},
    }
    document = {
        "data": [*traces],
        "layout": {**common, **layout, "annotations": notes},
        "config": {"displayModeBar": False},
    }
    return PlotData(type="plotly", plot=json.dumps(document, ensure_ascii=False, allow_nan=False))


SHARES: tuple[Figure, ...] = (
    "violation",
    "acceptable",
    "refusal",
    "contrast",
    "attack",
    "choice",
)  # in percent on one axis
