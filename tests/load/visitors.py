"""Visitors of the Compare page as Gradio's protocol sees them, and what they saw."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from gradio_client.utils import apply_diff

from playground.pages.text import TEXT
from tests.load.stub import MODELS

ROOT = Path(__file__).parents[2]
START_S = 120.0  # for the app to come up
STILL_S = 60.0  # without a message from the server, a visitor gives up
CHUNK = re.compile(r"([^|;]+)\|([^|;]+)\|(\d+)\|([\d.]+);")
LINE = re.compile(re.escape(TEXT["pane.line"].ja).replace(r"\{number\}", r"(\d+)"))
PAGE_BYTES = 4096


@dataclass
class Seen:
    """What all visitors saw. Times are seconds."""

    turns: int = 0  # pairs that arrived whole
    chunks: int = 0
    late: list[float] = field(
        default_factory=list
    )  # from the making of a chunk to its arrival, a sample of at most MOST
    problems: list[str] = field(default_factory=list)
    places: set[int] = field(default_factory=set)  # shown in the line
    waits: list[float] = field(default_factory=list)  # from the click to the first text
    memory: list[tuple[float, float]] = field(default_factory=list)  # (seconds since the start, MB of the server)

    MOST = 2_000_000

    def quantile(self, share: float) -> float:
        """Of the added latency, in seconds."""
        ordered = sorted(self.late)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def slope(self, after_s: float) -> float:
        """MB a minute, by least squares over what was read after the warm-up."""
        points = [(at / 60, mb) for at, mb in self.memory if at >= after_s]
        mean_at, mean_mb = (sum(values) / len(points) for values in zip(*points, strict=True))
        spread = sum((at - mean_at) ** 2 for at, _ in points)
        return sum((at - mean_at) * (mb - mean_mb) for at, mb in points) / spread


@dataclass
class Server:
    url: str
    pid: int

    def memory_mb(self) -> float:
        """Resident memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * PAGE_BYTES / 1e6


