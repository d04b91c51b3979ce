"""Scores that a judge gave elsewhere: how rows find their Responses, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.errors import ImportRejected
from evaluation.judge.imported_scores import ImportedScores, read_scores
from evaluation.judge.protocol import Exchange
from evaluation.records import encode_record
from evaluation.types import Prompt, Response
from tests.nouns import judgement


def exchange(n: int, prompt: str = "", model: str = "m") -> Exchange:
    asked = Prompt(prompt or f"p{n}", f"質問{n}")
    return Exchange(asked, Response(f"r{n}", asked.id, model, "i", f"答え{n}", "stop", asked.messages()))


def scores(tmp_path: Path, text: str, name: str = "gpt.csv", **options: str) -> ImportedScores:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_scores(tmp_path / name, "safety", **options)  # type: ignore[arg-type]


def given(judge: ImportedScores, *exchanges: Exchange) -> list[int | str | None]:
    return [j.score if j.score is not None else j.missing for j in judge.judge(exchanges)]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("response_key,score\nr1,4\nr0,2\n", id="response_key"),
        pytest.param("id,score\np1,4\np0,2\n", id="id of the question"),
        pytest.param("id,model,score\np1,m,4\np0,other,5\np0,m,2\n", id="id and model"),
        pytest.param("question,response,score\n質問1,答え1,4\n質問0, 答え0 ,2\n", id="question and response"),
    ],
)
def test_rows_find_their_responses_in_any_order(tmp_path: Path, text: str):
    assert given(scores(tmp_path, text), exchange(0), exchange(1)) == [2, 4]


def test_whole_numbers_as_ids_are_found_as_the_import_filed_them(tmp_path: Path):
    lines = '{"id": 1.0, "score": 4}\n{"id": 0, "score": 2}\n'
    assert given(scores(tmp_path, lines, "gpt.jsonl"), exchange(0, "0"), exchange(1, "1")) == [2, 4]


def test_what_has_no_row_was_not_judged(tmp_path: Path):
    judge = scores(tmp_path, "response_key,score\nr0,2\n")
    assert given(judge, exchange(0), exchange(1)) == [2, "not_run"]
    assert judge.covers([exchange(0), exchange(1)]) == 1


def test_a_blank_a_word_and_a_stated_reason_are_missing_verdicts(tmp_path: Path):
    text = "response_key,score,missing\nr0,,\nr1,N/A,\nr2,,judge_refused\nr3,5.0,\nr4,４,\n"
    assert given(scores(tmp_path, text), *map(exchange, range(5))) == ["not_run", "unparsed", "judge_refused", 5, 4]


def test_a_runs_judgements_can_be_read_and_those_on_the_other_scale_are_left_out(tmp_path: Path):
    lines = [
        judgement("j0", response_key="r0", score=2, explanation="理由"),
        judgement("j1", response_key="r1", missing="unreachable"),
        judgement("j2", response_key="r0", scale="refusal", score=3),
    ]
    (tmp_path / "judgements.jsonl").write_bytes(b"".join(encode_record("judgements", line) for line in lines))
    judge = read_scores(tmp_path / "judgements.jsonl", "safety")
    assert (judge.id, given(judge, exchange(0), exchange(1))) == ("embedded", [2, "unreachable"])
    assert judge.judge([exchange(0)])[0].explanation == "理由"


def test_the_judge_is_named_after_the_file_unless_one_judge_is_named_in_it(tmp_path: Path):
    assert scores(tmp_path, "id,score\np0,1\n").id == "scores:gpt"
    assert scores(tmp_path, "id,score,judge\np0,1,gpt-x\np1,2,gpt-x\n").id == "gpt-x"
    assert scores(tmp_path, "id,score,judge\np0,1,gpt-x\np1,2,gpt-y\n").id == "scores:gpt"


def test_the_identity_is_that_of_the_verdicts(tmp_path: Path):
    first = scores(tmp_path, "id,score\np0,1\np1,2\n").identity
    assert first == scores(tmp_path, "id,score\np1,2\np0,1\n").identity
    assert first != scores(tmp_path, "id,score\np0,1\np1,3\n").identity


def test_the_score_column_can_be_named(tmp_path: Path):
    text = "id,score,other\np0,1,5\n"
    assert given(scores(tmp_path, text, column="other"), exchange(0)) == [5]
    with pytest.raises(ImportRejected, match=r"--score-column: id, score, other"):
        scores(tmp_path, text, column="nothing")


def test_a_judges_own_column_is_taken_before_the_labels_of_one_file(tmp_path: Path):
    assert given(scores(tmp_path, "id,score,judge_score\np0,1,5\n"), exchange(0)) == [5]


def test_every_verdict_is_reported_as_it_comes(tmp_path: Path):
    seen: list[int | None] = []
    judge = scores(tmp_path, "id,score\np0,1\np1,2\n")
    judge.judge([exchange(0), exchange(1)], on_done=lambda j: seen.append(j.score))
    assert seen == [1, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("id,score\np0,7\n", "score 7 is not on the safety scale", id="off the scale"),
        pytest.param("id,score\np0,3.5\n", "3.5 is not a whole number", id="half a point"),
        pytest.param("id,score\np0,1\np0,2\n", "second, different score", id="two scores for one"),
        pytest.param("score\n3\n", "cannot be told apart", id="no way to find them"),
        pytest.param("id,remark\np0,x\n", "no column holds the scores", id="no scores"),
    ],
)
def test_scores_that_cannot_be_used_are_refused_in_one_line(tmp_path: Path, text: str, words: str):
    with pytest.raises(ImportRejected, match=words) as refused:
        scores(tmp_path, text).judge([exchange(0)])
    assert "\n" not in str(refused.value)


def test_a_score_that_fits_two_responses_is_refused_rather_than_given_to_both(tmp_path: Path):
    judge = scores(tmp_path, "id,score\np0,1\n")
    with pytest.raises(ImportRejected, match="add a response_key column"):
        judge.judge([exchange(0), exchange(1, prompt="p0")])


def test_scores_of_other_responses_are_refused_before_anything_is_compared(tmp_path: Path):
    with pytest.raises(ImportRejected, match=r"none of its 1 scores .* found by id"):
        scores(tmp_path, "id,score\nelsewhere,1\n").covers([exchange(0)])


def test_json_lines_are_read_too(tmp_path: Path):
    text = "\n".join(json.dumps({"response_key": f"r{n}", "score": n + 1}) for n in range(3))
    assert given(scores(tmp_path, text, name="gpt.jsonl"), *map(exchange, range(3))) == [1, 2, 3]
