"""Benchmarks and judgings as the page and the command line start them, and what one will take."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evaluation.benchmark.forecast import Forecast, Pace, forecast, forecast_judging
from evaluation.benchmark.judging import Panel
from evaluation.benchmark.plan import Request, choose_prompts, following, plan
from evaluation.benchmark.settings import BenchmarkSettings, JudgingSettings
from evaluation.benchmark.turns import ends_of
from evaluation.errors import SettingsRejected, UserFacingError
from evaluation.journal import last_event, read_run
from evaluation.prompts.suites import Suite, load_suite
from evaluation.types import Judgement, Response, Sampling, content_key
from playground import catalog
from playground.jobs import Supervisor
from playground.jobs.benchmark_work import REMOTE, Tools, open_for, open_for_judging
from playground.jobs.earlier import earlier_runs
from playground.jobs.job import next_key
from playground.jobs.leases import default_device
from playground.jobs.sources import find_exchanges
from playground.settings import Settings

if TYPE_CHECKING:
    from playground.engine.router import Router

ELSEWHERE = (REMOTE, "vllm:")  # ids of models and judges that compute in no process of ours


def named(asked: BenchmarkSettings) -> BenchmarkSettings:
    """The settings with a name for lists of runs, where they have none."""
    return asked if asked.name else replace(asked, name=f"{', '.join(asked.suites)}: {', '.join(asked.models)}")


def check(settings: Settings, asked: BenchmarkSettings) -> list[Suite]:
    """The suites; what can be said before anything is loaded.

    Raises ImportRejected for an unknown suite, SettingsRejected for an unknown model or judge or nothing to ask.
    """
    suites = [load_suite(name, settings.home) for name in asked.suites]
    choose_prompts(suites, asked.limit)
    offered = [entry.id for entry in catalog.models(settings)]
    for model in asked.models:
        if model not in offered and model.partition(":")[0] not in ("hub", "path"):
            raise SettingsRejected(
                f"There is no model {model} here; choose one of {', '.join(offered)}, hub:ORG/NAME or path:FOLDER."
            )
    check_judge(asked.judge)
    return suites


def check_judge(judge: str | None) -> None:
    """Raise SettingsRejected unless it is None, `embedded`, `openai:MODEL` or `vllm:NAME`."""
    remote = judge is not None and judge.startswith(ELSEWHERE) and judge not in ELSEWHERE
    if not (judge is None or judge == catalog.DEFAULT_JUDGE or remote):
        raise SettingsRejected(f"There is no judge {judge}; use {catalog.DEFAULT_JUDGE}, openai:MODEL or vllm:NAME.")


def works_here(asked: BenchmarkSettings | JudgingSettings, settings: Settings | None = None) -> bool:
    """Whether the run computes on this machine's device; if not, it need not wait for it.

    A vLLM server of our own holds a GPU by itself, and a run that asks it must not hold that GPU as well.
    """
    models = asked.models if isinstance(asked, BenchmarkSettings) else ()
    served = isinstance(asked, BenchmarkSettings) and asked.engine == "vllm"
    if served and ((settings is not None and settings.vllm_url) or default_device() != "cpu"):
        models = tuple(model for model in models if model.partition(":")[0] in ("hub", "path"))
        return bool(models) or (asked.judge == catalog.DEFAULT_JUDGE and default_device() == "cpu")
    judging = isinstance(asked, JudgingSettings) and settings is not None and settings.engine == "vllm"
    if judging and default_device() != "cpu":
        return False  # the server has the GPU, and the embedded judge computes on the CPU
    return asked.judge == catalog.DEFAULT_JUDGE or not all(model.startswith(ELSEWHERE) for model in models)


def device_of(asked: BenchmarkSettings | JudgingSettings, settings: Settings) -> str:
    """In which device's queue the run waits: on the CPU's when it computes elsewhere, as on a server that has the GPU."""
    return default_device() if works_here(asked, settings) else "cpu"


def command_of(asked: BenchmarkSettings) -> str:
    """The command line that makes the same run; it names what is not usual."""
    words = [
        "python",
        "-m",
        "playground",
        "bench",
        "--suite",
        ",".join(asked.suites),
        "--models",
        ",".join(asked.models),
    ]
    words += ["--judge", asked.judge] if asked.judge else ["--no-judge"]
    usual, sampling = Sampling(), asked.sampling
    for option, value, default in (
        ("--limit", asked.limit, None),
        ("--attempts", asked.attempts, 1),
        ("--temperature", sampling.temperature, usual.temperature),
        ("--top-p", sampling.top_p, usual.top_p),
        ("--max-tokens", sampling.max_tokens, usual.max_tokens),
        ("--seed", sampling.seed, usual.seed),
        ("--system-prompt", sampling.system_prompt, None),
        ("--spend-cap", asked.spend_cap_usd, None),
    ):
        words += [option, str(value)] if value != default else []
    words += ["--engine", asked.engine] if asked.engine != "transformers" else []
    words += ["--without-reference"] if not asked.with_reference else []
    words += ["--fresh"] if not asked.reuse else []
    return shlex.join(words)


def judging_command(asked: JudgingSettings) -> str:
    """The command line that judges the same source in the same way."""
    words = ["python", "-m", "playground", "judge", asked.source, "--judge", asked.judge]
    words += ["--spend-cap", str(asked.spend_cap_usd)] if asked.spend_cap_usd is not None else []
    words += ["--without-reference"] if not asked.with_reference else []
    words += ["--fresh"] if not asked.reuse else []
    return shlex.join(words)


# ---- into the queue ----


def start(supervisor: Supervisor, settings: Settings, router: Router, asked: BenchmarkSettings) -> str:
    """Put a benchmark into the queue and return its run's id. `router` is the app's, which knows what the models are.

    The same benchmark that is waiting or at work already is that run, so a second click starts nothing. Raises what
    `check` does, ModelUnavailable, AccessMissing, DiskRefused.
    """
    asked = replace(named(asked), engine=settings.engine)
    tools = open_for(asked, check(settings, asked), settings, router=router)
    identities = tools.identities(asked.models)
    return _submit(supervisor, settings, "benchmark", asked, identities, command_of(asked))


def start_judging(supervisor: Supervisor, settings: Settings, router: Router, asked: JudgingSettings) -> str:
    """Put a judging into the queue and return its run's id; see `start`."""
    check_judge(asked.judge)
    tools = open_for_judging(asked, settings, router=router)
    return _submit(supervisor, settings, "judging", asked, tools.identities(()), judging_command(asked))


