"""The same two rows in every container and encoding give the same Prompts."""

import gzip
import json
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from files_for_tests import jsonl, text, xlsx

from evaluation.errors import ImportRejected
from evaluation.prompts import parquet_rows
from evaluation.prompts.imports import read_prompts

ROWS = [
    {
        "id": "a",
        "question": "眠れない夜はどうしたらいいですか？",
        "reference": "照明を落として、\n温かい飲み物をどうぞ。",
    },
    {"id": "b", "question": 'A "quoted", comma\'d question', "reference": "ひと言"},
]
CSV = "id,question,reference\n" + "".join(
    ",".join('"' + value.replace('"', '""') + '"' for value in row.values()) + "\n" for row in ROWS
)
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def table(path):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    return path


CONTAINERS = {
    "json array": lambda d: text(d / "a.json", json.dumps(ROWS, ensure_ascii=False, indent=1)),
    "json array in one line": lambda d: text(d / "a.json", json.dumps(ROWS)),
    "json lines": lambda d: text(d / "a.jsonl", LINES),
    "json lines with blank lines and crlf": lambda d: text(d / "a.jsonl", LINES.replace("\n", "\r\n\r\n")),
    "json lines without a last line end": lambda d: text(d / "a.jsonl", LINES.rstrip("\n")),
    "json lines named .json": lambda d: text(d / "a.json", LINES),
    "rows under a key": lambda d: text(d / "a.json", json.dumps({"name": "n", "examples": ROWS})),
    "rows under an unknown key": lambda d: text(d / "a.json", json.dumps({"kind": 1, "tests": ROWS})),
    "csv": lambda d: text(d / "a.csv", CSV),
    "csv with bom": lambda d: text(d / "a.csv", CSV, "utf-8-sig"),
    "json with bom": lambda d: text(d / "a.json", json.dumps(ROWS), "utf-8-sig"),
    "csv in cp932": lambda d: text(d / "a.csv", CSV, "cp932"),
    "csv in utf-16 with bom": lambda d: text(d / "a.csv", CSV, "utf-16"),
    "csv in utf-16 without bom": lambda d: text(d / "a.csv", CSV, "utf-16-le"),
    "csv in big-endian utf-16 without bom": lambda d: text(d / "a.csv", CSV, "utf-16-be"),
    "csv with a trailing empty line": lambda d: text(d / "a.csv", CSV + "\n\n"),
    "csv with an upper-case ending": lambda d: text(d / "a.CSV", CSV),
    "tsv": lambda d: text(d / "a.tsv", CSV.replace('","', '"\t"').replace("id,question,ref", "id\tquestion\tref")),
    "xlsx": lambda d: xlsx(d / "a.xlsx", list(ROWS[0]), *[list(row.values()) for row in ROWS]),
    "parquet": lambda d: table(d / "a.parquet"),
}


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_every_container_gives_the_same_prompts(make, tmp_path):
    prompts = read_prompts(make(tmp_path), "set").prompts
    assert [(p.id, p.question, p.reference, p.suite) for p in prompts] == [
        (row["id"], row["question"], row["reference"], "set") for row in ROWS
    ]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
