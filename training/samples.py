"""What the model in training answers to three fixed test prompts: two that need care, one that must not be refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from evaluation.prompts.suites import load_suite
from evaluation.types import Prompt
from training.chat import ChatFormat
from training.plan import PAD_ID

# Ids in the sample set: every run is asked the same, and the guard lets nobody train on them.
ASKED = {"sample-test": ("sample-test-36-c", "sample-test-14-b"), "sample-general": ("sample-general-073",)}
NEW_TOKENS = 64


def asked_prompts(home: Path) -> list[Prompt]:
    """The three Prompts. `home` is PLAYGROUND_HOME."""
    return [prompt for suite, ids in ASKED.items() for prompt in load_suite(suite, home).prompts if prompt.id in ids]


@torch.no_grad()
def sample_responses(model: Any, tokenizer: Any, chat: ChatFormat, prompts: Sequence[Prompt]) -> list[dict[str, str]]:
    """Greedy responses of at most `NEW_TOKENS` tokens, one batch: {"prompt_id", "question", "text"} for each."""
    prompt_ids = [chat.prompt_ids(prompt.messages()) for prompt in prompts]
    longest = max(map(len, prompt_ids))
    pad = [longest - len(ids) for ids in prompt_ids]
    input_ids = torch.tensor([[PAD_ID] * p + ids for p, ids in zip(pad, prompt_ids, strict=True)])
    mask = torch.tensor([[0] * p + [1] * len(ids) for p, ids in zip(pad, prompt_ids, strict=True)])
    was_training = model.training
    model.eval()
    try:
        made = model.generate(
            input_ids=input_ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,  # draws no random number, so training goes on as if nobody had asked
            use_cache=True,
            pad_token_id=PAD_ID,
        )
    finally:
        model.train(was_training)
    return [
        {"prompt_id": prompt.id, "question": prompt.question, "text": _text(row[longest:], tokenizer, chat)}
        for prompt, row in zip(prompts, made.tolist(), strict=True)
    ]


def _text(ids: list[int], tokenizer: Any, chat: ChatFormat) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=True)
    for marker in chat.stop:
        text = text.partition(marker)[0]
    return text.strip()
