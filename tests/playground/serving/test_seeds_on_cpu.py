"""A seeded request whose prompt is read in pieces: its generator begins anew, and vLLM does not see it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from playground.serving.inside.seeds_on_cpu import around


def drawn(generator: torch.Generator) -> list[float]:
    return torch.rand(4, generator=generator).tolist()


def test_what_was_thrown_away_begins_anew_and_the_others_go_on():
    seen = []

    class Runner:
        def __init__(self, generators: dict[int, torch.Generator]) -> None:
            self.input_batch = SimpleNamespace(num_reqs=2, generators=generators)
            # Of more places than requests: what stands behind is of an earlier batch.
            self.discard_request_mask = SimpleNamespace(np=np.array([True, False, True]))

        def _bookkeeping_sync(self, word: str) -> str:
            seen.append(set(self.input_batch.generators))
            return word

    around(Runner)
    generators = {n: torch.Generator().manual_seed(7) for n in range(3)}
    first = drawn(torch.Generator().manual_seed(7))
    for generator in generators.values():
        drawn(generator)
    runner = Runner(generators)
    assert runner._bookkeeping_sync("kept") == "kept"
    assert seen == [{1, 2}]
    assert runner.input_batch.generators is generators
    assert drawn(generators[0]) == first
    assert drawn(generators[1]) != first and drawn(generators[2]) != first


def test_another_version_of_vllm_is_left_as_it_is():
    class Runner:
        pass

    around(Runner)
    assert not hasattr(Runner, "_bookkeeping_sync")
