"""Reads a LoRA adapter folder in PEFT's format, strictly: safetensors only, known settings only.

We do not hand the folder to PEFT, because an adapter's config can name modules to import and other base
models to fetch. The base is always the one that the operator chose.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open

from evaluation.errors import ModelUnavailable
from evaluation.prompts.files import shown
from playground.engine.modules import LowRank

MAX_RANK = 256
MAX_ALPHA = 65536
MAX_BYTES = 4 << 30
MAX_HEAD = 4 << 20  # bytes of JSON before the tensors; a head of hundreds of layers has a tenth of that
_KEY = re.compile(r"base_model\.model\.(?P<layer>[\w.]{1,200})\.lora_(?P<factor>[AB])\.weight")
_DTYPES = ("F32", "F16", "BF16")
# Settings that change what the low-rank term means or run code; each must be off.
_MUST_BE_OFF = (
    "use_dora", "auto_mapping", "megatron_config", "layer_replication", "rank_pattern", "alpha_pattern",
    "modules_to_save", "trainable_token_indices", "lora_bias", "alora_invocation_tokens", "target_parameters",
    "use_qalora", "use_bdlora", "arrow_config", "kasa_config", "monteclora_config", "velora_config",
)  # fmt: skip
# Settings that may say something: those we follow, and those that only tell how the adapter was trained. Any other must
# be off as well, so that a setting of a later PEFT is refused and not ignored.
_KNOWN = frozenset({
    *_MUST_BE_OFF, "peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "bias",
    "fan_in_fan_out", "init_lora_weights", "use_rslora", "inference_mode", "base_model_name_or_path", "revision",
    "peft_version", "layers_to_transform", "layers_pattern", "megatron_core", "qalora_group_size", "loftq_config",
    "eva_config", "corda_config", "lora_ga_config", "ensure_weight_tying",
})  # fmt: skip
# Ways to begin a training that leave the base as it is; the others (pissa, olora, corda...) move a part of the
# base's weights into the adapter, which then means something only on the changed base.
_KEEPS_THE_BASE = (True, False, None, "gaussian", "orthogonal", "eva", "mica")


class Linear(Protocol):
    """What is asked of a base's layer."""

    @property
    def in_features(self) -> int: ...

    @property
    def out_features(self) -> int: ...


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in memory. `layers` maps the base's layer names to unscaled factors."""

    name: str
    rank: int
    scaling: float
    sha256: str
    layers: dict[str, LowRank]


