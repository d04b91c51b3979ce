"""The working side of a benchmark and of a judging: opens models and judges, and runs `evaluation.benchmark`."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.benchmark.judging import Panel, WithoutReference
from evaluation.benchmark.pacing import Pacer
from evaluation.benchmark.plan import Request, choose_prompts
from evaluation.benchmark.run import Ended, judge_responses, run_benchmark
from evaluation.benchmark.settings import BenchmarkSettings, JudgingSettings, from_json, judging_from_json
from evaluation.errors import SettingsRejected
from evaluation.journal import RunInfo, read_records
from evaluation.judge.choice import ChoiceRule
from evaluation.judge.prices import cost_usd, most_usd
from evaluation.judge.protocol import Judge
from evaluation.prompts.suites import Suite, load_suite, scales_of
from evaluation.records import Event
from evaluation.types import Judgement, Metric, ModelIdentity, Response
from playground.jobs.earlier import earlier_runs
from playground.jobs.sources import read_source
from playground.jobs.work import Assignment, Outcome
from playground.settings import Settings, load_settings

if TYPE_CHECKING:
    from playground.engine.protocol import Engine
    from playground.engine.router import Router

REMOTE = "openai:"


@dataclass(frozen=True)
class Tools:
    """Models and judges opened for one run, and the pacer that both ask an endpoint through."""

    engine: Engine
    judges: tuple[Judge, ...]
    pacer: Pacer

    def identities(self, models: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What run.json records: each model's identity, and the judge's."""
        found: dict[str, dict[str, Any]] = {model: asdict(self.engine.identity(model)) for model in models}
        if self.judges:
            found["judge"] = {"id": self.judges[0].id, "identity": self.judges[0].identity}
        return found


def open_tools(
    settings: Settings,
    judge: str | None,
    metrics: Mapping[str, Sequence[Metric]],
    *,
    with_reference: bool,
    cap_usd: float | None,
    spent_usd: float = 0.0,
    router: Router | None = None,
) -> Tools:
    """Open the judge, and a router whose models are loaded when they are asked; `router` is one that is there already.

    Raises what `catalog.judge` does.
    """
    from playground import catalog

    pacer = catalog.endpoint_pacer(settings, cap_usd=cap_usd, spent_usd=spent_usd)
    router = router or catalog.build_router(settings, pacer)
    scales = {scale for names in metrics.values() for scale in scales_of(names)}
    judges: list[Judge] = []
    if judge is not None:
        if scales - {"choice"}:
            chosen = catalog.judge(judge, settings, router, pacer)
            judges.append(chosen if with_reference else WithoutReference(chosen))
        if "choice" in scales:
            judges.append(ChoiceRule())
    return Tools(router, tuple(judges), pacer)


def open_for(
    asked: BenchmarkSettings,
    suites: Sequence[Suite],
    settings: Settings,
    spent_usd: float = 0.0,
    router: Router | None = None,
) -> Tools:
    """Tools for a benchmark. Raises SettingsRejected for a spend cap on calls whose price is not known."""
    refuse_unpriced(asked.spend_cap_usd, [*asked.models, asked.judge or ""], settings)
    return open_tools(
        settings,
        asked.judge,
        {suite.name: suite.metrics for suite in suites},
        with_reference=asked.with_reference,
        cap_usd=asked.spend_cap_usd,
        spent_usd=spent_usd,
        router=router,
    )


def open_for_judging(
    asked: JudgingSettings, settings: Settings, spent_usd: float = 0.0, router: Router | None = None
) -> Tools:
    """Tools for a judging. Raises SettingsRejected for a spend cap on calls whose price is not known."""
    refuse_unpriced(asked.spend_cap_usd, [asked.judge], settings)
    return open_tools(
        settings,
        asked.judge,
        asked.metrics,
        with_reference=asked.with_reference,
        cap_usd=asked.spend_cap_usd,
        spent_usd=spent_usd,
        router=router,
    )


