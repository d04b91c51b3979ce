"""A store over an empty folder, and a Run with two models judged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation.journal import RunFolder, create_run
from playground.store import Store
from tests import nouns


@pytest.fixture
def runs_folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def store(tmp_path: Path, runs_folder: Path) -> Iterator[Store]:
    with Store(tmp_path / "index.duckdb", runs_folder) as opened:
        yield opened


@pytest.fixture
def benchmark(runs_folder: Path) -> Path:
    """A finished benchmark: 2 models x 3 prompts, scores 1..5 and one verdict missing."""
    with create_run(runs_folder, "benchmark", {"suite": "sample-test"}, {}, seed=1) as run:
        fill(run)
    return run.path


def fill(run: RunFolder) -> None:
    run.event("started")
    scores = iter([1, 2, 3, 4, 5, None])
    for number in range(3):
        run.record_prompt(nouns.prompt(f"p{number}", suite="sample-test"))
        for model in ("general", "answercarefully-sample"):
            key = f"{model}-{number}"
            run.record_response(nouns.response(key, prompt_id=f"p{number}", model=model, identity=model[:4]))
            score = next(scores)
            run.record_judgement(
                nouns.judgement(
                    f"j-{key}", response_key=key, score=score, missing=None if score else "unparsed", judge="embedded"
                )
            )
        run.event("progress", done=number + 1, planned=3)
    run.event("finished")
