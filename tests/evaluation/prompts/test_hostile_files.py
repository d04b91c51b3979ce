"""Small files that would grow when they are read, and shapes that no maker of a set would write."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from evaluation.errors import ImportRejected
from evaluation.prompts import tables
from evaluation.prompts.imports import read_prompts
from evaluation.prompts.tables import MAX_CELLS, MAX_COLUMNS, MAX_FILE_BYTES, MAX_ROWS
from tests.evaluation.prompts.files_for_tests import jsonl, text, xlsx


def refused(path: Path) -> str:
    with pytest.raises(ImportRejected) as error:
        read_prompts(path, "set")
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def parquet(path: Path, **columns: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_a_run_of_equal_values_in_parquet_is_counted_as_what_it_unpacks_to(tmp_path: Path):
    """A dictionary and one run: a few kilobytes, and a gigabyte as rows."""
    value = pyarrow.array(["x" * 10_000])
    many = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 100_000, pyarrow.int32()), value)
    bomb = parquet(tmp_path / "bomb.parquet", question=many)
    assert bomb.stat().st_size < 100_000 and MAX_FILE_BYTES < 100_000 * 10_000
    assert "unpacks to more" in refused(bomb)


def test_parquet_of_too_many_rows_is_refused_by_its_own_count(tmp_path: Path):
    assert "unpacks to more" in refused(
        parquet(tmp_path / "long.parquet", question=pyarrow.nulls(MAX_ROWS + 1, pyarrow.string()))
    )


def test_an_ordinary_parquet_is_read_whole_whatever_the_size_of_its_pieces(tmp_path: Path):
    rows = [f"{n}番目の問い" for n in range(25_000)]
    assert [
        prompt.question for prompt in read_prompts(parquet(tmp_path / "a.parquet", question=rows), "set").prompts
    ] == rows


def with_sheet(path: Path, old: bytes, new: bytes) -> Path:
    """A workbook whose first sheet says something else than was written."""
    made = xlsx(path, ["question", "reference"], ["問い", "答え"])
    content = io.BytesIO(made.read_bytes())
    with zipfile.ZipFile(content) as before, zipfile.ZipFile(path, "w") as after:
        for name in before.namelist():
            member = before.read(name)
            if name.endswith("sheet1.xml"):
                assert old in member
                member = member.replace(old, new)
            after.writestr(name, member)
    return path


@pytest.mark.parametrize("row", [b"1048576", b"99999999999"])
def test_a_cell_very_far_down_is_refused_or_read_without_the_rows_between(tmp_path: Path, row: bytes):
    far = with_sheet(tmp_path / "far.xlsx", b'<row r="2"', b'<row r="' + row + b'"')
    if int(row) > MAX_CELLS:
        assert "spans over" in refused(far)
    else:
        assert [prompt.question for prompt in read_prompts(far, "set").prompts] == ["問い"]


def test_what_a_sheet_says_of_its_own_size_is_not_believed(tmp_path: Path):
    wide = with_sheet(tmp_path / "wide.xlsx", b'ref="A1:B2"', b'ref="A1:XFD1048576"')
    assert [prompt.reference for prompt in read_prompts(wide, "set").prompts] == ["答え"]


def test_more_rows_than_can_be_read_in_a_while_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "MAX_ROWS", 3)
    rows = [{"question": f"q{n}"} for n in range(4)]
    assert "4 rows, and 3 are the most" in refused(jsonl(tmp_path / "a.jsonl", *rows))
    assert len(read_prompts(jsonl(tmp_path / "b.jsonl", *rows[:3]), "set").prompts) == 3


@pytest.mark.parametrize("rows", [1, 3])
def test_more_columns_than_any_set_has_are_refused(tmp_path: Path, rows: int):
    names = ["question", *(f"column-{n}" for n in range(MAX_COLUMNS))]
    content = "\n".join([",".join(names), *[",".join(["a"] * len(names))] * rows])
    assert "columns" in refused(text(tmp_path / "a.csv", content))
    assert "columns" in refused(
        jsonl(
            tmp_path / "b.jsonl", *[{f"{name}-{row}": 1 for name in names} | {"question": "a"} for row in range(rows)]
        )
    )


@pytest.mark.parametrize(
    "replies", [5, "text", None, [1, "a", None], {"a": 1}, [{"text": "b", "role": "assistant", "replies": "c"}]]
)
def test_a_tree_with_anything_in_place_of_replies_is_read_as_far_as_it_goes(tmp_path: Path, replies: Any):
    prompt = {
        "message_id": "1",
        "text": "問い",
        "role": "prompter",
        "replies": [{"text": "答え", "role": "assistant", "replies": replies}],
    }
    assert [p.question for p in read_prompts(jsonl(tmp_path / "a.jsonl", {"prompt": prompt}), "set").prompts] == [
        "問い"
    ]


@pytest.mark.parametrize("parent", [["a"], {"a": 1}, 5, "1"])
def test_messages_of_a_tree_may_name_anything_as_their_parent(tmp_path: Path, parent: Any):
    first = {"message_id": "1", "parent_id": None, "text": "問い", "role": "prompter"}
    second = {"message_id": ["x"], "parent_id": parent, "text": "答え", "role": "assistant"}
    third = {"message_id": "3", "parent_id": "nobody", "text": "ほか", "role": "assistant"}
    found = read_prompts(jsonl(tmp_path / "a.jsonl", first, second, third), "set")
    assert "問い" in [prompt.question for prompt in found.prompts]


@pytest.mark.parametrize("label", [5, "AB", {"a": 1}, None])
def test_choices_with_odd_marks_are_read_or_refused(tmp_path: Path, label: Any):
    row = {"question": "?", "choices": {"text": ["x", "y"], "label": label}, "answerKey": "B"}
    path = jsonl(tmp_path / "a.jsonl", json.loads(json.dumps(row)))
    try:
        assert read_prompts(path, "set").prompts[0].extra["answer_index"] == 1
    except ImportRejected as error:
        assert len(str(error).splitlines()) == 1
