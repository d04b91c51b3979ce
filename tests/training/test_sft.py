"""Fine-tuning end to end on a tiny model: it learns, it is repeatable, and what it saves can be served."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evaluation.errors import SettingsRejected
from evaluation.types import Prompt
from playground.engine.adapters import read_adapter
from playground.engine.local import LocalEngine
from tests.tiny import tiny_folder
from training import sft
from training.card import write_card
from training.chat import ChatFormat
from training.embedded import weights_sha256
from training.mix import Example
from training.settings import SftSettings, Source
from training.sft import TrainResult, collate, mean_loss, train

ROWS = {
    "safety": [Prompt(f"s{n}", f"問{n}", "断る。") for n in range(6)],
    "general": [Prompt(f"g{n}", f"料理{n}", "切る。") for n in range(6)],
    "test": [Prompt("t1", "別の問", "断る。")],
}
Events = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("base") / "tiny", "gemma3", seed=2)


def settings_for(base: Path, **changes: Any) -> SftSettings:
    settings = SftSettings(
        name="tuned",
        sources=(Source("general"), Source("safety", 4)),
        held_out=("test",),
        base=str(base),
        epochs=3.0,
        learning_rate=2e-2,
        lora_rank=4,
        lora_alpha=8,
        batch_size=6,
    )
    return replace(settings, **changes)


def run(settings: SftSettings, out: Path) -> tuple[TrainResult, Events]:
    events: Events = []
    result = train(settings, out / "home", ROWS.__getitem__, out, lambda name, data: events.append((name, data)))
    return result, events


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory) -> tuple[TrainResult, Events]:
    return run(settings_for(base), tmp_path_factory.mktemp("run"))


def test_the_loss_falls_on_rows_it_did_not_see(trained):
    result, events = trained
    assert result.loss_after["test"] < 0.95 * result.loss_before["test"]
    losses = [data["loss"] for name, data in events if name == "metric" and "loss" in data]
    assert len(losses) == result.steps == math.ceil(30 / 6) * 3
    assert losses[-1] < losses[0]


def test_the_events_can_be_written_as_json_and_tell_the_stages_in_order(trained):
    _, events = trained
    json.dumps(events, allow_nan=False)
    stages = [data["stage"] for _, data in events if "stage" in data]
    assert stages == ["mix", "before", "after"]


def test_the_adapter_is_served_and_changes_what_the_base_says(trained, base):
    result, _ = trained
    engine = LocalEngine(base, {"tuned": result.adapter})  # its self-test refuses an adapter that does nothing
    try:
        assert engine.model_ids() == ["base", "tuned"]
        assert engine.identity("base").weights_sha256 == result.base_sha256
    finally:
        engine.close()


def test_the_adapter_names_no_path_of_this_machine(trained, base):
    config = (trained[0].adapter / "adapter_config.json").read_text()
    assert json.loads(config)["base_model_name_or_path"] is None
    assert str(base) not in config


def test_the_same_seed_gives_equal_weights_and_another_seed_others(trained, base, tmp_path):
    def weights(folder: Path) -> dict[str, torch.Tensor]:
        return load_file(folder / "adapter_model.safetensors")

    first = weights(trained[0].adapter)
    again = weights(run(settings_for(base), tmp_path / "again")[0].adapter)
    other = weights(run(settings_for(base, seed=1), tmp_path / "other")[0].adapter)
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())
    assert any(not torch.equal(other[name], tensor) for name, tensor in first.items())


def test_the_card_holds_the_hashes_the_mix_and_the_losses(trained, base):
    result, _ = trained
    card = write_card(result, settings_for(base), "python -m playground train SETTINGS.json").read_text()
    weights = (result.adapter / "adapter_model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() in card
    assert weights_sha256(base) == result.base_sha256
    assert result.base_sha256 in card
    assert "| safety | 24 |" in card and "| general | 6 |" in card
    assert f"{result.loss_before['test']:.4f} | {result.loss_after['test']:.4f}" in card


@pytest.mark.parametrize("broken", [float("nan"), float("inf")], ids=["nan", "infinite"])
def test_a_loss_that_is_not_finite_stops_the_run_with_the_step_and_leaves_no_adapter(
    base, tmp_path, monkeypatch, broken
):
    honest, calls = sft.token_loss, []

    def break_later(model: Any, batch: Any) -> Any:
        summed, tokens = honest(model, batch)
        calls.append(1)
        return (summed * broken if len(calls) == 4 else summed), tokens  # the first call measures the held-out rows

    monkeypatch.setattr(sft, "token_loss", break_later)
    with pytest.raises(FloatingPointError, match="at step 3; lower learning_rate"):
        run(settings_for(base), tmp_path)
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({"held_out": ("safety",)}, "held out and trained on", id="held-out-rows-in-the-mix"),
        pytest.param({"max_length": 16}, "over max_length 16", id="a-row-too-long"),
        pytest.param({"base": "nowhere"}, "base is nowhere", id="no-such-base"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_the_model_is_loaded(base, tmp_path, monkeypatch, changes, told):
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", load)
    with pytest.raises(SettingsRejected, match=told) as refused:
        run(replace(settings_for(base), **changes), tmp_path)
    assert "\n" not in str(refused.value)


def test_a_base_that_caps_its_logits_is_refused(base, tmp_path):
    folder = tiny_folder(tmp_path / "capped", "gemma3")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "final_logit_softcapping": 30.0}))
    with pytest.raises(SettingsRejected, match="caps its logits"):
        run(settings_for(folder), tmp_path)


def test_an_adapter_starts_as_one_that_changes_nothing_and_ends_as_one_of_its_rank(trained):
    adapter = read_adapter(trained[0].adapter, "tuned")
    assert (adapter.rank, adapter.scaling) == (4, 2.0)
    assert not any("head" in layer or "embed" in layer for layer in adapter.layers)


def test_collating_pads_on_the_right_and_only_reply_tokens_carry_labels():
    rows = [Example("a", "s", (5, 6, 7), (False, False, True)), Example("b", "s", (8,), (True,))]
    batch = {name: tensor.tolist() for name, tensor in collate(rows, pad_id=0).items()}
    assert batch == {
        "input_ids": [[5, 6, 7], [8, 0, 0]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "labels": [[-100, -100, 7], [8, -100, -100]],
    }


def test_the_mean_loss_is_transformers_own_and_does_not_depend_on_the_batch(base):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    model.requires_grad_(False)
    chat = ChatFormat(AutoTokenizer.from_pretrained(base))
    rows = [sft_example(chat, prompt) for suite in ROWS.values() for prompt in suite]
    summed, tokens = 0.0, 0
    for row in rows:
        labels = torch.tensor([[i if t else -100 for i, t in zip(row.ids, row.trained_on, strict=True)]])
        counted = sum(row.trained_on)
        summed += float(model(torch.tensor([row.ids]), labels=labels).loss) * counted
        tokens += counted
    for batch_size in (1, 5):
        assert mean_loss(model, rows, batch_size) == pytest.approx(summed / tokens, rel=1e-4)


def sft_example(chat: ChatFormat, prompt: Prompt) -> Example:
    from training.mix import example

    return example(prompt, "s", chat, 1000)
