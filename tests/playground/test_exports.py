"""Exports: what comes back is what went in, nothing is replaced, nothing protected leaves, no cell calculates."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from evaluation.benchmark.recorded import Recorded, read_recorded
from evaluation.errors import SettingsRejected
from evaluation.types import response_from_json
from playground.exports import FORMATS, LABELS, TABLES, export, in_csv
from tests.evaluation.benchmark.made import Made, two_models
from tests.evaluation.benchmark.test_people import SCORES, VALUES, judged

FORMULAS = ("=1+1", "+SUM(A1)", "-2+3", "@cmd", "\t=1", " =1", "\r=1", "\n=1", "＝1+1", "'=1", "''+1", "'\t")
ORDINARY = ("ふつうの文です。", "1 = 1", "a-b", "'quoted'", "", "「=」という記号", "'", 'line\nline, "quoted"\r\nend')


def recorded(made: Made, home: Path) -> Recorded:
    return read_recorded(home / "runs" / made.write(home / "runs"), home)


def read_back(folder: Path, table: str, form: str) -> list[dict[str, Any]]:
    """The rows as another program would read them, by the manifest's rules."""
    path, columns = folder / f"{table}.{form}", TABLES[table]
    if form == "jsonl":
        return [json.loads(line) for line in path.read_bytes().splitlines()]
    if form == "parquet":
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    else:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [
                {name: _value(columns[name][0], cell) for name, cell in row.items()} for row in csv.DictReader(file)
            ]
    for row in rows:
        for name, (kind, _) in columns.items():
            if kind == "json" and row[name] is not None:
                row[name] = json.loads(row[name])
    return rows


def _value(kind: str, cell: str) -> Any:
    if kind in ("text", "json"):
        text = re.sub(r"^'('*\s*[=+\-@＝＋－＠]|'*[\t\r\n])", r"\1", cell)
        return text if text or kind == "text" else None
    if not cell:
        return None
    return {"whole": int, "real": float, "flag": lambda c: c == "true"}[kind](cell)


def nulls_as_empty(rows: list[dict[str, Any]], table: str) -> list[dict[str, Any]]:
    text = [name for name, (kind, _) in TABLES[table].items() if kind == "text"]
    return [{**row, **{name: row[name] or "" for name in text}} for row in rows]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("table", TABLES)
def test_what_is_read_back_is_what_was_recorded(tmp_path: Path, form: Any, table: str):
    made = two_models(12)
    texts = (*FORMULAS, *ORDINARY)
    made.responses = [replace(r, text=texts[n % len(texts)]) for n, r in enumerate(made.responses)]
    made.prompts = [replace(p, turns=("二つ目",), extra={"note": "=x", "n": 3}) for p in made.prompts]
    run = recorded(made, tmp_path)
    export([run], tmp_path / "out", form)
    export([run], tmp_path / "plain", "jsonl")
    found, expected = (read_back(tmp_path / name, table, kind) for name, kind in (("out", form), ("plain", "jsonl")))
    if form == "csv":  # which cannot tell null from empty text
        found, expected = nulls_as_empty(found, table), nulls_as_empty(expected, table)
    assert found == expected
    assert len(found) == {"prompts": 12, "responses": 24, "judgements": 24}[table]


def test_responses_can_be_made_again_from_an_export(tmp_path: Path):
    run = recorded(two_models(6), tmp_path)
    export([run], tmp_path / "out", "jsonl")
    rows = read_back(tmp_path / "out", "responses", "jsonl")
    names = run.responses[0].__dataclass_fields__
    assert tuple(response_from_json({name: row[name] for name in names}) for row in rows) == run.responses


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_begins_like_a_formula(text: str):
    assert in_csv(text) == f"'{text}"


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_is_left_as_it_is(text: str):
    assert in_csv(text) == text


def test_every_text_cell_of_a_csv_file_is_neutralised(tmp_path: Path):
    made = two_models(6)
    made.prompts = [replace(p, question="=HYPERLINK(1)", reference="@x") for p in made.prompts]
    made.responses = [replace(r, text="+1", model="-general") for r in made.responses]
    made.judgements = [replace(j, explanation="=1", judge="=judge") for j in made.judgements]
    run = read_recorded(tmp_path / "runs" / _written_raw(made, tmp_path), tmp_path)
    export([run], tmp_path / "out", "csv")
    for table in TABLES:
        with (tmp_path / "out" / f"{table}.csv").open(encoding="utf-8-sig", newline="") as file:
            for cell in (cell for row in csv.reader(file) for cell in row):
                assert not cell.startswith(("=", "+", "-", "@")), (table, cell)


def _written_raw(made: Made, home: Path) -> str:
    general = two_models(1)
    run_id = general.write(home / "runs")
    folder = home / "runs" / run_id
    from evaluation.journal import RunFolder

    with RunFolder.open(folder) as opened:
        for prompt in made.prompts:
            opened.record_prompt(prompt)
        for response in made.responses:
            opened.record_response(replace(response, key=f"x{response.key}"))
        for judgement in made.judgements:
            opened.record_judgement(replace(judgement, key=f"x{judgement.key}"))
    return run_id


