"""bench and judge on the command line: two models and a judge behind one local endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from evaluation.journal import last_event, read_run, run_status
from tests.openai_server import OpenAIServer, status
from tests.playground.calling import refused

MODELS = ("openai:left", "openai:right")
ROWS = 12


def reply(body: dict[str, Any]) -> str:
    """A judge's verdict for the model `judge`; `right` is the safer one."""
    if body["model"] != "judge":
        return f"{body['model']}の答え"
    data = body["messages"][1]["content"]
    return json.dumps({"explanation": "理由", "score": 4 if "right" in data else 2})


@pytest.fixture
def server(home, monkeypatch) -> Iterator[OpenAIServer]:
    with OpenAIServer(reply=reply) as opened:
        monkeypatch.setenv("PLAYGROUND_OPENAI_BASE_URL", opened.url)
        monkeypatch.setenv("PLAYGROUND_OPENAI_MODELS", "left,right")
        yield opened


@pytest.fixture
def suite(call, tmp_path) -> str:
    rows = tmp_path / "rows.jsonl"
    lines = [json.dumps({"question": f"問{n}", "reference": f"参照{n}"}, ensure_ascii=False) for n in range(ROWS)]
    rows.write_text("\n".join(lines), encoding="utf-8")
    assert call("data", "import", str(rows), "--as", "mine").status == 0
    return "mine"


@pytest.fixture
def bench(call, server, suite):
    def run(*options: str):
        return call("bench", "--suite", suite, "--models", ",".join(MODELS), "--judge", "openai:judge", *options)

    return run


def test_json_is_the_documented_shape_and_nothing_else(bench, home):
    document = bench("--json").document
    assert {"run_id", "suite", "models", "comparisons", "status", "totals"} <= set(document)
    assert (document["suite"], document["status"]) == ("mine", "finished")
    left, right = (document["models"][model] for model in MODELS)
    assert (left["violation_rate"]["value"], right["violation_rate"]["value"]) == (1.0, 0.0)
    assert set(left["violation_rate"]) == {"value", "low", "high", "judged", "missing"}
    assert left["violation_rate"]["judged"] == ROWS
    [comparison] = document["comparisons"]
    assert (comparison["left"], comparison["right"], comparison["pairs"]) == (*MODELS, ROWS)
    assert comparison["violation"]["p_value"] < 0.01
    assert document["totals"]["answered"] == 2 * ROWS
    run = home / "runs" / document["run_id"]
    info = read_run(run)
    assert (info.kind, info.settings["models"], info.seed) == ("benchmark", list(MODELS), 0)
    assert set(info.identities) == {*MODELS, "judge"}
    assert info.identities["judge"]["id"] == "openai:judge"
    started = last_event(run / "events.jsonl", ("started",))
    assert "bench --suite mine --models openai:left,openai:right --judge openai:judge" in started.data["command"]


def test_people_see_a_table_and_the_sentence(bench):
    said = bench()
    assert said.status == 0
    assert "violation rate" in said.out
    assert "100.0 %" in said.out and "n=12" in said.out
    assert "finished" in said.out
    assert "answering: " in said.err or "judging: " in said.err


def test_a_limit_and_attempts_are_kept(bench, server):
    document = bench("--limit", "3", "--attempts", "2", "--json").document
    assert document["totals"]["answered"] == 3 * 2 * 2
    asked = [r.body for r in server.requests if r.body["model"] != "judge"]
    assert {body["seed"] for body in asked} == {0, 1}


def test_a_second_run_takes_over_what_the_first_made_and_a_fresh_one_does_not(bench, server):
    bench()
    before = len(server.requests)
    assert bench("--json").document["totals"]["reused"] == 4 * ROWS
    assert len(server.requests) == before
    assert bench("--fresh", "--json").document["totals"]["reused"] == 0
    assert len(server.requests) == 2 * before


def test_a_server_that_is_gone_fails_the_run_and_resume_goes_on(bench, call, home, server):
    server.behaviours += [status(400, message="no such thing")] * 30
    said = bench()
    assert said.status == 1
    assert "times in a row" in said.err
    [run] = [path for path in (home / "runs").iterdir() if not path.name.startswith(".")]
    assert run_status(run) == "failed"
    server.behaviours.clear()
    document = call("runs", "resume", run.name, "--json").document
    assert (document["status"], document["totals"]["answered"]) == ("finished", 2 * ROWS)
    assert run_status(run) == "finished"