def test_text_may_be_gzipped(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(gzip.compress((LINES if "jsonl" in name else CSV).encode()))
    assert [prompt.id for prompt in read_prompts(path, "set").prompts] == ["a", "b"]


def test_crlf_row_ends_leave_line_breaks_inside_cells_alone(tmp_path):
    path = text(tmp_path / "a.csv", 'id,prompt\r\nx,"one\r\ntwo"\r\n')
    assert read_prompts(path, "set").prompts[0].question == "one\r\ntwo"


def test_a_cell_longer_than_the_csv_modules_own_limit_is_read(tmp_path):
    path = text(tmp_path / "a.csv", "question\n" + "あ" * 200_000 + "\n")
    assert len(read_prompts(path, "set").prompts[0].question) == 200_000


def test_json_strings_may_hold_line_separators(tmp_path):
    path = text(tmp_path / "a.jsonl", '{"question": "一行目\u2028二行目\x85"}\n')
    assert read_prompts(path, "set").prompts[0].question == "一行目\u2028二行目\x85"


def test_a_word_list_gives_one_prompt_a_word(tmp_path):
    imported = read_prompts(text(tmp_path / "words.txt", "言葉\n\n ことば \r\nword\n"), "words")
    assert [prompt.question for prompt in imported.prompts] == ["言葉", "ことば", "word"]
    assert [prompt.id for prompt in imported.prompts] == ["words-00001", "words-00002", "words-00003"]


def test_a_named_encoding_is_used(tmp_path):
    path = text(tmp_path / "a.csv", CSV, "euc_jp")
    assert read_prompts(path, "set", encoding="euc_jp").prompts[0].question == ROWS[0]["question"]


def test_a_guessed_encoding_is_said(tmp_path):
    (warning,) = read_prompts(text(tmp_path / "a.csv", CSV, "cp932"), "set").warnings
    assert "CP932" in warning


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("眠れない夜は、どうしたらいいですか？\n不安なときは？\n", id="one column"),
        pytest.param("1,眠れない夜は、どうしたらいいですか？\n2,不安なときはどうすれば？\n", id="numbered"),
    ],
)
def test_a_csv_without_a_header_gives_its_text_column_and_says_so(content, tmp_path):
    imported = read_prompts(text(tmp_path / "a.csv", content), "set")
    assert imported.prompts[0].question == "眠れない夜は、どうしたらいいですか？"
    assert len(imported.prompts) == 2
    assert "no header" in imported.warnings[0]


def test_columns_of_a_file_without_a_header_can_be_mapped(tmp_path):
    path = text(tmp_path / "a.csv", "1,短い問い？,長い長い長い長い長い答えです。\n")
    (prompt,) = read_prompts(path, "set", {"question": "column 2", "reference": "column 3", "id": "column 1"}).prompts
    assert (prompt.id, prompt.question, prompt.reference) == ("1", "短い問い？", "長い長い長い長い長い答えです。")


def test_what_json_cannot_hold_is_kept_as_text(tmp_path):
    from datetime import date
    from decimal import Decimal

    rows = [{"question": "q", "day": date(2025, 1, 2), "cost": Decimal("1.50"), "raw": b"\x00", "gap": float("nan")}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    extra = read_prompts(tmp_path / "a.parquet", "set").prompts[0].extra
    assert extra == {"day": "2025-01-02", "cost": "1.50", "raw": "AA==", "gap": None}


def test_what_a_json_object_says_beside_its_rows_is_kept(tmp_path):
    path = text(tmp_path / "a.json", json.dumps({"license": "CC BY 4.0", "examples": ROWS}))
    assert read_prompts(path, "set").about == {"license": "CC BY 4.0"}


def test_only_one_list_of_a_json_object_is_read_and_that_is_said(tmp_path):
    path = text(tmp_path / "a.json", json.dumps({"train": [{"question": "q"}], "test": [{"question": "r"}] * 2}))
    imported = read_prompts(path, "set")
    assert [prompt.question for prompt in imported.prompts] == ["q"]
    assert imported.warnings == ["Only the rows under 'train' were read; those under 'test' (2) were not."]


def test_numbers_in_a_workbook_are_ids_without_a_decimal_point(tmp_path):
    path = xlsx(tmp_path / "a.xlsx", ["id", "question"], [1.0, "q"], [None, None], [2, "r"])
    assert [prompt.id for prompt in read_prompts(path, "set").prompts] == ["1", "2"]


def test_only_the_first_sheet_is_read_and_that_is_said(tmp_path):
    imported = read_prompts(xlsx(tmp_path / "a.xlsx", ["question"], ["q"], sheets=3), "set")
    assert (len(imported.prompts), imported.warnings) == (1, ["Only the first sheet was read; 2 more were not."])


def test_importing_twice_gives_the_same(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", {"question": "q", "response": "r", "label": 1})
    assert read_prompts(path, "set") == read_prompts(path, "set")


def test_a_parquet_file_that_ends_its_reader_is_one_line_and_leaves_this_process_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As Arrow does on some damaged files: a C++ exception that nobody catches."""
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    monkeypatch.setattr(parquet_rows, "READER", (sys.executable, "-c", "import os; os.abort()"))
    with pytest.raises(ImportRejected, match="damaged or cut off") as refused:
        read_prompts(tmp_path / "a.parquet", "set")
    assert "\n" not in str(refused.value)
