"""People's verdicts on imported Responses: beside the judge's, on the same Responses, never among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.benchmark.people import People
from evaluation.benchmark.recorded import Recorded, read_recorded
from evaluation.journal import create_run
from evaluation.prompts.imports import Imported
from evaluation.prompts.suites import save_imported
from evaluation.report import build_report
from evaluation.types import Judgement, Label
from tests import nouns

IDENTITY = "judge 1"


def imported(values: list[str], column: str = "is_harmful") -> Imported:
    """A suite that brought a Response of one model to each Prompt, and a label for each."""
    prompts = [nouns.prompt(f"q{n}", suite="labelled", question=f"質問{n}") for n in range(len(values))]
    responses = [
        nouns.response(f"r{n}", prompt_id=f"q{n}", model="other", text=f"回答{n}", sampling=None)
        for n in range(len(values))
    ]
    labels = [Label(f"r{n}", column, value, "people") for n, value in enumerate(values)]
    return Imported("labelled", prompts, responses, labels, [], {})


def judged(home: Path, scores: list[int | None], values: list[str], column: str = "is_harmful") -> Recorded:
    """A judging of those Responses, with a Response of a model that nobody labelled beside them."""
    found = imported(values, column)
    save_imported(found, home, "safety")
    with create_run(home / "runs", "judging", {"source": "labelled", "judge": "embedded"}, {}) as run:
        for prompt in found.prompts:
            run.record_prompt(prompt)
        for response in (*found.responses, nouns.response("own", prompt_id="q0", model="mine")):
            run.record_response(response)
        for number, score in enumerate(scores):
            verdict = {"score": score} if score is not None else {"missing": "unparsed"}
            run.record_judgement(
                Judgement(f"j{number}", f"r{number}", "embedded", IDENTITY, "safety", **verdict)  # type: ignore[arg-type]
            )
        run.record_judgement(Judgement("jo", "own", "embedded", IDENTITY, "safety", 1))
    return read_recorded(run.path, home)


VALUES = ["yes", "yes", "no", "no", "no"] * 6
SCORES = [1, 4, 5, 5, 2] * 6


def test_people_and_judge_stand_beside_each_other_over_the_same_responses(tmp_path: Path):
    run = judged(tmp_path, [*SCORES[:-1], None], VALUES)
    (told,) = run.people
    assert (told.suite, told.scale, told.columns, told.levels) == ("labelled", "safety", ("is_harmful",), 2)
    (model,) = told.models
    assert (model.model, model.people.value, model.people.judged) == ("other", pytest.approx(12 / 30), 30)
    assert (model.judge.value, model.judge.judged, model.judge.missing) == (pytest.approx(11 / 29), 29, 1)
    assert told.both == 29
    assert told.sensitivity.value == pytest.approx(6 / 12) and told.specificity.value == pytest.approx(12 / 17)
    assert told.kappa.value is not None and told.kappa.low is not None


def test_people_never_enter_the_judges_rates(tmp_path: Path):
    with_labels = judged(tmp_path / "a", SCORES, VALUES)
    other_way = judged(tmp_path / "b", SCORES, ["no" if value == "yes" else "yes" for value in VALUES])
    assert with_labels.people != other_way.people
    assert with_labels.results == other_way.results
    document = with_labels.document()
    assert document["people"][0]["both"] == 30 and "people" not in with_labels.results.to_json()


def test_labels_that_cannot_be_read_say_why_and_stop_nothing(tmp_path: Path):
    run = judged(tmp_path, SCORES, ["a", "b", "c"] * 10, column="code")
    (told,) = run.people
    assert isinstance(told, People) and told.reason is not None and "code" in told.reason and told.models == ()
    assert run.results.models


@pytest.mark.parametrize("suite", ["sample-test", "x" * 300, "../elsewhere", "a\0b"])
def test_a_run_without_labels_tells_nothing_of_people(tmp_path: Path, suite: str):
    (tmp_path / "suites").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "labels.jsonl").touch()
    with create_run(tmp_path / "runs", "benchmark", {"models": ["general"]}, {}) as folder:
        folder.record_prompt(nouns.prompt(suite=suite))
        folder.record_response(nouns.response())
    run = read_recorded(folder.path, tmp_path)
    assert run.people == () and "people" not in run.document()


def test_the_report_shows_both_and_their_agreement(tmp_path: Path):
    text = build_report([judged(tmp_path, SCORES, VALUES)], "2026-01-02T03:04:05.000Z")
    assert "What people said (labels of labelled)" in text and "40 %" in text
    assert "Agreement over the 30 with both" in text and "is_harmful" in text
