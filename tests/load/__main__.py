"""`python -m tests.load VISITORS SECONDS [LANES] [TOKENS]`: a look at the app under load."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.load.visitors import served, visit


def main(visitors: int, seconds: float, lanes: int = 50, tokens: int = 60) -> int:
    with tempfile.TemporaryDirectory() as home, served(Path(home), lanes, tokens) as server:
        seen = asyncio.run(visit(server, visitors, seconds))
    print(f"{seen.turns} pairs, {seen.chunks} chunks, problems {len(seen.problems)} {seen.problems[:3]}")
    if seen.late:
        print("late ms", *(f"p{100 * q:g} {1000 * seen.quantile(q):.0f}" for q in (0.5, 0.95, 0.99, 1)))
        print(f"first text after the click, s: {min(seen.waits):.1f} to {max(seen.waits):.1f}")
    print(f"places shown {len(seen.places)}, up to {max(seen.places, default=0)}")
    print("memory MB", *(f"{mb:.0f}" for _, mb in seen.memory[::10]), f"slope {seen.slope(seconds / 4):.2f} MB/min")
    return 1 if seen.problems else 0


if __name__ == "__main__":
    sys.exit(main(*(int(value) for value in sys.argv[1:])))
