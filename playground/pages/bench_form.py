"""The Benchmark page's form: what it offers, the settings that it means, and what they will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, cast

import gradio as gr

from evaluation.benchmark.forecast import Forecast
from evaluation.benchmark.forecast import forecast as benchmark_forecast
from evaluation.benchmark.judging import Panel
from evaluation.benchmark.plan import choose_prompts, plan
from evaluation.benchmark.settings import BenchmarkSettings, from_json
from evaluation.benchmark.turns import turns_asked
from evaluation.errors import UserFacingError
from evaluation.judge.choice import ChoiceRule
from evaluation.judge.protocol import Judge
from evaluation.prompts.suites import Suite, scales_of
from evaluation.types import Sampling
from playground import benchmarks
from playground.engine.router import Router
from playground.pages import markup, screen
from playground.pages.labels import Labels
from playground.pages.services import Services
from playground.pages.text import say
from playground.pages.text_errors import line_for
from playground.pages.train_markup import duration
from training.sweep import member_of

FIRST_SUITES = ("sample-test", "sample-borderline")
MOST_PLANNED = 20_000  # responses; to plan more takes longer than a person waits for a line of text
UNTUNED = "general"  # what an adapter without a sweep of its own is set against


@dataclass(frozen=True)
class Form:
    """The form's values, in the order in which the page hands them over. Types are checked by `settings_of`."""

    models: Any
    suites: Any
    judge: Any
    limit: Any
    attempts: Any
    temperature: Any
    top_p: Any
    max_tokens: Any
    seed: Any
    system_prompt: Any
    spend_cap_usd: Any
    with_reference: Any
    reuse: Any


FIELDS = tuple(field.name for field in fields(Form))
_SAMPLING = ("temperature", "top_p", "max_tokens", "seed", "system_prompt")


def as_form(values: Sequence[Any]) -> Form:
    """The values that the browser sent, in the order of FIELDS."""
    return Form(*values)


def settings_of(form: Form) -> BenchmarkSettings:
    """What the form means. Raises SettingsRejected."""
    sampling = {name: getattr(form, name) for name in _SAMPLING}
    sampling["system_prompt"] = str(form.system_prompt or "").strip() or None
    document = {name: getattr(form, name) for name in FIELDS if name not in _SAMPLING}
    document |= {"models": list(form.models or ()), "suites": list(form.suites or ()), "sampling": sampling}
    document |= {name: document[name] or None for name in ("judge", "limit", "spend_cap_usd")}
    return from_json(document, "The form")


def first_form(services: Services) -> Form:
    """The form as it is drawn: the usual pair, the two small suites, the embedded judge."""
    models, usual = services.engine.model_ids(), Sampling()
    pair = [model for model in screen.PREFERRED.values() if model in models] or models[:2]
    suites = {suite.name for suite in services.suites()}
    return Form(
        pair, [name for name in FIRST_SUITES if name in suites], next(iter(services.judges), None), None, 1,
        usual.temperature, usual.top_p, usual.max_tokens, usual.seed, "", None, True, True,
    )  # fmt: skip


def measured_together(model: str, models: Sequence[str]) -> list[str]:
    """An adapter and what it is to be compared with: its whole sweep by multiplier, or the general adapter or the base."""
    if swept := member_of(model):
        found = {one[1]: name for name in models if (one := member_of(name)) and one[0] == swept[0]}
        if len(found) > 1:
            return [found[value] for value in sorted(found)]
    beside = next((m for m in (UNTUNED, "base") if m in models and m != model), None)
    return [*([beside] if beside else []), model]


def suite_choices(suites: Sequence[Suite], language: str) -> list[tuple[str, str]]:
    """Every suite with how many prompts it has."""
    titles = [(suite.title_en if language == "en" else suite.title_ja, suite) for suite in suites]
    return [(f"{title} ({suite.name}, {len(suite.prompts)})", suite.name) for title, suite in titles]


def start(services: Services, values: Sequence[Any], language: str) -> str:
    """Put the form's benchmark into the queue; the run's id. Raises UserFacingError."""
    asked = settings_of(as_form(values))
    services.access.check_checkpoints(asked.models, services.engine.model_ids(), language)
    return benchmarks.start(services.jobs, services.settings, cast(Router, services.engine), asked)


def forecast(services: Services, language: str, *values: Any) -> str:
    """What the choices will take, in a line or two; nothing is loaded for it."""
    try:
        asked = settings_of(as_form(values))
        chosen = [suite for suite in services.suites() if suite.name in asked.suites]
        prompts = choose_prompts(chosen, asked.limit).prompts
        turns = sum(len(turns_asked(prompt)) for prompt in prompts)
        responses = turns * len(asked.models) * asked.attempts
        counts = {"prompts": len(prompts), "models": len(asked.models), "attempts": asked.attempts}
        key = "bench.forecast" if turns == len(prompts) else "bench.forecast.turns"
        lines = [say(language, key, responses=responses, turns=turns, **counts)]
        here = set(asked.models) <= {
            *services.engine.model_ids()
        }  # one that is not would have to be fetched to tell what it is
        if here and services.readiness.status().state == "ready" and 0 < responses <= MOST_PLANNED:
            lines += _detail(services, asked, chosen, language)
    except UserFacingError as error:
        return f'<p class="problem" role="alert">{markup.esc(line_for(error, language))}</p>'
    first, *rest = (markup.esc(line) for line in lines)
    return f'<p class="mix-now" role="status">{first}</p>' + "".join(f'<p class="fine">{line}</p>' for line in rest)


