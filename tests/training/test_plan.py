"""The order in which rows are seen is planned, fair, and the same for any number of processes."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.mix import Example, Mix
from training.plan import MicroBatch, Plan, PlannedRows, collate, plan_run, planned_batch
from training.settings import SftSettings, Source


def mix_of(lengths: list[int], times: list[int]) -> Mix:
    rows = [Example(str(n), "s", (7,) * size, (False, *[True] * (size - 1))) for n, size in enumerate(lengths)]
    return Mix(tuple(rows), tuple(times), {})


def planned(mix: Mix, processes: int = 1, **changes) -> Plan:
    return plan_run(mix, SftSettings(**{"name": "x", "sources": (Source("s"),), **changes}), processes)


def steps(plan: Plan) -> list[list[int]]:
    groups = [plan.micro_batches[n : n + plan.per_step] for n in range(0, len(plan.micro_batches), plan.per_step)]
    return [[row for micro in group if not micro.silent for row in micro.rows] for group in groups]


MIX = mix_of([5 + n % 9 for n in range(60)], [1] * 40 + [16] * 20)


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(2, 30), min_size=1, max_size=25),
    repeats=st.integers(1, 6),
    batch=st.integers(1, 9),
    micro=st.integers(1, 9),
    processes=st.integers(1, 4),
    epochs=st.sampled_from([0.3, 1.0, 2.0]),
)
def test_every_row_comes_as_often_as_planned_whatever_the_batch_and_the_processes(
    lengths, repeats, batch, micro, processes, epochs
):
    mix = mix_of(lengths, [repeats] * len(lengths))
    plan = planned(mix, processes, batch_size=batch, micro_batch_size=micro, epochs=epochs)
    seen = Counter(row for step in steps(plan) for row in step)
    wanted = max(1, round(epochs * repeats * len(lengths)))
    assert seen.total() == wanted
    assert plan.steps == -(-wanted // batch) == len(steps(plan))
    assert max(seen.values()) <= repeats * -(-epochs // 1)
    assert plan.per_step % processes == 0
    assert all(len(m.rows) <= micro for m in plan.micro_batches)
    assert plan.tokens == tuple(sum(lengths[row] for row in step) for step in steps(plan))


def test_several_processes_make_the_same_steps_as_one():
    one, two, four = (planned(MIX, n, batch_size=8, micro_batch_size=2) for n in (1, 2, 4))
    assert steps(one) == steps(two) == steps(four)
    assert (one.per_step, two.per_step, four.per_step) == (4, 4, 4)


def test_the_order_is_the_seeds():
    assert planned(MIX, seed=1) == planned(MIX, seed=1) != planned(MIX, seed=2)


def test_a_second_epoch_is_not_the_first_one_again():
    half = len(steps(planned(MIX, epochs=1.0, batch_size=10)))
    both = steps(planned(MIX, epochs=2.0, batch_size=10))
    assert sorted(map(sorted, both[:half])) != sorted(map(sorted, both[half:]))


def test_copies_of_a_row_hardly_ever_meet_in_a_step():
    """Sorted by length over a whole epoch, all sixteen would stand side by side."""
    twice = sum(len(step) - len(set(step)) for step in steps(planned(MIX, batch_size=10)))
    assert twice <= 0.1 * sum(MIX.times)


def test_copies_of_a_row_are_spread_over_the_epoch():
    order = [row for step in steps(planned(MIX, batch_size=10)) for row in step]
    places = [n for n, row in enumerate(order) if row == 50]
    assert len(places) == 16
    quarters = Counter(4 * place // len(order) for place in places)
    assert all(2 <= quarters[q] <= 6 for q in range(4))


def test_rows_of_a_step_are_of_like_length():
    mix = mix_of([10 + n for n in range(200)], [1] * 200)
    spread = [max(s) - min(s) for s in steps(planned(mix, batch_size=8))]
    assert sum(spread) / len(spread) < 30


def test_the_step_with_the_most_tokens_comes_first():
    plan = planned(MIX, batch_size=10)
    assert plan.tokens[0] == max(plan.tokens)


def test_a_step_with_fewer_rows_than_processes_fills_up_with_rows_that_carry_no_loss():
    mix = mix_of([4, 5, 6], [1, 1, 1])
    plan = planned(mix, 2, batch_size=2, micro_batch_size=1)
    assert [m.silent for m in plan.micro_batches] == [False, False, True, False]
    rows = PlannedRows(mix, plan)
    assert len(rows) == 4
    assert (planned_batch([rows[2]])["labels"] == -100).all()
    assert (planned_batch([rows[3]])["labels"] != -100).any()


def test_collating_pads_on_the_right_and_only_reply_tokens_carry_labels():
    rows = [Example("a", "s", (5, 6, 7), (False, False, True)), Example("b", "s", (8,), (True,))]
    batch = {name: tensor.tolist() for name, tensor in collate(rows).items()}
    assert batch == {"input_ids": [[5, 6, 7], [8, 0, 0]], "labels": [[-100, -100, 7], [8, -100, -100]]}
    assert collate(rows)["input_ids"].dtype is torch.int64


def test_a_micro_batch_says_which_rows_it_holds():
    (micro,) = planned(mix_of([3], [1])).micro_batches
    assert micro == MicroBatch((0,))


@pytest.mark.parametrize("batch", [1, 7, 300])
def test_one_window_of_rows_is_never_shorter_than_a_step(batch):
    assert max(map(len, steps(planned(MIX, batch_size=batch)))) == min(batch, sum(MIX.times))
