"""Bad input: one line that names the file, the place and what to change; nothing is imported."""

import gzip
import json
import pickle
import tracemalloc

import pyarrow
import pyarrow.parquet
import pytest
from files_for_tests import jsonl, text, xlsx

from evaluation.errors import ImportRejected
from evaluation.prompts import files
from evaluation.prompts.imports import read_prompts

ROW = '{"id": 1, "question": "眠れない"}\n'


def raw(path, content):
    path.write_bytes(content)
    return path


def parquet_bytes(folder):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"question": "q" * 100}]), folder / "whole.parquet")
    return (folder / "whole.parquet").read_bytes()


BAD = {
    "torn json lines": (lambda d: text(d / "a.jsonl", ROW + '{"id": 2, "quest'), ["a.jsonl, line 2", "cut off"]),
    "torn json array": (lambda d: text(d / "a.json", '[{"question": "q"},\n{"ques'), ["a.json, line 2", "cut off"]),
    "json line that is a list": (lambda d: text(d / "a.jsonl", ROW + "[1]\n"), ["line 2", "object"]),
    "json row that is a text": (lambda d: text(d / "a.json", '[{"question": "q"}, "r"]'), ["row 2", "object"]),
    "json without rows": (lambda d: text(d / "a.json", '{"foo": 1, "bar": 2}'), ["foo, bar", "array"]),
    "json that is a number": (lambda d: text(d / "a.json", "3"), ["a.json", "array"]),
    "json nested without end": (lambda d: text(d / "a.json", "[" * 100_000), ["nested"]),
    "json nested too deep": (
        lambda d: text(d / "a.jsonl", '{"question": "q", "x": ' + "[" * 99 + "]" * 99 + "}"),
        ["line 1", "nested"],
    ),
    "nan": (lambda d: text(d / "a.jsonl", '{"question": "q", "x": NaN}'), ["line 1", "null"]),
    "number too large": (lambda d: text(d / "a.jsonl", '{"question": "q", "x": 1e999}'), ["line 1", "number"]),
    "integer too long": (lambda d: text(d / "a.jsonl", '{"question": "q", "x": ' + "9" * 9999 + "}"), ["line 1"]),
    "half a surrogate pair": (lambda d: text(d / "a.jsonl", '{"question": "\\ud83d"}'), ["line 1", "Unicode"]),
    "escaped nul": (lambda d: text(d / "a.jsonl", ROW + '{"question": "a\\u0000b"}'), ["line 2", "NUL"]),
    "nul bytes in json": (lambda d: text(d / "a.jsonl", ROW + '{"question": "a\0b"}'), ["line 2", "NUL"]),
    "nul bytes in csv": (lambda d: text(d / "a.csv", "question\nabc\nd\0e\n"), ["a.csv, line 3", "NUL"]),
    "utf-8 cut inside a character": (lambda d: raw(d / "a.jsonl", ROW.encode()[:-4]), ["line 1", "damaged"]),
    "utf-8 with a damaged byte": (
        lambda d: raw(d / "a.csv", b"question\n" + ("眠れない夜\n" * 9).encode() + b"\xff\n"),
        ["line 11", "damaged"],
    ),
    "euc-jp": (lambda d: text(d / "a.csv", "question\n眠れない夜です\n", "euc_jp"), ["line 2", "--encoding"]),
    "empty file": (lambda d: raw(d / "a.csv", b""), ["a.csv", "empty"]),
    "blank file": (lambda d: raw(d / "a.txt", b" \n\n"), ["a.txt", "blank"]),
    "bom only": (lambda d: raw(d / "a.csv", b"\xef\xbb\xbf"), ["a.csv", "blank"]),
    "header only": (lambda d: text(d / "a.csv", "id,question\n"), ["a.csv", "header"]),
    "empty array": (lambda d: text(d / "a.json", "[]"), ["a.json", "no rows"]),
    "empty workbook": (lambda d: xlsx(d / "a.xlsx"), ["a.xlsx", "no rows"]),
    "workbook with a header only": (lambda d: xlsx(d / "a.xlsx", ["question"]), ["a.xlsx", "header"]),
    "missing question column": (lambda d: text(d / "a.csv", "foo,bar\n1,2\n"), ["--map question", "foo, bar"]),
    "missing question key": (lambda d: text(d / "a.jsonl", '{"foo": 1, "reference": "x"}'), ["foo, reference"]),
    "only empty questions": (lambda d: text(d / "a.jsonl", '{"question": null}'), ["nothing can be imported"]),
    "duplicate ids": (lambda d: text(d / "a.jsonl", ROW + "\n" + ROW), ["a.jsonl, line 3", "'1'", "line 1"]),
    "duplicate ids in csv": (
        lambda d: text(d / "a.csv", 'id,question\nx,"q\nr"\ny,r\nx,s\n'),
        ["a.csv, line 5", "'x'", "line 2"],
    ),
    "one model answering one id twice": (
        lambda d: jsonl(d / "a.jsonl", *[{"id": 1, "question": "q", "response": r, "model": "m"} for r in "rs"]),
        ["line 2", "twice"],
    ),
    "missing id": (lambda d: text(d / "a.csv", "id,question\n1,q\n,r\n"), ["line 3", "id is empty"]),
    "too many columns": (lambda d: text(d / "a.csv", "id,question\n1,q\n2,r,s\n"), ["line 3", "3 cells", "has 2"]),
    "too few columns": (lambda d: text(d / "a.csv", "id,question\n1,q\n2\n"), ["line 3", "1 cells", "has 2"]),
    "unclosed quotation mark": (lambda d: text(d / "a.csv", 'id,question\n1,q\n2,"r\n'), ["line 3", "quotation"]),
    "two columns of one name": (lambda d: text(d / "a.csv", "question,x,x\n1,2,3\n"), ["line 1", "'x'"]),
    "zip named csv": (lambda d: raw(d / "a.csv", b"PK\x03\x04" + b"x" * 50), ["a.csv", "ZIP", ".csv"]),
    "parquet named json": (lambda d: raw(d / "a.json", parquet_bytes(d)), ["a.json", "Parquet", ".parquet"]),
    "gzip without .gz": (lambda d: raw(d / "a.jsonl", gzip.compress(ROW.encode())), ["a.jsonl", "gzip"]),
    "csv named xlsx": (lambda d: text(d / "a.xlsx", "question\nq\n"), ["a.xlsx", "not a ZIP"]),
    "csv named parquet": (lambda d: text(d / "a.parquet", "question\nq\n"), ["a.parquet", "not a Parquet"]),
    "text named gz": (lambda d: text(d / "a.jsonl.gz", ROW), ["a.jsonl.gz", "not gzip"]),
    "old excel": (lambda d: raw(d / "a.csv", b"\xd0\xcf\x11\xe0" + b"x" * 50), ["a.csv", "xlsx"]),
    "pickle": (lambda d: raw(d / "a.json", pickle.dumps([{"question": "q" * 99}])), ["a.json", "pickle"]),
    "truncated gzip": (lambda d: raw(d / "a.jsonl.gz", gzip.compress(ROW.encode() * 99)[:-12]), ["damaged"]),
    "truncated parquet": (lambda d: raw(d / "a.parquet", parquet_bytes(d)[:-20]), ["a.parquet", "damaged"]),
    "damaged workbook": (lambda d: raw(d / "a.xlsx", b"PK\x03\x04" + b"x" * 50), ["a.xlsx", "workbook"]),
    "unknown ending": (lambda d: text(d / "a.docx", ROW), ["a.docx", ".jsonl"]),
    "no ending": (lambda d: text(d / "a", ROW), ["no ending", ".jsonl"]),
    "gz of a binary format": (lambda d: raw(d / "a.parquet.gz", gzip.compress(b"PAR1")), [".parquet.gz"]),
    "no such file": (lambda d: d / "a.csv", ["a.csv", "path"]),
    "a folder": (lambda d: (d / "a.csv").mkdir() or d / "a.csv", ["a.csv", "path"]),
    "unknown role": (
        lambda d: jsonl(d / "a.jsonl", {"messages": [{"role": "tool", "content": "x"}]}),
        ["line 1", "turn 1", "role"],
    ),
    "turn without text": (
        lambda d: jsonl(d / "a.jsonl", {"messages": [{"role": "user", "content": None}]}),
        ["line 1", "turn 1", "text"],
    ),
    "one choice": (lambda d: jsonl(d / "a.jsonl", {"question": "q", "choices": ["a"]}), ["line 1", "two choices"]),
    "right answer outside the choices": (
        lambda d: jsonl(d / "a.jsonl", {"question": "q", "choices": ["a", "b"], "label": 2}),
        ["line 1", "right answer"],
    ),
    "answers without questions": (
        lambda d: jsonl(d / "a.jsonl", {"question_id": 1, "model_id": "m", "choices": [{"turns": ["x"]}]}),
        ["question.jsonl"],
    ),
    "unnamed model": (
        lambda d: jsonl(d / "a.jsonl", {"question": "q", "response": "r", "model": None}),
        ["line 1", "model is empty"],
    ),
}


