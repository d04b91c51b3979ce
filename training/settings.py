"""The settings of a fine-tuning run. The file beside the weights says how they were made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from evaluation.errors import SettingsRejected
from evaluation.records import one_line

Method = Literal["lora", "qlora", "full"]
Precision = Literal["auto", "bfloat16", "float32"]


@dataclass(frozen=True)
class Source:
    """Rows to train on. `multiplier` repeats each row that many times an epoch; 0 leaves the source out."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    suite: str
    multiplier: int = 1


@dataclass(frozen=True)
class SftSettings:
    """One fine-tuning run, loss on the response only. Each field: unit, then where its default comes from.

    "llm-jp-sft" is LLM-jp's public LoRA and full fine-tuning code, "instruct3" the recipe of LLM-jp-3 instruct3.
    The defaults suit the embedded 270M model on a CPU; `presets` has those of larger models.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    # --- what is made, from what ---
    name: str  # of the adapter: a-z 0-9 . _ -
    sources: tuple[Source, ...]
    base: str = "embedded"  # or hub:ORG/NAME, or a folder with a transformers model
    # Suites whose loss is measured before, during and after. One that is trained on too gives its test split, or a
    # share of its rows where it has none.
    held_out: tuple[str, ...] = ()
    held_out_share: float = 0.05  # of the rows; usual for small sets
    held_out_rows: int = 64  # at most this many rows of a suite are measured: seconds on a CPU
    allow_overlap: tuple[str, ...] = ()  # suites whose test prompts may be trained on; see training.leaks

    # --- how ---
    method: Method = "lora"  # qlora: 4-bit base, CUDA only; full: every weight
    epochs: float = 1.0  # passes over the mix, repeats included; LLM-jp: 1 to 5
    learning_rate: float = 5e-4  # peak. Higher than llm-jp-sft's LoRA (1e-4): a 270M model and a short run
    min_learning_rate: float = 0.0  # where the cosine ends; llm-jp-sft: 0
    warmup_ratio: float = 0.1  # share of all steps; llm-jp-sft
    weight_decay: float = 0.0  # transformers' default
    adam_beta2: float = 0.999  # torch's default; beta1 is always 0.9
    lora_rank: int = 16  # llm-jp-sft has 8; trained here on 165 rows, 16 answered better
    lora_alpha: int = 32  # llm-jp-sft
    lora_dropout: float = 0.0  # llm-jp-sft has 0.05; drawing its masks took 13 % of a step on CPU
    batch_size: int = 16  # rows a step, over all processes; instruct3 has 64 sequences of 4,096
    max_length: int = 1024  # tokens a row; the longest row of the sample set has 370
    leave_out_long: bool = False  # leave out rows over max_length instead of refusing the run; never cut
    seed: int = 0

    # --- what the machine bears ---
    micro_batch_size: int = 16  # rows computed at once in each process; lower it when memory runs out
    gradient_checkpointing: bool = False  # compute activations twice instead of keeping them: about 1.3x the time
    precision: Precision = "auto"  # of the arithmetic: bfloat16 where the hardware multiplies it, float32 elsewhere
    shard: bool = False  # several processes: FSDP splits the weights instead of copying them (DDP)

    # --- what is seen and kept on the way ---
    checks: int = 4  # times on the way the held-out loss is measured and the three test prompts answered
    save_seconds: float = 120.0  # between checkpoints; one takes 0.3 s for the embedded model
    save_steps: int = 0  # also after every so many steps; 0: by time alone

    def __post_init__(self) -> None:
        def need(holds: bool, field: str, what: str) -> None:
            if not holds:
                raise SettingsRejected(
                    f"{field} is {getattr(self, field)!r}; it must be {what}. Change it in the settings and start again."
                )

        allowed = set("abcdefghijklmnopqrstuvwxyz0123456789._-")
        need(bool(self.name) and set(self.name) <= allowed and self.name[0] not in ".-", "name", "of a-z 0-9 . _ -")
        need(self.name != "base", "name", "other than base, which means no adapter")
        suites = [source.suite for source in self.sources]
        need(all(source.multiplier >= 0 for source in self.sources), "sources", "multiplied by 0 or more")
        need(
            any(source.multiplier for source in self.sources), "sources", "at least one suite, multiplied by 1 or more"
        )
        need(len(set(suites)) == len(suites), "sources", "without a suite named twice; raise its multiplier")
        need(0 < self.held_out_share < 1, "held_out_share", "above 0 and below 1")
        need(self.held_out_rows >= 1, "held_out_rows", "1 or more")
        need(0 < self.epochs <= 1000, "epochs", "above 0, up to 1000")
        need(0 < self.learning_rate < 0.1, "learning_rate", "above 0 and below 0.1")
        need(0 <= self.min_learning_rate <= self.learning_rate, "min_learning_rate", "0 up to learning_rate")
        need(0 <= self.warmup_ratio < 1, "warmup_ratio", "0 or more and below 1")
        need(0 <= self.weight_decay < 1, "weight_decay", "0 or more and below 1")
        need(0 < self.adam_beta2 < 1, "adam_beta2", "above 0 and below 1")
        need(1 <= self.lora_rank <= 256, "lora_rank", "1 to 256")
        need(1 <= self.lora_alpha <= 65536, "lora_alpha", "1 to 65536")
        need(0 <= self.lora_dropout < 1, "lora_dropout", "0 or more and below 1")
        need(self.batch_size >= 1, "batch_size", "1 or more")
        need(self.max_length >= 16, "max_length", "16 tokens or more")
        need(0 <= self.seed < 2**32, "seed", "0 to 4294967295")
        need(self.micro_batch_size >= 1, "micro_batch_size", "1 or more")
        need(not (self.shard and self.method == "qlora"), "shard", "false with qlora, whose 4-bit base is copied")
        need(self.checks >= 0, "checks", "0 or more")
        need(self.save_seconds >= 1, "save_seconds", "1 or more")
        need(self.save_steps >= 0, "save_steps", "0 or more")

    @property
    def trained_sources(self) -> tuple[Source, ...]:
        """The sources that are not left out."""
        return tuple(source for source in self.sources if source.multiplier)

    def to_json(self) -> dict[str, Any]:
        """The settings as a JSON-ready dict; `settings_from_json` is the inverse."""
        return asdict(self)


_SETTINGS = TypeAdapter(SftSettings)


def settings_from_json(document: object, where: str = "the settings") -> SftSettings:
    """Settings from a parsed JSON document. Raises SettingsRejected naming the field that is wrong."""
    try:
        # As JSON text, so that pydantic is strict about types (true is no number, 8.5 no rank) but takes lists.
        return _SETTINGS.validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        raise SettingsRejected(f"{where}: {one_line(error)}; correct it and start again.") from error


def read_settings(path: Path) -> SftSettings:
    """Read a settings file. Raises SettingsRejected when it is missing, torn or wrong."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsRejected(f"{path}: no such settings file.") from error
    except ValueError as error:
        raise SettingsRejected(f"{path}: not valid JSON ({error}); mend it and start again.") from error
    return settings_from_json(document, str(path))
