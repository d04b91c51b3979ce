"""A conversation on the Benchmark page: every turn of the pair that is open, and what the judge said of each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.prompts.suites import Suite
from playground.pages import Services, bench_form, results
from playground.pages.results_view import Desk
from tests.evaluation.benchmark.benching import Bench, Scorer, Writer, asked, respond
from tests.evaluation.benchmark.test_turns import EVERY, spoken
from tests.playground.pages.test_results import arrived, desk, form, home, looked

__all__ = ["desk", "home"]  # fixtures


def talked(home: Path) -> Bench:
    """A run of conversations of three turns, read for usefulness at each."""
    reply = Writer(change=lambda r: respond(r, text=f"{r.model}の返事{r.turn}", finish_reason="stop"))
    prompts = [spoken(f"chat-{n}") for n in range(8)]
    made = Bench(home / "runs", asked(suites=("chat",)), prompts, reply, [Scorer("all", EVERY)])
    with made.folder() as folder:
        folder.event("started")
    made.sit()
    return made


@pytest.mark.parametrize("language", ["ja", "en"])
def test_the_open_pair_shows_every_turn_with_its_verdict(services: Services, desk: Desk, home: Path, language: str):
    talked(home)
    found = arrived(services, desk, language)
    prompt_id = found["changes"].split('data-pick="')[1].split('"')[0]
    pair = looked(results.pick_pair(services, desk, language, prompt_id))["pair"]
    for side in ("left", "right"):
        for turn in (1, 2):
            assert f"{side}の返事{turn}" in pair
    assert pair.count("2つ目の問い") >= 2 and pair.count("3つ目の問い") >= 2
    assert pair.count('<div class="reply">') == pair.count('<section class="verdict') == 6


def test_the_forecast_says_how_many_turns_there_are(services: Services):
    several = Suite("talks", (spoken("talks-0"), spoken("talks-1", 1)), ("usefulness",), False, "会話", "Talks")
    told = bench_form.forecast(replace(services, suites=lambda: [several]), "en", *form(suites=["talks"]))
    assert "2 prompts of 4 turns" in told and "= 8 responses" in told
