"""Low-rank terms that the embedded judge adds to the lower layers of its base while it reads.

They are kept apart from the adapters of the engine: a judge reads between the replies of others, on the bare base, and
its terms travel in the file of its heads. So the same code adds them while they are fitted and while they are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Terms:
    """By the name of a linear layer in the decoder: a (in, rank) and b (rank, out), both float32."""

    by_layer: Mapping[str, tuple[Tensor, Tensor]]


@contextmanager
def with_terms(decoder: Any, terms: Terms | None, scaling: float = 1.0) -> Iterator[None]:
    """Within the block every layer named by `terms` gives x W + scaling x a b. Raises AttributeError for one not there."""
    with ExitStack() as hooks:
        for name, (a, b) in (terms.by_layer if terms else {}).items():
            hooks.callback(decoder.get_submodule(name).register_forward_hook(_adding(a, b, scaling)).remove)
        yield


def _adding(a: Tensor, b: Tensor, scaling: float) -> Any:
    def add(_module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # float32, as in the engine: small bfloat16 products are about three times slower on a CPU.
        x = inputs[0].to(a.dtype)
        return output + (scaling * (x @ a.to(x.device)) @ b.to(x.device)).to(output.dtype)

    return add
