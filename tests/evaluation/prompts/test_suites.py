"""Imported suites: whole or not there, never overwritten, read back as they were."""

import json

import pytest
from files_for_tests import jsonl
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.errors import ImportRejected
from evaluation.prompts import suites
from evaluation.prompts.imports import Imported, read_prompts
from evaluation.prompts.suites import list_suites, load_imported, load_suite, save_imported
from evaluation.types import Category, Label, Message, Prompt, Response


def imported(tmp_path, *rows, name="mine"):
    rows = rows or ({"id": 1, "question": "問い\u2028", "response": "答え\n", "label": 3, "x": {"y": [1, None]}},)
    return read_prompts(jsonl(tmp_path / "rows.jsonl", *rows), name)


def test_a_saved_import_is_read_back_as_it_was(tmp_path):
    found = imported(tmp_path)
    save_imported(found, tmp_path)
    assert load_imported("mine", tmp_path) == found


texts = st.text(st.characters(codec="utf-8"), max_size=10)
prompts = st.builds(
    Prompt,
    id=texts,
    question=texts,
    reference=st.none() | texts,
    category=st.none() | st.builds(Category, texts, texts, st.none() | texts),
    turns=st.lists(texts, max_size=2).map(tuple),
    extra=st.dictionaries(texts, st.none() | texts | st.lists(st.integers() | st.booleans(), max_size=2), max_size=2),
)
responses = st.builds(
    lambda key, text: Response(key, "p", "m", "i", text, "stop", (Message("user", text),)), texts, texts
)


@settings(max_examples=30, deadline=None)
@given(st.lists(prompts, max_size=3), st.lists(responses, max_size=3), st.lists(texts, max_size=2))
def test_any_import_is_read_back_as_it_was(tmp_path_factory, prompts, responses, values):
    found = Imported("any", prompts, responses, [Label("k", "score", v, "human") for v in values], ["w"], {"a": 1})
    home = tmp_path_factory.mktemp("home")
    save_imported(found, home)
    assert load_imported("any", home) == found


def test_importing_the_same_twice_changes_nothing(tmp_path):
    folder = save_imported(imported(tmp_path), tmp_path)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert save_imported(imported(tmp_path), tmp_path) == folder
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before


def test_other_content_never_replaces_a_suite(tmp_path):
    first = imported(tmp_path)
    save_imported(first, tmp_path)
    with pytest.raises(ImportRejected, match="another name"):
        save_imported(imported(tmp_path, {"question": "別の問い"}), tmp_path)
    assert load_imported("mine", tmp_path) == first


def test_an_import_that_fails_halfway_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(path, rows):
        path.write_text("half", encoding="utf-8")
        if path.name == "labels.jsonl":
            raise OSError("No space left on device")

    monkeypatch.setattr(suites, "_write_lines", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_imported(imported(tmp_path), tmp_path)
    assert list((tmp_path / "suites").iterdir()) == []


def test_an_import_that_loses_the_race_to_the_same_content_succeeds(tmp_path, monkeypatch):
    found = imported(tmp_path)
    write_lines = suites._write_lines

    def overtaken(path, rows):
        write_lines(path, rows)
        if path.name == "suite.json" and path.parent.name.startswith(".importing"):
            monkeypatch.setattr(suites, "_write_lines", write_lines)
            save_imported(found, tmp_path)

    monkeypatch.setattr(suites, "_write_lines", overtaken)
    save_imported(found, tmp_path)
    assert [path.name for path in (tmp_path / "suites").iterdir()] == ["mine"]


def test_the_names_of_the_sample_suites_are_taken(tmp_path):
    with pytest.raises(ImportRejected, match="sample set"):
        save_imported(imported(tmp_path, name="sample-test"), tmp_path)


def test_shipped_suites_come_first_and_drafts_are_not_listed(tmp_path):
    save_imported(imported(tmp_path), tmp_path)
    (tmp_path / "suites/.importing-x").mkdir()
    (tmp_path / "suites/.importing-x/suite.json").write_text("{}", encoding="utf-8")
    shipped = ["sample-tuning", "sample-test", "sample-borderline", "sample-general", "sample-regional"]
    shipped += ["sample-jailbreak", "sample-jailbreak-all", "sample-tuning-more", "sample-intents", "sample-daily"]
    assert list_suites(tmp_path) == [*shipped, "mine"]


def test_a_home_without_imports_lists_the_shipped_suites(tmp_path):
    assert "sample-test" in list_suites(tmp_path / "nowhere")


def test_an_unknown_suite_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(ImportRejected, match="sample-test"):
        load_suite("nothing", tmp_path)


@pytest.mark.parametrize("name", ["../mine", "a/b", ""])
def test_a_suite_name_never_leads_out_of_its_folder(name, tmp_path):
    with pytest.raises(ImportRejected, match="suite name"):
        load_suite(name, tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("suite.json", "{}"),
        ("suite.json", ""),
        ("suite.json", "torn"),
        ("prompts.jsonl", '{"id": "x"}\n'),
        ("prompts.jsonl", '{"id"'),
        ("responses.jsonl", '{"surprise": 1}\n'),
        ("labels.jsonl", "{}\n"),
    ],
)
def test_a_damaged_suite_is_refused_in_one_line(file, content, tmp_path):
    folder = save_imported(imported(tmp_path), tmp_path)
    (folder / file).write_text(content, encoding="utf-8")
    with pytest.raises(ImportRejected, match=r"\A[^\n]*import the suite again\.\Z"):
        load_suite("mine", tmp_path)


def test_rows_of_answercarefully_make_a_suite_protected_under_any_name(tmp_path):
    save_imported(
        imported(tmp_path, {"ID": "AnswerCarefully-made-up-1", "text": "合成の問い", "output": "答え"}), tmp_path
    )
    assert load_suite("mine", tmp_path).protected


def test_saved_files_are_one_json_object_a_line(tmp_path):
    folder = save_imported(imported(tmp_path), tmp_path)
    for path in folder.iterdir():
        lines = path.read_text(encoding="utf-8").split("\n")
        assert lines[-1] == ""
        assert all(isinstance(json.loads(line), dict) for line in lines[:-1])
