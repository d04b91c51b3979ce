"""Sweeps are found again by the names of their runs."""

from __future__ import annotations

import pytest

from training.sweep import member_name, member_of


@pytest.mark.parametrize(("of", "value"), [("mine", 0), ("mine", 16), ("mine-x4", 1), ("llm-jp-3-1.8b", 4)])
def test_a_member_is_found_by_the_name_it_was_given(of: str, value: int):
    assert member_of(member_name(of, value)) == (of, value)


@pytest.mark.parametrize("name", ["mine", "mine-x", "-x4", "mine-x4b", "x4"])
def test_another_name_belongs_to_no_sweep(name: str):
    assert member_of(name) is None