def benchmark(run: Assignment, tools: Tools | None = None) -> Outcome:
    """Answer and judge. `tools` are those that made the run, where this is the same process."""
    asked = from_json(dict(run.info.settings), f"{run.path.name}/run.json")
    settings = load_settings().model_copy(update={"engine": asked.engine})
    suites = [load_suite(name, run.home) for name in asked.suites]
    run.report("progress", {"stage": "loading", "message": "opening the models and the judge"})
    tools = tools or open_for(asked, suites, settings, _spent_usd(run.path, run.info, settings))
    now = tools.identities(asked.models)  # loads the models
    _refuse_changed(run.info, now)
    chosen = choose_prompts(suites, asked.limit)
    for note in chosen.notes:
        run.report("warning", {"message": note})

    def generate(requests: Sequence[Request]) -> Generator[Response]:
        from playground.engine.answers import answers

        return answers(tools.engine, requests, run.should_stop)

    ended = run_benchmark(
        asked,
        chosen.prompts,
        {model: tools.engine.identity(model) for model in asked.models},
        generate,
        Panel(tools.judges, {suite.name: suite.metrics for suite in suites}),
        run.folder,
        run.report,
        run.should_stop,
        earlier=earlier_runs(run.path.parent, run.path.name, chosen.prompts),
        pacer=tools.pacer,
    )
    return _outcome(ended)


def judge_again(run: Assignment, tools: Tools | None = None) -> Outcome:
    """Judge Responses that exist. `tools` are those that made the run, where this is the same process."""
    if "source" not in run.info.settings:
        raise SettingsRejected(
            f"Run {run.path.name} compares a judge with labels; go on with `agreement ... --resume {run.path.name}`."
        )
    asked = judging_from_json(dict(run.info.settings), f"{run.path.name}/run.json")
    settings = load_settings()
    tools = tools or open_for_judging(asked, settings, _spent_usd(run.path, run.info, settings))
    _refuse_changed(run.info, tools.identities(()))
    exchanges = read_source(asked, run.path, run.home)
    shown = [exchange.prompt for exchange in exchanges]
    ended = judge_responses(
        exchanges,
        Panel(tools.judges, asked.metrics),
        run.folder,
        run.report,
        run.should_stop,
        earlier=earlier_runs(run.path.parent, run.path.name, shown) if asked.reuse else None,
        pacer=tools.pacer,
    )
    return _outcome(ended)


def refuse_unpriced(cap_usd: float | None, names: Sequence[str], settings: Settings) -> None:
    """Raise SettingsRejected when there is a cap and one of the models or judges has no known price."""
    if cap_usd is None:
        return
    from evaluation.judge.endpoint import origin_of

    origin = origin_of(settings.openai_base_url)
    for name in names:
        if name.startswith(REMOTE) and most_usd(name.removeprefix(REMOTE), origin, 0, 1) is None:
            raise SettingsRejected(
                f"The price of {name} at {origin} is not known, so a spend cap cannot be kept; leave the cap out."
            )


def _refuse_changed(info: RunInfo, now: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise SettingsRejected when a model or the judge is not what the run was made for."""
    for name, identity in now.items():
        then = info.identities.get(name)
        if then is None or _digest(then) != _digest(identity):
            what = f"The judge {identity['id']}" if name == "judge" else name
            raise SettingsRejected(f"{what} is not what run {info.run_id} was made with; start a new run.")


def _digest(identity: Mapping[str, Any]) -> str:
    return str(identity["identity"]) if "identity" in identity else ModelIdentity(**identity).digest


def _spent_usd(path: Path, info: RunInfo, settings: Settings) -> float:
    """What earlier sittings of this run paid; records taken over from other runs are older than the run.

    Calls that left no record, as those that broke off or whose process was killed, are in what the sitting last told.
    """
    from evaluation.judge.endpoint import origin_of

    origin = origin_of(settings.openai_base_url)
    created = datetime.fromisoformat(info.created_at).replace(microsecond=0)
    spent = 0.0
    for journal in ("responses", "judgements"):
        for record, _ in read_records(path / f"{journal}.jsonl"):
            if not isinstance(record, Response | Judgement) or not record.created_at:
                continue
            if datetime.fromisoformat(record.created_at) < created:
                continue
            if isinstance(record, Judgement):
                spent += record.cost_usd or 0.0
            elif record.model.startswith(REMOTE):
                model = record.model.removeprefix(REMOTE)
                spent += cost_usd(model, origin, record.prompt_tokens or 0, record.tokens or 0) or 0.0
    for record, _ in read_records(path / "events.jsonl"):
        if isinstance(record, Event) and isinstance(told := record.data.get("cost_usd"), float):
            spent = max(spent, told)  # each sitting goes on from what those before it paid
    return spent


def _outcome(ended: Ended) -> Outcome:
    return Outcome(asdict(ended.totals), stopped=ended.stopped, step=ended.totals.answered)