def _detail(services: Services, asked: BenchmarkSettings, chosen: Sequence[Suite], language: str) -> list[str]:
    """Verdicts, what the judge cannot score, calls with their cost, and the time where a pace is known."""
    judges: list[Judge] = [services.judges[asked.judge]()] if asked.judge in services.judges else []
    wanted = {scale for suite in chosen for scale in scales_of(suite.metrics)}
    panel = Panel((*judges, *([ChoiceRule()] if judges else [])), {suite.name: suite.metrics for suite in chosen})
    identities = {model: services.engine.identity(model) for model in asked.models}
    requests = plan(asked, choose_prompts(chosen, asked.limit).prompts, identities)
    settings = services.settings
    pace = benchmarks.known_pace(settings.runs, asked) if settings.runs.is_dir() else None
    found = benchmark_forecast(requests, panel, settings.openai_base_url, pace=pace)
    verdicts, *calls = work_ahead(found, language)
    said = [verdicts]
    if judges and (unread := sorted(wanted - judges[0].scales - {"choice"})):
        names = ", ".join(say(language, f"bench.scale.{scale}") for scale in unread)
        said.append(say(language, "bench.forecast.scale", judge=asked.judge, scales=names))
    said += calls
    if found.seconds is not None:
        said.append(say(language, "bench.forecast.time", time=duration(found.seconds, language)))
    return said


def work_ahead(found: Forecast, language: str) -> list[str]:
    """How many verdicts, and how many calls at what cost where there are any."""
    said = [say(language, "bench.forecast.verdicts", verdicts=found.verdicts)]
    if found.calls:
        cost = say(language, "bench.forecast.unpriced") if found.cost_usd is None else f"${found.cost_usd:.2f}"
        said.append(say(language, "bench.forecast.calls", calls=found.calls, cost=cost))
    return said


# ---- layout --------------------------------------------------------------------------------------------------------

# No bounds: Gradio would refuse a number beyond them itself, in English alone; `settings_of` says what is wrong.
_SMALL: tuple[tuple[str, type[Any], dict[str, Any]], ...] = (
    ("temperature", gr.Number, {"step": 0.1}),
    ("top_p", gr.Number, {"step": 0.05}),
    ("max_tokens", gr.Number, {"precision": 0}),
    ("seed", gr.Number, {"precision": 0}),
    ("spend_cap_usd", gr.Number, {}),
)


@dataclass(frozen=True)
class Drawn:
    """The form on the page: its parts by field, and what is around them."""

    parts: dict[str, Any]
    forecast: gr.HTML
    start: gr.Button
    problem: gr.HTML

    @property
    def values(self) -> list[Any]:
        """The components in the order of FIELDS."""
        return [self.parts[name] for name in FIELDS]


def choices_now(services: Services, language: str) -> list[Any]:
    """Models, suites and judges as they are now: what was made or imported since the page was built is among them."""
    return [
        gr.update(choices=screen.model_choices(services, language)),
        gr.update(choices=suite_choices(services.suites(), language)),
        *[gr.update(choices=screen.judge_choices(services, language))] * 2,  # the form's, and that of "judge again"
    ]


def build(services: Services, labels: Labels, language: Any) -> Drawn:
    """Draw the form inside the column that the caller has opened."""
    form, parts = first_form(services), {}

    def part(name: str, kind: type[Any], width: int, **options: Any) -> None:
        key = f"bench.field.{name}"
        drawn = kind(
            value=getattr(form, name), label=say("ja", key), elem_id=f"bench-{name}", min_width=width, **options
        )
        parts[name] = drawn
        if "choices" not in options:
            labels.add(drawn, label=key)

    with gr.Row(elem_classes="fields"):
        part(
            "models", gr.Dropdown, 280, choices=screen.model_choices(services, "ja"), multiselect=True,
            allow_custom_value=True, info=say("ja", "bench.models.info"),
        )  # fmt: skip
        part("suites", gr.Dropdown, 320, choices=suite_choices(services.suites(), "ja"), multiselect=True)
    for name, choices in (
        ("models", partial(screen.model_choices, services)),
        ("suites", lambda lang: suite_choices(services.suites(), lang)),
    ):
        labels.add_computed(
            parts[name],
            lambda lang, name=name, choices=choices: {
                "label": say(lang, f"bench.field.{name}"),
                "choices": choices(lang),
                **({"info": say(lang, "bench.models.info")} if name == "models" else {}),
            },
        )
    with gr.Row(elem_classes="fields"):
        part("judge", gr.Dropdown, 240, choices=screen.judge_choices(services, "ja"), filterable=False)
        labels.add_computed(
            parts["judge"],
            lambda lang: {"label": say(lang, "bench.field.judge"), "choices": screen.judge_choices(services, lang)},
        )
        part("limit", gr.Number, 180, precision=0)  # the browser sends 0 for an empty one
        part("attempts", gr.Number, 120, precision=0)
    accordion = gr.Accordion(say("ja", "bench.advanced"), open=False, elem_id="bench-advanced")
    with labels.add(accordion, label="bench.advanced"):
        with gr.Row(elem_classes="fields"):
            for name, kind, options in _SMALL:
                part(name, kind, 150, **options)
        part("system_prompt", gr.Textbox, 280, max_lines=3)
        with gr.Row(elem_classes="fields"):
            for name in ("with_reference", "reuse"):
                part(name, gr.Checkbox, 240)
    line = gr.HTML("", elem_id="bench-forecast", apply_default_css=False, js_on_load=None)
    with gr.Row(elem_classes="tools"):
        begun = labels.add(
            gr.Button(say("ja", "bench.start"), variant="primary", elem_id="bench-start", size="md"),
            value="bench.start",
        )
    problem = gr.HTML("", elem_id="bench-problem", apply_default_css=False, js_on_load=None)
    return Drawn(parts, line, begun, problem)
