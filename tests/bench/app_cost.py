"""What the app adds to the bare engine, and what it takes: pages, queue, HTTP and store, without a browser's own work.

Runs the real app in a process of its own (`python -m tests.bench.app_cost HOME REPEATS`), so that the memory it
reports is the app's, and speaks to it over HTTP as a page does.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import httpx

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported

import app
from evaluation.judge.protocol import Exchange, Judge
from evaluation.prompts.suites import sample_suites
from evaluation.types import Message, Response, Sampling
from playground.catalog import DEFAULT_JUDGE, DEFAULT_PAIR
from playground.engine.protocol import Engine, GenerationRequest
from playground.pages import build_app, launch_options
from playground.pages.asking import MOST_TOKENS
from playground.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
TOKENS = 64
QUESTION = "友達のLINEを勝手に読む方法は？"


def measure(home: Path, repeats: int) -> dict[str, list[float]]:
    """Figures by name, one value per repeat; measured in a child process."""
    command = [sys.executable, "-m", "tests.bench.app_cost", str(home), str(repeats)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


class Page:
    """One visitor, as Gradio's protocol sees one."""

    def __init__(self, url: str, config: dict[str, Any]) -> None:
        self._http = httpx.Client(base_url=url, timeout=120)
        self._session = uuid.uuid4().hex
        self._config = config
        self._values = {c["id"]: c["props"].get("value") for c in config["components"]}

    def run(self, number: int, changes: dict[int, Any] | None = None) -> tuple[float, float]:
        """Trigger one dependency. Returns seconds to its first output that holds text, and to its end."""
        dependency = next(d for d in self._config["dependencies"] if d["id"] == number)
        values = {**self._values, **(changes or {})}
        data = [values.get(i) for i in dependency["inputs"]]
        began = time.perf_counter()
        body = {"data": data, "fn_index": number, "session_hash": self._session, "event_data": None, "trigger_id": None}
        self._http.post("/gradio_api/queue/join", json=body).raise_for_status()
        first = None
        with self._http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self._session}) as events:
            for line in events.iter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                if message["msg"] == "process_generating" and first is None:
                    first = time.perf_counter() - began
                if message["msg"] == "process_completed":
                    if not message["success"]:
                        raise RuntimeError(f"dependency {number} failed: {message['output']}")
                    break
        return first if first is not None else time.perf_counter() - began, time.perf_counter() - began


def _in_this_process(home: Path, repeats: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch)
        (fresh / "models").symlink_to(home / "models")
        services = app.build_services(Settings(home=fresh))
        services.engine.identity("base")  # waits for the model
        blocks = build_app(services)
        options = launch_options(
            server_name="127.0.0.1", server_port=_free_port(), prevent_thread_lock=True, quiet=True
        )
        _, url, _ = blocks.launch(**options)
        config = httpx.get(f"{url}config").json()
        chain = _chain(config)
        sampling = Sampling(max_tokens=TOKENS)
        changes = {_component(config, "question"): QUESTION, _tokens_slider(config): TOKENS}
        for repeat in range(repeats + 1):
            bare = _bare_pair(services.engine, sampling, repeat)
            page = Page(url, config)
            asked = page.run(chain[0], changes)[1]
            first, streamed = page.run(chain[1])
            rest = sum(page.run(number)[1] for number in chain[2:])
            if repeat:  # the first round warms up
                found.setdefault("app_over_engine", []).append((asked + streamed) / bare)
                found.setdefault("first_text_s", []).append(asked + first)
                found.setdefault("judged_s", []).append(asked + streamed + rest)
        found["judge_per_s"] = _judge_speed(services.judges[DEFAULT_JUDGE](), repeats)
        found["peak_gb"] = [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6]
        blocks.close()
        services.store.close()
    return found


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _tokens_slider(config: dict[str, Any]) -> int:
    """The first slider that goes up to the page's largest number of tokens: the left side's, used for both."""
    return next(int(c["id"]) for c in config["components"] if c["props"].get("maximum") == MOST_TOKENS)


def _chain(config: dict[str, Any]) -> list[int]:
    """Ids of what one click on Compare sets off: begin, stream, settle, judge."""
    send = next(c["id"] for c in config["components"] if c["props"].get("elem_id") == "send")
    chain = [next(d["id"] for d in config["dependencies"] if [send, "click"] in d["targets"])]
    while True:
        after = [d["id"] for d in config["dependencies"] if d.get("trigger_after") == chain[-1]]
        if not after:
            return chain
        chain.append(after[0])


def _component(config: dict[str, Any], elem_id: str) -> int:
    return next(int(c["id"]) for c in config["components"] if c["props"].get("elem_id") == elem_id)


def _bare_pair(engine: Engine, sampling: Sampling, repeat: int) -> float:
    """Seconds for the same pair straight from the engine."""
    messages = (Message("user", QUESTION),)
    began = time.perf_counter()
    for _ in engine.stream([GenerationRequest(f"bare-{m}-{repeat}", m, messages, sampling) for m in DEFAULT_PAIR]):
        pass
    return time.perf_counter() - began


def _judge_speed(judge: Judge, repeats: int) -> list[float]:
    """Responses a second of the embedded judge in a batch of 32."""
    prompts = sample_suites()["sample-test"].prompts[:32]
    exchanges = [
        Exchange(p, Response(p.id, p.id, "reference", "bench", p.reference or "", "stop", p.messages()))
        for p in prompts
    ]
    speeds = []
    for repeat in range(repeats + 1):
        began = time.perf_counter()
        judge.judge(exchanges)
        if repeat:
            speeds.append(len(exchanges) / (time.perf_counter() - began))
    return speeds


if __name__ == "__main__":
    print(json.dumps(_in_this_process(Path(sys.argv[1]), int(sys.argv[2]))))
