"""Run folders whose files are spoiled, for everything that reads them: how a run stands, its numbers, report and index."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from evaluation.benchmark.recorded import read_recorded
from evaluation.journal import read_records, read_run, run_status
from evaluation.report.page import build_report
from evaluation.types import (
    Category,
    Judgement,
    Message,
    Pair,
    Prompt,
    Rating,
    Response,
    Sampling,
    judgement_key,
    pair_key,
    response_key,
)
from playground.exports import export
from playground.jobs.job import read_job
from playground.store import Store
from playground.trainings import log_tail, read_curve
from tests.fuzz.mutations import as_json, damaged, spoiled

NAME = "20260101T000000000-abcdef"
JOURNALS = ("prompts", "responses", "judgements", "pairs", "ratings", "events")
INDEX_EVERY = 20  # inputs that are indexed as well: DuckDB takes longer than everything else together


def _run() -> dict[str, Any]:
    settings = {
        "suite": "sample-test",
        "models": ["a", "b"],
        "attempts": 1,
        "name": "x",
        "judge": "embedded",
        "limit": None,
    }
    identities = {
        "a": {"model": "a", "base": "g", "weights_sha256": "0", "adapter_sha256": None, "template_sha256": "1"}
    }
    return {
        "run_id": NAME, "kind": "benchmark", "created_at": "2026-01-01T00:00:00.000Z", "settings": settings,
        "identities": identities, "versions": {"python": "3.11"}, "seed": 1, "schema_version": 1,
    }  # fmt: skip


def _records() -> dict[str, list[Any]]:
    made: dict[str, list[Any]] = {name: [] for name in JOURNALS}
    for n in range(3):
        prompt = Prompt(f"p{n}", f"問い{n}", "参照", Category("甲", "乙", "丙"), suite="sample-test", extra={"x": n})
        made["prompts"].append(asdict(prompt))
        keys = []
        for model in ("a", "b"):
            sent, sampling = (Message("user", prompt.question),), Sampling()
            keys.append(key := response_key(sent, model, sampling, 0))
            made["responses"].append(
                asdict(Response(key, prompt.id, model, model, "答え", "stop", sent, sampling, 9, 7, 0.1, 0.5))
            )
            score = None if n == 2 else n + 1
            judged = Judgement(
                judgement_key(key, "j", "safety", 0),
                key,
                "embedded",
                "j",
                "safety",
                score,
                "unparsed" if score is None else None,
                "なぜ",
            )
            made["judgements"].append(asdict(judged))
        made["pairs"].append(asdict(Pair(pair_key(prompt.id, *keys, 1), prompt.id, prompt.question, keys[0], keys[1])))
        made["ratings"].append(asdict(Rating(f"r{n}", keys[0], keys[1], "left")))
    said: list[tuple[str, dict[str, Any]]] = [
        ("queued", {"device": "cpu", "key": "k", "command": "c"}), ("started", {"command": "c"}), ("progress", {"message": "m", "answered": 1, "total": 6, "judged": 1, "missing": 0, "seconds": 1.0, "tokens_per_s": 2.0, "eta_s": 3.0, "cost_usd": None}),
        ("metric", {"step": 1, "steps": 2, "loss": 1.5, "lr": 1e-4, "tokens_per_s": 3.0, "eta_s": 1.0}),
        ("metric", {"step": 0, "held_out_loss": {"s": 2.0}}), ("metric", {"step": 0, "samples": [{"question": "q", "text": "t"}]}),
        ("warning", {"message": "w"}), ("heartbeat", {}), ("finished", {"reason": "r", "adapter": "x"}),
    ]  # fmt: skip
    made["events"] = [
        {"seq": n, "event": event, "at": f"2026-01-01T00:00:0{n}.000Z", "data": data}
        for n, (event, data) in enumerate(said, 1)
    ]
    return made


class Runs:
    """Read a run folder in every way there is."""

    def __init__(self, work: Path) -> None:
        self.inputs, self.home = work / "inputs", work / "home"
        self.allowed = (work / "out", work / "index")
        self._out = work / "out"
        self._run, self._records = _run(), _records()
        self.home.mkdir(exist_ok=True)
        (work / "index").mkdir(exist_ok=True)
        self._store = Store(work / "index" / "index.duckdb", self.inputs)
        self._number = 0

    def write(self, rng: Random) -> str:
        """Put a run folder with some of its files spoiled into `inputs`."""
        self._number += 1
        folder = self.inputs / NAME
        folder.mkdir()
        told = self._run | {"kind": rng.choice(("benchmark",) * 3 + ("judging", "training", "chat"))}
        which = rng.choice(("run.json", "process.json", "log.txt", *JOURNALS, *JOURNALS))
        content = as_json(rng, spoiled(rng, told)) if which == "run.json" else as_json(rng, told)
        (folder / "run.json").write_bytes(
            damaged(rng, content) if which == "run.json" and rng.random() < 0.3 else content
        )
        for name in JOURNALS:
            if rng.random() < 0.05:
                continue
            rows = self._records[name]
            if name == "events" and rng.random() < 0.5:
                rows = rows[: rng.randrange(len(rows))]
            lines = [*map(_line, rows)]
            if name == which and lines:
                for _ in range(rng.choice((1, 1, 2))):
                    place = rng.randrange(len(lines))
                    lines[place] = as_json(rng, spoiled(rng, rows[place]))
                if rng.random() < 0.3:
                    lines = [damaged(rng, b"\n".join(lines))]
            (folder / f"{name}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        process = {"pid": 4_000_000, "started": 1.0, "boot_id": "x", "host": "h"}
        if which == "process.json" or rng.random() < 0.3:
            (folder / "process.json").write_bytes(damaged(rng, as_json(rng, spoiled(rng, process))))
            (folder / "exit.json").write_bytes(damaged(rng, as_json(rng, spoiled(rng, {"pid": 4_000_000, "code": -9}))))
            (folder / "cancel.json").write_bytes(
                damaged(
                    rng, as_json(rng, spoiled(rng, {"at": "2026-01-01T00:00:00Z", "reason": "r", "deadline_s": 1.0}))
                )
            )
        (folder / "log.txt").write_bytes(damaged(rng, "最後の行\n".encode() * 5))
        return which

    def read(self) -> None:
        """Raises what the readers raise; each is tried, whatever the one before it said."""
        folder = self.inputs / NAME
        told: list[BaseException] = []
        for reader in (read_run, run_status, read_job, _all_records, read_curve, log_tail, self._counted):
            try:
                reader(folder)
            except Exception as error:
                told.append(error)
        if self._number % INDEX_EVERY == 0:
            try:
                self._store.ingest_run(folder)
                self._store.forget(NAME) if self._number % (INDEX_EVERY * 50) == 0 else None
            except Exception as error:
                told.append(error)
        if told:
            # One that is no message to a person counts more than one that is.
            raise next((error for error in told if not _is_for_people(error)), told[0])

    def _counted(self, folder: Path) -> None:
        recorded = read_recorded(folder, self.home)
        page = build_report([recorded], "2026-01-01T00:00:00Z")
        assert "</html>" in page
        shutil.rmtree(self._out, ignore_errors=True)
        export([recorded], self._out / "e", "csv" if self._number % 2 else "parquet", with_text=True)

    def close(self) -> None:
        self._store.close()


def _line(row: Any) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()


def _all_records(folder: Path) -> None:
    for name in JOURNALS:
        for _ in read_records(folder / f"{name}.jsonl"):
            pass


def _is_for_people(error: BaseException) -> bool:
    from evaluation.errors import UserFacingError

    return isinstance(error, UserFacingError)
