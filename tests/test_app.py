"""The app's wiring: what the page is told while the model loads, and calls that cannot work."""

from __future__ import annotations

import ast
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

import app
from playground.engine.loading import LoadState
from playground.serving.reasons import Stage

ROOT = Path(__file__).parents[1]
JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


def stages() -> set[str]:
    """Every text that a loader reports, read from the source."""
    found = {"starting"}
    found |= {f"vLLM server: {stage}" for stage in get_args(Stage)}
    for path in (ROOT / "training" / "embedded.py", ROOT / "playground" / "catalog.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "report":
                [text] = node.args
                assert isinstance(text, ast.Constant)
                found.add(text.value)
    return found


def status(**state: object):
    router = SimpleNamespace(load_state=lambda: LoadState(**state))  # type: ignore[arg-type]
    return app.RouterReadiness(router).status()  # type: ignore[arg-type]


def test_every_stage_that_is_reported_has_japanese_words():
    assert [stage for stage in sorted(stages()) if not JAPANESE.search(status(stage=stage).message_ja)] == []
    assert set(app.FRACTIONS) <= stages()


def test_the_page_is_told_how_far_the_model_is():
    loading = status(stage="loading the embedded model and its adapters")
    assert (loading.state, loading.message_ja) == ("loading", "モデルとアダプターを読み込んでいます")
    assert loading.fraction is not None and 0 < loading.fraction < 1
    assert status(ready=True, stage="ready").state == "ready"
    failed = status(stage="failed", error="The disk is full; free 2 GB.")
    assert (failed.state, failed.message_ja) == ("failed", "The disk is full; free 2 GB.")
    failed = status(stage="failed", error="The vLLM server is not running.")
    assert failed.message_ja == "vLLM サーバーは動いていません。" and "not running" in failed.message_en
    again = status(stage="vLLM server: weights, start 2: The server was killed.")
    assert again.message_ja == app.STAGES_JA["vLLM server: weights"] and "start 2" in again.message_en


def test_a_wrong_setting_ends_the_start_with_one_line_and_2(monkeypatch, capsys):
    monkeypatch.setenv("PLAYGROUND_PORT", "eighty")
    assert app.main() == 2
    said = capsys.readouterr().err
    assert said.startswith("PLAYGROUND_PORT") and said.count("\n") == 1


@pytest.mark.slow
def test_a_port_that_is_taken_ends_the_start_with_one_line_and_1(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = {"PLAYGROUND_PORT": str(taken.getsockname()[1]), "PLAYGROUND_HOME": str(tmp_path), "PATH": ""}
        done = subprocess.run(
            [sys.executable, "app.py"], cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300
        )
    assert done.returncode == 1
    assert "set PLAYGROUND_PORT to a free port" in done.stderr
    assert "Traceback" not in done.stderr
