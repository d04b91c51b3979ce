"""Training on an accelerator: it learns, resumes, and how fast. `python -m pytest -m gpu -s tests/gpu`."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from evaluation.prompts.suites import load_suite
from evaluation.types import Prompt
from tests.tiny import tiny_tokenizer
from training.presets import preset
from training.probe import probe
from training.settings import SftSettings, Source
from training.sft import TrainResult, train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
ROWS = [Prompt(f"r{n}", f"質問{n}です。" * 8, f"答え{n}です。" * 12) for n in range(64)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(os.environ.get("PLAYGROUND_HOME", tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def one_billion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama-shaped model of a billion random weights, in bfloat16."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    folder = tmp_path_factory.mktemp("llama-1b")
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=99_584,  # LLM-jp-3's
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=16,
        num_attention_heads=16,
        num_key_value_heads=16,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def trained(settings: SftSettings, home: Path, out: Path, stop_after: int | None = None) -> TrainResult:
    steps: list[int] = []

    def report(event: str, data: dict[str, object]) -> None:
        if "loss" in data:
            steps.append(1)

    return train(
        settings,
        home,
        lambda suite: ROWS if suite == "rows" else load_suite(suite, home).prompts,
        out,
        report,
        resume=True,
        should_stop=lambda: len(steps) == stop_after,
    )


def test_the_quick_preset_learns_here(home: Path, tmp_path: Path):
    result = trained(preset("quick"), home, tmp_path)
    print(f"quick: {result.tokens_per_s:.0f} tokens/s")
    assert all(result.loss_after[suite] < before for suite, before in result.loss_before.items())


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_billion_weights_train_stop_and_go_on(home: Path, one_billion: Path, tmp_path: Path, method: str):
    settings = SftSettings(
        name="big",
        base=str(one_billion),
        sources=(Source("rows", 8),),
        method=method,  # type: ignore[arg-type]
        learning_rate=1e-4 if method == "lora" else 1e-5,
        max_length=2048,
        checks=0,
    )
    stopped = trained(settings, home, tmp_path, stop_after=3)
    result = trained(settings, home, tmp_path)
    print(f"1B, {method}: {result.tokens_per_s:.0f} tokens/s")
    assert (stopped.steps, result.steps) == (3, 32)


def test_the_probe_knows_the_memory_of_the_card(home: Path, one_billion: Path):
    settings = SftSettings(name="big", base=str(one_billion), sources=(Source("rows", 8),), max_length=2048)
    found = probe(settings, home, lambda suite: ROWS)
    assert found is not None
    print(f"1B, lora: {found.tokens_per_s:.0f} tokens/s, {found.peak_bytes / 1e9:.1f} GB")
    assert found.peak_bytes > 2e9, "the weights alone are more"


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_an_adapter_on_a_base_in_four_bits_learns(home: Path, one_billion: Path, tmp_path: Path):
    settings = SftSettings(
        name="four-bit", base=str(one_billion), sources=(Source("rows", 4),), method="qlora", max_length=2048, checks=0
    )
    assert trained(settings, home, tmp_path).steps == 16
