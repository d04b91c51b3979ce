"""The Benchmark page: what people said, and what is not asked of the index a second time."""

from __future__ import annotations

from pathlib import Path

import pytest

from playground.pages import Services, results
from playground.pages.results_view import Desk
from tests.evaluation.benchmark.test_people import SCORES, VALUES, judged
from tests.playground.pages.test_results import arrived, benchmark, desk, home, looked
from tests.playground.pages.test_train_watch import skipped

__all__ = ["desk", "home"]  # fixtures


def test_what_people_said_stands_beside_the_judge_in_both_languages(services: Services, desk: Desk, home: Path):
    judged(home, SCORES, VALUES)
    for language, words in (("ja", "人の評価"), ("en", "What people said")):
        found = arrived(services, Desk(), language)["people"]
        assert words in found and "labelled" in found and "40 %" in found and "is_harmful" in found


def test_a_second_look_at_a_run_that_stands_still_asks_the_index_nothing_and_sends_nothing(
    services: Services, desk: Desk, home: Path, monkeypatch: pytest.MonkeyPatch
):
    with benchmark(home, end=None) as folder:
        folder.event("finished")
    arrived(services, desk)
    services.store.ingest_all()
    asked: list[str] = []
    read = services.store.read
    monkeypatch.setattr(
        services.store,
        "read",
        lambda query, *args, **kwargs: asked.append(query.__name__) or read(query, *args, **kwargs),
    )
    second = looked(results.look(services, desk, "ja"))
    assert asked == [] and all(skipped(value) for value in second.values())
    other = Desk(here=True, run_id=desk.run_id)
    assert not skipped(looked(results.look(services, other, "ja"))["board"])
    assert asked == []  # another visitor is told what is known


def test_while_a_run_grows_only_what_is_drawn_now_is_asked_for(
    services: Services, desk: Desk, home: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = benchmark(home, end=None)
    try:
        arrived(services, desk)
        asked: list[str] = []
        read = services.store.read
        monkeypatch.setattr(
            services.store,
            "read",
            lambda query, *args, **kwargs: asked.append(query.__name__) or read(query, *args, **kwargs),
        )
        folder.event("progress", answered=480, judged=400, missing=80, total=480, seconds=9.0)
        results.look(services, desk, "ja")
        assert "progress" in asked and "balances" not in asked  # the charts are not due yet
    finally:
        folder.close()


@pytest.mark.parametrize(
    ("suite", "words"),
    [("", "違反回答率 "), ("attacks", "攻撃成功率 "), ("edge", "回答拒否率 "), ("general", "有用性（1〜10） ")],
)
def test_models_are_compared_by_what_the_chosen_suite_is_for(
    services: Services, desk: Desk, home: Path, suite: str, words: str
):
    benchmark(home)
    desk.suite = suite
    found = arrived(services, desk)
    assert f'<p class="bench-sentence">{words}' in found["summary"]
    assert words in found["compared"] and "data-pick=" in found["changes"]
    assert f'data-pick="{suite}' in found["changes"]
    picked = found["changes"].split('data-pick="')[1].split('"')[0]
    assert "verdict" in looked(results.pick_pair(services, desk, "ja", picked))["pair"]
