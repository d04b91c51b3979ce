"""What a benchmark is asked to do: a JSON file, one form on the page, one command."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from evaluation.errors import SettingsRejected
from evaluation.records import one_line
from evaluation.types import Metric, Sampling

T = TypeVar("T")
MOST_ATTEMPTS = 100


@dataclass(frozen=True)
class BenchmarkSettings:
    """Every one of `models` answers every Prompt of `suites`, `attempts` times, and `judge` reads the Responses.

    `limit` bounds the Prompts of each suite, spread evenly over its order. `spend_cap_usd` bounds what the run pays
    for calls, dollars. With `reuse`, Responses and Judgements that an earlier run made with the same key are taken over.
    `engine` answers for the embedded model.
    """

    models: tuple[str, ...]
    suites: tuple[str, ...]
    judge: str | None  # None: only answer
    sampling: Sampling = field(default_factory=Sampling)
    attempts: int = 1
    limit: int | None = None
    with_reference: bool = True  # whether the judge sees reference answers
    spend_cap_usd: float | None = None
    reuse: bool = True
    name: str = ""
    engine: Literal["transformers", "vllm"] = "transformers"

    def __post_init__(self) -> None:
        def need(holds: bool, name: str, rule: str) -> None:
            if not holds:
                raise SettingsRejected(f"{name} is {getattr(self, name)!r}; it must be {rule}.")

        need(_names(self.models), "models", "one or more model ids, each once")
        need(_names(self.suites), "suites", "one or more suites, each once")
        need(self.judge is None or bool(self.judge.strip()), "judge", "a judge's id, or null to only answer")
        need(1 <= self.attempts <= MOST_ATTEMPTS, "attempts", f"1 to {MOST_ATTEMPTS}")
        need(self.limit is None or self.limit >= 1, "limit", "1 or more, or null for all")
        need(self.spend_cap_usd is None or 0 <= self.spend_cap_usd < 1e6, "spend_cap_usd", "0 or more, in dollars")
        check_sampling(self.sampling)
        if self.attempts > 1 and self.sampling.temperature == 0:
            raise SettingsRejected(
                f"attempts is {self.attempts} at temperature 0, where every attempt gives the same response; "
                "raise the temperature or set attempts to 1."
            )

    def to_json(self) -> dict[str, Any]:
        """The settings as a JSON-ready dict; `from_json` is the inverse."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return document


@dataclass(frozen=True)
class JudgingSettings:
    """Responses that exist are read by `judge`: those of a run, of an imported suite, or of a file.

    `responses` is how many there were when the run was made; a folder with fewer was cut off while they were copied,
    and they are read from the source again. `metrics` are those of each suite. `name` is what a list of runs shows.
    """

    source: str  # run id, suite or file
    judge: str
    models: tuple[str, ...]
    suites: tuple[str, ...]
    responses: int
    metrics: Mapping[str, tuple[Metric, ...]]
    with_reference: bool = True
    spend_cap_usd: float | None = None
    reuse: bool = True
    name: str = ""

    def __post_init__(self) -> None:
        if self.spend_cap_usd is not None and not 0 <= self.spend_cap_usd < 1e6:
            raise SettingsRejected(f"spend_cap_usd is {self.spend_cap_usd}; it must be 0 or more, in dollars.")

    def to_json(self) -> dict[str, Any]:
        """The settings as a JSON-ready dict; `judging_from_json` is the inverse."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return document


def _names(names: Sequence[str]) -> bool:
    return bool(names) and all(name.strip() for name in names) and len(set(names)) == len(names)


def check_sampling(sampling: Sampling) -> None:
    """Raise SettingsRejected for a value that no model can be sampled with."""
    for name, low, high in (
        ("temperature", 0.0, 2.0),
        ("top_p", 0.01, 1.0),
        ("max_tokens", 1, 32768),
        ("seed", 0, 2**31 - 1),
    ):
        value = getattr(sampling, name)
        if not low <= value <= high:
            raise SettingsRejected(f"{name} is {value}; it must be {low:g} to {high:g}.")


_SETTINGS = TypeAdapter(BenchmarkSettings)


_JUDGING = TypeAdapter(JudgingSettings)


def from_json(document: object, where: str = "the settings") -> BenchmarkSettings:
    """Settings from a parsed JSON document. Raises SettingsRejected naming the field that is wrong."""
    return _read(BenchmarkSettings, _SETTINGS, document, where)


def judging_from_json(document: object, where: str = "the settings") -> JudgingSettings:
    """Settings of a judging run. Raises SettingsRejected naming the field that is wrong."""
    return _read(JudgingSettings, _JUDGING, document, where)


def _read(kind: type[T], adapter: TypeAdapter[T], document: object, where: str) -> T:
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(document) - known) if isinstance(document, dict) else []
    if unknown:
        raise SettingsRejected(f"{where}: there is no setting {', '.join(map(repr, unknown))}; leave it out.")
    try:
        # As JSON text, so that pydantic is strict about types but takes lists.
        return adapter.validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        raise SettingsRejected(f"{where}: {one_line(error)}; correct it and start again.") from error
