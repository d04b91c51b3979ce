"""What supervision costs a training: its events, its heartbeat, and the app's watching thread, as shares of a core.

Processor time, not wall time, so that a busy machine changes little. `python -m tests.bench.supervision` prints it.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

from evaluation.journal import create_run
from playground.jobs import Supervisor
from playground.jobs.work import Assignment, Outcome, work

STEP_S = 2.0  # about one step of the embedded preset on two cores
ENDED_RUNS = 300
EVENTS = 20_000
WATCHED_S = 10.0


def measure(repeats: int) -> dict[str, list[float]]:
    """Each a share of one core: `events`, one metric event every STEP_S; `beat`, the heartbeat's thread; `watch`, the
    app's thread over a run at work with EVENTS events and ENDED_RUNS that have ended; `all`, their sum."""
    events, beat, watch = [], [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            seconds, idle = _working(home)
            events.append(seconds / STEP_S)
            beat.append(idle)
            watch.append(_watching(home))
    return {
        "events": events,
        "beat": beat,
        "watch": watch,
        "all": [sum(shares) for shares in zip(events, beat, watch, strict=True)],
    }


def _working(home: Path) -> tuple[float, float]:
    """Processor seconds of one event, and processor seconds a second of a run that does nothing."""
    seen: list[float] = []

    def worker(run: Assignment) -> Outcome:
        begun = time.process_time()
        for step in range(2000):
            run.report("metric", {"step": step, "steps": 2000, "loss": 2.5, "lr": 1e-4, "tokens_per_s": 370.0,
                                  "tokens": 700 * step, "eta_s": 60.0})  # fmt: skip
            run.should_stop()
        seen.append((time.process_time() - begun) / 2000)
        begun = time.process_time()
        time.sleep(WATCHED_S)
        seen.append((time.process_time() - begun) / WATCHED_S)
        return Outcome()

    with create_run(home / "runs", "training", {}, {}) as folder:
        work(folder, worker, home, "bench")
    return seen[0], seen[1]


def _watching(home: Path) -> float:
    for _ in range(ENDED_RUNS):
        with create_run(home / "runs", "training", {}, {}) as folder:
            folder.event("started")
            folder.event("finished")
    done = threading.Event()

    def worker(run: Assignment) -> Outcome:
        for step in range(EVENTS):
            run.report("metric", {"step": step, "loss": 2.5})
        done.set()
        stop.wait()
        return Outcome()

    stop = threading.Event()
    with create_run(home / "runs", "training", {}, {}) as folder:
        at_work = threading.Thread(target=work, args=(folder, worker, home, "bench"))
        at_work.start()
        done.wait()
        supervisor = Supervisor(home)
        supervisor.start()
        supervisor.jobs()
        begun = time.process_time()
        time.sleep(WATCHED_S)
        share = (time.process_time() - begun) / WATCHED_S  # the heartbeat's thread is in it as well
        supervisor.close()
        stop.set()
        at_work.join()
    return share


if __name__ == "__main__":
    for name, values in measure(3).items():
        print(f"{name}: {', '.join(f'{100 * value:.3f}' for value in values)} % of a core")
