"""What a run leaves behind: an adapter in PEFT's format, or after full fine-tuning a whole model."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from training import distributed
from training.checkpoints import disk_told, replace_folder


def save_weights(trainer: Any, tokenizer: Any, out: Path, method: str) -> Path:
    """Save what was trained, in bfloat16, as `out/adapter` or, for method full, `out/model`; return the folder.

    Every process must call it; the first one writes. The folder appears whole. Raises DiskRefused.
    """
    final = out / ("model" if method == "full" else "adapter")
    staged = out / f".new-{final.name}"
    # Under FSDP each process holds a part; this gathers them, on the first one's processor.
    state = trainer.accelerator.get_state_dict(trainer.model) if trainer.is_fsdp_enabled else None
    if distributed.is_first():
        with disk_told(out, staged):
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(parents=True)
            if method == "full":
                _save_model(trainer.accelerator.unwrap_model(trainer.model), state, tokenizer, staged)
            else:
                save_adapter(trainer.accelerator.unwrap_model(trainer.model), staged, state)
            replace_folder(staged, final)
    trainer.accelerator.wait_for_everyone()
    return final


def save_adapter(model: Any, folder: Path, state: dict[str, Any] | None = None) -> None:
    """Write the adapter in PEFT's format, its factors in bfloat16, without a trace of this machine's paths."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    factors = get_peft_model_state_dict(model, state_dict=state)
    save_file(
        {name: t.detach().to("cpu", torch.bfloat16).contiguous() for name, t in factors.items()},
        folder / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    config = model.peft_config["default"]
    config.base_model_name_or_path = None  # the operator chooses the base; a path of this machine helps nobody
    config.inference_mode = True
    config.target_modules = sorted(config.target_modules)
    config.save_pretrained(folder)


def _save_model(model: Any, state: dict[str, Any] | None, tokenizer: Any, folder: Path) -> None:
    weights = model.state_dict() if state is None else state
    # A head that is its embeddings is saved once: as copies of their own the two would no longer be seen to be one.
    own = {name: t for name, t in weights.items() if name not in model.all_tied_weights_keys}
    model.config._name_or_path = ""
    model.config.use_cache = True
    model.save_pretrained(folder, state_dict={name: t.to("cpu", torch.bfloat16) for name, t in own.items()})
    model.config.dtype = torch.bfloat16  # only now: saving notes the type that the weights have here, float32
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
