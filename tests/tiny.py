"""Tiny random models and adapters: true transformers folders of a few hundred kilobytes, made in a second.

The tokenizer knows bytes and three special tokens, so any text is encodable and lengths are easy to count:
one token per UTF-8 byte. Weights are drawn wide, so that greedy decoding does not fall into one token.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch

torch.set_num_threads(1)  # two threads on matrices this small spend their time waiting for each other

Family = Literal["gemma3", "llama", "qwen3"]
FAMILIES: tuple[Family, ...] = ("gemma3", "llama", "qwen3")
SLIDING_WINDOW = 8  # tokens; of gemma3's first layer
CONTEXT = 1024  # tokens
VOCABULARY = 259  # 3 special tokens and 256 bytes
PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
PAD_ID, BOS_ID, EOS_ID = 0, 1, 2

# One line per turn; what chat templates of tuned models look like, in miniature.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
# Shows only the last assistant turn in full, as templates do that drop earlier reasoning.
REWRITING_TEMPLATE = TEMPLATE.replace(
    "{{ m['content'] }}", "{{ m['content'] if loop.last or m['role'] == 'user' else '…' }}"
)


def tiny_tokenizer(template: str | None = None) -> Any:
    """A byte-level tokenizer: <pad> 0, <bos> 1, <eos> 2, then the bytes. `template` is its chat template, if any."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([PAD, BOS, EOS, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD)
    if template is not None:
        fast.chat_template = template
    return fast


def tiny_model(family: Family = "llama", seed: int = 0) -> Any:
    """A two-layer float32 model of the family, its weights drawn from `seed`."""
    from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, Qwen3Config

    shared: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
        "pad_token_id": PAD_ID,
    }
    match family:
        case "gemma3":
            kinds = ["sliding_attention", "full_attention"]
            config = Gemma3TextConfig(**shared, sliding_window=SLIDING_WINDOW, layer_types=kinds)
        case "llama":
            config = LlamaConfig(**shared)
        case "qwen3":
            config = Qwen3Config(**shared)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:  # gains: Gemma adds 1 to them, the others do not
                parameter.copy_(0.2 * drawn + (0.0 if family == "gemma3" else 1.0))
            elif "embed" in name and family == "gemma3":
                parameter.copy_(0.03 * drawn)  # Gemma multiplies it again, and would only echo its last token
            else:
                parameter.copy_(0.3 * drawn)
        # A logit of 0 is never the largest of so many: greedy replies go on until they are stopped.
        model.get_output_embeddings().weight[EOS_ID] = 0
    return model


def tiny_folder(folder: Path, family: Family = "llama", seed: int = 0, template: str | None = None) -> Path:
    """Save a tiny model and its tokenizer under `folder` and return it."""
    tiny_model(family, seed).save_pretrained(folder)
    tiny_tokenizer(template).save_pretrained(folder)
    return folder


def tiny_adapter(folder: Path, base: Path, seed: int = 1, *, rank: int = 4, scale: float = 0.3) -> Path:
    """Save a LoRA adapter for the model in `base`, made by PEFT, its B drawn from `seed` so that it changes logits.

    `scale` 0 gives an adapter that does nothing.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tuned = get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_A" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
            elif "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    tuned.save_pretrained(folder)
    return folder


def edit_config(adapter: Path, **changes: object) -> None:
    """Change settings in an adapter's config file."""
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, **changes}), encoding="utf-8")
