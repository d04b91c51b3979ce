"""A plugin that a vLLM server loads on a CPU (`vllm.general_plugins`, named in the folder beside this file).

vLLM 0.32's own code for adapters on a CPU copies an adapter's matrices once for every token of a batch, and takes a
request without an adapter, whose number is -1, for one of the last place: once as many adapters are loaded as there are
places, the base answers with the last one's weights. Here the tokens of one adapter are multiplied at once, and those
without one by nothing.

A linear layer, of which a step has some 70 with several projections each, is done in three operations for each adapter
and projection: with so few tokens it is the number of operations that takes the time. All tokens go through each adapter
of the batch, those of others are then multiplied by 0. Needs torch only; sums are kept at least as precisely as by the
functions it replaces.
"""

from __future__ import annotations

import logging
from types import ModuleType
from typing import Any

import torch

NAMES = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")
LAYER = "add_lora_linear"
_last: tuple[torch.Tensor, list[tuple[int, torch.Tensor]]] = (torch.empty(0, dtype=torch.long), [])
_shares: dict[tuple[int, torch.dtype], torch.Tensor] = {}  # of _last's places: 1 for a token of it, else 0


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
    found = groups(whose)
    for place, _tokens in found:
        if place < 0:
            continue
        share = None if len(found) == 1 else share_of(place, rows.dtype)
        first = 0
        for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
            inner = rows @ a[place, 0].t()
            if share is not None:
                inner *= share
            columns[:, first : first + width].addmm_(inner, b[place, 0].t(), alpha=scale)
            first += width


def share_of(place: int, dtype: torch.dtype) -> torch.Tensor:
    """(tokens, 1): 1 for the tokens of the adapter in that place, by what `groups` was last asked; else 0."""
    if (place, dtype) not in _shares:
        _shares[place, dtype] = (_last[0] == place).to(dtype).unsqueeze(1)
    return _shares[place, dtype]


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
