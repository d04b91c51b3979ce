"""Small drawings as inline SVG: an interval, a change, a distribution. Colours come from style.css."""

from __future__ import annotations

from collections.abc import Mapping

from evaluation.metrics import Rate

WIDTH = 240
_HEIGHT = 22
_MIDDLE = _HEIGHT / 2
SHADES = 6


def interval(rate: Rate, lowest: float, highest: float) -> str:
    """A dot at the value on a line over its interval; the axis runs from `lowest` to `highest`."""
    if rate.value is None:
        return ""
    parts = [_axis()]
    if rate.low is not None and rate.high is not None:
        start, end = (_x(bound, lowest, highest) for bound in (rate.low, rate.high))
        parts.append(f'<line class="interval" x1="{start}" x2="{end}" y1="{_MIDDLE}" y2="{_MIDDLE}"/>')
    parts.append(f'<circle class="dot" cx="{_x(rate.value, lowest, highest)}" cy="{_MIDDLE}" r="5"/>')
    return _svg(parts)


def change(left: float | None, right: float | None) -> str:
    """A hollow dot on the left model's share, a full one on the right's, joined. Shares are in [0, 1]."""
    if left is None or right is None:
        return ""
    one, other = (_x(share, 0, 1) for share in (left, right))
    worse = "worse" if right > left else "better"
    return _svg([
        _axis(),
        f'<line class="change {worse}" x1="{one}" x2="{other}" y1="{_MIDDLE}" y2="{_MIDDLE}"/>',
        f'<circle class="hollow" cx="{one}" cy="{_MIDDLE}" r="5"/>',
        f'<circle class="dot" cx="{other}" cy="{_MIDDLE}" r="5"/>',
    ])  # fmt: skip


def distribution(counts: Mapping[int, int]) -> str:
    """One bar cut by how many got each score, the lowest first; a part that is wide enough says its score."""
    total = sum(counts.values())
    if not total:
        return ""
    parts, at = [], 0.0
    for score, count in sorted(counts.items()):
        width = count / total * 2 * WIDTH
        if count:
            parts.append(f'<rect class="score-{score}" x="{at:.1f}" y="1" width="{width:.1f}" height="{_HEIGHT - 2}"/>')
            if width > 16:
                parts.append(
                    f'<text class="on-score-{score}" x="{at + width / 2:.1f}" y="{_MIDDLE + 5}">{score}</text>'
                )
        at += width
    return _svg(parts, 2 * WIDTH)


def shade(share: float) -> int:
    """Which of the shades a share in [0, 1] has, from 0."""
    return min(SHADES - 1, int(share * SHADES))


def _x(value: float, lowest: float, highest: float) -> float:
    return round(8 + (value - lowest) / (highest - lowest) * (WIDTH - 16), 1)


def _axis() -> str:
    ends = "".join(
        f'<line class="axis" x1="{x}" x2="{x}" y1="6" y2="{_HEIGHT - 6}"/>' for x in (8, WIDTH / 2, WIDTH - 8)
    )
    return f'<line class="axis" x1="8" x2="{WIDTH - 8}" y1="{_MIDDLE}" y2="{_MIDDLE}"/>{ends}'


def _svg(parts: list[str], width: int = WIDTH) -> str:
    # The numbers stand in the same row of the table, so the drawing is hidden from screen readers.
    return f'<svg aria-hidden="true" viewBox="0 0 {width} {_HEIGHT}" width="{width}" height="{_HEIGHT}">{"".join(parts)}</svg>'
