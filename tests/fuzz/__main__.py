"""Hostile inputs, many: `python -m tests.fuzz TARGET --count 100000`. Prints what it found as one JSON document.

An input is made from the target's name, the seed and its number alone, so `--only NUMBER` makes the same one again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, Protocol

TARGETS = ("importers", "runs", "adapters")
MOST_FAILURES = 20  # kept with their traceback


class Target(Protocol):
    """Writes one input into `inputs` and reads it; `allowed` are the folders that reading may write to."""

    inputs: Path
    allowed: tuple[Path, ...]

    def write(self, rng: Random) -> str: ...

    def read(self) -> None: ...


def target(name: str, work: Path) -> Target:
    """The target of that name with its fixtures under `work`."""
    match name:
        case "importers":
            from tests.fuzz.importer_inputs import Importers

            return Importers(work)
        case "runs":
            from tests.fuzz.run_inputs import Runs

            return Runs(work)
        case _:
            from tests.fuzz.adapter_inputs import Adapters

            return Adapters(work)


def fuzz(name: str, seed: int, numbers: range, seconds: float, work: Path) -> dict[str, Any]:
    """Read the inputs of these numbers, until `seconds` have passed. Returns counts, failures and the slowest."""
    from evaluation.errors import UserFacingError
    from tests.fuzz.watching import Hang, Watch, snapshot

    (work / "inputs").mkdir()
    tried = target(name, work)
    temporary = work / "tmp"
    temporary.mkdir()
    tempfile.tempdir = str(temporary)
    os.fsync = lambda descriptor: None  # type: ignore[assignment]  # a power cut is not what is tried here
    watch = Watch(*tried.allowed, temporary, Path("/dev/null"))
    ends: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    slowest = (0.0, -1)
    began = time.monotonic()
    done = 0
    for number in numbers:
        if time.monotonic() - began > seconds:
            break
        for folder in (tried.inputs, tried.allowed[0], temporary):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        try:
            what = tried.write(Random(f"{name} {seed} {number}"))
        except RecursionError:  # spoiled so deep that it cannot be written down
            ends["unwritable"] += 1
            continue
        outside = snapshot(work, *tried.allowed, temporary)
        started = time.process_time()
        problem: str | None = None
        try:
            with watch.input():
                tried.read()
            ends["read"] += 1
        except UserFacingError as error:
            ends[type(error).__name__] += 1
            if len(str(error).splitlines()) != 1 or len(str(error)) > 1500:
                problem = f"not one line: {str(error)[:300]!r}"
        except (Exception, Hang) as error:
            problem = "".join(traceback.format_exception(error))[-3000:]
        slowest = max(slowest, (time.process_time() - started, number))
        if watch.trespasses:
            problem = f"{problem or ''} trespasses: {watch.trespasses[:5]}"
        if snapshot(work, *tried.allowed, temporary) != outside:
            problem = f"{problem or ''} files outside were changed"
        if problem is not None:
            ends["failed"] += 1
            if len(failures) < MOST_FAILURES:
                failures.append({"number": number, "input": what, "problem": problem})
        done += 1
    import resource

    if hasattr(tried, "close"):
        tried.close()
    return {
        "target": name, "seed": seed, "first": numbers.start, "inputs": done + ends["unwritable"], "ends": dict(ends), "failures": failures,
        "slowest_cpu_s": round(slowest[0], 3), "slowest_number": slowest[1],
        "seconds": round(time.monotonic() - began, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }  # fmt: skip


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("target", choices=TARGETS)
    options.add_argument("--count", type=int, default=300)
    options.add_argument("--start", type=int, default=0, help="number of the first input")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--seconds", type=float, default=36_000, help="stop after so long")
    options.add_argument("--only", type=int, help="one number, whose input is kept")
    options.add_argument("--work", type=Path, help="an empty folder to work in; otherwise a temporary one")
    chosen = options.parse_args()
    numbers = range(chosen.start, chosen.start + chosen.count)
    if chosen.only is not None:
        numbers = range(chosen.only, chosen.only + 1)
    work = Path(tempfile.mkdtemp(prefix="fuzz-", dir=chosen.work))
    try:
        found = fuzz(chosen.target, chosen.seed, numbers, chosen.seconds, work)
    finally:
        if chosen.only is None:
            shutil.rmtree(work, ignore_errors=True)
        else:
            print(f"the input is in {work / 'inputs'}", file=sys.stderr)
    print(json.dumps(found, ensure_ascii=False, indent=1))
    return 1 if found["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
