"""The Train page's form: what it offers, how a preset fills it, and the settings that it means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from evaluation.errors import SettingsRejected
from evaluation.prompts.suites import Suite, sample_suites, scales_of
from playground.pages.services import Services
from playground.pages.text import say
from training.presets import PRESETS, preset
from training.settings import SftSettings, settings_from_json
from training.sweep import member_name

MULTIPLIERS = (1, 4, 16)
SWEEP = (0, *MULTIPLIERS)  # 0 is the model without safety rows
OWN = 0  # value of the choice "other"
AS_PRESET = -1  # each suite as often as the preset says
FIRST = "quick"
METHODS = ("lora", "qlora", "full")
PRECISIONS = ("auto", "bfloat16", "float32")
# Shipped suites that are for testing; imported ones may be for either, and the guard tells.
_TESTS = frozenset({"sample-test", "sample-borderline", "sample-regional", "sample-jailbreak", "sample-jailbreak-all"})


@dataclass(frozen=True)
class Form:
    """The form's values, in the order in which the page hands them over. Types are checked by `settings_of`."""

    preset: Any
    base: Any
    safety: Any  # names of suites
    multiplier: Any  # one of MULTIPLIERS, OWN or AS_PRESET
    own: Any
    general: Any
    name: Any
    general_multiplier: Any
    method: Any
    epochs: Any
    learning_rate: Any
    lora_rank: Any
    lora_alpha: Any
    lora_dropout: Any
    batch_size: Any
    micro_batch_size: Any
    max_length: Any
    leave_out_long: Any
    gradient_checkpointing: Any
    precision: Any
    seed: Any
    checks: Any
    held_out: Any
    held_out_rows: Any
    allow_overlap: Any

    def times(self, suite: str) -> Any:
        """How often a row of that safety suite comes in an epoch."""
        if self.multiplier == AS_PRESET:
            said = {source.suite: source.multiplier for source in preset(str(self.preset)).sources}
            return said.get(suite, 1)
        return self.own if self.multiplier == OWN else self.multiplier


FIELDS = tuple(field.name for field in fields(Form))
# Fields that mean the setting of the same name.
PLAIN = FIELDS[FIELDS.index("method") :]


def form_of(name: str) -> Form:
    """The form as the preset fills it."""
    sft = preset(name)
    safety = [source for source in sft.sources if _is_safety(source.suite)]
    general = [source for source in sft.sources if source not in safety]
    several = {source.multiplier for source in safety}
    times = several.pop() if len(several) == 1 else AS_PRESET if several else 16
    return Form(
        preset=name,
        base=sft.base,
        safety=[source.suite for source in safety],
        multiplier=times if times in (*MULTIPLIERS, AS_PRESET) else OWN,
        own=max(times, 1),
        general=[source.suite for source in general],
        name=sft.name,
        general_multiplier=general[0].multiplier if general else 1,
        **{plain: _shown(getattr(sft, plain)) for plain in PLAIN},
    )


def _is_safety(suite: str) -> bool:
    """Whether a suite that a preset names is its safety data: AnswerCarefully, or its stand-in from the sample set."""
    shipped = sample_suites().get(suite)
    return "safety" in scales_of(shipped.metrics) if shipped else suite.startswith("answercarefully")


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def settings_of(form: Form) -> SftSettings:
    """What the form means: its preset with everything that is shown put over it. Raises SettingsRejected.

    The suites keep the preset's order, so that a preset that nobody changed stays that preset.
    """
    sft = preset(str(form.preset))
    order = [source.suite for source in sft.sources]
    sources = [
        *({"suite": suite, "multiplier": form.general_multiplier} for suite in form.general or ()),
        *({"suite": suite, "multiplier": form.times(suite)} for suite in form.safety or ()),
    ]
    sources.sort(key=lambda source: order.index(source["suite"]) if source["suite"] in order else len(order))
    document = sft.to_json() | {plain: getattr(form, plain) for plain in PLAIN}
    document |= {"name": str(form.name or "").strip(), "base": str(form.base or "").strip(), "sources": sources}
    document |= {many: list(getattr(form, many) or ()) for many in ("held_out", "allow_overlap")}
    return settings_from_json(document, "The form")


