"""What the index has told once it tells again for nothing, until rows of the Runs in question change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from evaluation.journal import RunFolder, create_run
from playground.store import Store, index, runs
from tests import nouns


class Asked:
    """A query that counts how often it was made."""

    def __init__(self, store: Store, run_id: str, of: list[str] | None) -> None:
        self._store, self._run_id, self._of, self.times = store, run_id, of, 0

    def __call__(self) -> int:
        def compute() -> int:
            self.times += 1
            return self._store.read(runs.counts, self._run_id)["responses"]

        return self._store.once(("responses", self._run_id, self._of is None), self._of, compute)


def test_an_answer_is_computed_again_only_after_its_run_has_changed(store: Store, benchmark: Path, runs_folder: Path):
    store.ingest_all()
    mine, any_run = Asked(store, benchmark.name, [benchmark.name]), Asked(store, benchmark.name, None)
    assert [mine(), mine(), any_run(), any_run()] == [6] * 4
    assert (mine.times, any_run.times) == (1, 1)
    store.ingest_run(benchmark)  # nothing new
    with create_run(runs_folder, "benchmark", {}, {}) as other:
        other.record_response(nouns.response())
    store.ingest_run(other.path)
    assert (mine(), any_run(), mine.times, any_run.times) == (6, 6, 1, 2)
    with RunFolder.open(benchmark) as run:
        run.record_response(nouns.response("new"))
    store.ingest_run(benchmark)
    assert (mine(), any_run(), mine.times, any_run.times) == (7, 7, 2, 3)


@pytest.mark.parametrize("gone", ["folder", "rows", "journal", "index"])
def test_an_answer_does_not_outlive_its_rows(store: Store, benchmark: Path, gone: str):
    store.ingest_all()
    asked = Asked(store, benchmark.name, [benchmark.name])
    assert asked() == 6
    if gone == "folder":
        shutil.rmtree(benchmark)
        store.ingest_all()
    elif gone == "rows":
        store.forget(benchmark.name)
    elif gone == "journal":
        (benchmark / "responses.jsonl").write_bytes(b"")
        store.ingest_run(benchmark)
    else:
        shutil.rmtree(benchmark)
        store.rebuild()
    assert asked() == 0


def test_what_changed_while_an_answer_was_computed_is_asked_for_again(store: Store, benchmark: Path):
    store.ingest_all()
    made: list[int] = []

    def compute() -> int:
        made.append(store.read(runs.counts, benchmark.name)["responses"])
        if len(made) == 1:
            with RunFolder.open(benchmark) as run:
                run.record_response(nouns.response("meanwhile"))
            store.ingest_run(benchmark)
        return made[-1]

    assert [store.once("x", [benchmark.name], compute) for _ in range(3)] == [6, 7, 7]


def test_only_so_many_answers_are_kept(store: Store, benchmark: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index, "_MOST_REMEMBERED", 3)
    times: list[int] = []
    for number in (*range(5), 4, 0):
        store.once(number, [benchmark.name], lambda number=number: times.append(number))
    assert times == [0, 1, 2, 3, 4, 0]
