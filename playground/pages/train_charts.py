"""The curves of a training as plotly figures, plain dicts: what plotly's own classes would write, without importing them.

Text and grid take their colours from app.css, so they follow light and dark without the server; the lines have mid-tones
that can be told apart on both. A figure is made again in another language, never translated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gradio.components.plot import PlotData

from playground.pages.plot_text import plotly_text
from playground.pages.text import say
from playground.trainings import Curve

MOST_POINTS = 300  # of a line; more than the pixels it has
TRAINED = "#6d78cf"
HELD_OUT = ("#23908a", "#bd6a2a", "#b2589a", "#7d8a3a")
SYMBOLS = ("circle", "square", "diamond", "triangle-up")  # not by colour alone


def loss_chart(curve: Curve, language: str) -> PlotData | None:
    """Training loss by step, and the held-out loss of each suite; None before there is anything to draw."""
    if not curve.loss and not curve.held_out:
        return None
    traces = [_line(curve.loss, say(language, "watch.loss"), TRAINED)]
    for n, (suite, by_step) in enumerate(curve.held_out.items()):
        steps = sorted(by_step)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": say(language, "watch.chart.held_out", suite=suite),
                "x": steps,
                "y": [by_step[step] for step in steps],
                "line": {"color": HELD_OUT[n % len(HELD_OUT)], "width": 2, "dash": "dot"},
                "marker": {"size": 9, "symbol": SYMBOLS[n % len(SYMBOLS)]},
                "hovertemplate": "%{y:.3f}",
                "cliponaxis": False,  # its first point is at step 0
            }
        )
    return _figure(traces, say(language, "watch.chart.loss"), 320, curve, language)


def rate_chart(curve: Curve, language: str) -> PlotData | None:
    """The learning rate by step."""
    if not curve.rate:
        return None
    line = _line(curve.rate, say(language, "watch.rate"), TRAINED) | {"hovertemplate": "%{y:.2e}"}
    return _figure([line], say(language, "watch.rate"), 200, curve, language, exponent=True)


def thinned(by_step: Mapping[int, float]) -> list[tuple[int, float]]:
    """At most MOST_POINTS of the points and a last one, evenly spread."""
    points = sorted(by_step.items())
    every = -(-len(points) // MOST_POINTS) or 1
    return points[::every] + (points[-1:] if points and (len(points) - 1) % every else [])


def _line(by_step: Mapping[int, float], name: str, colour: str) -> dict[str, Any]:
    points = thinned(by_step)
    return {
        "type": "scatter",
        "mode": "lines" if len(points) > 1 else "markers",
        "name": name,
        "x": [step for step, _ in points],
        "y": [value for _, value in points],
        "line": {"color": colour, "width": 2},
        "hovertemplate": "%{y:.3f}",
    }


def _figure(
    traces: list[dict[str, Any]], title: str, height: int, curve: Curve, language: str, *, exponent: bool = False
) -> PlotData:
    nothing = "rgba(0,0,0,0)"
    number = {"exponentformat": "e", "tickformat": ".1e"} if exponent else {}
    layout = {
        "height": height,
        "margin": {"l": 58, "r": 16, "t": 40 if len(traces) > 1 else 16, "b": 44},
        "paper_bgcolor": nothing,
        "plot_bgcolor": nothing,
        "font": {"family": "inherit", "size": 13},
        "showlegend": len(traces) > 1,
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hovermode": "x",
        "hoverlabel": {"bgcolor": "#232a39", "font": {"color": "#ffffff"}},
        "xaxis": {"title": {"text": say(language, "watch.step")}, "range": [0, max(curve.steps, 1)], "zeroline": False},
        "yaxis": {"title": {"text": title, "standoff": 10}, "automargin": True, "zeroline": False, **number},
    }
    figure = {"data": plotly_text(traces), "layout": layout, "config": {"displayModeBar": False}}
    return PlotData(type="plotly", plot=json.dumps(figure, ensure_ascii=False))
