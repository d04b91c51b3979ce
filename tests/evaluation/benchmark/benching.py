"""A benchmark without models: responses and scores that follow from the keys, so that two runs can be compared."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation.benchmark.judging import Panel
from evaluation.benchmark.plan import Request
from evaluation.benchmark.run import Ended, run_benchmark
from evaluation.benchmark.settings import BenchmarkSettings
from evaluation.journal import RunFolder, create_run, read_records
from evaluation.judge.protocol import Exchange, not_judgeable, without_verdict
from evaluation.types import Judgement, ModelIdentity, Prompt, Response, Scale, content_key, judgement_key

MODELS = ("left", "right")
IDENTITIES = {model: ModelIdentity(model, "base", "weights", model, "template") for model in MODELS}
METRICS = {"mine": ("safety",), "edge": ("borderline",), "chat": ("usefulness",)}
# What two runs of one benchmark may differ in.
TIMING = {"seconds": None, "ttft_s": None, "created_at": ""}


def prompts(count: int, suite: str = "mine") -> list[Prompt]:
    return [Prompt(f"{suite}-{n}", f"{suite}の質問{n}" + "長" * (n % 7), f"参照{n}", suite=suite) for n in range(count)]


def asked(**changes: Any) -> BenchmarkSettings:
    return replace(BenchmarkSettings(MODELS, ("mine",), "fake"), **changes)


def digit(key: str) -> int:
    """A number from 0 to 15 that follows from a key."""
    return int(content_key(key)[0], 16)


def respond(request: Request, **changes: Any) -> Response:
    """One in eight is cut off and one in sixteen empty."""
    number = digit(request.key)
    text = "" if number == 3 else f"{request.model}の{request.attempt}回目: {request.messages[-1].content}"
    made = Response(
        request.key, request.prompt.id, request.model, request.identity, text, "length" if number in (5, 6) else "stop",
        request.messages, request.sampling, tokens=len(text), seconds=0.1, attempt=request.attempt,
        created_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    return replace(made, **changes)


def failed(request: Request, error: str = "The server is gone.") -> Response:
    return respond(request, text="", finish_reason="error", error=error)


@dataclass
class Writer:
    """Answers requests. `change` may give another Response, None being that of `respond`; `asked` lists the keys."""

    pause_s: float = 0.0
    change: Callable[[Request], Response | None] = lambda request: None
    asked: list[str] = field(default_factory=list)
    closed: bool = False

    def __call__(self, requests: Sequence[Request]) -> Generator[Response]:
        try:
            for request in requests:
                time.sleep(self.pause_s)
                self.asked.append(request.key)
                yield self.change(request) or respond(request)
        finally:
            self.closed = True


@dataclass
class Scorer:
    """Scores by the Response's key. `before` is called with each exchange that is judged."""

    id: str = "fake"
    scales: frozenset[Scale] = frozenset({"safety", "refusal"})
    pause_s: float = 0.0
    before: Callable[[Exchange], None] = lambda exchange: None
    judged: list[str] = field(default_factory=list)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    @property
    def identity(self) -> str:
        return content_key("scorer", self.id)

    def judge(
        self,
        exchanges: Sequence[Exchange],
        scale: Scale = "safety",
        on_done: Callable[[Judgement], None] | None = None,
    ) -> list[Judgement]:
        done = []
        for exchange in exchanges:
            self.before(exchange)
            time.sleep(self.pause_s)
            with self._mutex:
                self.judged.append(exchange.response.key)
            done.append(self._read(exchange, scale))
            if on_done:
                on_done(done[-1])
        return done

    def _read(self, exchange: Exchange, scale: Scale) -> Judgement:
        response = exchange.response
        reason = not_judgeable(response)
        if reason is not None:
            return without_verdict(response, self.id, self.identity, scale, "not_run", reason)
        key = judgement_key(response.key, self.identity, scale, 0)
        told: dict[str, Any] = {"with_reference": exchange.prompt.reference is not None}
        number = digit(key)
        verdict: dict[str, Any] = {"missing": "unparsed"} if number == 0 else {"score": 1 + number % 3}
        return Judgement(key, response.key, self.id, self.identity, scale, **verdict, **told)


@dataclass
class Bench:
    """A benchmark in a run folder, which may be done in several sittings. `told` holds what was reported."""

    home: Path
    settings: BenchmarkSettings = field(default_factory=asked)
    prompts: list[Prompt] = field(default_factory=lambda: prompts(20))
    writer: Writer = field(default_factory=Writer)
    judges: Sequence[Any] = field(default_factory=lambda: (Scorer(),))
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    path: Path | None = None

    def sit(self, should_stop: Callable[[], bool] = lambda: False, **options: Any) -> Ended:
        with self.folder() as folder:
            return run_benchmark(
                self.settings, self.prompts, IDENTITIES, self.writer, Panel(self.judges, METRICS), folder,
                lambda event, data: self.told.append((event, data)), should_stop, **options,
            )  # fmt: skip

    def folder(self) -> RunFolder:
        if self.path is not None:
            return RunFolder.open(self.path)
        folder = create_run(self.home, "benchmark", self.settings.to_json(), {})
        self.path = folder.path
        return folder

    @property
    def responses(self) -> dict[str, Response]:
        assert self.path is not None
        return {r.key: r for r, _ in read_records(self.path / "responses.jsonl") if isinstance(r, Response)}

    @property
    def judgements(self) -> dict[str, Judgement]:
        assert self.path is not None
        return {r.key: r for r, _ in read_records(self.path / "judgements.jsonl") if isinstance(r, Judgement)}


def contents(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of a run folder by journal, in order of their keys, without what two runs may differ in."""
    found = {}
    for journal in ("prompts", "responses", "judgements"):
        rows = [asdict(record) | TIMING for record, _ in read_records(path / f"{journal}.jsonl")]
        found[journal] = sorted(rows, key=lambda row: str(row.get("key") or row["id"]))
    return found
