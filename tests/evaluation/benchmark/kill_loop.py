"""`python -m tests.evaluation.benchmark.kill_loop HOME KILLS SEED`: benchmarks that are killed at random and resumed.

A process of its own, which imports no torch, so that its sittings can be forks and begin at once. A benchmark that
finishes before all blows are dealt is followed by another; their folders are printed in the end, one a line.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

from tests.evaluation.benchmark.benching import Bench, Scorer, Writer, asked, failed, prompts

PROMPTS = 40
PAUSE_S = 0.002  # of a model for each response; the judges take half of it
LONGEST_S = 0.12  # from the fork to the blow: from before the folder is open to after many records


def bench(home: Path) -> Bench:
    """Two models, two attempts, a suite read on two scales, conversations, and failures that are held back for a while."""
    both = [*prompts(PROMPTS // 2), *prompts(PROMPTS // 2, "edge")]
    both[::6] = [replace(prompt, turns=("それから？",)) for prompt in both[::6]]
    broken = Writer(PAUSE_S, lambda r: failed(r) if r.prompt.id in ("mine-4", "edge-9") else None)
    return Bench(home, asked(suites=("mine", "edge"), attempts=2), both, broken, [Scorer(pause_s=PAUSE_S / 2)])


def sitting(path: Path) -> int:
    """Fork a process that works on the run until its end. Returns its pid."""
    child = os.fork()
    if child == 0:
        try:
            again = bench(path.parent)
            again.path = path
            again.sit()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return child


def main(home: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    folders: list[Path] = []
    dealt, over = 0, True
    while dealt < kills or not over:
        if over:
            with bench(home).folder() as folder:
                folders.append(folder.path)
        child = sitting(folders[-1])
        if dealt < kills:
            time.sleep(chance.random() * LONGEST_S)
            os.kill(child, signal.SIGKILL)
        _, ended = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(ended)
        assert code in (0, -signal.SIGKILL), f"a sitting ended with {code}"
        over = code == 0
        dealt += not over
    print(*folders, sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