def sweep_of(form: Form, values: Sequence[int] = SWEEP) -> list[SftSettings]:
    """The form's run with every safety row repeated so many times, one settings for each value.

    Raises SettingsRejected when there are no safety rows, or nothing is left without them.
    """
    if not form.safety:
        raise SettingsRejected("A sweep changes how often safety rows are repeated; choose safety data first.")
    return [
        settings_of(replace(form, multiplier=OWN, own=n, name=member_name(str(form.name).strip(), n))) for n in values
    ]


def own_sources(form: Form) -> list[str]:
    """The chosen suites that the preset does not train on."""
    planned = {source.suite for source in preset(str(form.preset)).sources}
    return [suite for suite in [*(form.safety or ()), *(form.general or ())] if suite not in planned]


def rows_now(form: Form, suites: Sequence[Suite]) -> tuple[int, int, list[str]]:
    """(rows of an epoch, those of them that are safety rows, suites that are not here); held-out shares not taken off.

    Zero for a multiplier that is no number yet.
    """
    known = {suite.name: suite for suite in suites}

    def rows(names: Any, times: Callable[[str], Any]) -> int:
        total = 0
        for name in names or ():
            often = times(name)
            if name in known and isinstance(often, int) and often > 0:
                total += often * sum(prompt.extra.get("split") != "test" for prompt in known[name].prompts)
        return total

    safety = rows(form.safety, form.times)
    missing = [name for name in [*(form.general or ()), *(form.safety or ())] if name not in known]
    return safety + rows(form.general, lambda name: form.general_multiplier), safety, missing


# ---- what is offered ----

Choices = list[tuple[str, str]]


def preset_choices(language: str) -> Choices:
    return [(say(language, f"train.preset.{name}"), name) for name in PRESETS]


def base_choices(services: Services, language: str) -> Choices:
    named = {sft.base for sft in PRESETS.values()} - {"embedded"}
    others = dict.fromkeys([*getattr(services.settings, "models", ()), *sorted(named)])
    return [(say(language, "train.base.embedded"), "embedded"), *((model, model) for model in others)]


def data_choices(suites: Sequence[Suite], kind: str, language: str) -> Choices:
    """Suites that may be `safety` or `general` data. An imported one may be either: only its owner knows."""
    offered = [suite for suite in suites if suite.name not in _TESTS and _has_rows_to_learn(suite)]
    return _titled(offered, [suite.name for suite in offered if _may_be(suite, kind)], kind, language)


def _may_be(suite: Suite, kind: str) -> bool:
    return suite.name not in sample_suites() or _is_safety(suite.name) == (kind == "safety")


def _has_rows_to_learn(suite: Suite) -> bool:
    splits = {prompt.extra.get("split") for prompt in suite.prompts}
    return splits != {"test"} and any(p.reference or "conversation" in p.extra for p in suite.prompts)


def _titled(suites: Sequence[Suite], names: Sequence[str], kind: str, language: str) -> Choices:
    titles = {suite.name: suite.title_en if language == "en" else suite.title_ja for suite in suites}
    here = [(f"{titles[name]} ({name})" if titles[name] != name else name, name) for name in names]
    # Suites of a preset that nobody has imported yet are offered too, and say so.
    wanted = {s: None for p in PRESETS for s in getattr(form_of(p), kind) if s not in titles}
    return here + [(say(language, "train.absent", suite=name), name) for name in wanted]


def all_choices(suites: Sequence[Suite]) -> Choices:
    """Every suite: what may be measured, or trained on in spite of the guard."""
    wanted = {name: None for sft in PRESETS.values() for name in sft.held_out}
    return [(name, name) for name in dict.fromkeys([*(suite.name for suite in suites), *wanted])]


def multiplier_choices(language: str) -> list[tuple[str, int]]:
    others = (("train.multiplier.preset", AS_PRESET), ("train.multiplier.own", OWN))
    return [*((f"{times}x", times) for times in MULTIPLIERS), *((say(language, key), value) for key, value in others)]


def as_form(values: Sequence[Any]) -> Form:
    """The values that the browser sent, in the order of FIELDS."""
    return Form(*values)


def safety_share(form: Form, shares: Mapping[str, float]) -> float:
    """Part of the tokens that comes from the form's safety data, in [0, 1]."""
    return sum(share for suite, share in shares.items() if suite in (form.safety or ()))
