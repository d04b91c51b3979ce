"""Reading an adapter folder that a stranger may have made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluation.errors import ModelUnavailable
from playground.engine.adapters import Adapter, read_adapter
from tests.tiny import edit_config, tiny_adapter, tiny_folder

FIRST = "base_model.model.model.layers.0.mlp.up_proj.lora_"


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("adapters")
    return tiny_adapter(home / "sound", tiny_folder(home / "base"))


@pytest.fixture
def folder(sound, tmp_path) -> Path:
    return shutil.copytree(sound, tmp_path / "copy")


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def settings(**changes: object) -> Callable[[Path], object]:
    return lambda folder: edit_config(folder, **changes)


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    return lambda folder: edit_tensors(folder, change)


def only_a_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()


def link(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(folder.parent / "elsewhere")

    return change


def tear(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-40])


def poison(value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda all: all[FIRST + "B.weight"].__setitem__((0, 0), value)


CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a-pickle-only": (only_a_pickle, "safetensors is missing"),
    "no-config": (lambda folder: (folder / CONFIG).unlink(), "config.json is missing"),
    "no-folder": (shutil.rmtree, "is missing"),
    "a-linked-config": (link(CONFIG), "config.json is missing"),
    "linked-weights": (link(WEIGHTS), "safetensors is missing"),
    "torn-json": (tear(CONFIG), "not JSON"),
    "json-in-no-encoding": (lambda folder: (folder / CONFIG).write_bytes(b"\xff\xfe{}"), "not JSON"),
    "a-json-list": (lambda folder: (folder / CONFIG).write_text("[]"), "peft_type"),
    "torn-safetensors": (tear(WEIGHTS), "cannot be read"),
    "empty-safetensors": (lambda folder: (folder / WEIGHTS).write_bytes(b""), "cannot be read"),
    "a-header-that-promises-too-much": (
        lambda folder: (folder / WEIGHTS).write_bytes(b"\xff" * 8 + b"{}"),
        "cannot be read",
    ),
    "another-kind-of-adapter": (settings(peft_type="IA3"), "peft_type"),
    "code-to-import": (settings(auto_mapping={"parent_library": "os"}), "auto_mapping"),
    "dora": (settings(use_dora=True), "use_dora"),
    "modules-to-save": (settings(modules_to_save=["lm_head"]), "modules_to_save"),
    "ranks-by-layer": (settings(rank_pattern={"q_proj": 2}), "rank_pattern"),
    "alphas-by-layer": (settings(alpha_pattern={"q_proj": 2}), "alpha_pattern"),
    "repeated-layers": (settings(layer_replication=[[0, 1]]), "layer_replication"),
    "a-bias": (settings(bias="all"), "bias"),
    "a-lora-bias": (settings(lora_bias=True), "lora_bias"),
    "new-tokens": (settings(trainable_token_indices=[1]), "trainable_token_indices"),
    "a-changed-base": (settings(init_lora_weights="pissa_niter_4"), "init_lora_weights"),
    "rank-0": (settings(r=0), "r must be"),
    "rank-10000": (settings(r=10_000), "r must be"),
    "rank-true": (settings(r=True), "r must be"),
    "rank-in-words": (settings(r="4"), "r must be"),
    "another-rank-than-the-tensors": (settings(r=3), "does not have rank 3"),
    "no-alpha": (settings(lora_alpha=None), "lora_alpha"),
    "alpha-not-a-number": (settings(lora_alpha=float("nan")), "lora_alpha"),
    "alpha-infinite": (settings(lora_alpha=float("inf")), "lora_alpha"),
    "alpha-0": (settings(lora_alpha=0), "lora_alpha"),
    "a-tensor-too-many": (tensors(lambda all: all.update({"lm_head.weight": torch.ones(2)})), "lm_head.weight"),
    "a-path-as-a-name": (
        tensors(lambda all: all.update({"base_model.model.../x.lora_A.weight": torch.ones(4, 4)})),
        "not a LoRA factor",
    ),
    "one-factor-only": (tensors(lambda all: all.pop(FIRST + "B.weight")), "only one of its two factors"),
    "nan-weights": (tensors(poison(float("nan"))), "not finite"),
    "infinite-weights": (tensors(poison(float("inf"))), "not finite"),
    "a-wrong-shape": (tensors(lambda all: all.update({FIRST + "A.weight": torch.ones(5, 32)})), "does not have rank"),
    "a-flat-a": (tensors(lambda all: all.update({FIRST + "A.weight": torch.ones(4)})), "pair of matrices"),
    "a-flat-b": (tensors(lambda all: all.update({FIRST + "B.weight": torch.ones(4)})), "pair of matrices"),
    "a-scalar": (tensors(lambda all: all.update({FIRST + "B.weight": torch.tensor(1.0)})), "pair of matrices"),
    "a-convolution": (tensors(lambda all: all.update({FIRST + "A.weight": torch.ones(4, 32, 1)})), "pair of matrices"),
}


@pytest.mark.parametrize(("change", "said"), BROKEN.values(), ids=BROKEN)
def test_a_folder_that_is_not_plain_lora_is_refused_in_one_line(folder, change, said):
    change(folder)
    with pytest.raises(ModelUnavailable) as refused:
        read_adapter(folder, "stranger")
    assert said in str(refused.value)
    assert "stranger" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_over_4_gib_is_refused_before_it_is_read(folder):
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate((4 << 30) + 1)  # sparse: it takes no space
    with pytest.raises(ModelUnavailable, match="over 4 GiB"):
        read_adapter(folder, "big")


def test_a_folder_that_names_another_base_is_read_without_looking_for_it(folder):
    edit_config(folder, base_model_name_or_path="somebody/gone", revision="main")
    assert read_adapter(folder, "moved").rank == 4


def test_the_scaling_is_alpha_over_the_rank_or_over_its_root(folder):
    edit_config(folder, lora_alpha=12)
    assert read_adapter(folder, "plain").scaling == 3
    edit_config(folder, use_rslora=True)
    assert read_adapter(folder, "rooted").scaling == 6


def test_factors_are_turned_to_input_by_rank_and_rank_by_output(folder):
    pair = read_adapter(folder, "read").layers["model.layers.0.mlp.up_proj"]
    assert (tuple(pair.a.shape), tuple(pair.b.shape)) == ((32, 4), (4, 64))


def test_the_hash_follows_the_settings_and_the_weights_and_nothing_else(folder):
    def sha() -> str:
        adapter: Adapter = read_adapter(folder, "hashed")
        return adapter.sha256

    first = sha()
    (folder / "README.md").write_text("another card")
    assert sha() == first
    edit_config(folder, lora_alpha=3)
    second = sha()
    edit_tensors(folder, lambda all: all[FIRST + "B.weight"].mul_(2))
    assert len({first, second, sha()}) == 3


def test_every_setting_of_pefts_own_file_is_known_here(folder):
    """A setting that a newer PEFT adds may change what the low-rank term means: read about it, then list it here."""
    known = {
        "alora_invocation_tokens", "alpha_pattern", "arrow_config", "auto_mapping", "base_model_name_or_path", "bias",
        "corda_config", "ensure_weight_tying", "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode",
        "init_lora_weights", "kasa_config", "layer_replication", "layers_pattern", "layers_to_transform", "loftq_config",
        "lora_alpha", "lora_bias", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core",
        "modules_to_save", "monteclora_config", "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern",
        "revision", "target_modules", "target_parameters", "task_type", "trainable_token_indices", "use_bdlora",
        "use_dora", "use_qalora", "use_rslora", "velora_config",
    }  # fmt: skip
    assert set(json.loads((folder / CONFIG).read_text())) <= known
