"""A plugin that a vLLM server loads on a CPU (`vllm.general_plugins`, named in the folder beside this file).

vLLM 0.32's own code for adapters on a CPU copies an adapter's matrices once for every token of a batch, and takes a
request without an adapter, whose number is -1, for one of the last place: once as many adapters are loaded as there are
places, the base answers with the last one's weights. Here the tokens of one adapter are multiplied at once, and those
without one by nothing.

With so few tokens it is the number of operations that takes the time, and a step has some 70 linear layers with several
projections each. So the matrices of all adapters in their places are kept side by side: one product takes a layer's tokens
through all of them, each token's results of other adapters than its own are multiplied by 0, and one product for each
projection adds the rest. Needs torch only; sums are kept at least as precisely as by the functions it replaces.
"""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any

import torch

NAMES = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")
LAYER = "add_lora_linear"
MOST_COLUMNS = 128  # adapters x rank that all tokens are taken through; beyond it only the batch's own adapters
# A of all projections, B of each, and in which places the adapters are that their columns belong to.
Adapters = tuple[torch.Tensor, list[torch.Tensor], list[int]]
_last: tuple[torch.Tensor, list[tuple[int, torch.Tensor]]] = (torch.empty(0, dtype=torch.long), [])
_shares: dict[tuple[object, ...], torch.Tensor] = {}  # which columns are whose in _last, see share_of
# By the layer's first stack, which is kept so that no other gets its id: when its stacks were written, and their adapters.
_together: dict[int, tuple[torch.Tensor, list[int], Adapters | None]] = {}


def register() -> None:
    """Put ours in the place of theirs, in each process before the model is loaded. Does nothing on a GPU."""
    from vllm.platforms import current_platform

    if current_platform.device_type != "cpu":
        return
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu

    replace_in(lora_ops)
    replace_in(punica_cpu)
    replace_layer_of(punica_cpu.PunicaWrapperCPU)


def replace_in(module: ModuleType) -> None:
    """Replace the functions where the module has them all; another version may be built otherwise."""
    if not all(hasattr(module, name) for name in NAMES):
        logging.getLogger("vllm").warning("%s has no %s; adapters run as vLLM does it", module.__name__, NAMES)
        return
    for name in NAMES:
        setattr(module, name, globals()[name])


def replace_layer_of(wrapper: Any) -> None:
    """Replace the class's method for a linear layer where it has one and says whose each token is."""
    if not (hasattr(wrapper, LAYER) and hasattr(wrapper, "token_lora_indices")):
        logging.getLogger("vllm").warning("%s has no %s; layers run as vLLM does it", wrapper, LAYER)
        return
    setattr(wrapper, LAYER, add_lora_linear)


