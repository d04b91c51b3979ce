"""Drawing one token per row from logits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from evaluation.types import Sampling
from playground.engine.decoder import TOP_CANDIDATES, sample


def draws(logits: list[float] | torch.Tensor, sampling: Sampling, count: int) -> list[int]:
    """`count` draws in a row from one generator."""
    generator = torch.Generator().manual_seed(sampling.seed)
    table = torch.as_tensor(logits, dtype=torch.float32)[None]
    return [sample(table, [sampling], [generator])[0] for _ in range(count)]


def logits_of(*probabilities: float) -> list[float]:
    return [math.log(p) for p in probabilities]


def test_temperature_0_takes_the_most_likely_token():
    assert draws(logits_of(0.2, 0.5, 0.3), Sampling(temperature=0.0), 5) == [1] * 5


def test_a_greedy_row_beside_a_drawn_one_is_still_greedy():
    logits = torch.tensor([logits_of(0.2, 0.5, 0.3)] * 2)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    samplings = [Sampling(temperature=0.0), Sampling(temperature=2.0, top_p=1.0)]
    drawn = [sample(logits, samplings, generators) for _ in range(30)]
    assert {greedy for greedy, _ in drawn} == {1}
    assert len({free for _, free in drawn}) == 3


@pytest.mark.parametrize(
    ("top_p", "allowed"),
    [
        pytest.param(0.01, {0}, id="far-below-the-first-token"),
        pytest.param(0.49, {0}, id="just-below-the-first-tokens-mass"),
        pytest.param(0.51, {0, 1}, id="just-above-it"),
        pytest.param(0.79, {0, 1}, id="within-the-second"),
        pytest.param(0.95, {0, 1, 2}, id="within-the-third"),
        pytest.param(1.0, {0, 1, 2}, id="everything"),
    ],
)
def test_the_nucleus_is_the_smallest_set_that_holds_top_p(top_p, allowed):
    assert set(draws(logits_of(0.5, 0.3, 0.2), Sampling(temperature=1.0, top_p=top_p), 200)) == allowed


def test_draws_follow_the_probabilities_inside_the_nucleus():
    # The first three hold 0.85, so the fourth is needed for 0.9, and the fifth is not.
    drawn = draws(logits_of(0.4, 0.25, 0.2, 0.1, 0.05), Sampling(temperature=1.0, top_p=0.9, seed=11), 4000)
    expected = [4000 * p / 0.95 for p in (0.4, 0.25, 0.2, 0.1)]
    assert set(drawn) == {0, 1, 2, 3}
    assert chisquare([drawn.count(token) for token in range(4)], expected).pvalue > 0.01


@pytest.mark.parametrize("temperature", [0.5, 2.0], ids=["sharper", "flatter"])
def test_temperature_acts_on_the_logits_before_the_draw(temperature):
    rare = draws(logits_of(0.8, 0.2), Sampling(temperature, top_p=1.0, seed=1), 3000).count(1) / 3000
    weights = [p ** (1 / temperature) for p in (0.8, 0.2)]
    assert rare == pytest.approx(weights[1] / sum(weights), abs=0.03)


def test_a_flat_distribution_is_drawn_beyond_the_first_candidates():
    vocabulary = 4 * TOP_CANDIDATES  # the first candidates hold a quarter, far less than top_p
    drawn = draws(torch.zeros(vocabulary), Sampling(temperature=1.0, top_p=1.0, seed=5), 2000)
    quarters = [sum(token * 4 // vocabulary == quarter for token in drawn) for quarter in range(4)]
    assert chisquare(quarters).pvalue > 0.01


def test_one_seed_draws_one_sequence_and_another_seed_another():
    flat = [0.0] * 50
    assert draws(flat, Sampling(seed=3), 20) == draws(flat, Sampling(seed=3), 20)
    assert draws(flat, Sampling(seed=3), 20) != draws(flat, Sampling(seed=4), 20)


@settings(max_examples=60, deadline=None)
@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=12),
    temperature=st.floats(0.05, 2.0),
    top_p=st.floats(0.01, 1.0),
    seed=st.integers(0, 2**31 - 1),
)
def test_what_is_drawn_always_belongs_to_the_nucleus(logits, temperature, top_p, seed):
    [token] = draws(logits, Sampling(temperature, top_p, seed=seed), 1)
    probabilities = (torch.tensor(logits, dtype=torch.float64) / temperature).softmax(-1)
    likelier = probabilities[probabilities > probabilities[token] * (1 + 1e-4)]
    assert float(likelier.sum()) < top_p + 1e-4, "the tokens above it already hold top_p"
