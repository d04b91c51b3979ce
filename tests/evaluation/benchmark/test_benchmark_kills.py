"""kill -9 at any moment of a benchmark: after the resume it holds what the uninterrupted one holds, record by record."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.journal import BadLine, read_records
from tests.evaluation.benchmark.benching import contents
from tests.evaluation.benchmark.kill_loop import PROMPTS, bench

ROOT = Path(__file__).parents[3]


def check(home: Path, kills: int, seed: int) -> None:
    program = [
        sys.executable,
        "-m",
        "tests.evaluation.benchmark.kill_loop",
        str(home / "killed"),
        str(kills),
        str(seed),
    ]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    whole = bench(home / "whole")
    whole.sit()
    expected = contents(whole.path)
    assert (len(expected["prompts"]), len(expected["judgements"])) == (PROMPTS, PROMPTS * 6)
    assert len(expected["responses"]) > PROMPTS * 4, "no conversation went beyond its first turn"
    for folder in map(Path, done.stdout.split()):
        assert contents(folder) == expected
        for journal in ("prompts", "responses", "judgements"):
            lines = [record for record, _ in read_records(folder / f"{journal}.jsonl")]
            assert not [line for line in lines if isinstance(line, BadLine)]
            assert len(lines) == len(expected[journal]), "a record stands there twice"


def test_killed_five_times_a_benchmark_ends_with_the_records_of_one_that_was_not(tmp_path):
    check(tmp_path, 5, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_a_hundred_times_a_benchmark_ends_with_the_records_of_one_that_was_not(tmp_path, seed):
    check(tmp_path, 100, seed)
