"""compare, report and export as people and programs call them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.journal import create_run
from evaluation.types import judgement_key
from tests.evaluation.benchmark.made import Made, two_models
from tests.playground.calling import Call, refused

PAIR = "general,answercarefully-sample"


def other_judge(made: Made) -> Made:
    """The same responses read by another judge, a point lower where it can be."""
    made.judgements = [
        replace(j, key=judgement_key(j.response_key, "other", "safety", 0), judge="openai:gpt", identity="other",
                score=max(1, (j.score or 1) - 1))
        for j in made.judgements
    ]  # fmt: skip
    return made


def test_comparing_two_runs_gives_the_numbers_of_one_run_with_both_models(home: Path, call: Call):
    runs = home / "runs"
    both = two_models()
    left, right = both.write(runs, models=["general"]), both.write(runs, models=["answercarefully-sample"])
    document = call("compare", left, right, "--json").document
    assert (document["kind"], document["runs"]) == ("models", [left, right])
    expected = both.results({"sample-test": ("safety",)}).to_json()["comparisons"]
    assert document["comparisons"] == json.loads(json.dumps(expected))


def test_a_comparison_is_told_in_words(home: Path, call: Call):
    both = two_models()
    left, right = (both.write(home / "runs", models=[model]) for model in PAIR.split(","))
    said = call("compare", left, right)
    assert said.status == 0
    assert "violation 33 % -> 11 % over 90 pairs; distinguishable from none (exact McNemar, p < 0.001)" in said.out
    assert "80 better: sample-test-3" in said.out and "アダルト" in said.out


def test_models_of_one_name_are_compared_across_runs(home: Path, call: Call):
    runs, changed = home / "runs", two_models()
    changed.judgements = [replace(j, score=5) for j in changed.judgements]
    document = call("compare", two_models().write(runs), changed.write(runs), "--json").document
    assert [(c["left"], c["right"]) for c in document["comparisons"]] == [(m, m) for m in PAIR.split(",")]
    assert document["comparisons"][0]["violation"]["right"] == 0.0


def test_which_models_may_be_said(home: Path, call: Call):
    runs = home / "runs"
    left, right = two_models().write(runs), two_models().write(runs)
    assert len(call("compare", left, right, "--models", PAIR, "--json").document["comparisons"]) == 1
    refused(call("compare", left, right, "--models", "general,nobody"), 2, "general,nobody", left, "a comma")


def test_two_judges_of_the_same_responses_are_compared(home: Path, call: Call):
    runs = home / "runs"
    first = two_models().write(runs)
    second = other_judge(two_models()).write(runs, kind="judging", source=first, judge="openai:gpt")
    document = call("compare", first, second, "--json").document
    (found,) = document["comparisons"]
    assert (document["kind"], found["left"], found["right"]) == ("judges", "embedded", "openai:gpt")
    assert found["both"] == 180 and found["agreement"]["kappa"]["value"] < 1
    said = call("compare", first, second)
    assert "weighted kappa" in said.out and "180 responses are in both runs" in said.err


def test_runs_with_neither_a_judge_nor_a_response_in_common_are_refused(home: Path, call: Call):
    runs, other = home / "runs", other_judge(two_models())
    other.responses = [replace(r, key=f"x{r.key}") for r in other.responses]
    other.judgements = [replace(j, response_key=f"x{j.response_key}") for j in other.judgements]
    said = call("compare", two_models().write(runs), other.write(runs))
    refused(said, 2, "neither a judge nor a response in common", "playground judge")


def test_prompts_and_sampling_that_differ_are_told(home: Path, call: Call):
    runs, other = home / "runs", two_models()
    other.prompts[0] = replace(other.prompts[0], question="別の質問です。")
    other.responses = [replace(r, sampling=replace(r.sampling, temperature=0.0)) for r in other.responses]
    said = call("compare", two_models().write(runs), other.write(runs), "--models", PAIR)
    assert "1 prompts have the same id and other words" in said.err and "sampled differently" in said.err
    assert "over 89 pairs" in said.out


@pytest.mark.parametrize("command", [("compare",), ("report", "--html", "r.html"), ("export", "--out", "x")])
def test_what_is_no_run_of_responses_is_refused_in_one_line(home: Path, call: Call, command: tuple[str, ...]):
    with create_run(home / "runs", "training", {"name": "t"}, {}) as folder:
        training = folder.path.name
    good = two_models(3).write(home / "runs")
    name, *rest = command
    refused(call(name, training, good, *rest), 2, training, "training run")
    refused(call(name, "nobody", good, *rest), 2, "no run nobody")


def test_a_run_compared_with_itself_or_without_a_judgement_is_refused(home: Path, call: Call):
    run = two_models(3).write(home / "runs")
    refused(call("compare", run, run), 2, "named twice")
    silent = Made()
    silent.scored("sample-test", {"general": [None]})
    refused(call("compare", run, silent.write(home / "runs")), 2, "no judgement", "playground judge")


def test_a_report_is_written_once_and_never_replaces_a_file(home: Path, call: Call, tmp_path: Path):
    run, file = two_models(9).write(home / "runs"), tmp_path / "report.html"
    assert call("report", run, "--html", str(file)).status == 0
    written = file.read_bytes()
    assert written.startswith(b"<!DOCTYPE html>") and run.encode() in written
    refused(call("report", run, "--html", str(file)), 2, "not replaced")
    assert file.read_bytes() == written
    refused(call("report", run, "--html", str(tmp_path / "no" / "r.html")), 2, "no folder")


def test_an_export_prints_its_manifest_and_has_a_folder_of_its_own(home: Path, call: Call):
    run = two_models(9).write(home / "runs")
    document = call("export", run, run, "--json").document
    assert document["folder"] == f"export-{run}" and document["format"] == "parquet"
    assert [about["run_id"] for about in document["runs"]] == [run]
    assert (Path(document["folder"]) / "manifest.json").is_file()
    refused(call("export", run), 2, "not replaced")


def test_asking_for_protected_texts_prints_the_terms(home: Path, call: Call):
    made = two_models(3)
    made.prompts = [replace(p, suite="answercarefully-v2.2-test") for p in made.prompts]
    run = made.write(home / "runs")
    assert "withheld" in call("export", run, "--out", "closed").err
    assert "may not be passed on" in call("export", run, "--out", "open", "--with-text").err