@contextmanager
def served(home: Path, lanes: int, tokens: int) -> Iterator[Server]:
    """The app with the stub engine, in a process of its own."""
    command = [sys.executable, "-m", "tests.load.stub", str(home), str(lanes), str(tokens)]
    heaps = {"MALLOC_ARENA_MAX": "2"}  # as `make run` and the images start it
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **heaps}
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise RuntimeError("The app did not start.")
        yield Server(url, process.pid)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Visitor:
    """One page. `config` is what the server sends a browser."""

    def __init__(self, number: int, http: httpx.AsyncClient, config: dict[str, Any], seen: Seen) -> None:
        self.number, self._http, self._config, self._seen = number, http, config, seen
        self._session = uuid.uuid4().hex
        self._values = {c["id"]: c["props"].get("value") for c in config["components"]}
        self._by_id = {c["props"].get("elem_id"): c["id"] for c in config["components"]}
        self._dependencies = {d["id"]: d for d in config["dependencies"]}
        self._turn = 0

    async def stay(self, until: float, turns_a_conversation: int = 3) -> None:
        """Ask one question after another until then (monotonic seconds)."""
        while time.monotonic() < until:
            try:
                await self.ask()
                if self._turn % turns_a_conversation == 0:
                    await self._run(self._clicked("new"))
            except (httpx.HTTPError, TimeoutError, AssertionError) as error:
                self._seen.problems.append(f"visitor {self.number}, turn {self._turn}: {type(error).__name__} {error}")
                return

    async def ask(self) -> None:
        """One question, both answers, and the check that they are whole and this visitor's own."""
        self._turn += 1
        question = f"visitor {self.number} turn {self._turn}"
        chain = self._chain(self._clicked("send"))
        self._values[self._by_id["question"]] = question
        began = time.monotonic()
        await self._run(chain[0])
        texts = await self._stream(chain[1], question, began)
        for number in chain[2:]:
            await self._run(number)
        for model, text in zip(MODELS, texts, strict=True):
            found = CHUNK.findall(text)
            assert [int(at) for _, _, at, _ in found] == [*range(len(found))] and found, (
                f"lost or doubled: {text[:200]}"
            )
            assert {(q, m) for q, m, _, _ in found} == {(question, model)}, f"crossed: {text[:200]}"
            assert "".join(f"{q}|{m}|{n}|{at};" for q, m, n, at in found) == text, f"torn: {text[:200]}"
            self._seen.chunks += len(found)
        self._seen.turns += 1

    async def _stream(self, number: int, question: str, began: float) -> list[str]:
        """Follow both panes; how late each chunk is. Returns the whole texts."""
        known, first = [0, 0], True
        texts = ["", ""]
        async for value in self._events(number):
            now = time.monotonic()
            for side, pane in enumerate(value):
                if isinstance(pane, dict) and "text" in pane:
                    texts[side] = pane["text"]
                    if found := LINE.search(pane["before"]):
                        self._seen.places.add(int(found[1]))
            for side, text in enumerate(texts):
                new = CHUNK.findall(text, known[side])
                assert all(whose == question for whose, *_ in new), f"crossed: {text[known[side] :][:200]}"
                if new and first:
                    self._seen.waits.append(now - began)
                    first = False
                if len(self._seen.late) < Seen.MOST:
                    self._seen.late.extend(now - float(made) for *_, made in new)
                known[side] = len(text)
        return texts

    async def _run(self, number: int) -> None:
        async for _ in self._events(number):
            pass

    async def _events(self, number: int) -> Any:
        """Trigger one dependency; its values as a browser would have them after each message."""
        data = [self._values.get(i) for i in self._dependencies[number]["inputs"]]
        body = {"data": data, "fn_index": number, "session_hash": self._session, "event_data": None, "trigger_id": None}
        joined = await self._http.post("gradio_api/queue/join", json=body)
        assert joined.status_code == 200, f"refused: {joined.text[:200]}"
        value: list[Any] = []
        params = {"session_hash": self._session}
        async with self._http.stream("GET", "gradio_api/queue/data", params=params) as events:
            async for line in events.aiter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                if message["msg"] not in ("process_generating", "process_completed"):
                    continue
                assert message["success"], f"failed: {message['output']}"
                sent = message["output"]["data"]
                if message["msg"] == "process_generating":
                    changed = [apply_diff(old, new) for old, new in zip(value, sent, strict=True)] if value else sent
                    value = changed
                    yield value
                else:
                    if not value:
                        yield sent
                    return
        raise AssertionError("the stream ended before the event did")

    def _clicked(self, elem_id: str) -> int:
        component = self._by_id[elem_id]
        return next(n for n, d in self._dependencies.items() if [component, "click"] in d["targets"])

    def _chain(self, first: int) -> list[int]:
        """What one click sets off, without the judge: begin, stream, settle."""
        chain = [first]
        while after := [n for n, d in self._dependencies.items() if d.get("trigger_after") == chain[-1]]:
            chain.append(after[0])
        return chain[:3]


async def visit(server: Server, visitors: int, seconds: float, spread_s: float = 2.0) -> Seen:
    """So many visitors for so long; they come within `spread_s`."""
    seen = Seen()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=visitors)
    timeout = httpx.Timeout(STILL_S, connect=STILL_S, pool=STILL_S)
    async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=timeout) as http:
        config = (await http.get("config")).json()
        began = time.monotonic()
        until = began + seconds
        chance = random.Random(0)

        async def come(number: int) -> None:
            await asyncio.sleep(chance.uniform(0, spread_s))
            await Visitor(number, http, config, seen).stay(until)

        async def watch() -> None:
            while True:
                seen.memory.append((time.monotonic() - began, server.memory_mb()))
                await asyncio.sleep(1.0)

        watching = asyncio.create_task(watch())
        await asyncio.gather(*(come(number) for number in range(visitors)))
        watching.cancel()
    return seen
