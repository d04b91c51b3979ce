"""Fine-tuning end to end on a tiny model: it learns, it is repeatable, and what it saves can be served."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import ROWS, Events, curve, run, settings_for

from evaluation.disk import DiskRefused
from evaluation.errors import SettingsRejected, UserFacingError
from playground.engine.adapters import read_adapter
from playground.engine.local import LocalEngine
from tests.tiny import tiny_folder
from training import base as base_module
from training import loop
from training.card import write_card
from training.embedded import weights_sha256
from training.model import trained_tokens
from training.plan import plan_run
from training.sft import TrainResult, prepare


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory) -> tuple[TrainResult, Events]:
    return run(settings_for(base), tmp_path_factory.mktemp("run"))


def stages(events: Events) -> list[str]:
    return [data["stage"] for _, data in events if "stage" in data]


def test_the_loss_falls_on_rows_it_did_not_see(trained):
    result, events = trained
    assert result.loss_after["test"] < 0.95 * result.loss_before["test"]
    losses = list(curve(events).values())
    assert len(losses) == result.steps == math.ceil(30 / 6) * 3
    assert losses[-1] < losses[0]


def test_the_events_can_be_written_as_json_and_tell_the_stages_in_order(trained):
    _, events = trained
    json.dumps(events, allow_nan=False)
    assert stages(events) == ["mix", "model", "before", "samples", "during", "samples", "after", "samples"]


def test_each_step_tells_loss_rate_tokens_and_the_time_that_is_left(trained):
    result, events = trained
    steps = [data for _, data in events if "loss" in data]
    assert all(
        data.keys() == {"step", "steps", "loss", "lr", "tokens_per_s", "tokens", "eta_s"} and data["steps"] == 15
        for data in steps
    )
    assert [data["step"] for data in steps] == list(range(1, 16))
    assert steps[-1]["tokens"] == sum(part.tokens for part in result.mix) * 3
    assert steps[-1]["eta_s"] == 0 < steps[0]["eta_s"]
    assert max(data["lr"] for data in steps) == pytest.approx(2e-2)
    assert steps[-1]["lr"] < 2e-3, "a cosine ends near zero"


def test_a_higher_end_of_the_cosine_is_reached_and_kept(base, tmp_path):
    _, events = run(settings_for(base, min_learning_rate=1e-2, checks=0), tmp_path)
    rates = [data["lr"] for _, data in events if "lr" in data]
    assert min(rates[3:]) >= 1e-2


def test_the_first_step_is_told_before_the_base_is_measured(trained):
    _, events = trained
    first = next(n for n, (_, data) in enumerate(events) if data.get("step") == 1)
    assert first < next(n for n, (_, data) in enumerate(events) if data.get("stage") == "before")


def test_the_three_test_prompts_are_answered_at_the_start_on_the_way_and_at_the_end(trained):
    _, events = trained
    samples = [data for _, data in events if data.get("stage") == "samples"]
    assert [data["step"] for data in samples] == [0, 7, 15]
    asked = [[s["prompt_id"] for s in data["samples"]] for data in samples]
    assert asked == [["sample-test-14-b", "sample-test-36-c", "sample-general-073"]] * 3
    assert all(s["question"] for data in samples for s in data["samples"])
    assert samples[0]["samples"] != samples[-1]["samples"]


def test_the_loss_before_is_the_bases_own(trained, base):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from training.chat import ChatFormat
    from training.held_out import mean_loss
    from training.mix import examples
    from training.model import with_response_loss

    result, _ = trained
    model = with_response_loss(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32))
    from tiny_runs import ROWS

    rows = examples(ROWS["test"], "test", ChatFormat(AutoTokenizer.from_pretrained(base)))
    assert result.loss_before["test"] == pytest.approx(mean_loss(model, rows, 1, torch.device("cpu")), rel=0.01)


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


def test_what_is_looked_at_on_the_way_does_not_change_what_is_learned(trained, base, tmp_path):
    unseen, events = run(settings_for(base, checks=0, held_out=(), save_steps=3), tmp_path)
    assert stages(events) == ["mix", "model", "before", "samples", "after", "samples"]
    ours, theirs = (load_file(r.adapter / "adapter_model.safetensors") for r in (trained[0], unseen))
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())


def test_an_adapter_starts_as_one_that_changes_nothing_and_ends_as_one_of_its_rank(trained):
    adapter = read_adapter(trained[0].adapter, "tuned")
    assert (adapter.rank, adapter.scaling) == (4, 2.0)
    assert not any("head" in layer or "embed" in layer for layer in adapter.layers)


def test_full_fine_tuning_makes_a_model_that_is_served_without_an_adapter(base, tmp_path):
    result, _ = run(settings_for(base, method="full", learning_rate=5e-3, epochs=1.0), tmp_path)
    assert result.adapter is None and result.model == tmp_path / "model"
    assert result.loss_after["test"] < 0.95 * result.loss_before["test"]
    assert str(base) not in (result.model / "config.json").read_text()
    saved, was = load_file(result.model / "model.safetensors"), load_file(base / "model.safetensors")
    assert saved.keys() == was.keys(), "a tied head is saved once, as it was"
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
    assert json.loads((result.model / "config.json").read_text())["dtype"] == "bfloat16"
    engine = LocalEngine(result.model, {})
    try:
        assert engine.identity("base").weights_sha256 == weights_sha256(result.model) != result.base_sha256
    finally:
        engine.close()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"gradient_checkpointing": True}, id="recomputed activations"),
        pytest.param({"micro_batch_size": 2}, id="in three parts"),
    ],
)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_only_saves_memory_leaves_the_curve_as_it_is(base, tmp_path, method, change):
    options = {"method": method, "precision": "float32", "epochs": 1.0, "checks": 0}
    plain, saving = (
        curve(run(settings_for(base, **options, **extra), tmp_path / name)[1])
        for name, extra in (("plain", {}), ("saving", change))
    )
    assert saving == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_the_arithmetic_is_of_the_precision_that_was_asked_for(base, tmp_path, monkeypatch, precision):
    seen = set()
    honest = loop.summed_loss

    def look(model: Any, batch: Any) -> Any:
        seen.add(torch.is_autocast_enabled("cpu") or next(model.parameters()).dtype)
        return honest(model, batch)

    monkeypatch.setattr(loop, "summed_loss", look)
    result, _ = run(settings_for(base, precision=precision, epochs=0.2, checks=0, held_out=()), tmp_path)
    assert base_module.precision_of(precision) is getattr(torch, precision)
    assert seen == {torch.bfloat16 if precision == "bfloat16" else torch.float32}
    assert result.steps == 1


def test_the_card_holds_the_hashes_the_mix_and_the_losses(trained, base):
    result, _ = trained
    card = write_card(result, settings_for(base), "python -m playground train SETTINGS.json").read_text()
    weights = (result.adapter / "adapter_model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() in card
    assert weights_sha256(base) == result.base_sha256
    assert result.base_sha256 in card
    assert "| safety | 24 |" in card and "| general | 6 |" in card
    assert f"{result.loss_before['test']:.4f} | {result.loss_after['test']:.4f}" in card
    assert "stopped" not in card


def test_the_card_of_a_stopped_run_says_so_and_one_that_never_began_has_none(trained, base, tmp_path):
    settings = settings_for(base, checks=0)
    stopped, _ = run(settings, tmp_path, stop_at=3)
    card = write_card(stopped, settings, "a command").read_text()
    assert "stopped before its end" in card and "not measured" in card and "3 steps" in card
    never, _ = run(settings_for(base, method="full"), tmp_path / "never", should_stop=lambda: True)
    assert write_card(never, settings, "a command") is None


@pytest.mark.parametrize("broken", [float("nan"), float("inf")], ids=["nan", "infinite"])
def test_a_loss_that_is_not_finite_stops_the_run_with_the_step_and_leaves_no_adapter(
    base, tmp_path, monkeypatch, broken
):
    honest, calls = loop.summed_loss, []

    def break_later(model: Any, batch: Any) -> Any:
        calls.append(trained_tokens(batch))
        return honest(model, batch) * (broken if len(calls) == 3 else 1)

    monkeypatch.setattr(loop, "summed_loss", break_later)
    with pytest.raises(FloatingPointError, match=r"at step 3; lower learning_rate") as told:
        run(settings_for(base, save_steps=1), tmp_path)
    assert isinstance(told.value, UserFacingError) and "\n" not in str(told.value)
    assert not (tmp_path / "adapter").exists()
    assert (tmp_path / "checkpoints" / "step-000002").is_dir(), "the last good step can be gone back to"
    assert not (tmp_path / "checkpoints" / "step-000003").exists()


def test_a_disk_that_is_full_ends_the_run_with_one_line_and_gives_its_room_back(base, tmp_path, monkeypatch):
    real = torch.save

    def refuse(value: Any, path: Any, *rest: Any, **more: Any) -> None:
        if "step" not in str(path) and "optimizer" in str(path):
            Path(path).write_bytes(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc:659] . unexpected pos 64 vs 0")
        real(value, path, *rest, **more)

    monkeypatch.setattr("torch.save", refuse)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0})())
    with pytest.raises(DiskRefused, match="no space left") as told:
        run(settings_for(base, save_steps=2, checks=0), tmp_path)
    assert "\n" not in str(told.value)
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({"max_length": 16}, "over max_length 16", id="a-row-too-long"),
        pytest.param({"base": "nowhere"}, "base is nowhere", id="no-such-base"),
        pytest.param({"method": "qlora"}, "qlora, which needs a CUDA device", id="qlora-without-cuda"),
        pytest.param({"shard": True}, "shard is true, which needs several processes", id="shards-in-one-process"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_the_model_is_loaded(base, tmp_path, monkeypatch, changes, told):
    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", load)
    with pytest.raises(SettingsRejected, match=told) as refused:
        run(settings_for(**{"base": base, **changes}), tmp_path)
    assert "\n" not in str(refused.value)


def test_a_gpu_whose_memory_runs_out_is_told_with_what_to_change(base, tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    monkeypatch.setattr(loop, "summed_loss", full)
    with pytest.raises(UserFacingError, match=r"memory ran out \(.*2\.00 GiB\.\)\. Lower micro_batch_size"):
        run(settings_for(base), tmp_path)


def test_one_process_trains_on_one_gpu_of_several(base, tmp_path, monkeypatch):
    """With two in sight the Trainer would take two micro-batches for one and copy the model to both."""
    ready = prepare(settings_for(base), tmp_path, ROWS.__getitem__, lambda event, data: None)
    plan = plan_run(ready.mix, settings_for(base))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda *_: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", lambda device: None)
    arguments = loop.training_arguments(settings_for(base), plan, tmp_path)
    assert (arguments.n_gpu, arguments.train_batch_size, str(arguments.device)) == (1, 1, "cuda:0")


def test_qlora_without_bitsandbytes_is_refused_with_what_to_install(base, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(base_module, "find_spec", lambda name: None)
    with pytest.raises(SettingsRejected, match="pip install bitsandbytes"):
        run(settings_for(base, method="qlora"), tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"final_logit_softcapping": 30.0}, {"logit_scale": 0.5}, {"lm_head_multiplier": 0.04}, {"logits_soft_cap": 30.0}],
    ids=str,
)
def test_a_base_that_changes_its_logits_is_refused(base, tmp_path, change):
    folder = tiny_folder(tmp_path / "changed", "gemma3")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(SettingsRejected, match=f"has {next(iter(change))}"):
        run(settings_for(folder), tmp_path)