def read_adapter(folder: Path, name: str) -> Adapter:
    """Read `adapter_config.json` and `adapter_model.safetensors`.

    Raises ModelUnavailable when a file is missing, a setting is not plain LoRA, or a tensor is not finite.
    """
    config_path, weights_path = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    for path in (config_path, weights_path):
        if not path.is_file() or path.is_symlink():
            raise ModelUnavailable(
                f"Adapter {name}: {path.name} is missing in {folder}; an adapter folder needs both files."
            )
    if weights_path.stat().st_size > MAX_BYTES:
        raise ModelUnavailable(f"Adapter {name}: {weights_path.name} is over 4 GiB; that is not a LoRA adapter.")
    rank, scaling = _plain_lora(config_path, name)
    _check_head(weights_path, name)
    factors: dict[str, dict[str, torch.Tensor]] = {}
    try:
        with safe_open(str(weights_path), framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118  (safe_open is no mapping)
                match = _KEY.fullmatch(key)
                if match is None or tensors.get_slice(key).get_dtype() not in _DTYPES:
                    raise ModelUnavailable(
                        f"Adapter {name}: tensor {shown(key)} is not a LoRA factor in {', '.join(_DTYPES)}; "
                        "only plain LoRA is read."
                    )
                factors.setdefault(match["layer"], {})[match["factor"]] = tensors.get_tensor(key).float()
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelUnavailable(
            f"Adapter {name}: {weights_path.name} cannot be read ({shown(error, 200)}); copy it again."
        ) from error
    layers = {layer: _low_rank(name, layer, pair, rank) for layer, pair in factors.items()}
    return Adapter(name, rank, scaling, adapter_sha256(folder), layers)


def _check_head(weights_path: Path, name: str) -> None:
    """Refuse a head that the reader would take long, or much memory, to read."""
    with weights_path.open("rb") as file:
        first = file.read(8)
    if len(first) < 8 or struct.unpack("<Q", first)[0] > MAX_HEAD:
        raise ModelUnavailable(
            f"Adapter {name}: {weights_path.name} cannot be read: it does not begin as an adapter's safetensors file does."
        )


def _plain_lora(config_path: Path, name: str) -> tuple[int, float]:
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelUnavailable(f"Adapter {name}: {config_path.name} is not JSON ({shown(error)}).") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ModelUnavailable(f"Adapter {name}: peft_type must be LORA in {config_path.name}.")
    for setting in _MUST_BE_OFF:
        if config.get(setting):
            raise ModelUnavailable(f"Adapter {name}: {setting} is set in {config_path.name}; only plain LoRA is read.")
    for setting, value in config.items():
        if setting not in _KNOWN and value not in (None, False, "", [], {}):
            raise ModelUnavailable(
                f"Adapter {name}: {shown(setting)} in {config_path.name} is not a setting that is known here; "
                "save the adapter again in PEFT's plain LoRA form."
            )
    if config.get("init_lora_weights", True) not in _KEEPS_THE_BASE:
        raise ModelUnavailable(
            f"Adapter {name}: init_lora_weights in {config_path.name} means that its base was changed as well; "
            "save it again in PEFT's plain LoRA form."
        )
    if config.get("bias", "none") != "none" or config.get("fan_in_fan_out"):
        raise ModelUnavailable(f"Adapter {name}: bias must be none and fan_in_fan_out false in {config_path.name}.")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    # type() and not isinstance(): to Python, true is the number 1.
    if type(rank) is not int or not 1 <= rank <= MAX_RANK:
        raise ModelUnavailable(f"Adapter {name}: r must be 1 to {MAX_RANK} in {config_path.name}.")
    if type(alpha) not in (int, float) or not 0 < alpha <= MAX_ALPHA:
        raise ModelUnavailable(f"Adapter {name}: lora_alpha must be above 0, up to {MAX_ALPHA}, in {config_path.name}.")
    return rank, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _low_rank(name: str, layer: str, pair: dict[str, torch.Tensor], rank: int) -> LowRank:
    if set(pair) != {"A", "B"}:
        raise ModelUnavailable(f"Adapter {name}: layer {layer} has only one of its two factors.")
    if pair["A"].dim() != 2 or pair["B"].dim() != 2:
        raise ModelUnavailable(f"Adapter {name}: layer {layer} is not a pair of matrices; only linear layers are read.")
    a, b = pair["A"].t().contiguous(), pair["B"].t().contiguous()
    if a.shape[1] != rank or b.shape[0] != rank:
        raise ModelUnavailable(f"Adapter {name}: layer {layer} does not have rank {rank}, as its settings say.")
    if not (torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise ModelUnavailable(f"Adapter {name}: layer {layer} holds a value that is not finite; train it again.")
    return LowRank(a, b)


def check_fits(adapter: Adapter, linears: Mapping[str, Linear]) -> None:
    """Raise ModelUnavailable unless every layer of the adapter exists in the base with the same shape."""
    for layer, pair in adapter.layers.items():
        linear = linears.get(layer)
        if linear is None:
            raise ModelUnavailable(
                f"Adapter {adapter.name} changes {layer}, which this base does not have: wrong base?"
            )
        if (pair.a.shape[0], pair.b.shape[1]) != (linear.in_features, linear.out_features):
            raise ModelUnavailable(f"Adapter {adapter.name}: the shape of {layer} does not fit this base: wrong base?")


def adapter_sha256(folder: Path) -> str:
    """Hash of what an adapter is: its settings file and its weights."""
    digest = hashlib.sha256()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        digest.update(name.encode())
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()