def protected(made: Made) -> Made:
    made.prompts = [
        replace(
            p, suite="answercarefully-v2.2-test", question="秘密の質問", reference="秘密の参照", extra={"x": "秘密"}
        )
        for p in made.prompts
    ]
    made.responses = [
        replace(r, text="秘密の回答", messages=(replace(r.messages[0], content="秘密の質問"),), error="秘密")
        for r in made.responses
    ]
    made.judgements = [replace(j, explanation="秘密の理由", raw_text="秘密") for j in made.judgements]
    return made


@pytest.mark.parametrize("form", FORMATS)
def test_texts_of_protected_suites_leave_only_when_asked_for_and_with_the_terms(tmp_path: Path, form: Any):
    run = recorded(protected(two_models(6)), tmp_path)
    manifest = export([run], tmp_path / "closed", form)
    for table in TABLES:
        rows = read_back(tmp_path / "closed", table, form)
        assert "秘密" not in json.dumps(rows, ensure_ascii=False)
        assert all(row["withheld"] for row in rows)
    for path in (tmp_path / "closed").glob("*.json*"):
        assert "秘密" not in path.read_text(encoding="utf-8")
    assert any("withheld" in note for note in manifest["notes"])
    opened = export([run], tmp_path / "open", form, with_text=True)
    (row, *_) = read_back(tmp_path / "open", "prompts", form)
    assert (row["question"], row["withheld"]) == ("秘密の質問", False)
    assert any("may not be passed on" in note for note in opened["notes"])


def test_the_manifest_says_what_the_files_are_and_hashes_them(tmp_path: Path):
    run = recorded(two_models(6), tmp_path)
    export([run], tmp_path / "out", "parquet")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    (about,) = manifest["runs"]
    assert about["run_id"] == run.run_id and about["settings"]["models"] == ["general", "answercarefully-sample"]
    assert about["identities"]["general"]["weights_sha256"] and about["versions"]["python"]
    assert about["judges"]["safety"] == {"id": "embedded", "identity": "identity of embedded"}
    assert about["suites"]["sample-test"] == {"prompts": 6, "metrics": ["safety"], "protected": False}
    assert {file["name"] for file in manifest["files"]} == {
        "prompts.parquet", "responses.parquet", "judgements.parquet", "results.json",
    }  # fmt: skip
    for file in manifest["files"]:
        content = (tmp_path / "out" / file["name"]).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    results = json.loads((tmp_path / "out" / "results.json").read_bytes())
    assert results[run.run_id] == json.loads(json.dumps(run.results.to_json()))


def test_a_folder_with_anything_in_it_is_never_replaced_and_an_empty_one_is_used(tmp_path: Path):
    run = recorded(two_models(3), tmp_path)
    taken = tmp_path / "taken"
    taken.mkdir()
    export([run], taken, "csv")
    before = {path.name: path.read_bytes() for path in taken.iterdir()}
    with pytest.raises(SettingsRejected, match="not replaced"):
        export([run], taken, "csv")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SettingsRejected, match="not replaced"):
        export([run], tmp_path / "file", "csv")
    assert {path.name: path.read_bytes() for path in taken.iterdir()} == before
    assert (tmp_path / "file").read_text() == "mine"
    assert not [*tmp_path.glob(".exporting-*")]


def test_an_export_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = recorded(two_models(3), tmp_path)

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("playground.exports._manifest", broken)
    with pytest.raises(RuntimeError):
        export([run], tmp_path / "out", "csv")
    assert not (tmp_path / "out").exists() and not [*tmp_path.glob(".exporting-*")]


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1, 10**400])
def test_a_number_that_no_column_holds_is_told_in_one_line_and_leaves_nothing(tmp_path: Path, number: int):
    run = recorded(two_models(3), tmp_path)
    run = replace(run, responses=(replace(run.responses[0], tokens=number), *run.responses[1:]))
    with pytest.raises(SettingsRejected, match=r"tokens of .*csv or jsonl") as told:
        export([run], tmp_path / "out", "parquet")
    assert len(str(told.value)) < 200 and not (tmp_path / "out").exists()
    export([run], tmp_path / "out", "jsonl")


def test_labels_of_people_are_a_table_of_their_own(tmp_path: Path):
    run = judged(tmp_path, SCORES, VALUES)
    manifest = export([run], tmp_path / "out", "jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out" / "labels.jsonl").read_bytes().splitlines()]
    assert [*rows[0]] == [*LABELS]
    assert [row["level"] for row in rows] == [1 if value == "yes" else 2 for value in VALUES]
    assert {(row["model"], row["scale"], row["levels"], tuple(row["columns"])) for row in rows} == {
        ("other", "safety", 2, ("is_harmful",))
    }
    assert any(file["name"] == "labels.jsonl" and file["rows"] == 30 for file in manifest["files"])
    export([recorded(two_models(3), tmp_path / "bare")], tmp_path / "without", "csv")
    assert not (tmp_path / "without" / "labels.csv").exists()
