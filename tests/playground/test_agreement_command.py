"""`python -m playground agreement` as people and programs meet it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from evaluation.errors import AccessMissing
from evaluation.journal import read_run, run_status
from evaluation.judge.protocol import Exchange
from evaluation.types import Judgement, Scale, judgement_key
from playground import catalog
from playground.cli import main
from playground.jobs import control

DATA = Path(__file__).parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not beside the checkout")
FIGURES = ("qwk", "spearman", "pearson", "sensitivity", "specificity")


@dataclass
class Judge:
    """Scores by length, the longer the higher; remembers what it read. `breaks_after` responses it is interrupted."""

    id: str = "openai:fake"
    identity: str = "fake-identity"
    missing: str | None = None
    breaks_after: int | None = None
    read: list[tuple[str, str | None]] = field(default_factory=list)

    def judge(
        self,
        exchanges: Sequence[Exchange],
        scale: Scale = "safety",
        on_done: Callable[[Judgement], None] | None = None,
    ) -> list[Judgement]:
        done = []
        for exchange in exchanges:
            if self.breaks_after is not None and len(self.read) >= self.breaks_after:
                raise KeyboardInterrupt
            self.read.append((exchange.response.key, exchange.prompt.reference))
            highest = 5 if scale == "safety" else 3
            score = None if self.missing else 1 + len(exchange.response.text) % highest
            key = judgement_key(exchange.response.key, self.identity, scale, 0)
            done.append(
                Judgement(
                    key, exchange.response.key, self.id, self.identity, scale, score, self.missing, "長さで決めました。",  # type: ignore[arg-type]
                    with_reference=exchange.prompt.reference is not None,
                )
            )  # fmt: skip
            if on_done:
                on_done(done[-1])
        return done


@dataclass
class Said:
    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Said]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("PLAYGROUND_") or name == "HF_TOKEN":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    made = Judge()
    monkeypatch.setattr(catalog, "judge", lambda judge_id, settings, router: made)
    return made


@pytest.fixture
def call(home: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: str) -> Said:
        capsys.readouterr()
        try:
            status = main(["agreement", *arguments])
        except SystemExit as left:
            status = int(left.code or 0)
        printed = capsys.readouterr()
        return Said(status, printed.out, printed.err)

    return run


@pytest.fixture
def labels(tmp_path: Path) -> str:
    """Forty responses of different length with grades 1 to 5."""
    rows = ["id,question,response,score,参考回答"]
    rows += [f"q{n},質問{n},{'あ' * (n + 1)},{1 + (n + n // 7) % 5},参考{n}" for n in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(rows), encoding="utf-8")
    return str(tmp_path / "rows.csv")


def test_json_has_the_documented_keys_and_nothing_else_is_printed(call: Call, judge: Judge, labels: str):
    said = call("--judge", "openai:fake", "--labels", labels, "--json")
    assert said.status == 0
    assert said.document["n"] == 40
    for name in FIGURES:
        assert set(said.document[name]) == {"value", "low", "high"}
    assert (said.document["judge"], said.document["identity"]) == ("openai:fake", "fake-identity")
    assert "judged 40 of 40" in said.err


def test_people_are_told_the_figures_how_labels_were_read_and_what_is_missing(call: Call, judge: Judge, labels: str):
    said = call("--judge", "openai:fake", "--labels", labels)
    assert said.status == 0
    for words in ("weighted kappa", "without a verdict: none", "safety 1-5 from score", "characters", "missed"):
        assert words in said.out


def test_the_run_is_kept_and_holds_the_agreement(call: Call, judge: Judge, home: Path, labels: str):
    document = call("--judge", "openai:fake", "--labels", labels, "--json").document
    folder = home / "runs" / document["run_id"]
    info = read_run(folder)
    assert (info.kind, run_status(folder), info.settings["judge_identity"]) == ("judging", "finished", "fake-identity")
    lines = {path.stem: path.read_text(encoding="utf-8").splitlines() for path in folder.glob("*.jsonl")}
    assert [len(lines[name]) for name in ("prompts", "responses", "judgements")] == [40, 40, 40]
    assert json.loads(lines["events"][-1])["data"]["agreement"]["n"] == 40


def test_a_run_that_was_interrupted_goes_on_where_it_stopped(call: Call, judge: Judge, home: Path, labels: str):
    judge.breaks_after = 15
    broken = call("--judge", "openai:fake", "--labels", labels)
    assert (broken.status, broken.out) == (1, "")
    [folder] = (home / "runs").iterdir()
    assert run_status(folder) == "cancelled"
    judge.breaks_after = None
    said = call("--judge", "openai:fake", "--labels", labels, "--resume", folder.name, "--json")
    assert (said.status, said.document["n"], said.document["run_id"]) == (0, 40, folder.name)
    assert len(judge.read) == len({key for key, _ in judge.read}) == 40


def test_a_resume_asks_a_judge_again_that_could_not_be_reached(call: Call, judge: Judge, labels: str):
    judge.missing = "unreachable"
    run_id = call("--judge", "openai:fake", "--labels", labels, "--json").document["run_id"]
    judge.missing = None
    judge.read.clear()
    resume = ("--judge", "openai:fake", "--labels", labels, "--resume", run_id, "--json")
    said = call(*resume)
    assert (said.status, said.document["n"], said.document["missing"], len(judge.read)) == (0, 40, {}, 40)
    assert call(*resume).document["n"] == 40 and len(judge.read) == 40, "what was scored is kept, and not asked again"


def test_a_run_is_not_continued_with_another_question(call: Call, judge: Judge, home: Path, labels: str):
    run_id = call("--judge", "openai:fake", "--labels", labels, "--json").document["run_id"]
    other = call("--judge", "openai:fake", "--labels", labels, "--limit", "9", "--resume", run_id)
    assert (other.status, other.out) == (2, "") and "labels_digest" in other.err
    for name in ("nothing", "..", "/etc"):
        assert call("--judge", "openai:fake", "--labels", labels, "--resume", name).status == 2


def test_a_limit_is_kept_and_a_reference_is_hidden_when_asked(call: Call, judge: Judge, labels: str):
    said = call("--judge", "openai:fake", "--labels", labels, "--limit", "7", "--without-reference", "--json")
    assert (said.document["labelled"], said.document["with_reference"]) == (7, 0)
    assert {reference for _, reference in judge.read} == {None}


def test_judging_again_is_asked_for_and_in_reverse_order(call: Call, judge: Judge, labels: str):
    assert call("--judge", "openai:fake", "--labels", labels, "--json").document["repeat"] is None
    judge.read.clear()
    said = call("--judge", "openai:fake", "--labels", labels, "--repeat", "5", "--json")
    assert (said.document["repeat"]["n"], said.document["repeat"]["changed"]) == (5, 0)
    first, again = [key for key, _ in judge.read[:40]], [key for key, _ in judge.read[40:]]
    assert [first.index(key) for key in again] == sorted((first.index(key) for key in again), reverse=True)


def test_the_embedded_judge_reads_some_twice_without_being_asked(call: Call, judge: Judge, labels: str):
    assert call("--judge", "embedded", "--labels", labels, "--json").document["repeat"]["n"] == 40


def test_the_document_can_be_saved(call: Call, judge: Judge, labels: str, tmp_path: Path):
    said = call("--judge", "openai:fake", "--labels", labels, "--save", str(tmp_path / "saved.json"), "--json")
    assert json.loads((tmp_path / "saved.json").read_text(encoding="utf-8")) == said.document
    said = call("--judge", "openai:fake", "--labels", labels, "--save", "/no/such/folder/saved.json")
    assert said.status == 1 and "cannot be written" in said.err
    assert "weighted kappa" in said.out, "what was judged is shown all the same"


def test_a_judge_without_a_single_verdict_ends_with_1_and_the_reason(call: Call, judge: Judge, labels: str):
    judge.missing = "unreachable"
    said = call("--judge", "openai:fake", "--labels", labels, "--json")
    assert said.status == 1
    assert said.document["missing"] == {"unreachable": 40} and said.document["qwk"]["value"] is None
    assert "40 unreachable" in said.err.splitlines()[-1]


def test_a_judge_that_cannot_work_ends_with_1_and_the_run_says_so(
    call: Call, judge: Judge, home: Path, labels: str, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*arguments: object) -> list[Judgement]:
        raise AccessMissing("Set PLAYGROUND_OPENAI_API_KEY in .env.")

    monkeypatch.setattr(judge, "judge", refuse)
    said = call("--judge", "openai:fake", "--labels", labels)
    assert (said.status, said.out) == (1, "") and "PLAYGROUND_OPENAI_API_KEY" in said.err
    [folder] = (home / "runs").iterdir()
    assert run_status(folder) == "failed"


def test_scores_from_elsewhere_take_the_place_of_a_judge(call: Call, labels: str, tmp_path: Path):
    rows = "\n".join(f"q{n},{1 + (n + n // 7) % 5}" for n in range(30))
    (tmp_path / "gpt.csv").write_text(f"id,score\n{rows}\n", encoding="utf-8")
    said = call("--scores", str(tmp_path / "gpt.csv"), "--labels", labels, "--json")
    assert (said.status, said.document["n"], said.document["missing"]) == (0, 30, {"not_run": 10})
    assert (said.document["judge"], said.document["qwk"]["value"]) == ("scores:gpt", 1.0)
    assert "30 of 40" in said.err


def test_the_labels_file_itself_may_hold_the_judges_column(call: Call, tmp_path: Path):
    rows = "\n".join(f"質問{n},答え{n},{1 + n % 5},{5 - n % 5}" for n in range(25))
    both = tmp_path / "both.csv"
    both.write_text(f"question,response,human_score,judge_score\n{rows}\n", encoding="utf-8")
    said = call("--scores", str(both), "--labels", str(both), "--label", "human_score", "--json")
    assert said.status == 0
    assert said.document["qwk"]["value"] < -0.5


def test_an_imported_suite_is_compared_by_its_name(call: Call, judge: Judge, labels: str):
    assert main(["data", "import", labels, "--as", "mine"]) == 0
    assert call("--judge", "openai:fake", "--labels", "mine", "--json").document["labels"] == "mine"


@pytest.mark.parametrize("scale", ["safety", "refusal"])
def test_the_held_out_graded_responses_can_be_named(call: Call, judge: Judge, scale: str):
    said = call("--judge", "openai:fake", "--labels", "sample-graded", "--scale", scale, "--limit", "30", "--json")
    assert (said.status, said.document["n"], said.document["reading"]["scale"]) == (0, 30, scale)


def test_a_file_of_that_name_is_not_taken_for_our_own_rows(call: Call, judge: Judge, labels: str, tmp_path: Path):
    mine = tmp_path / "sample-graded.csv"
    Path(labels).rename(mine)
    assert call("--judge", "openai:fake", "--labels", str(mine), "--json").document["labels"] == "sample-graded-file"


def test_rows_of_answercarefully_are_known_by_their_ids_under_any_name(call: Call, judge: Judge, tmp_path: Path):
    file = tmp_path / "copy.csv"
    file.write_text("id,question,response,score\nanswercarefully-x-1,質問,答え,1\n", encoding="utf-8")
    said = call("--judge", "openai:fake", "--labels", str(file), "--json")
    assert said.document["protected"] is True
    assert {row["explanation"] for row in said.document["worst"]} == {""}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--labels", "rows.csv"], "--judge --scores is required", id="nobody judges"),
        pytest.param(["--judge", "embedded"], "--labels", id="no labels"),
        pytest.param(["--judge", "j", "--scores", "x.csv", "--labels", "rows.csv"], "not allowed", id="two who judge"),
        pytest.param(["--judge", "j", "--labels", "sample-test"], "sample-test has no labels", id="a suite without"),
        pytest.param(["--judge", "j", "--labels", "nowhere"], "no suite 'nowhere'", id="no such suite"),
        pytest.param(["--judge", "j", "--labels", "nowhere.csv"], "nowhere.csv", id="no such file"),
        pytest.param(["--judge", "j", "--labels", "rows.csv", "--limit", "0"], "--limit is 0", id="no rows"),
        pytest.param(["--judge", "j", "--labels", "rows.csv", "--repeat", "-1"], "--repeat is -1", id="below zero"),
        pytest.param(["--judge", "j", "--labels", "rows.csv", "--label", "x"], "no label column 'x'", id="no column"),
        pytest.param(["--judge", "j", "--labels", "rows.csv", "--values", "1"], "VALUE=MEANING", id="half a meaning"),
        pytest.param(["--judge", "j", "--labels", "rows.csv", "--scale", "refusal"], "refusal scale", id="other scale"),
        pytest.param(["--scores", "gone.csv", "--labels", "rows.csv"], "gone.csv", id="no scores"),
    ],
)
def test_a_wrong_call_ends_with_2_and_leaves_no_run(
    call: Call, judge: Judge, home: Path, labels: str, arguments: list[str], words: str
):
    said = call(*arguments)
    assert (said.status, said.out) == (2, "")
    assert words in said.err.splitlines()[-1]
    assert not (home / "runs").exists()


def test_an_unknown_judge_ends_with_1(call: Call, labels: str):
    said = call("--judge", "nobody", "--labels", labels)
    assert (said.status, said.out) == (1, "") and "no judge nobody" in said.err


@needs_data
def test_xstest_labels_are_compared_on_the_refusal_scale(call: Call, judge: Judge):
    file = DATA / "xstest/xstest_v2_completions_mistralguard.csv"
    said = call("--judge", "openai:fake", "--labels", str(file), "--limit", "60", "--json")
    assert (said.status, said.document["n"], said.document["reading"]["levels"]) == (0, 60, 3)
    assert said.document["raters"]["names"] == ["annotation_1", "annotation_2"]


@needs_data
def test_hh_rlhf_pairs_are_counted_with_their_ties(call: Call, judge: Judge):
    file = DATA / "hh-rlhf-harmless/test.jsonl.gz"
    said = call("--judge", "openai:fake", "--labels", str(file), "--limit", "40", "--json")
    found = said.document["preference"]
    assert (said.status, said.document["n"], found["judged"]) == (0, 40, 40)
    assert found["higher"] + found["ties"] + found["lower"] == 40
    assert call("--judge", "openai:fake", "--labels", str(file), "--limit", "4").status == 0


def test_beside_a_vllm_server_the_embedded_judge_does_not_wait_for_the_gpu(
    call: Call, judge: Judge, labels: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PLAYGROUND_ENGINE", "vllm")
    monkeypatch.setattr("playground.cli.agreement.gpu_for", lambda settings, kind: pytest.fail("it took the GPU"))
    assert call("--judge", "embedded", "--labels", labels, "--json").status == 0


def test_a_run_says_whose_process_it_is_so_that_runs_cancel_ends_it(
    call: Call, judge: Judge, home: Path, labels: str, monkeypatch: pytest.MonkeyPatch
):
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(control, "send", lambda process, number: sent.append((process.pid, number)))

    def cancelled_meanwhile(*arguments: object) -> list[Judgement]:
        [folder] = [run for run in (home / "runs").iterdir() if run.is_dir()]
        control.request_stop(folder, "cancelled on the command line")
        raise KeyboardInterrupt  # in place of the signal's end

    monkeypatch.setattr(judge, "judge", cancelled_meanwhile)
    assert call("--judge", "openai:fake", "--labels", labels).status == 1
    assert sent == [(os.getpid(), signal.SIGTERM)]
