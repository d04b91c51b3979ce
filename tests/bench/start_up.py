"""How soon the page answers and the model is ready after `python app.py`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LONGEST_S = 180


def measure(home: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds to the first whole page, and to a loaded model, one value per repeat."""
    found: dict[str, list[float]] = {"page_s": [], "ready_s": []}
    for repeat in range(repeats + 1):
        page, ready = _start(home)
        if repeat:
            found["page_s"].append(page)
            found["ready_s"].append(ready)
    return found


def _start(home: Path) -> tuple[float, float]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as scratch:
        fresh, log = Path(scratch) / "home", Path(scratch) / "log"
        fresh.mkdir()
        (fresh / "models").symlink_to(home / "models")
        environment = {**os.environ, "PLAYGROUND_HOME": str(fresh), "PLAYGROUND_PORT": str(port)}
        with log.open("w") as out:
            began = time.monotonic()
            app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=out, stderr=out)
            try:
                page = _until(lambda: _answers(port), began)
                ready = _until(lambda: "embedded model: ready" in log.read_text(encoding="utf-8"), began)
            finally:
                app.terminate()
                app.wait(30)
    return page, ready


def _until(holds: Callable[[], bool], began: float) -> float:
    while time.monotonic() - began < LONGEST_S:
        if holds():
            return time.monotonic() - began
        time.sleep(0.05)
    raise TimeoutError(f"the app was not there after {LONGEST_S} s")


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
            return b"gradio" in page.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
