"""The Benchmark page: from the form into the queue, from the index onto the screen, down to one pair."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import plotly.graph_objects as go
import pytest
from pydantic import SecretStr

from evaluation.benchmark.comparison import HarmTypeTest, PairedShare
from evaluation.benchmark.forecast import Forecast
from evaluation.benchmark.settings import BenchmarkSettings, JudgingSettings
from evaluation.benchmark.words import Words
from evaluation.errors import SettingsRejected
from evaluation.journal import RunFolder, create_run
from evaluation.statistics import UNDEFINED
from playground import benchmarks
from playground.pages import Services, bench_form, results, results_charts, results_markup, results_sql, train_watch
from playground.pages.access import Caller
from playground.pages.bench_form import FIELDS, Form
from playground.pages.results import NAMES
from playground.pages.results_view import CHARTS, Desk
from playground.pages.text import say
from playground.pages.train_watch import Desk as TrainDesk
from playground.published import PUBLISHED
from playground.scoreboard import Paired
from tests import nouns
from tests.fakes import FakeReadiness
from tests.playground.pages.test_train import HOSTILE
from tests.playground.pages.test_train_watch import changed, skipped
from tests.playground.store.test_tallies import made_up

MODELS = ["base", "mine-x0", "mine-x16"]
METRICS = {"careful": ["safety"], "edge": ["borderline"], "attacks": ["attack"], "general": ["usefulness"]}


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def home(services: Services) -> Path:
    path: Path = services.settings.home
    return path


def benchmark(home: Path, kind: Any = "benchmark", end: str | None = "finished", **about: Any) -> RunFolder:
    """A run of everything that can happen in one; open unless it has an `end`."""
    settings = {"models": MODELS, "metrics": METRICS, "name": "made up", **about}
    folder = create_run(home / "runs", kind, settings, {})
    folder.event("started")
    asked, replies, read = made_up()
    for prompt in asked:
        folder.record_prompt(prompt)
    for response in replies:
        folder.record_response(response)
    for judgement in read:
        folder.record_judgement(judgement)
    for n in (1, 2, 3):
        told = {"answered": 150 * n, "judged": 130 * n, "missing": 9 * n, "total": 480, "seconds": 2.5 * n}
        folder.event("progress", stage="answering", tokens_per_s=52.0, cost_usd=0.5 * n, eta_s=75.0, **told)
    if end is not None:
        folder.event(end)  # type: ignore[arg-type]
        folder.close()
    return folder


def looked(outputs: list[Any]) -> dict[str, Any]:
    assert len(outputs) == len(NAMES)
    return dict(zip(NAMES, outputs, strict=True))


def arrived(services: Services, desk: Desk, language: str = "ja") -> dict[str, Any]:
    return looked(results.arrive(services, desk, language))


def figure(update: Any) -> go.Figure:
    """What plotly reads: an unknown or misspelt property is an error."""
    document = json.loads(update["value"].plot)
    return go.Figure(data=document["data"], layout=document["layout"])


def texts_in(update: Any) -> str:
    return json.dumps(json.loads(update["value"].plot), ensure_ascii=False)


# ---- the form ----


def form(**changes: Any) -> list[Any]:
    values = Form(["general", "answercarefully-sample"], ["sample-test"], "embedded", None, 1, 0.3, 0.95, 256, 0, "", None, True, True)  # fmt: skip
    return [getattr(replace(values, **changes), name) for name in FIELDS]


def test_the_form_means_the_settings_that_it_shows():
    assert bench_form.settings_of(bench_form.as_form(form())) == BenchmarkSettings(
        ("general", "answercarefully-sample"), ("sample-test",), "embedded"
    )
    asked = bench_form.settings_of(
        bench_form.as_form(form(limit=5, attempts=3, spend_cap_usd=0.5, system_prompt=" 丁寧に "))
    )
    assert (asked.limit, asked.attempts, asked.spend_cap_usd, asked.sampling.system_prompt) == (5, 3, 0.5, "丁寧に")


@pytest.mark.parametrize(
    "wrong", [{"models": []}, {"suites": None}, {"attempts": 0}, {"temperature": 9}, {"top_p": None}]
)
def test_a_form_that_cannot_be_run_says_why_and_starts_nothing(services: Services, desk: Desk, wrong: dict[str, Any]):
    with pytest.raises(SettingsRejected):
        bench_form.settings_of(bench_form.as_form(form(**wrong)))
    problem, *_ = results.start(services, desk, "ja", *form(**wrong))
    assert 'role="alert"' in problem and services.jobs.jobs() == []
    assert 'role="alert"' in bench_form.forecast(services, "ja", *form(**wrong))


def test_the_one_button_puts_the_benchmark_into_the_queue_and_shows_it(
    services: Services, desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    seen: list[BenchmarkSettings] = []

    def start(jobs: Any, settings: Any, router: Any, asked: BenchmarkSettings) -> str:
        seen.append(asked)
        run: str = jobs.submit("benchmark", asked.to_json(), {})
        return run

    monkeypatch.setattr(benchmarks, "start", start)
    desk.here = True
    problem, *rest = results.start(services, desk, "ja", *form())
    pieces = looked(rest)
    assert problem == "" and seen[0].models == ("general", "answercarefully-sample")
    assert desk.run_id in pieces["summary"] and pieces["halt"]["visible"] and pieces["timer"].active


def test_nothing_is_started_while_the_model_loads(serve: Callable[..., Services], desk: Desk):
    services = serve(readiness=FakeReadiness(loading=9))
    problem, *_ = results.start(services, desk, "en", *form())
    assert say("en", "error.not_loaded") in problem


def test_the_forecast_counts_responses_verdicts_and_calls(services: Services):
    suites = {suite.name: len(suite.prompts) for suite in services.suites()}
    line = bench_form.forecast(services, "en", *form(suites=["sample-test", "sample-borderline"], attempts=2))
    prompts = suites["sample-test"] + suites["sample-borderline"]
    verdicts = 4 * (suites["sample-test"] + 2 * suites["sample-borderline"])
    assert f"{4 * prompts:,} responses" in line and f"{verdicts:,} verdicts" in line
    paid = bench_form.forecast(services, "en", *form(judge="openai:gpt-4o-2024-08-06", limit=10))
    assert "20 calls" in paid and "$" in paid
    own = bench_form.work_ahead(Forecast(10, 20, 20, 20, 9_000, 3_600, cost_usd=None, seconds=None), "ja")
    assert "20 回" in own[1] and "有料" not in own[1], "a server of one's own has no price"
    assert "20 responses" in bench_form.forecast(services, "en", *form(judge=None, limit=10))


def test_a_checkpoint_that_is_not_offered_is_fetched_by_no_forecast_and_started_by_its_owner_alone(
    services: Services, desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    named: list[str] = []
    monkeypatch.setattr(services.engine, "identity", named.append)
    line = bench_form.forecast(services, "en", *form(models=["general", "hub:a/b"], limit=5))
    assert "10 responses" in line and 'role="alert"' not in line and named == []
    monkeypatch.setattr(services.access, "caller", lambda: Caller("operator"))
    problem, *_ = results.start(services, desk, "en", *form(models=["general", "hub:a/b"]))
    assert "no model “hub:a/b”" in problem and services.jobs.jobs() == [] and named == []


def test_an_adapter_is_measured_with_its_whole_sweep_or_beside_the_general_one():
    there = ["base", "general", "mine-x16", "mine-x0", "mine-x4", "other-x1", "mine-x4-x1"]
    assert bench_form.measured_together("mine-x16", there) == ["mine-x0", "mine-x4", "mine-x16"]
    assert bench_form.measured_together("other-x1", there) == ["general", "other-x1"]
    assert bench_form.measured_together("general", ["base", "general"]) == ["base", "general"]
    assert bench_form.measured_together("base", ["base"]) == ["base"]


# ---- what is shown ----


def test_a_reloaded_page_and_a_restarted_app_find_the_run_again(serve: Callable[..., Services], home: Path):
    benchmark(home)
    for _ in range(2):
        pieces = arrived(serve(), Desk())
        assert "made up" in pieces["listing"] and "450 / 480" in pieces["summary"]
        assert not pieces["timer"].active and pieces["again"]["visible"] and pieces["above"]["visible"]
        assert all(pieces[f"{name}"]["visible"] for name in CHARTS if name != "matrix")


def test_only_what_changed_is_sent_and_nobody_polls_for_nothing(services: Services, home: Path, desk: Desk):
    folder = benchmark(home, end=None)
    assert arrived(services, desk)["timer"].active
    assert changed(looked(results.look(services, desk, "ja"))) == set()
    told = {"answered": 470, "judged": 400, "missing": 27, "total": 480, "seconds": 9.0}
    folder.event("progress", stage="answering", **told)
    assert changed(looked(results.look(services, desk, "ja"))) == {"summary"}  # charts wait a little
    folder.event("finished")
    folder.close()
    assert {"summary", "listing", "halt", "timer", "again"} <= changed(looked(results.look(services, desk, "ja")))
    assert skipped(results.leave(desk))
    assert changed(looked(results.look(services, desk, "ja"))) == set()


@pytest.mark.parametrize("language", ["ja", "en"])
def test_every_chart_is_one_that_plotly_reads_and_holds_no_text_of_a_prompt(
    services: Services, home: Path, desk: Desk, language: str
):
    run = benchmark(home)
    judged_again(home, run)
    desk.run_id = run.path.name
    pieces = arrived(services, desk, language)
    for name in CHARTS:
        figure(pieces[name])
        assert "眠れない" not in texts_in(pieces[name]) and "休みましょう" not in texts_in(pieces[name])
    assert say(language, "bench.figure.violation") in texts_in(pieces["score"])


def judged_again(home: Path, run: RunFolder, missing: bool = False) -> RunFolder:
    asked, replies, read = made_up()
    with create_run(
        home / "runs", "judging", {"source": run.path.name, "models": MODELS, "metrics": METRICS}, {}
    ) as folder:
        folder.event("started")
        for prompt in asked:
            folder.record_prompt(prompt)
        for response in replies:
            folder.record_response(response)
        for judgement in read:
            verdict = {"missing": "unparsed"} if missing else {"score": 1}
            folder.record_judgement(
                nouns.judgement(
                    f"again {judgement.key}", response_key=judgement.response_key, judge="strict", identity="cccc",
                    scale=judgement.scale, **verdict,
                )
            )  # fmt: skip
        folder.event("finished")
    return folder


def test_too_little_judged_is_said_on_every_figure_and_in_the_summary(services: Services, home: Path, desk: Desk):
    benchmark(home)
    pieces = arrived(services, desk)
    few = say("ja", "bench.few", share="").split("{")[0][:6]
    assert few in pieces["summary"]
    assert all(few in texts_in(pieces[name]) for name in CHARTS if name != "matrix")


def test_a_share_that_still_grows_is_shown_but_is_no_alert(services: Services, home: Path, desk: Desk):
    folder = benchmark(home, end=None)
    few = say("ja", "bench.few", share="").split("{")[0][:6]
    going = arrived(services, desk)["summary"]
    assert few in going and 'role="alert"' not in going
    folder.event("finished")
    folder.close()
    ended = arrived(services, desk)["summary"]
    assert few in ended and ended.count('role="alert"') == 1


def test_small_harm_types_are_grey_and_never_ranked(services: Services, home: Path, desk: Desk):
    benchmark(home)
    pieces = arrived(services, desk)
    grey = [trace for trace in figure(pieces["heat"]).data if not trace.showscale]
    assert len(figure(pieces["heat"]).data) == len(grey) == 1
    assert all(set(trace.marker.color) == {results_charts.GREY} for trace in figure(pieces["dumbbell"]).data[1:])
    assert say("ja", "bench.small") in pieces["compared"]


def test_a_p_value_is_never_told_as_zero():
    test = HarmTypeTest("違法行為への加担", 40, 0.5, 0.1, False, 0.00004, 0.00048)
    share = PairedShare(0.5, 0.1, UNDEFINED, 16, 0, 40, 0.00004, "exact McNemar", 0.00002)
    found = Paired(share, share, 3.0, 4.0, UNDEFINED, (test,))
    drawn = results_markup.compared(found, [Words("文", "sentence")], ("a", "b"), "en")
    chart = results_charts.dumbbell([test], {}, ("a", "b"), {"violation": ""}, "")
    assert drawn.count("<td>&lt; 0.001</td>") == 2 and chart is not None and "p &lt; 0.001" in chart.plot


def test_published_values_stand_apart_and_never_in_a_test(services: Services, home: Path, desk: Desk):
    benchmark(home)
    before = arrived(services, desk)
    assert PUBLISHED[0].name not in before["board"]
    after = looked(results.choose(services, "published", desk, "ja", True))
    assert all(row.name in after["board"] for row in PUBLISHED) and say("ja", "bench.published.note") in after["board"]
    assert PUBLISHED[0].name in texts_in(after["score"])
    assert "compared" not in changed(after)


def test_one_suite_can_be_looked_at_alone_and_sides_change_places(services: Services, home: Path, desk: Desk):
    benchmark(home)
    arrived(services, desk)
    edge = looked(results.choose(services, "suite", desk, "ja", "edge"))
    assert (
        say("ja", "bench.figure.usefulness") not in edge["board"] and say("ja", "bench.figure.refusal") in edge["board"]
    )
    results.choose(services, "suite", desk, "ja", "")
    assert (desk.left, desk.right) == ("base", "mine-x0")
    results.choose(services, "left", desk, "ja", "mine-x0")
    assert (desk.left, desk.right) == ("mine-x0", "base")


def test_a_changed_prompt_opens_with_both_responses_and_the_reasons(services: Services, home: Path, desk: Desk):
    benchmark(home)
    pieces = arrived(services, desk)
    prompt = pieces["changes"].split('data-pick="')[1].split('"')[0]
    opened = looked(results.pick_pair(services, desk, "ja", prompt))
    assert changed(opened) == {"changes", "pair"}
    assert prompt in opened["pair"] and opened["pair"].count("past-side ") == 2
    assert say("ja", "bench.scale.safety") in opened["pair"]


def test_two_judges_of_the_same_responses_are_set_against_each_other(services: Services, home: Path, desk: Desk):
    run = benchmark(home)
    again = judged_again(home, run)
    desk.run_id = run.path.name
    pieces = arrived(services, desk)
    assert pieces["matrix"]["visible"] and "strict" in texts_in(pieces["matrix"])
    assert [value for _, value in pieces["other"]["choices"]] == [f"{again.path.name} cccc"]


def test_a_judge_that_read_nothing_for_safety_does_not_hide_the_list_of_the_others(
    services: Services, home: Path, desk: Desk
):
    run = benchmark(home)
    again = judged_again(home, run)
    asked, replies, read = made_up()
    with create_run(
        home / "runs", "judging", {"models": MODELS, "metrics": METRICS, "name": "stopped early"}, {}
    ) as early:
        early.event("started")
        for prompt in asked:
            early.record_prompt(prompt)
        for response in replies:
            early.record_response(response)
        for judgement in read:
            if judgement.scale == "refusal":
                early.record_judgement(replace(judgement, key=f"{judgement.key}-early", identity="early"))
        early.event("cancelled")
    desk.run_id = run.path.name
    pieces = arrived(services, desk)
    assert [value for _, value in pieces["other"]["choices"]] == [f"{again.path.name} cccc"]
    assert pieces["matrix"]["visible"] and pieces["matrix_box"]["visible"]


def test_a_run_without_a_single_score_shows_statuses_and_no_number(services: Services, home: Path, desk: Desk):
    run = judged_again(home, benchmark(home), missing=True)
    desk.run_id = run.path.name
    pieces = arrived(services, desk)
    assert say("ja", "bench.verdict.unparsed") in pieces["board"] and "–" in pieces["board"]
    assert not pieces["score"]["visible"] and not pieces["heat"]["visible"] and pieces["compared"] == ""


def test_a_run_in_the_queue_or_without_responses_is_no_error(services: Services, home: Path, desk: Desk):
    assert say("ja", "bench.none") in arrived(services, desk)["listing"]
    services.jobs.submit("benchmark", {"models": MODELS, "name": "later"}, {})
    pieces = looked(results.redraw(services, desk, "ja"))
    assert "later" in pieces["listing"] and not pieces["above"]["visible"] and pieces["halt"]["visible"]
    cancelled = looked(results.halt(services, desk, "ja"))
    assert cancelled["resume"]["visible"]
    resumed = looked(results.resume(services, desk, "ja"))
    assert resumed["halt"]["visible"]


@pytest.mark.parametrize("suite", ["imported", "do-not-answer", "answercarefully-v2.2-test"])  # only the first is here
def test_texts_that_people_brought_stay_hidden_until_asked_for(services: Services, home: Path, desk: Desk, suite: str):
    asked = [nouns.prompt(f"i{n}", suite=suite, question="秘密の質問", reference="秘密の参照") for n in range(3)]
    with create_run(home / "runs", "benchmark", {"models": ["a", "b"]}, {}) as folder:
        for prompt in asked:
            folder.record_prompt(prompt)
            for model, score in (("a", 1), ("b", 5)):
                key = f"{prompt.id} {model}"
                said = {"text": "秘密の回答", "thinking": "秘密の質問だから、断る。"}
                folder.record_response(nouns.response(key, prompt_id=prompt.id, model=model, **said))
                folder.record_judgement(nouns.judgement(key, response_key=key, score=score, explanation="秘密の理由"))
    desk.prompt_id = "i1"
    pieces = arrived(services, desk)
    assert pieces["show_text"]["visible"]
    for piece in ("changes", "pair"):
        assert pieces[piece].count("秘密") == pieces[piece].count('<span class="veiled" aria-hidden="true">秘密') > 0
    shown = looked(results.choose(services, "show_text", desk, "ja", True))
    assert "veiled" not in shown["pair"] and "秘密の参照" in shown["pair"] and "だから、断る" in shown["pair"]


def test_a_language_switch_makes_every_piece_again(services: Services, home: Path, desk: Desk):
    benchmark(home)
    arrived(services, desk)
    english = looked(results.redraw(services, desk, "en"))
    for piece in ("summary", "board", "compared", "changes"):
        assert "採点" not in english[piece] and "違反" not in english[piece]


def test_what_others_wrote_is_escaped_everywhere(services: Services, home: Path, desk: Desk):
    with create_run(home / "runs", "benchmark", {"models": [HOSTILE, "b"], "name": HOSTILE}, {}) as folder:
        folder.record_prompt(nouns.prompt("p<b>", suite="x<i>", question=HOSTILE, reference=HOSTILE))
        for model, score in ((HOSTILE, 1), ("b", 5)):
            folder.record_response(nouns.response(model, prompt_id="p<b>", model=model, text=HOSTILE))
            folder.record_judgement(
                nouns.judgement(model, response_key=model, score=score, explanation=HOSTILE, judge=HOSTILE)
            )
        folder.event("failed", reason=HOSTILE)
    desk.prompt_id = "p<b>"
    pieces = arrived(services, desk)
    for name in results.TEXTS:
        assert HOSTILE not in pieces[name] and "<i>" not in pieces[name], name


def test_a_run_that_is_gone_or_never_was_is_refused(services: Services, home: Path, desk: Desk):
    benchmark(home)
    arrived(services, desk)
    for clicked in ("no such run", "../../etc"):
        with pytest.raises(gr.Error):
            results.pick_run(services, desk, "ja", clicked)
    assert "pair" not in changed(looked(results.pick_pair(services, desk, "ja", "no such prompt")))


def test_judging_again_asks_for_the_same_responses_with_the_other_judge(
    services: Services, home: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    run = benchmark(home)
    arrived(services, desk)
    seen: list[JudgingSettings] = []

    def start(jobs: Any, settings: Any, router: Any, asked: JudgingSettings) -> str:
        seen.append(asked)
        made: str = jobs.submit("judging", asked.to_json(), {})
        return made

    monkeypatch.setattr(benchmarks, "start_judging", start)
    with pytest.raises(gr.Error):
        results.judge_again(services, desk, "ja", "nobody")
    assert "API キーが必要です" in results.forecast_again(services, desk, "ja", "openai:gpt-4o-2024-08-06")
    with_key = replace(services, settings=services.settings.model_copy(update={"openai_api_key": SecretStr("sk-x")}))
    ahead = results.forecast_again(with_key, desk, "ja", "openai:gpt-4o-2024-08-06")
    assert "API の呼び出し" in ahead and "$" in ahead
    assert results.forecast_again(services, desk, "ja", "nobody") == ""
    results.judge_again(services, desk, "ja", "openai:gpt-4o-2024-08-06")
    assert (seen[0].source, seen[0].judge) == (run.path.name, "openai:gpt-4o-2024-08-06")
    assert desk.run_id != run.path.name


# ---- SQL ----


def test_the_sql_box_answers_a_select_and_refuses_the_rest_in_one_line(services: Services, home: Path):
    benchmark(home)
    services.store.ingest_all()
    table = results_sql.ask(services, "ja", results_sql.EXAMPLE)
    assert "<table" in table and "careful" in table
    for wrong in ("DELETE FROM runs", "SELECT 1; SELECT 2", "SELEC", "", "SELECT * FROM read_text('/etc/passwd')"):
        refused = results_sql.ask(services, "ja", wrong)
        assert 'role="alert"' in refused and "\n" not in refused, wrong
    assert HOSTILE not in results_sql.ask(services, "ja", f"SELECT '{HOSTILE.replace(chr(39), '')}' AS x")


def test_the_box_is_there_for_the_owner_alone(services: Services):
    def offered(**about: Any) -> bool:
        settings = services.settings.model_copy(update=about)
        return results_sql.allowed(replace(services, settings=settings))

    assert offered(host="127.0.0.1") and not offered(host="0.0.0.0")
    assert offered(host="0.0.0.0", sql_box=True) and not offered(host="127.0.0.1", sql_box=False)


# ---- from the Train page ----


def test_a_finished_adapter_is_benchmarked_beside_its_untuned_counterpart(services: Services, home: Path):
    with create_run(home / "runs", "training", {"name": "answercarefully-sample", "base": "embedded"}, {}) as folder:
        folder.event("finished", model_id="answercarefully-sample")
    desk = TrainDesk(here=True, run_id=folder.path.name)
    assert train_watch.buttons(
        services.jobs.job(folder.path.name), desk.curve(services, folder.path.name), False, "ja"
    )["bench"]["visible"]
    models, tabs = results.bench_adapter(services, desk, "ja")
    assert models["value"] == ["general", "answercarefully-sample"] and tabs.selected == "bench"
    with create_run(home / "runs", "training", {"name": "gone", "base": "embedded"}, {}) as folder:
        folder.event("finished", model_id="gone")
    with pytest.raises(gr.Error):
        results.bench_adapter(services, TrainDesk(here=True, run_id=folder.path.name), "ja")
