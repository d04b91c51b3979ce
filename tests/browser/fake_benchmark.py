"""`python -m tests.browser.fake_benchmark RUN_ID --lock FD --lease FD`: the true `work` command and benchmark, with fakes that answer.

The judge waits after `HALF` readings until there is a file `go` in the home or the run is asked to stop.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.judge.protocol import Exchange
from evaluation.types import Judgement, Scale
from playground import catalog
from playground.cli.main import main
from playground.jobs import workers
from playground.jobs.benchmark_work import Tools, benchmark
from playground.jobs.work import Assignment, Outcome
from playground.settings import Settings
from tests.fakes import FakeEngine, FakeJudge

HALF = 60  # readings
SLOW_S = 0.05  # a reading after the wait: the stop is to be heard before all is read


@dataclass
class WaitingJudge(FakeJudge):
    """Scores by the model's name, waits in the middle, and goes on slowly."""

    waits: Callable[[], bool] = lambda: False
    slow: bool = False

    def judge(
        self, exchanges: Sequence[Exchange], scale: Scale = "safety", on_done: Callable[[Judgement], None] | None = None
    ) -> list[Judgement]:
        read = []
        for exchange in exchanges:
            while len(self.seen) >= HALF and self.waits():
                self.slow = True
                time.sleep(0.1)
            if self.slow:
                time.sleep(SLOW_S)
            read += super().judge([exchange], scale, on_done)
        return read


def tools(settings: Settings, waits: Callable[[], bool] = lambda: False) -> Tools:
    """A model that streams fixed replies, and the judge."""
    engine: Any = FakeEngine()
    return Tools(engine, (WaitingJudge(waits=waits),), catalog.endpoint_pacer(settings))


def pretend(run: Assignment) -> Outcome:
    return benchmark(run, tools(Settings(), lambda: not run.should_stop() and not (run.home / "go").exists()))


if __name__ == "__main__":
    workers.WORKERS = {**workers.WORKERS, "benchmark": pretend}
    sys.exit(main(["work", *sys.argv[1:]]))