def add_lora_linear(
    self: Any,
    y: torch.Tensor,
    x: torch.Tensor,
    lora_a_stacked: tuple[torch.Tensor, ...],
    lora_b_stacked: tuple[torch.Tensor, ...],
    scale: float,
    output_slices: tuple[int, ...],
    **_: Any,
) -> None:
    """y += scale x A B of each token's adapter, in place, for each projection in its own columns of y.

    Shapes: y (tokens, out), x (tokens, in), A (places, 1, rank, in), B (places, 1, width, rank), widths `output_slices`.
    """
    rows, columns = x.reshape(-1, x.shape[-1]), y.view(-1, y.shape[-1])
    whose = self.token_lora_indices[: rows.shape[0]]
    rows, columns = rows[: len(whose)], columns[: len(whose)]  # a batch may be padded
    present = [place for place, _tokens in groups(whose) if place >= 0]
    if not present:
        return
    together = side_by_side(lora_a_stacked, lora_b_stacked)
    for a, factors, places in [together] if together else one_by_one(lora_a_stacked, lora_b_stacked, present):
        if not places:
            continue
        inner = (rows @ a.t()).view(len(rows), len(factors), -1)
        if places != present or len(groups(whose)) > 1:
            inner *= share_of(places, inner.shape[-1] // len(places), inner.dtype).unsqueeze(1)
        first = 0
        for number, (b, width) in enumerate(zip(factors, output_slices, strict=True)):
            columns[:, first : first + width].addmm_(inner[:, number], b.t(), alpha=scale)
            first += width


def side_by_side(a_stacked: tuple[torch.Tensor, ...], b_stacked: tuple[torch.Tensor, ...]) -> Adapters | None:
    """The layer's adapters in all places as one, from the cache where no matrix was written since; None: too wide.

    A place without an adapter, or whose adapter leaves this layer alone, has B = 0 and is left out.
    """
    stacks = (*a_stacked, *b_stacked)
    if any(stack.is_inference() for stack in stacks):
        return None  # such a tensor does not say when it was written
    versions = [stack._version for stack in stacks]
    known = _together.get(id(stacks[0]))
    if known is None or known[1] != versions:
        places = [place for place in range(stacks[0].shape[0]) if any(b[place].any() for b in b_stacked)]
        made = None
        if len(places) * stacks[0].shape[-2] <= MOST_COLUMNS:
            a = torch.cat([a[place, 0] for a in a_stacked for place in places]) if places else stacks[0][0, 0, :0]
            made = a, [torch.cat([b[place, 0] for place in places], 1) for b in b_stacked if places], places
        known = _together[id(stacks[0])] = stacks[0], versions, made
    return known[2]


def one_by_one(
    a_stacked: tuple[torch.Tensor, ...], b_stacked: tuple[torch.Tensor, ...], present: list[int]
) -> list[Adapters]:
    """Those adapters of the layer, each as it would be alone."""
    return [
        (torch.cat([a[place, 0] for a in a_stacked]), [b[place, 0] for b in b_stacked], [place]) for place in present
    ]


def share_of(places: list[int], rank: int, dtype: torch.dtype) -> torch.Tensor:
    """(tokens, places x rank): 1 in a token's own adapter's columns, by what `groups` was last asked; else 0."""
    key = (*places, rank, dtype)
    if key not in _shares:
        own = _last[0].unsqueeze(1) == torch.tensor(places, dtype=_last[0].dtype)
        _shares[key] = own.repeat_interleave(rank, 1).to(dtype)
    return _shares[key]


def bgmv_shrink(
    inputs: torch.Tensor,
    lora_b_weights: torch.Tensor,
    output_tensor: torch.Tensor,
    lora_indices_tensor: torch.Tensor,
    scaling: float = 1.0,
) -> None:
    """output[:, :rank] = scaling x inputs x A of each token's adapter. Shapes: (tokens, in), (places, rank, in)."""
    found = products(inputs, lora_b_weights, lora_indices_tensor, output_tensor.dtype)
    output_tensor[:, : found.shape[1]] = scaling * found


def bgmv_expand(
    inputs: torch.Tensor,
    lora_b_weights: torch.Tensor,
    output_tensor: torch.Tensor,
    lora_indices_tensor: torch.Tensor,
    add_inputs: bool = True,
) -> None:
    """output += inputs x B of each token's adapter. Shapes: (tokens, rank), (places, out, rank)."""
    found = products(inputs, lora_b_weights, lora_indices_tensor, output_tensor.dtype)
    rows = 1 if found.shape[0] == 1 else output_tensor.shape[0]
    columns = min(found.shape[1], output_tensor.shape[1])  # they may be padded differently
    if add_inputs:
        output_tensor[:, :columns] += found[:rows, :columns]
    else:
        output_tensor[:, :columns] = found[:rows, :columns]


def bgmv_expand_slice(
    inputs: torch.Tensor,
    lora_b_weights: torch.Tensor,
    output_tensor: torch.Tensor,
    lora_indices_tensor: torch.Tensor,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """The same for the columns from `slice_offset` on: layers that several projections share."""
    found = products(inputs, lora_b_weights, lora_indices_tensor, output_tensor.dtype)
    if add_inputs:
        output_tensor[:, slice_offset : slice_offset + slice_size] += found
    else:
        output_tensor[:, slice_offset : slice_offset + slice_size] = found


def products(inputs: torch.Tensor, weights: torch.Tensor, indices: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Each token times its adapter's matrix, (tokens, out); zeros where it has none."""
    if weights.dim() == 4:
        weights = weights.squeeze(1)
    inputs = inputs.to(dtype)
    places = groups(indices)
    if len(places) == 1 and places[0][0] >= 0:
        return inputs @ weights[places[0][0]].to(dtype).t()
    found = torch.zeros(inputs.shape[0], weights.shape[1], dtype=dtype, device=inputs.device)
    for place, rows in places:
        if place >= 0:
            found.index_copy_(0, rows, inputs.index_select(0, rows) @ weights[place].to(dtype).t())
    return found


def groups(indices: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
    """Each adapter's place, and the rows of its tokens. The layers of a step, 250 calls, all ask the same."""
    global _last
    asked, found = _last
    if (asked.shape, asked.dtype) != (indices.shape, indices.dtype) or not torch.equal(asked, indices):
        found = [(int(place), (indices == place).nonzero().squeeze(1)) for place in indices.unique()]
        _last = indices.clone(), found
        _shares.clear()
    return found
