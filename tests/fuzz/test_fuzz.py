"""Hostile inputs for everything that reads files: a result or one clear line, in time, in memory, and nothing written elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.__main__ import TARGETS

ROOT = Path(__file__).parents[2]


def fuzz(target: str, count: int, work: Path, patience_s: float) -> dict[str, Any]:
    """Run the target in a process of its own, whose memory is limited."""
    command = [sys.executable, "-m", "tests.fuzz", target, "--count", str(count), "--work", str(work)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=patience_s, check=False)
    assert done.stdout, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_a_spoiled_input_is_read_or_refused_in_one_line(target: str, tmp_path: Path):
    found = fuzz(target, 300, tmp_path, 550)
    assert found["failures"] == [] and found["inputs"] == 300
    # Neither all are refused, which would try nothing behind the door, nor all taken.
    assert 10 < found["ends"]["read"] < 295, found["ends"]


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_a_hundred_thousand_spoiled_inputs_are_read_or_refused(target: str, tmp_path: Path):
    found = fuzz(target, 100_000, tmp_path, 6 * 3600)
    assert found["failures"] == [] and found["inputs"] == 100_000
    assert found["peak_mib"] < 3000, found["peak_mib"]


def test_an_input_is_made_again_from_its_number(tmp_path: Path):
    from random import Random

    from tests.fuzz.mutations import as_json, damaged, spoiled

    tree = {"question": "問い", "choices": ["a", "b"], "meta": {"x": 1}}
    one, other = (damaged(rng, as_json(rng, spoiled(rng, tree))) for rng in (Random("7"), Random("7")))
    assert one == other


def test_the_watch_sees_a_write_elsewhere_and_a_hang(tmp_path: Path):
    """What guards the other tests is tried itself, in a process of its own: its limits cannot be taken back."""
    script = f"""
import os, pathlib
from tests.fuzz import watching
watching.CPU_S = 0.5
allowed = pathlib.Path({str(tmp_path)!r}) / "allowed"
allowed.mkdir()
watch = watching.Watch(allowed)
with watch.input():
    (allowed / "a").write_text("x")
    os.rename(allowed / "a", allowed / "b")
assert watch.trespasses == [], watch.trespasses
with watch.input():
    (allowed / ".." / "escape").write_text("x")
    os.symlink("/etc/passwd", allowed / "../link")
assert len(watch.trespasses) == 2, watch.trespasses
try:
    with watch.input():
        while True:
            try:
                sum(range(1000))
            except Exception:
                pass
except watching.Hang:
    print("seen")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "seen", done.stderr[-2000:]
