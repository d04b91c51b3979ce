"""Many visitors at once, in front of a stub engine: what the app adds to each chunk's way, what it keeps, and the line.

Server and visitors share the machine's cores, so the figures are upper bounds of the server's own.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tests.load.visitors import Seen, served, visit

VISITORS, LANES, TOKENS = 50, 50, 60
SECONDS, WARM_UP_S = 600.0, 180.0
CROWD, CROWD_S = 200, 60.0


def measure(seconds: float = SECONDS, warm_up_s: float = WARM_UP_S) -> dict[str, list[float]]:
    """Figures by name: of the ten minutes, then of the crowd."""
    steady = _round(VISITORS, seconds)
    crowd = _round(CROWD, CROWD_S)
    return {
        "pairs": [float(steady.turns)],
        "lost": [float(len(steady.problems) + 2 * TOKENS * steady.turns - steady.chunks)],
        "p50_ms": [1000 * steady.quantile(0.5)],
        "p95_ms": [1000 * steady.quantile(0.95)],
        "p99_ms": [1000 * steady.quantile(0.99)],
        "slope_mb": [steady.slope(warm_up_s)],
        "memory_mb": [steady.memory[-1][1]],
        "crowd_pairs": [float(crowd.turns)],
        "crowd_errors": [float(len(crowd.problems))],
        "crowd_line": [float(max(crowd.places, default=0))],
        "crowd_p95_ms": [1000 * crowd.quantile(0.95)],
        "crowd_wait_s": [max(crowd.waits, default=0.0)],
    }


def _round(visitors: int, seconds: float) -> Seen:
    with tempfile.TemporaryDirectory() as home, served(Path(home), LANES, TOKENS) as server:
        return asyncio.run(visit(server, visitors, seconds))
