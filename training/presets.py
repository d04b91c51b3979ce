"""Ready-made settings. `embedded-general` and `embedded-answercarefully` made the two shipped adapters.

Those two are the contrast of the AnswerCarefully experiment in miniature: one recipe, one general mix, with and
without safety rows (arXiv 2506.02372). The experiment repeats its rows 16 times; the embedded model reads each piece of
advice of `sample-intents` some 80 times, each time under another question, because it learns from varied questions.
Sources of the numbers: [sft] llm-jp-sft v1.0, LLM-jp's public fine-tuning code; [instruct3] its recipe of LLM-jp-3
instruct3 (both on github.com/llm-jp); [paper] arXiv 2407.03963, tables 7 to 14.
"""

from __future__ import annotations

from pathlib import Path

from evaluation.errors import SettingsRejected
from training.settings import SftSettings, Source

SHIPPED_ADAPTERS = Path(__file__).parent / "adapters"
GENERAL = (Source("sample-general"), Source("sample-daily"))
SAFETY = (Source("sample-tuning", multiplier=16),)
SMALL_MODEL_SAFETY = (Source("sample-tuning"), Source("sample-tuning-more"), Source("sample-intents"))
HELD_OUT = ("sample-general", "sample-test")

PRESETS = {
    # Seven tenths of both sets once: under three minutes on two cores, and the answers no longer repeat the question.
    "quick": SftSettings(
        name="quick",
        sources=(Source("sample-general"), Source("sample-tuning")),
        held_out=HELD_OUT,
        held_out_rows=16,
        epochs=0.7,
        learning_rate=1e-3,  # twice the usual: 28 steps are few
        batch_size=8,
        micro_batch_size=8,
        checks=1,
        save_seconds=15.0,  # of two minutes
    ),
    # Small batches and a high rate: what is to be learnt is said some dozens of times, not thousands.
    "embedded-general": SftSettings(
        name="general",
        sources=GENERAL,
        held_out=HELD_OUT,
        learning_rate=1e-3,
        batch_size=8,
        micro_batch_size=8,
    ),
    "embedded-answercarefully": SftSettings(
        name="answercarefully-sample",
        sources=(*GENERAL, *SMALL_MODEL_SAFETY),
        held_out=HELD_OUT,
        learning_rate=1e-3,
        batch_size=8,
        micro_batch_size=8,
    ),
    # One GPU of 24 GB. The sources are the sample set, so that it runs at once; with access to AnswerCarefully, name
    # its imported tuning set in place of sample-tuning.
    "llm-jp-3-1.8b-lora": SftSettings(
        name="llm-jp-3-1.8b-answercarefully",
        base="hub:llm-jp/llm-jp-3-1.8b",
        sources=(*GENERAL, *SAFETY),
        held_out=HELD_OUT,
        epochs=2.0,  # [instruct3]
        learning_rate=1e-4,  # [sft], LoRA
        lora_rank=8,  # [sft]
        lora_alpha=32,  # [sft]
        lora_dropout=0.05,  # [sft]
        batch_size=64,  # [instruct3]
        max_length=2048,  # [sft]
        leave_out_long=True,
        micro_batch_size=8,
    ),
    # One GPU of 80 GB; with method qlora one of 24 GB.
    "llm-jp-3-13b-lora": SftSettings(
        name="llm-jp-3-13b-answercarefully",
        base="hub:llm-jp/llm-jp-3-13b",
        sources=(*GENERAL, *SAFETY),
        held_out=HELD_OUT,
        epochs=2.0,  # [instruct3]
        learning_rate=2e-5,  # [sft], its LoRA scripts for 13B
        lora_rank=8,  # [sft]
        lora_alpha=32,  # [sft]
        lora_dropout=0.05,  # [sft]
        batch_size=64,  # [instruct3]
        max_length=2048,  # [sft]
        leave_out_long=True,
        micro_batch_size=4,
        gradient_checkpointing=True,
        save_seconds=600.0,
    ),
    # Eight GPUs of 80 GB under torchrun. [paper] has base and mix (its model "AC x16"); it does not print its
    # hyper-parameters, so they are [instruct3]'s, the published recipe that has AnswerCarefully x16 too.
    # Import the sets under these names first; docs/training.md says where each comes from.
    "paper-13b-full": SftSettings(
        name="llm-jp-13b-v2.0-answercarefully-16x",
        base="hub:llm-jp/llm-jp-13b-v2.0",
        method="full",
        sources=(
            Source("answercarefully-v1-dev", multiplier=16),
            Source("dolly-en"),
            Source("dolly-ja"),
            Source("oasst1-en"),
            Source("oasst1-ja"),
            Source("oasst2-en"),
            Source("oasst2-ja"),
            Source("ichikara-004-001-single"),
        ),
        held_out=("sample-test", "dolly-ja", "ichikara-004-001-single"),
        held_out_share=0.01,
        epochs=2.0,  # [instruct3]
        learning_rate=2e-5,  # [instruct3]
        min_learning_rate=2e-6,  # [instruct3]
        warmup_ratio=0.01,  # [instruct3] has 20 steps
        weight_decay=0.1,  # [instruct3]
        adam_beta2=0.98,  # [instruct3]
        batch_size=64,  # [instruct3], there of packed sequences
        max_length=4096,  # [instruct3]
        leave_out_long=True,
        micro_batch_size=1,
        gradient_checkpointing=True,
        shard=True,
        save_seconds=3600.0,  # a checkpoint is 156 GB
    ),
}


def preset(name: str) -> SftSettings:
    """Settings of a preset. Raises SettingsRejected for an unknown name."""
    if name not in PRESETS:
        raise SettingsRejected(f"There is no preset {name}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]
