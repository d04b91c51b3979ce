"""Many visitors at once: nothing is lost or crossed, and who has to wait is told where in the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.load.visitors import served, visit
from tests.loops import run_apart

SHORT_S = 8.0
LONG_S = 600.0
WARM_UP_S = 180.0


def test_eight_visitors_get_their_own_answers_whole(tmp_path: Path):
    with served(tmp_path, lanes=8, tokens=20) as server:
        seen = run_apart(visit(server, visitors=8, seconds=SHORT_S))
    assert seen.problems == []
    assert seen.turns >= 8 and seen.chunks == seen.turns * 2 * 20


def test_more_visitors_than_lanes_wait_in_a_line_that_they_can_see(tmp_path: Path):
    with served(tmp_path, lanes=1, tokens=10) as server:
        seen = run_apart(visit(server, visitors=5, seconds=2.0, spread_s=0.1))
    assert seen.problems == []
    assert seen.turns >= 5
    assert {1, 2} <= seen.places


@pytest.mark.slow
def test_fifty_visitors_for_ten_minutes_lose_nothing_and_leave_nothing_behind(tmp_path: Path):
    """The figures, with their bounds, are `python -m tests.bench load`'s; a busy machine must not fail this."""
    with served(tmp_path, lanes=50, tokens=60) as server:
        seen = run_apart(visit(server, visitors=50, seconds=LONG_S))
    assert seen.problems == []
    assert seen.chunks == seen.turns * 2 * 60
    assert seen.slope(WARM_UP_S) < 1.0  # MB a minute


@pytest.mark.slow
def test_two_hundred_visitors_wait_instead_of_failing(tmp_path: Path):
    with served(tmp_path, lanes=50, tokens=60) as server:
        seen = run_apart(visit(server, visitors=200, seconds=60.0))
    assert seen.problems == []
    assert seen.turns >= 200
    assert len(seen.places) > 20
