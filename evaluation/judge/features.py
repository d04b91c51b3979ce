"""What the embedded judge reads: hidden states of a response, seen after its question and reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evaluation.judge.neutralise import neutralise
from evaluation.judge.protocol import Exchange

Features = NDArray[np.float32]
ROWS = 16  # texts in one pass
LONGEST = 768  # tokens of context and of text, each


def reading(exchange: Exchange, with_reference: bool) -> tuple[str, str]:
    """(context, text): the response is the text, and whatever in it addresses a judge is taken out first."""
    question = neutralise(exchange.prompt.question).text
    reference = exchange.prompt.reference if with_reference else None
    shown = f"参考回答：{neutralise(reference).text}\n" if reference else ""
    return f"質問：{question}\n{shown}回答：", neutralise(exchange.response.text).text


def pooled_states(model: Any, tokenizer: Any, contexts: Sequence[str], texts: Sequence[str], layer: int) -> Features:
    """Hidden states after `layer` layers: the mean over a text's tokens, then that of its last token.

    model: a causal language model of transformers; the context is read before the text. Returns
    (texts, 2 x hidden size). Only the last 768 tokens of a context and the first 768 of a text are read.
    """
    rows = []
    for context, text in zip(contexts, texts, strict=True):
        before = _ids(tokenizer, context)[-LONGEST:]
        after = _ids(tokenizer, text)[:LONGEST]
        rows.append(([tokenizer.bos_token_id, *before], after))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    pooled = np.zeros((len(rows), 2 * model.config.hidden_size), dtype=np.float32)
    for start in range(0, len(order), ROWS):
        group = order[start : start + ROWS]
        longest = max(len(rows[i][0]) + len(rows[i][1]) for i in group)
        ids = torch.zeros(len(group), longest, dtype=torch.long)
        attention = torch.zeros_like(ids)
        wanted = torch.zeros(len(group), longest, 1)
        for place, i in enumerate(group):
            before, after = rows[i]
            end = len(before) + len(after)
            ids[place, :end] = torch.tensor(before + after)
            attention[place, :end] = 1
            wanted[place, len(before) : end] = 1
        states = _states(model, ids.to(model.device), attention.to(model.device), layer)
        means = (states * wanted).sum(1) / wanted.sum(1).clamp(min=1)
        last = states[torch.arange(len(group)), attention.sum(1) - 1]
        pooled[group] = torch.cat([means, last], dim=1).numpy()
    return pooled


class _Reached(Exception):
    """Ends a forward pass early; carries the hidden states."""

    def __init__(self, states: torch.Tensor) -> None:
        super().__init__()
        self.states = states


def _states(model: Any, ids: torch.Tensor, attention: torch.Tensor, layer: int) -> torch.Tensor:
    """(rows, length, hidden size) float32 after `layer` layers; the layers above are not computed."""

    def leave(_module: Any, _inputs: Any, output: Any) -> None:
        raise _Reached(output[0] if isinstance(output, tuple) else output)

    decoder = model.get_decoder()
    hook = decoder.layers[layer - 1].register_forward_hook(leave)
    try:
        with torch.inference_mode():
            decoder(input_ids=ids, attention_mask=attention, use_cache=False)
    except _Reached as reached:
        return reached.states.float().cpu()
    finally:
        hook.remove()
    raise RuntimeError(f"the model ended before layer {layer}")


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids)
