"""The column mapping: what `--map` accepts, and how it meets the guesses."""

import pytest
from files_for_tests import jsonl
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.errors import ImportRejected
from evaluation.prompts.columns import FIELDS, parse_mapping
from evaluation.prompts.imports import read_prompts
from evaluation.prompts.suites import load_suite, save_imported
from evaluation.types import Category


@pytest.mark.parametrize(
    ("text", "mapping"),
    [
        pytest.param("question=Q", {"question": "Q"}, id="one"),
        pytest.param(" question = 質問 文 , reference=A ", {"question": "質問 文", "reference": "A"}, id="spaces"),
        pytest.param("question=a,b,reference=c", {"question": "a,b", "reference": "c"}, id="comma in a name"),
        pytest.param("question=a,", {"question": "a,"}, id="comma at the end of a name"),
        pytest.param("question=a=b", {"question": "a=b"}, id="equals sign in a name"),
        pytest.param("harm_type=meta.harm-type", {"harm_type": "meta.harm-type"}, id="nested"),
    ],
)
def test_a_mapping_is_fields_and_columns(text, mapping):
    assert parse_mapping(text) == mapping


@pytest.mark.parametrize(
    "text",
    ["", "question", "question=", "=Q", "prompt=Q", "question=A,question=B", "\n=\n"],
)
def test_a_malformed_mapping_is_refused_in_one_line(text):
    with pytest.raises(ImportRejected, match=r"\A--map: .*\Z"):
        parse_mapping(text)


names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"], exclude_characters=","), min_size=1
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), names, min_size=1))
def test_a_written_mapping_is_read_back(mapping):
    assert parse_mapping(",".join(f"{field}={column}" for field, column in mapping.items())) == mapping


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("question=,ab \nreference")))
def test_any_text_is_a_mapping_or_refused(text):
    try:
        mapping = parse_mapping(text)
    except ImportRejected as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert set(mapping) <= set(FIELDS)


def test_a_mapping_wins_over_the_names_and_reaches_nested_fields(tmp_path):
    row = {"question": "題", "data": {"body": "本当の問い", "list": ["x", "答え"]}, "type": "自傷行為"}
    mapping = {"question": "data.body", "reference": "data.list.1", "category": "type"}
    (prompt,) = read_prompts(jsonl(tmp_path / "a.jsonl", row), "set", mapping).prompts
    assert (prompt.question, prompt.reference) == ("本当の問い", "答え")
    assert prompt.category == Category("AIとの対話によるリスク", "メンタルヘルス", "自傷行為")
    assert prompt.extra["question"] == "題"


def test_a_column_whose_own_name_has_a_dot_is_found(tmp_path):
    (prompt,) = read_prompts(jsonl(tmp_path / "a.jsonl", {"a.b": "問い"}), "set", {"question": "a.b"}).prompts
    assert (prompt.question, prompt.extra) == ("問い", {})


@pytest.mark.parametrize(
    "name", ["Question", "QUESTION_TEXT", "question-text", "質問", "プロンプト", "ｑｕｅｓｔｉｏｎ"]
)
def test_names_are_compared_without_case_width_and_separators(name, tmp_path):
    assert read_prompts(jsonl(tmp_path / "a.jsonl", {name: "問い"}), "set").prompts[0].question == "問い"


def test_unknown_columns_are_kept_as_they_are(tmp_path):
    row = {"question": "問い", "focus": "", "n": 3, "tags": ["a", {"b": None}]}
    (prompt,) = read_prompts(jsonl(tmp_path / "a.jsonl", row), "set").prompts
    assert prompt.extra == {"focus": "", "n": 3, "tags": ["a", {"b": None}]}


@pytest.mark.parametrize("name", ["choices", "answer_index", "stem", "placeholder", "conversation"])
def test_a_column_named_like_what_the_app_itself_keeps_of_a_row_means_nothing_to_it(tmp_path, name):
    file = jsonl(tmp_path / "a.jsonl", {"question": "1+1は？", name: "x" * 30}, {"question": "2+2は？", name: ""})
    save_imported(read_prompts(file, "s", {"question": "question"}), tmp_path)
    prompts = load_suite("s", tmp_path).prompts
    assert [prompt.question for prompt in prompts] == ["1+1は？", "2+2は？"]
    assert prompts[0].extra == {f"{name}_column": "x" * 30}
