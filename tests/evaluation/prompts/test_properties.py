"""Whatever the bytes: a complete import or a refusal in one line."""

import csv
import io
import json
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from evaluation.errors import ImportRejected
from evaluation.prompts.imports import Imported, read_prompts

ROWS = [
    {
        "id": n,
        "question": f"{n}番目の問い「眠れない」",
        "response": "深呼吸を。\nそれから😀",
        "label": n % 5 + 1,
        "x": {"y": None},
    }
    for n in range(4)
]
LINES = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in ROWS]
WHOLE = b"".join(LINES)


def imported_or_refused(content: bytes, name: str) -> Imported | None:
    """None stands for a refusal; any other exception is the test's failure."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            return read_prompts(path, "set")
        except ImportRejected as error:
            assert len(str(error).splitlines()) == 1
            return None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(WHOLE)), st.sampled_from(["a.jsonl", "a.json"]))
@example(len(LINES[0]), "a.json")
@example(len(LINES[0]) - 1, "a.jsonl")
def test_json_lines_cut_at_any_byte_are_imported_whole_or_refused(cut, name):
    imported = imported_or_refused(WHOLE[:cut], name)
    lines = WHOLE[:cut].split(b"\n")
    last_is_whole = lines[-1] in (b"", *(line.rstrip() for line in LINES))
    if imported is None:
        assert cut == 0 or not last_is_whole
    else:
        complete = [line for line in lines if line]
        assert last_is_whole
        assert [p.id for p in imported.prompts] == [str(json.loads(line)["id"]) for line in complete]
        assert len(imported.responses) == len(imported.labels) == len(complete)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=3))
def test_json_lines_damaged_at_any_byte_never_crash(place, bytes_there):
    imported_or_refused(WHOLE[:place] + bytes_there + WHOLE[place + 1 :], "a.jsonl")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["a.csv", "a.tsv", "a.txt", "a.json", "a.jsonl", "a.jsonl.gz"]))
@example(b"a\rb,\r\n\r", "a.csv")
@example(b"\xff\xfe\x00", "a.txt")
@example(b"0", "a.json")
def test_random_bytes_never_crash(content, name):
    imported_or_refused(content, name)


# The csv module itself turns lone carriage returns outside quotation marks into row ends; a writer quotes them.
cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(cells.filter(str.strip), cells), min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_a_csv_of_any_text_is_read_back(rows, line_end):
    content = io.StringIO()
    writer = csv.writer(content, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerow(["question", "note"])
    writer.writerows(rows)
    imported = imported_or_refused(content.getvalue().encode(), "a.csv")
    assert imported is not None
    assert [(prompt.question, prompt.extra["note"]) for prompt in imported.prompts] == rows


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "id question messages turns choices choice0 choice1 label model response meta chosen rejected prompt text "
    "annotation_num a instruction input output output-sample rater attempt language category meta.x QuestionID AnswerID"
)
keys = st.sampled_from(KEYS.split())


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(keys, json_values, max_size=6), min_size=1, max_size=3))
def test_rows_of_any_shape_never_crash(rows):
    imported_or_refused("\n".join(json.dumps(row) for row in rows).encode("utf-8", "surrogatepass"), "a.jsonl")
