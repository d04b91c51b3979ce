"""The search for cycles is paused for a block and goes on as it was."""

from __future__ import annotations

import gc

import pytest

from evaluation.collector import without_collector


@pytest.mark.parametrize("was_on", [True, False], ids=["on", "off"])
def test_it_is_off_in_the_block_and_afterwards_as_before(was_on: bool):
    before = gc.isenabled()
    try:
        (gc.enable if was_on else gc.disable)()
        with pytest.raises(KeyError), without_collector():
            assert not gc.isenabled()
            with without_collector():
                pass
            assert not gc.isenabled(), "an inner block does not end the outer one"
            raise KeyError
        assert gc.isenabled() is was_on
    finally:
        (gc.enable if before else gc.disable)()
