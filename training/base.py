"""The base model of a run: where its files are, what is refused before its weights are read, and how it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from evaluation.collector import without_collector
from evaluation.errors import SettingsRejected
from training.embedded import ensure_embedded
from training.hub import fetch_model
from training.settings import Precision, SftSettings

# Between the last hidden state and the softmax these models do something that our loss does not.
LOGIT_CHANGES = (
    "final_logit_softcapping",  # Gemma 2
    "logit_scale",  # Cohere
    "logits_scaling",  # Granite
    "lm_head_multiplier",  # Falcon-H1
    "logits_soft_cap",  # RecurrentGemma
    "output_logit_soft_cap",  # xLSTM
    "logits_mup_width_multiplier",  # Inkling
)


def base_folder(base: str, home: Path, say: Callable[[str], None]) -> Path:
    """Folder of the base model's files; converts the embedded one, or fetches one from the hub, at its first use.

    base: embedded, hub:ORG/NAME, or a folder (path: before it is allowed). `say` gets progress in words.
    Raises SettingsRejected for no such folder, ModelUnavailable or AccessMissing when it cannot be had.
    """
    if base == "embedded":
        return ensure_embedded(home, say)
    if base.startswith("hub:"):
        say(f"fetching {base} from the hub, unless it is here already")
        return fetch_model(base.removeprefix("hub:"))
    folder = Path(base.removeprefix("path:")).expanduser()
    if not (folder / "config.json").is_file():
        raise SettingsRejected(
            f"base is {base}; it must be embedded, hub:ORG/NAME or a folder with a transformers model."
        )
    return folder


def precision_of(wanted: Precision) -> torch.dtype:
    """The arithmetic's type here: what is asked for, or bfloat16 where the hardware multiplies it, else float32."""
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    # Without AVX-512 or AMX support a bfloat16 product is emulated, slower than float32.
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def check_method(settings: SftSettings) -> None:
    """Raise SettingsRejected when this machine cannot do what the settings ask, before anything is loaded."""
    if settings.method != "qlora":
        return
    if not torch.cuda.is_available():
        raise SettingsRejected("method is qlora, which needs a CUDA device, and there is none here; use lora.")
    if find_spec("bitsandbytes") is None:
        raise SettingsRejected("method is qlora, which needs bitsandbytes; run `pip install bitsandbytes` or use lora.")


def load_tokenizer(folder: Path) -> Any:
    """The base model's tokenizer. Code in the folder is never run."""
    with without_collector():
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def load_base(settings: SftSettings, folder: Path) -> Any:
    """The base model with its weights, in the type that the method wants. Raises SettingsRejected."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    text = config.get_text_config()
    changes = next((name for name in LOGIT_CHANGES if getattr(text, name, None) not in (None, 1, 1.0)), None)
    if changes:
        raise SettingsRejected(
            f"Base {settings.base} has {changes}, a change to its logits that this trainer's loss does not make; "
            "choose another."
        )
    options: dict[str, Any] = {"dtype": precision_of(settings.precision)}
    if settings.method == "full":
        options["dtype"] = torch.float32  # an update of 1e-5 is lost in bfloat16's 8 bits
    if settings.method == "qlora":
        options |= {"quantization_config": _four_bit(), "device_map": {"": torch.cuda.current_device()}}
    model = AutoModelForCausalLM.from_pretrained(folder, config=config, trust_remote_code=False, **options)
    if model.get_output_embeddings() is None or getattr(model.get_output_embeddings(), "bias", None) is not None:
        raise SettingsRejected(f"Base {settings.base} has no plain output layer, which the loss needs; choose another.")
    return model


def _four_bit() -> Any:
    """NF4 with double quantisation, as in QLoRA (arXiv 2305.14314)."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
