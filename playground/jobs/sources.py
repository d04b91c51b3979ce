"""Where the Responses of a judging come from: a run, or an imported suite that brought Responses."""

from __future__ import annotations

from pathlib import Path

from evaluation.benchmark.settings import JudgingSettings
from evaluation.errors import ImportRejected, SettingsRejected
from evaluation.journal import read_records
from evaluation.judge.protocol import Exchange
from evaluation.prompts.suites import list_suites, load_imported, load_suite
from evaluation.types import Metric, Prompt, Response


def find_exchanges(source: str, home: Path) -> list[Exchange]:
    """The Responses of the run or suite of that name, each with its Prompt, each key once.

    Raises SettingsRejected when there is no such source or it has no Responses, ImportRejected for a damaged suite.
    """
    run = home / "runs" / source
    if run.parent == home / "runs" and (run / "run.json").is_file():
        found = exchanges_of(run)
    elif source in list_suites(home):
        prompts = {prompt.id: prompt for prompt in load_suite(source, home).prompts}
        responses = load_imported(source, home).responses if (home / "suites" / source).is_dir() else []
        found = [Exchange(prompts[r.prompt_id], r) for r in responses if r.prompt_id in prompts]
    else:
        raise SettingsRejected(f"There is no run, suite or file {source}; `runs list` and `suites` show what there is.")
    if not found:
        raise SettingsRejected(
            f"{source} has no responses to judge; `bench --suite {source}` lets models answer first."
        )
    return list({exchange.response.key: exchange for exchange in found}.values())


def exchanges_of(run: Path) -> list[Exchange]:
    """The Responses in a run folder with their Prompts."""
    prompts = {r.id: r for r, _ in read_records(run / "prompts.jsonl") if isinstance(r, Prompt)}
    responses = [r for r, _ in read_records(run / "responses.jsonl") if isinstance(r, Response)]
    return [Exchange(prompts[r.prompt_id], r) for r in responses if r.prompt_id in prompts]


def metrics_of(suite: str, home: Path) -> tuple[Metric, ...]:
    """What a suite measures; safety where it is not known here, as for a question that was typed in."""
    try:
        return load_suite(suite, home).metrics if suite else ("safety",)
    except ImportRejected:
        return ("safety",)


def settings_for(
    source: str,
    judge: str,
    home: Path,
    *,
    with_reference: bool = True,
    spend_cap_usd: float | None = None,
    reuse: bool = True,
) -> JudgingSettings:
    """Settings of a judging of everything that the source holds. Raises what `find_exchanges` does."""
    found = find_exchanges(source, home)
    suites = tuple(dict.fromkeys(exchange.prompt.suite for exchange in found))
    return JudgingSettings(
        source=source,
        judge=judge,
        models=tuple(dict.fromkeys(exchange.response.model for exchange in found)),
        suites=suites,
        responses=len(found),
        metrics={suite: metrics_of(suite, home) for suite in suites},
        with_reference=with_reference,
        spend_cap_usd=spend_cap_usd,
        reuse=reuse,
        name=f"{source}: {judge}",
    )


def read_source(asked: JudgingSettings, run: Path, home: Path) -> list[Exchange]:
    """The Responses to judge: those that the run folder holds once it has them all, else the source's.

    Raises SettingsRejected when the source has changed since the run was made, and what `find_exchanges` does.
    """
    copied = exchanges_of(run)
    if len(copied) >= asked.responses:
        return copied
    found = find_exchanges(asked.source, home)
    if len(found) != asked.responses:
        raise SettingsRejected(
            f"{asked.source} has {len(found)} responses now and had {asked.responses} when this run was made; start a new run."
        )
    return found
