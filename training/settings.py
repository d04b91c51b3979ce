"""The settings file of a fine-tuning run. The file beside the adapter says how it was made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from evaluation.errors import SettingsRejected


@dataclass(frozen=True)
class Source:
    """Rows to train on. `multiplier` repeats each row that many times an epoch."""

    suite: str
    multiplier: int = 1


@dataclass(frozen=True)
class SftSettings:
    """One fine-tuning run: LoRA on every linear layer but the head, loss on the response only.

    Cosine and warm-up 0.1 are from LLM-jp's public LoRA recipe; the higher learning rate suits a 270M model
    and a short run. Dropout is off: drawing its masks took 13 % of a step on CPU.
    """

    name: str  # of the adapter, a-z 0-9 . _ -
    sources: tuple[Source, ...]
    held_out: tuple[str, ...] = ()  # suites whose loss is measured before and after
    base: str = "embedded"  # or a folder with a transformers model
    epochs: float = 1.0
    learning_rate: float = 5e-4  # peak
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    batch_size: int = 16  # rows a step
    warmup_ratio: float = 0.1  # share of all steps
    max_length: int = 1024  # tokens; a longer row is refused, not cut
    seed: int = 0

    def __post_init__(self) -> None:
        def need(holds: bool, field: str, what: str) -> None:
            if not holds:
                raise SettingsRejected(
                    f"{field} is {getattr(self, field)!r}; it must be {what}. Change it in the settings and start again."
                )

        allowed = set("abcdefghijklmnopqrstuvwxyz0123456789._-")
        need(bool(self.name) and set(self.name) <= allowed and self.name[0] not in ".-", "name", "of a-z 0-9 . _ -")
        need(self.name != "base", "name", "other than base, which means no adapter")
        need(bool(self.sources), "sources", "at least one suite")
        need(all(source.multiplier >= 1 for source in self.sources), "sources", "multiplied by 1 or more")
        need(0 < self.epochs <= 1000, "epochs", "above 0, up to 1000")
        need(0 < self.learning_rate < 0.1, "learning_rate", "above 0 and below 0.1")
        need(1 <= self.lora_rank <= 256, "lora_rank", "1 to 256")
        need(1 <= self.lora_alpha <= 65536, "lora_alpha", "1 to 65536")
        need(0 <= self.lora_dropout < 1, "lora_dropout", "0 or more and below 1")
        need(self.batch_size >= 1, "batch_size", "1 or more")
        need(0 <= self.warmup_ratio < 1, "warmup_ratio", "0 or more and below 1")
        need(self.max_length >= 16, "max_length", "16 tokens or more")
        need(0 <= self.seed < 2**32, "seed", "0 to 4294967295")

    def to_json(self) -> dict[str, Any]:
        """The settings as a JSON-ready dict; `read_settings` is the inverse."""
        return asdict(self)


def settings_from_json(document: object, where: str = "the settings") -> SftSettings:
    """Settings from a parsed JSON document. Raises SettingsRejected naming the field that is wrong."""
    if not isinstance(document, dict):
        raise SettingsRejected(f"{where}: one JSON object is expected.")
    known = {field.name for field in fields(SftSettings)}
    unknown = sorted(set(document) - known)
    if unknown:
        raise SettingsRejected(f"{where}: unknown setting {unknown[0]}; known are {', '.join(sorted(known))}.")
    _check_types(document, where)
    try:
        sources = tuple(Source(**source) for source in document["sources"])
        return SftSettings(**{**document, "sources": sources, "held_out": tuple(document.get("held_out", ()))})
    except KeyError as error:
        raise SettingsRejected(f"{where}: {error.args[0]} is missing; add it.") from error
    except TypeError as error:
        raise SettingsRejected(f"{where}: a setting is missing or has the wrong type ({error}).") from error


def _check_types(document: dict[str, Any], where: str) -> None:
    """JSON's own types, strictly: true is no number, and 8.5 no rank."""
    words = {str: "a text", int: "a whole number", float: "a number"}
    for name, kind in get_type_hints(SftSettings).items():
        if name not in document or kind not in words:
            continue
        if type(document[name]) not in ((int, float) if kind is float else (kind,)):
            raise SettingsRejected(f"{where}: {name} is {document[name]!r}; it must be {words[kind]}.")
    sources, held_out = document.get("sources", []), document.get("held_out", [])
    if not isinstance(sources, list) or not all(
        isinstance(s, dict) and type(s.get("suite")) is str and type(s.get("multiplier", 1)) is int for s in sources
    ):
        raise SettingsRejected(f'{where}: sources must be a list like [{{"suite": "NAME", "multiplier": 1}}].')
    if not isinstance(held_out, list) or not all(type(suite) is str for suite in held_out):
        raise SettingsRejected(f"{where}: held_out must be a list of suite names.")


def read_settings(path: Path) -> SftSettings:
    """Read a settings file. Raises SettingsRejected when it is missing, torn or wrong."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsRejected(f"{path}: no such settings file.") from error
    except ValueError as error:
        raise SettingsRejected(f"{path}: not valid JSON ({error}); mend it and start again.") from error
    return settings_from_json(document, str(path))