@pytest.mark.parametrize(("make", "words"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line_that_says_where_and_what(make, words, tmp_path):
    with pytest.raises(ImportRejected) as caught:
        read_prompts(make(tmp_path), "set")
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert [word for word in words if word not in message] == []
    assert message.endswith(".")


def test_a_message_never_repeats_the_text_of_a_row(tmp_path):
    path = text(tmp_path / "a.jsonl", '{"question": "秘密の質問", "x": "秘密')
    with pytest.raises(ImportRejected) as caught:
        read_prompts(path, "set")
    assert "秘密" not in str(caught.value)


def test_a_file_name_with_a_line_break_stays_in_one_line(tmp_path):
    with pytest.raises(ImportRejected) as caught:
        read_prompts(raw(tmp_path / "a\nb.csv", b""), "set")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt", "a.jsonl.gz"])
def test_a_50_megabyte_line_is_refused_having_read_only_its_start(name, tmp_path):
    path = tmp_path / name
    with gzip.open(path, "wb", 1) if name.endswith(".gz") else path.open("wb") as file:
        file.write(b'{"question": "q"}\n{"question": "' if "json" in name else b"question\n")
        for _ in range(50):
            file.write(b"x" * 1_000_000)
    tracemalloc.start()
    with pytest.raises(ImportRejected, match=r"line 2: the line is longer than 10 MB"):
        read_prompts(path, "set")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40_000_000


def test_a_long_file_of_short_lines_is_not_a_long_line(tmp_path):
    path = text(tmp_path / "a.txt", "word\n" * 2_100_000)
    assert len(files.read_bytes(path)) == 10_500_000


def test_a_file_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 1_000_000)
    path = raw(tmp_path / "a.jsonl.gz", gzip.compress(ROW.encode() * 100_000))
    with pytest.raises(ImportRejected, match="more than 1 MB"):
        read_prompts(path, "set")


@pytest.mark.parametrize("name", ["", "Set", "a b", "../x", "a/b", ".hidden", "セット", "x" * 65, "a\n"])
def test_a_suite_name_is_a_plain_folder_name(name, tmp_path):
    with pytest.raises(ImportRejected, match="suite name"):
        read_prompts(text(tmp_path / "a.jsonl", ROW), name)


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        pytest.param("latin-9000", "not known", id="no such encoding"),
        pytest.param("hex", "hex", id="a codec that is no text encoding"),
        pytest.param("ascii", "line 1", id="not the file's"),
        pytest.param("utf-32", "utf-32", id="not even the right width"),
    ],
)
def test_a_wrong_encoding_is_refused(encoding, words, tmp_path):
    with pytest.raises(ImportRejected, match=words):
        read_prompts(text(tmp_path / "a.jsonl", ROW), "set", encoding=encoding)


@pytest.mark.parametrize(
    "mapping",
    [
        pytest.param({"question": "nothing"}, id="no such column"),
        pytest.param({"question": "meta.nothing"}, id="no such nested field"),
        pytest.param({"answer": "question"}, id="no such field"),
    ],
)
def test_a_mapping_that_fits_nothing_is_refused_with_what_there_is(mapping, tmp_path):
    path = jsonl(tmp_path / "a.jsonl", {"question": "q", "meta": {"x": 1}})
    with pytest.raises(ImportRejected, match=r"a\.jsonl: .*(question, meta|fields are)"):
        read_prompts(path, "set", mapping)


def test_an_exported_json_document_is_still_one_document(tmp_path):
    path = text(tmp_path / "a.json", json.dumps({"question": "q", "reference": "r"}))
    assert read_prompts(path, "set").prompts[0].reference == "r"