def _submit(
    supervisor: Supervisor,
    settings: Settings,
    kind: Literal["benchmark", "judging"],
    asked: BenchmarkSettings | JudgingSettings,
    identities: dict[str, dict[str, Any]],
    command: str,
) -> str:
    prefix = f"{kind}:{content_key(asked.to_json(), identities)}:"
    jobs = [job for job in supervisor.jobs() if job.key and job.key.startswith(prefix)]
    going = next((job.run_id for job in jobs if not job.ended), None)
    seed = asked.sampling.seed if isinstance(asked, BenchmarkSettings) else None
    return going or supervisor.submit(
        kind, asked.to_json(), identities,
        seed=seed, device=device_of(asked, settings), key=next_key(prefix, jobs), command=command,
    )  # fmt: skip


# ---- what it will take ----


def expected(settings: Settings, tools: Tools, asked: BenchmarkSettings, suites: Sequence[Suite]) -> Forecast:
    """What the benchmark would take now, with what earlier runs made already taken off. Loads the models it names."""
    identities = {model: tools.engine.identity(model) for model in asked.models}
    prompts = choose_prompts(suites, asked.limit).prompts
    requests = plan(asked, prompts, identities)
    panel = Panel(tools.judges, {suite.name: suite.metrics for suite in suites})
    have: set[str] = set()
    wanted = {request.key: request for request in requests} if asked.reuse else {}
    earlier = earlier_runs(settings.runs, "", prompts)
    while wanted:
        due: list[Request] = []
        judgements = {key for r in wanted.values() for key in panel.keys(r.key, r.prompt, last=r.last).values()}
        for record in earlier(wanted, judgements):
            if isinstance(record, Response) and record.finish_reason in ("stop", "length") and record.key not in have:
                have.add(record.key)
                due += [after] if (after := following(wanted[record.key], record)) is not None else []
            elif isinstance(record, Judgement) and record.score is not None:
                have.add(record.key)
        requests += due
        wanted = {request.key: request for request in due}
    return forecast(requests, panel, settings.openai_base_url, have=have, pace=known_pace(settings.runs, asked))


def expected_judging(settings: Settings, tools: Tools, asked: JudgingSettings) -> Forecast:
    """What the judging would take now, without the verdicts that earlier runs hold. Raises what `find_exchanges` does."""
    exchanges = find_exchanges(asked.source, settings.home)
    panel = Panel(tools.judges, asked.metrics)
    ends = ends_of([exchange.response for exchange in exchanges])
    owed = {
        key for e in exchanges for key in panel.keys(e.response.key, e.prompt, last=e.response.key in ends).values()
    }
    shown = [exchange.prompt for exchange in exchanges]
    earlier = earlier_runs(settings.runs, "", shown)((), owed) if asked.reuse else ()
    have = {record.key for record in earlier if isinstance(record, Judgement) and record.score is not None}
    return forecast_judging(exchanges, panel, settings.openai_base_url, have=have)


def known_pace(runs: Path, asked: BenchmarkSettings) -> Pace | None:
    """Seconds per record of the newest benchmark of one sitting with the same models, judge and length of responses."""
    for run in sorted(runs.glob("[!.]*"), reverse=True):
        try:
            info = read_run(run)
        except UserFacingError:  # `runs list` says what is wrong with it
            continue
        said = info.settings
        alike = (
            info.kind == "benchmark"
            and list(said.get("models", ())) == list(asked.models)
            and said.get("judge") == asked.judge
            and said.get("engine", "transformers") == asked.engine
            and said.get("sampling", {}).get("max_tokens") == asked.sampling.max_tokens
        )
        last = last_event(run / "events.jsonl") if alike else None
        if last is None or last.event != "finished" or last.data.get("reused"):
            continue
        begun = last_event(run / "events.jsonl", ("started",))
        if begun is not None and begun.data.get("resume"):  # seconds of its last sitting, records of all of them
            continue
        answered, verdicts = int(last.data["answered"]), int(last.data["judged"]) + int(last.data["missing"])
        if answered:
            seconds = float(last.data["seconds"])
            # Both sides went on at once, so neither took longer than the whole.
            return Pace(seconds / answered, seconds / verdicts if verdicts else 0.0)
    return None
