"""The index and the Benchmark page under a million judgements: ingest, each chart's query, the page itself.

`python -m tests.bench.results [JUDGEMENTS]` prints it; with fewer judgements it is a quick look. One run is large
(LARGEST judgements), the others share the rest: that is what the page meets.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported

from evaluation.journal import create_run
from evaluation.prompts.taxonomy import HARM_TYPES
from evaluation.records import encode_record
from evaluation.types import SCORES, Category
from playground.pages import results
from playground.pages.results_view import Desk
from playground.scoreboard import board, paired, trade_off
from playground.store import Store, pairs, progress, tallies
from playground.store.pairs import Question
from tests import nouns
from tests.fakes import fake_services

JUDGEMENTS = 1_000_000
LARGEST = 50_000
MODELS = ("base", "mine-x0", "mine-x1", "mine-x4", "mine-x16")
METRICS = {"careful": ("safety",), "edge": ("borderline",)}
REPEATS = 5


def measure(judgements: int = JUDGEMENTS) -> dict[str, list[float]]:
    """`ingest_per_s`: records of every kind; `judgements_per_s`: of a journal of judgements alone; `query_ms`: the slowest
    chart query over the largest run, `page_s`: everything the page shows, as its handler computes it; seconds of a
    processor-bound wall clock."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        size = min(LARGEST, judgements)
        runs = [write(home / "runs", size, n) for n in range(max(1, judgements // size))]
        records = sum(count for _, count in runs)
        with Store(home / "index.duckdb", home / "runs") as store:
            begun = time.perf_counter()
            store.ingest_all()
            ingest = records / (time.perf_counter() - begun)
            queries = {
                name: timed(query) for name, query in chart_queries(store, runs[-1][0].name, runs[0][0].name).items()
            }
        services = fake_services(home)
        page: list[float] = []
        for _ in range(REPEATS):
            begun = time.perf_counter()
            results.arrive(services, Desk(run_id=runs[-1][0].name), "ja")
            page.append(time.perf_counter() - begun)
        services.store.close()
    for name, values in queries.items():
        print(f"{name}: {sorted(values)[len(values) // 2]:.1f} ms")
    return {
        "ingest_per_s": [ingest],
        "query_ms": max(queries.values(), key=lambda values: sorted(values)[len(values) // 2]),
        "page_s": page,
    }


def chart_queries(store: Store, run_id: str, other: str) -> dict[str, Callable[[], Any]]:
    """Each chart's way from the index to its numbers."""
    read = store.read

    def whole() -> Any:
        return board(read(tallies.of_run, run_id), read(tallies.replies, run_id), MODELS, METRICS)

    asked = Question(run_id, "bbbb", "safety", ("careful",), "base", "mine-x16")
    return {
        "scoreboard, heat map, distribution": whole,
        "before and after, paired test": lambda: paired(read(pairs.tallies, asked)),
        "better": lambda: read(pairs.changes, asked, "better"),
        "worse": lambda: read(pairs.changes, asked, "worse"),
        "trade-off over all runs": lambda: trade_off(read(tallies.balances, [*METRICS]), METRICS),
        "judge against judge": lambda: read(
            pairs.judge_matrix, (run_id, "bbbb"), (other, "bbbb"), "safety", [*METRICS]
        ),
        "judgings of the same responses": lambda: read(pairs.judgings_of_the_same, run_id),
        "throughput": lambda: read(progress.progress, run_id),
        "one pair": lambda: read(pairs.opened, run_id, "careful-7", "base", "mine-x16"),
    }


def timed(query: Callable[[], Any]) -> list[float]:
    """Milliseconds of each of some calls, the first one not counted."""
    query()
    found = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        query()
        found.append(1000 * (time.perf_counter() - begun))
    return found


def write(runs: Path, judgements: int, number: int) -> tuple[Path, int]:
    """A finished run with that many judgements, and how many records it has. Written as the journal writes, but at once."""
    prompts = judgements // len(MODELS) // 3  # one safety suite, one of twice as many readings
    with create_run(runs, "benchmark", {"models": MODELS, "metrics": METRICS, "name": f"run {number}"}, {}) as folder:
        folder.event("started")
    files: dict[str, list[bytes]] = {"prompts": [], "responses": [], "judgements": []}
    for suite in METRICS:
        for n in range(prompts):
            category = Category("甲", HARM_TYPES[n % len(HARM_TYPES)].ja, None)
            files["prompts"].append(
                encode_record("prompts", nouns.prompt(f"{suite}-{n}", suite=suite, category=category))
            )
    reply, reading = nouns.response(), nouns.judgement(explanation="危険を説明し、安全な道を示しています。" * 3)
    templates = [json.loads(encode_record("responses", reply)), json.loads(encode_record("judgements", reading))]
    for suite, (metric,) in METRICS.items():
        for n in range(prompts):
            for model in MODELS:
                key = f"{number:04d}{suite}{n:08d}{model}".ljust(24, "0")
                about = {"key": key, "prompt_id": f"{suite}-{n}", "model": model}
                files["responses"].append(line(templates[0] | about))
                for scale in ("refusal", "safety") if metric == "borderline" else ("safety",):
                    score = 1 + (n * 7 + len(model) + number) % SCORES[scale][1]  # type: ignore[index]
                    about = {"key": f"{key}{scale}", "response_key": key, "scale": scale, "score": score}
                    files["judgements"].append(line(templates[1] | about))
    for name, lines in files.items():
        (folder.path / f"{name}.jsonl").write_bytes(b"".join(lines))
    return folder.path, sum(map(len, files.values()))


def line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


if __name__ == "__main__":
    for what, values in measure(int(sys.argv[1]) if len(sys.argv) > 1 else JUDGEMENTS).items():
        print(f"{what}: {sorted(values)[len(values) // 2]:,.3f} ({min(values):,.3f} to {max(values):,.3f})")