def test_responses_are_judged_again_by_another_judge(bench, call, server):
    run = bench("--json").document["run_id"]
    answered = sum(request.body["model"] != "judge" for request in server.requests)
    again = ("judge", run, "--judge", "openai:judge", "--without-reference", "--json")
    asked = len(server.requests)
    ahead = call(*again, "--forecast").document
    assert (ahead["responses"], ahead["verdicts"], ahead["calls"]) == (0, 2 * ROWS, 2 * ROWS)
    assert call("judge", run, "--judge", "openai:judge", "--json", "--forecast").document["calls"] == 0, "all read"
    assert len(server.requests) == asked
    document = call(*again).document
    assert document["models"][MODELS[0]]["violation_rate"]["value"] == 1.0
    assert document["run_id"] != run
    assert sum(request.body["model"] != "judge" for request in server.requests) == answered
    blind = [r.body["messages"][1]["content"] for r in server.requests if r.body["model"] == "judge"][-2 * ROWS :]
    assert not any("参照" in data for data in blind)


def test_a_file_of_responses_is_judged_and_kept_with_its_labels(call, server, home, tmp_path):
    rows = [{"question": f"問{n}", "response": f"rightの答え{n}", "label": "safe"} for n in range(5)]
    file = tmp_path / "My Answers.jsonl"
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    said = call("judge", str(file), "--judge", "openai:judge", "--json")
    assert said.status == 0, said.err
    document = said.document
    [figures] = document["models"].values()
    assert (figures["mean_score"]["value"], figures["mean_score"]["judged"]) == (4.0, 5)
    assert read_run(home / "runs" / document["run_id"]).settings["source"] == "my-answers"
    assert len((home / "suites" / "my-answers" / "labels.jsonl").read_text().splitlines()) == 5


def test_a_run_that_nobody_could_judge_ends_with_1_after_its_numbers(bench, server):
    server.reply = lambda body: "読めません" if body["model"] == "judge" else "答え"
    said = bench("--limit", "2", "--json")
    assert said.status == 1
    figures = said.document["models"][MODELS[0]]["violation_rate"]
    assert (figures["value"], figures["judged"], figures["missing"]) == (None, 0, 2)
    assert "No response was scored" in said.err


def test_a_forecast_counts_calls_and_asks_nothing(bench, server):
    document = bench("--forecast", "--json").document
    assert (document["prompts"], document["responses"], document["verdicts"]) == (ROWS, 2 * ROWS, 2 * ROWS)
    assert (document["calls"], document["cost_usd"], document["seconds"]) == (4 * ROWS, None, None)
    assert server.requests == []
    bench()
    assert bench("--forecast", "--json").document["calls"] == 0


def test_a_run_can_be_left_to_the_queue(bench, home):
    document = bench("--queue", "--json").document
    assert document["status"] == "queued"
    assert run_status(home / "runs" / document["run_id"]) == "queued"


def test_without_a_judge_there_are_responses_only(call, server, suite):
    document = call("bench", "--suite", suite, "--models", MODELS[0], "--no-judge", "--json").document
    assert (document["totals"]["answered"], document["totals"]["verdicts"]) == (ROWS, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--suite", "none"], ["suite", "none"]),
        (["--models", "openai:left,nobody"], ["no model nobody"]),
        (["--models", "openai:left,openai:left"], ["each once"]),
        (["--judge", "gpt"], ["no judge gpt", "openai:MODEL"]),
        (["--limit", "0"], ["limit is 0"]),
        (["--attempts", "0"], ["attempts is 0"]),
        (["--attempts", "2", "--temperature", "0"], ["temperature 0"]),
        (["--temperature", "3"], ["temperature is 3"]),
        (["--spend-cap", "-1"], ["spend_cap_usd is -1"]),
        (["--spend-cap", "1"], ["price", "openai:left"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_call_is_one_line_and_2(bench, options, words):
    said = bench(*options)
    said.err = "\n".join(line for line in said.err.splitlines() if not line.startswith("opening"))
    refused(said, 2, *words)


@pytest.mark.parametrize("source", ["nothing", "sample-test", "../.."])
def test_a_source_without_responses_is_refused(call, server, source):
    refused(call("judge", source, "--judge", "openai:judge"), 2, source)
