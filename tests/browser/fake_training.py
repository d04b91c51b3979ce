"""`python -m tests.browser.fake_training RUN_ID --lock FD --lease FD`: the true `work` command with a training that learns nothing.

It reports what a training reports, a step every `STEP_S` seconds, and waits at `HALF` until there is a file `go` in the
home or it is asked to stop; resumed, it goes on where it was.
"""

from __future__ import annotations

import math
import sys
import time

from evaluation.journal import last_event
from playground.cli.main import main
from playground.jobs import workers
from playground.jobs.work import Assignment, Outcome

STEPS, HALF, STEP_S = 12, 6, 0.3
QUESTIONS = ("眠れない夜が続いてつらいです。", "投資で必ずもうかる方法は？", "カレーの作り方を教えてください。")
REPLIES = {
    0: "質問、質問、質問。",
    6: "ゆっくり休んでください。",
    STEPS: "つらいですね。身近な人や専門の窓口に相談してください。",
}


def pretend(run: Assignment) -> Outcome:
    newest = last_event(run.path / "events.jsonl", ("metric",))
    done = int(newest.data["step"]) if newest else 0
    run.report("progress", {"stage": "model", "message": "loading embedded"})
    if not done:
        check(run, 0)
    for step in range(done + 1, STEPS + 1):
        time.sleep(STEP_S)
        loss, left = 3 + 2 * math.exp(-step / 4), (STEPS - step) * STEP_S
        lr = 1e-3 * math.sin(math.pi * step / STEPS)
        told = {"step": step, "steps": STEPS, "loss": loss, "lr": lr, "tokens_per_s": 190.0, "tokens": 900 * step}
        run.report("metric", {**told, "eta_s": left})
        if step in REPLIES:
            check(run, step)
        while step == HALF and not run.should_stop() and not (run.home / "go").exists():
            time.sleep(0.1)
        if run.should_stop():
            return Outcome({"adapter": None}, stopped=True, step=step)
    return Outcome({"adapter": "x", "model_id": run.info.settings["name"], "steps": STEPS})


def check(run: Assignment, step: int) -> None:
    losses = {"sample-general": 3.9 - step / 30, "sample-test": 4.3 - step / 12}
    run.report("metric", {"stage": "during", "step": step, "held_out_loss": losses})
    samples = [{"prompt_id": f"p{n}", "question": q, "text": REPLIES[step]} for n, q in enumerate(QUESTIONS)]
    run.report("metric", {"stage": "samples", "step": step, "samples": samples})


if __name__ == "__main__":
    workers.WORKERS = {**workers.WORKERS, "training": pretend}
    sys.exit(main(["work", *sys.argv[1:]]))
