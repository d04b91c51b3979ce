"""`python -m tests.playground.jobs.fake_work RUN_ID --lock FD --lease FD`: the true `work` command with a tiny worker.

The worker counts. Its settings: `steps`, `step_s` seconds each; `stubborn` ignores requests to stop, SIGTERM included;
`helper` forks a process that outlives its parent; `fail` is raised after the first step; `die` is the number of the
step after which it kills itself; `fill` writes until the disk is full. It goes on after the last step that its events
hold, so each step must be there exactly once in the end.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time

from evaluation.journal import last_event
from playground.cli.main import main
from playground.jobs import workers
from playground.jobs.work import Assignment, Outcome


def count(run: Assignment) -> Outcome:
    settings = run.info.settings
    alone = os.open(run.path / "alone", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        (run.path / "two-at-once").touch()
    if settings.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if settings.get("helper") and os.fork() == 0:
        (run.path / "helper").write_text(str(os.getpid()))
        time.sleep(600)
    newest = last_event(run.path / "events.jsonl", ("metric",))
    done = int(newest.data["step"]) if newest else 0
    for step in range(done + 1, int(settings["steps"]) + 1):
        time.sleep(float(settings.get("step_s", 0)))
        run.report("metric", {"step": step, "resume": run.resume})
        if "fail" in settings:
            raise ValueError(settings["fail"])
        if settings.get("die") == step:
            print("out of luck", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if settings.get("fill"):
            with (run.path / "checkpoint").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 12))
        if run.should_stop() and not settings.get("stubborn"):
            return Outcome({"steps": step}, stopped=True, step=step)
    return Outcome({"steps": int(settings["steps"])})


if __name__ == "__main__":
    workers.WORKERS = {**workers.WORKERS, "benchmark": count}
    sys.exit(main(["work", *sys.argv[1:]]))
