"""Starting benchmarks and judgings from the page: into the queue, once, with a command that says the same."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace

import pytest

from evaluation.benchmark.settings import BenchmarkSettings, JudgingSettings, from_json
from evaluation.errors import SettingsRejected
from evaluation.journal import create_run, read_run, run_status
from evaluation.prompts.imports import Imported
from evaluation.prompts.suites import save_imported
from evaluation.types import Prompt, Sampling
from playground import benchmarks, catalog
from playground.cli import bench as bench_command
from playground.cli import main
from playground.jobs import Supervisor
from playground.jobs.benchmark_work import _spent_usd, open_for_judging
from playground.jobs.sources import settings_for
from playground.settings import Settings, load_settings
from tests.openai_server import OpenAIServer
from tests.playground.jobs.waiting import wait_for_status

MODELS = ("openai:left", "openai:right")
VERDICT = '{"explanation": "理由", "score": 4}'


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(reply=lambda body: VERDICT if body["model"] == "judge" else "答え") as opened:
        yield opened


@pytest.fixture
def settings(home, monkeypatch, server) -> Settings:
    monkeypatch.setenv("PLAYGROUND_OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("PLAYGROUND_OPENAI_MODELS", "left,right")
    save_imported(Imported("mine", [Prompt(f"p{n}", f"問{n}", suite="mine") for n in range(6)], [], [], []), home)
    return load_settings()


def asked(**changes) -> BenchmarkSettings:
    return replace(BenchmarkSettings(MODELS, ("mine",), "openai:judge"), **changes)


def parsed(command: str, monkeypatch) -> BenchmarkSettings:
    """The settings that the command line would run with."""
    seen = []
    monkeypatch.setattr(bench_command.benchmarks, "check", lambda settings, asked: seen.append(asked) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(shlex.split(command)[3:])
    return seen[0]


@pytest.mark.parametrize(
    "settings_",
    [
        asked(),
        asked(judge=None),
        asked(
            sampling=Sampling(0.2, 0.5, 99, 7, "規則 を 守る"), attempts=3, limit=5, with_reference=False,
            spend_cap_usd=1.5, reuse=False,
        ),
    ],
    ids=["usual", "no judge", "everything"],
)  # fmt: skip
def test_the_command_of_a_benchmark_asks_for_the_same(home, monkeypatch, settings_):
    assert parsed(benchmarks.command_of(settings_), monkeypatch) == benchmarks.named(settings_)


def test_a_second_click_starts_nothing(settings):
    supervisor = Supervisor(settings.home)
    router = catalog.build_router(settings)
    first = benchmarks.start(supervisor, settings, router, asked())
    assert benchmarks.start(supervisor, settings, router, asked()) == first
    assert benchmarks.start(supervisor, settings, router, asked(limit=2)) != first
    info = read_run(settings.runs / first)
    assert from_json(dict(info.settings)) == benchmarks.named(asked())
    assert set(info.identities) == {*MODELS, "judge"}


def test_a_queued_benchmark_is_done_by_a_process_of_its_own(settings):
    supervisor = Supervisor(settings.home)
    supervisor.start()
    try:
        router = catalog.build_router(settings)
        run = benchmarks.start(supervisor, settings, router, asked())
        wait_for_status(supervisor, run, "finished")
        judging = settings_for(run, "openai:judge", settings.home, with_reference=False, reuse=False)
        again = benchmarks.start_judging(supervisor, settings, router, judging)
        wait_for_status(supervisor, again, "finished")
    finally:
        supervisor.close()
    for name in (run, again):
        folder = settings.runs / name
        lines = {
            j: len((folder / f"{j}.jsonl").read_text().splitlines()) for j in ("prompts", "responses", "judgements")
        }
        assert lines == {"prompts": 6, "responses": 12, "judgements": 12}
    pace = benchmarks.known_pace(settings.runs, asked())
    assert pace is not None and pace.response_s > 0


def test_the_pace_is_not_taken_from_a_run_that_was_resumed(settings):
    totals = {"answered": 100, "judged": 100, "missing": 0, "reused": 0}
    with create_run(settings.runs, "benchmark", asked().to_json(), {}) as folder:
        folder.event("started", resume=False)
        folder.event("finished", seconds=200.0, **totals)
    with create_run(settings.runs, "benchmark", asked().to_json(), {}) as folder:
        folder.event("started", resume=False)
        folder.event("cancelled", reason="asked to stop", step=99)
        folder.event("started", resume=True)
        folder.event("finished", seconds=3.0, **totals)  # of the last response alone
    pace = benchmarks.known_pace(settings.runs, asked())
    assert pace is not None and (pace.response_s, pace.verdict_s) == (2.0, 2.0)


def test_a_run_that_was_made_with_other_weights_is_not_gone_on_with(call, settings):
    identities = {model: {**IDENTITY, "model": model} for model in MODELS} | {"judge": {"id": "x", "identity": "x"}}
    with create_run(settings.runs, "benchmark", asked().to_json(), identities) as folder:
        folder.event("started")
    said = call("runs", "resume", folder.path.name)
    assert said.status == 2
    assert "is not what run" in said.err
    assert run_status(folder.path) == "failed"


IDENTITY = {"base": "b", "weights_sha256": "w", "adapter_sha256": None, "template_sha256": "t"}


def test_a_resume_counts_what_calls_without_a_record_cost(settings):
    with create_run(settings.runs, "benchmark", asked().to_json(), {}) as folder:
        folder.event("started")
        folder.event("progress", stage="judging", cost_usd=0.75)  # of it a part for calls that timed out
        folder.event("cancelled", reason="asked to stop")
        folder.event("progress", stage="loading")
    assert _spent_usd(folder.path, folder.info, settings) == 0.75


def test_an_agreement_run_is_not_taken_for_a_judging(call, settings):
    with create_run(settings.runs, "judging", {"labels": "x", "judge": "embedded"}, {}) as folder:
        folder.event("started")
    said = call("runs", "resume", folder.path.name)
    assert said.status == 2
    assert "agreement" in said.err


def test_a_judging_whose_copy_was_cut_off_reads_its_source_again(call, settings, home):
    run = call("bench", "--suite", "mine", "--models", "openai:left", "--no-judge", "--json").document["run_id"]
    made = settings_for(run, "openai:judge", home)
    identity = read_identity(settings, made)
    with create_run(settings.runs, "judging", made.to_json(), identity) as folder:
        folder.event("started")
    document = call("runs", "resume", folder.path.name, "--json").document
    assert (document["totals"]["answered"], document["totals"]["judged"]) == (6, 6)


def read_identity(settings: Settings, made) -> dict:
    return open_for_judging(made, settings).identities(())


def test_a_source_that_changed_since_is_refused(call, settings, home):
    run = call("bench", "--suite", "mine", "--models", "openai:left", "--no-judge", "--json").document["run_id"]
    made = replace(settings_for(run, "openai:judge", home), responses=7)
    with create_run(settings.runs, "judging", made.to_json(), read_identity(settings, made)) as folder:
        folder.event("started")
    assert "has 6 responses now and had 7" in call("runs", "resume", folder.path.name).err


@pytest.mark.parametrize("judge", ["gpt", "openai:", ""])
def test_an_unknown_judge_is_refused(judge):
    with pytest.raises(SettingsRejected, match="no judge"):
        benchmarks.check_judge(judge)


def test_the_device_is_left_alone_by_what_is_computed_elsewhere():
    assert not benchmarks.works_here(asked())
    assert benchmarks.works_here(asked(models=("base", "openai:left")))
    assert benchmarks.works_here(asked(judge="embedded"))


def test_on_a_machine_with_a_gpu_a_run_waits_for_it_only_when_it_computes_there(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmarks, "default_device", lambda: "cuda:0")
    settings_ = Settings(home=tmp_path, _env_file=None)
    assert benchmarks.device_of(asked(judge="embedded"), settings_) == "cuda:0"
    assert benchmarks.device_of(asked(), settings_) == "cpu", "everything is asked of an endpoint"
    assert benchmarks.device_of(asked(models=("general",), judge="embedded", engine="vllm"), settings_) == "cpu"
    assert benchmarks.device_of(asked(models=("hub:a/b",), engine="vllm"), settings_) == "cuda:0"


def test_a_judging_beside_a_vllm_server_does_not_wait_for_the_gpu_that_the_server_has(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmarks, "default_device", lambda: "cuda:0")
    judging = JudgingSettings("run", "embedded", ("base",), ("mine",), 1, {"mine": ("safety",)})
    device = {
        engine: benchmarks.device_of(judging, Settings(home=tmp_path, _env_file=None, engine=engine))
        for engine in ("transformers", "vllm")
    }
    assert device == {"transformers": "cuda:0", "vllm": "cpu"}
