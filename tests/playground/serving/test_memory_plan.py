"""The arithmetic of a server's memory."""

from __future__ import annotations

import json
import subprocess

import pytest

from playground.serving.plan import (
    CPU_PROGRAMS,
    GIB,
    SPARE,
    Model,
    free_gpu_memory,
    free_memory,
    make_plan,
    read_model,
)
from playground.serving.reasons import ServerFailed
from playground.settings import ROOT
from tests.playground.serving.staging import model_folder

EIGHT_B = Model(weights=16 * GIB, kv_per_token=131072, longest=8192, architecture="LlamaForCausalLM")


def test_weights_are_counted_as_they_are_loaded(tmp_path):
    tensors = {"half": ("BF16", [10, 3]), "whole": ("F32", [10]), "packed": ("I32", [4]), "eight": ("F8_E4M3", [8])}
    assert read_model(model_folder(tmp_path, tensors)).weights == 60 + 20 + 16 + 8


def test_a_token_costs_key_and_value_in_every_layer(tmp_path):
    assert read_model(model_folder(tmp_path)).kv_per_token == 2 * 2 * 1 * 16 * 2


@pytest.mark.parametrize(
    ("config", "bytes_per_token"),
    [
        (
            {"head_dim": None, "num_key_value_heads": None},
            2 * 2 * 4 * 16 * 2,
        ),  # every head its own, hidden size / heads
        ({"kv_lora_rank": 512, "qk_rope_head_dim": 64}, 2 * (512 + 64) * 2),
        ({"text_config": {"num_hidden_layers": 3, "num_attention_heads": 2, "head_dim": 8}}, 2 * 3 * 2 * 8 * 2),
    ],
    ids=["no grouped heads", "latent attention", "text part of a larger model"],
)
def test_other_kinds_of_attention(tmp_path, config, bytes_per_token):
    assert read_model(model_folder(tmp_path, **config)).kv_per_token == bytes_per_token


@pytest.mark.parametrize("broken", ["no config", "no weights", "no json", "no number"])
def test_a_folder_that_is_no_model_is_refused_in_one_line(tmp_path, broken):
    folder = model_folder(tmp_path)
    if broken == "no config":
        (folder / "config.json").unlink()
    elif broken == "no weights":
        (folder / "model.safetensors").unlink()
    elif broken == "no json":
        (folder / "model.safetensors").write_bytes(b"\x05\0\0\0\0\0\0\0{bad}")
    else:
        (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 2}))
    with pytest.raises(ServerFailed) as refused:
        read_model(folder)
    assert refused.value.reason.kind == "model" and "\n" not in str(refused.value)


def test_on_a_cpu_half_of_what_is_left_stays_free():
    plan = make_plan(EIGHT_B, "cpu", 4096, 24 * GIB, 32 * GIB)
    assert plan.cache == (24 * GIB - EIGHT_B.weights - CPU_PROGRAMS - SPARE) // 2
    assert plan.sequences == pytest.approx(plan.cache / (131072 * 4096))


def test_on_a_cpu_the_cache_is_not_larger_than_can_be_used():
    assert make_plan(EIGHT_B, "cpu", 4096, 1000 * GIB, 1000 * GIB).sequences == 32


def test_one_request_of_full_length_always_fits():
    free = EIGHT_B.weights + CPU_PROGRAMS + SPARE + 131072 * 4096
    assert make_plan(EIGHT_B, "cpu", 4096, free, free).sequences == 1
    with pytest.raises(ServerFailed) as refused:
        make_plan(EIGHT_B, "cpu", 4096, free - 1, free)
    assert refused.value.reason.kind == "memory"
    assert "16.0" in str(refused.value) and "PLAYGROUND_MAX_CONTEXT" in str(refused.value)


def test_no_more_tokens_than_the_model_was_made_for():
    assert make_plan(EIGHT_B, "cpu", 100_000, 100 * GIB, 100 * GIB).max_model_len == 8192


def test_on_a_gpu_the_share_follows_what_is_free():
    assert make_plan(EIGHT_B, "cuda:0", 4096, 80 * GIB, 80 * GIB).gpu_share == 0.92
    assert make_plan(EIGHT_B, "cuda:0", 4096, 40 * GIB, 80 * GIB).gpu_share == 0.49
    with pytest.raises(ServerFailed, match="cuda:0"):
        make_plan(EIGHT_B, "cuda:0", 4096, 18 * GIB, 80 * GIB)


def test_gpus_that_share_a_model_hold_a_part_each():
    alone = make_plan(EIGHT_B, "cuda:0", 4096, 24 * GIB, 24 * GIB)
    shared = make_plan(EIGHT_B, "each of 2 GPUs", 4096, 24 * GIB, 24 * GIB, devices=2)
    assert (shared.weights, shared.kv_per_token) == (alone.weights // 2, alone.kv_per_token // 2)
    assert shared.sequences > 4 * alone.sequences


def test_a_container_has_what_its_limit_leaves(tmp_path):
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    cgroup.mkdir()
    (proc / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 600 kB\n")
    assert free_memory(proc, cgroup) == (600 * 1024, 1000 * 1024)
    (cgroup / "memory.max").write_text("max\n")
    assert free_memory(proc, cgroup) == (600 * 1024, 1000 * 1024)
    (cgroup / "memory.max").write_text(f"{400 * 1024}\n")
    (cgroup / "memory.current").write_text(f"{350 * 1024}\n")
    (cgroup / "memory.stat").write_text(f"anon 1\ninactive_file {50 * 1024}\n")
    assert free_memory(proc, cgroup) == (100 * 1024, 400 * 1024)


def test_a_gpu_is_asked_for_its_memory():
    assert free_gpu_memory("0", lambda gpu: "70000, 81920\n") == (70000 << 20, 81920 << 20)

    def gone(gpu: str) -> str:
        raise subprocess.CalledProcessError(9, "nvidia-smi")

    for answer in (lambda gpu: "", lambda gpu: "[N/A], [N/A]", gone):
        with pytest.raises(ServerFailed, match="GPU 3 cannot be asked"):
            free_gpu_memory("3", answer)


# Parameters, layers, key-value heads and head size of the models in the table of docs/vllm.md.
SHAPES = {
    "Gemma 3 270M (embedded)": (268_098_176, 18, 1, 256),
    "llm-jp-3-1.8b": (407_896_064 + 1_459_718_144, 24, 16, 128),
    "llm-jp-3-3.7b": (611_844_096 + 3_171_068_928, 28, 24, 128),
    "llm-jp-3-13b": (1_019_740_160 + 12_688_184_320, 40, 40, 128),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_capacity_table_is_what_the_app_computes(name: str):
    [row] = [line for line in (ROOT / "docs" / "vllm.md").read_text().splitlines() if line.startswith(f"| {name} |")]
    parameters, layers, heads, size = SHAPES[name]
    model = Model(2 * parameters, 2 * layers * heads * size * 2, 4096, name)
    cells = [f"{model.weights / GIB:.1f}", f"{model.kv_per_token:,}"]
    for memory in (16, 24, 48, 80):
        try:
            plan = make_plan(model, "cuda:0", 4096, memory * GIB - GIB // 2, memory * GIB)
            cells.append(f"{plan.cache / GIB:.1f} GiB, {plan.sequences:.0f}")
        except ServerFailed:
            cells.append("—")
    assert [cell.strip() for cell in row.strip("|").split("|")][1:] == cells
