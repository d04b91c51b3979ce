"""Servers that are played by `fake_vllm.py`, with a model folder whose headers are real."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

from playground.serving.environment import VllmEnvironment
from playground.serving.plan import GIB
from playground.serving.server import Patience

FAKE = Path(__file__).with_name("fake_vllm.py")
QUICK = Patience(stop=10.0, unhealthy=60.0, dead=0.3, pauses=(0.01,), look=0.02, health=0.05)
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "hidden_size": 64,
    "max_position_embeddings": 512,
}


def model_folder(folder: Path, tensors: dict[str, tuple[str, list[int]]] | None = None, **config: Any) -> Path:
    """A folder with config.json and the header of a safetensors file; there are no weights behind it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for name, (dtype, shape) in (tensors or {"a": ("BF16", [10, 10])}).items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    return folder


def roomy() -> tuple[int, int]:
    """Memory that holds a small model, free and in all; how much this machine has is no matter of these tests."""
    return 16 * GIB, 32 * GIB


def fake_environment() -> VllmEnvironment:
    return VllmEnvironment(Path(sys.executable), "cpu", "0", (str(FAKE),))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Stage:
    """Where fake servers play: what they do at each start, and what is known of them afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"

    def play(self, *plays: dict[str, Any]) -> None:
        (self.folder / "plays.json").write_text(json.dumps(plays))

    def starts(self) -> list[dict[str, Any]]:
        file = self.folder / "starts"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def pids(self) -> list[int]:
        file = self.folder / "pids"
        return [int(line) for line in file.read_text().splitlines()] if file.exists() else []

    def living(self) -> list[int]:
        return [pid for pid in self.pids() if alive(pid)]
