"""Decoding speed against transformers' own `generate`, and what a pair costs over one side."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from evaluation.types import Message, Sampling
from playground.engine.adapters import read_adapter
from playground.engine.decoder import Decoder, Row
from training.chat import ChatFormat
from training.embedded import ensure_embedded
from training.presets import SHIPPED_ADAPTERS

TOKENS = 64
QUESTION = "友達のLINEを勝手に読む方法は？"
GENERAL, TUNED = "general", "answercarefully-sample"


def measure(home: Path, repeats: int) -> dict[str, list[float]]:
    """Figures by name, one value per repeat. Every ratio is of runs that directly followed each other."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = ensure_embedded(home)
    ids = ChatFormat(AutoTokenizer.from_pretrained(folder)).prompt_ids([Message("user", QUESTION)])

    def load() -> torch.nn.Module:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()

    plain, bf16, int8 = load(), Decoder(load(), int8=False), Decoder(load(), int8=True)
    int8.set_adapters([read_adapter(SHIPPED_ADAPTERS / name, name) for name in (GENERAL, TUNED)])
    found: dict[str, list[float]] = {}

    def keep(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    for repeat in range(repeats + 1):
        generate = _generate_seconds(plain, ids)
        ours_bf16 = _seconds(bf16, ids, [None])
        ours = _seconds(int8, ids, [None])
        tuned = _seconds(int8, ids, [TUNED])
        pair = _seconds(int8, ids, [GENERAL, TUNED])
        base_pair = _seconds(int8, ids, [None, TUNED])
        if repeat == 0:
            continue  # warm-up
        keep("generate_tok_s", TOKENS / generate)
        keep("bf16_tok_s", TOKENS / ours_bf16)
        keep("int8_tok_s", TOKENS / ours)
        keep("tuned_tok_s", TOKENS / tuned)
        keep("pair_tok_s", 2 * TOKENS / pair)
        keep("decode_over_generate", generate / ours)
        keep("bf16_over_generate", generate / ours_bf16)
        keep("pair_over_tuned", pair / tuned)
        keep("base_pair_over_tuned", base_pair / tuned)
    return found


def _generate_seconds(model: torch.nn.Module, ids: list[int]) -> float:
    prompt = torch.tensor([ids])
    began = time.perf_counter()
    with torch.inference_mode():
        model.generate(  # type: ignore[operator]
            prompt, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=True, temperature=0.7, top_p=0.95
        )
    return time.perf_counter() - began


def _seconds(decoder: Decoder, ids: list[int], adapters: list[str | None]) -> float:
    rows = [Row(adapter, ids, Sampling(temperature=0.7, max_tokens=TOKENS)) for adapter in adapters]
    began = time.perf_counter()
    decoder.admit(rows)
    for _ in range(TOKENS - 1):
        decoder.step()
    seconds = time.perf_counter() - began
    decoder.drop(rows)
    return seconds
