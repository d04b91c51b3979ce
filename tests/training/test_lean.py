"""A training's process imports what it uses, and does not wait for libraries that are only installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from training.lean import UNUSED, without_unused

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from playground.cli.main import _families
from training.lean import UNUSED, without_unused
import playground.jobs.workers
_families(["work"])
with without_unused():
    import training.sft
found = [name for name in (*UNUSED, "gradio", "duckdb", "openai", "plotly", "statsmodels", "trl") if name in sys.modules]
assert not found, found
import scipy.stats  # what was hidden is there again
"""


def test_the_worker_of_a_training_imports_no_library_that_it_does_not_use():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr[-1500:]


def test_a_library_that_is_imported_already_stays():
    import json

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.lean.UNUSED", ("json",))
        with without_unused():
            assert sys.modules["json"] is json


def test_what_was_hidden_can_be_imported_afterwards_also_when_the_import_fails(monkeypatch):
    name = "unused_here"
    monkeypatch.setattr("training.lean.UNUSED", (name,))
    with pytest.raises(ZeroDivisionError), without_unused():
        assert sys.modules[name] is None
        raise ZeroDivisionError
    assert name not in sys.modules
    assert "datasets" in UNUSED
