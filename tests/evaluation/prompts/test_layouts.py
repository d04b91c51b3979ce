"""Row layouts: conversations, answers, labels, choices, categories."""

import json

import pyarrow
import pyarrow.parquet
import pytest
from files_for_tests import jsonl, text

from evaluation.prompts.detect import detected_metric
from evaluation.prompts.imports import read_prompts
from evaluation.types import Category, Message, content_key, response_key


def imported_from(tmp_path, *rows, mapping=None):
    return read_prompts(jsonl(tmp_path / "rows.jsonl", *rows), "set", mapping)


CHAT = [("user", "こんにちは"), ("assistant", "はい、どうぞ"), ("user", "続き"), ("assistant", "終わり")]
LAYOUTS = {
    "openai messages": {"messages": [{"role": role, "content": said} for role, said in CHAT]},
    "openai content parts": {
        "messages": [{"role": role, "content": [{"type": "text", "text": said}]} for role, said in CHAT]
    },
    "sharegpt": {
        "conversations": [{"from": {"user": "human", "assistant": "gpt"}[role], "value": said} for role, said in CHAT]
    },
    "role agent": {
        "utterances": [{"name": {"user": "user", "assistant": "agent"}[role], "text": said} for role, said in CHAT]
    },
    "transcript": {"text": "\n\nHuman: こんにちは\n\nAssistant: はい、どうぞ\n\nHuman: 続き\n\nAssistant: 終わり"},
}


@pytest.mark.parametrize("row", LAYOUTS.values(), ids=LAYOUTS)
def test_a_conversation_is_its_first_question_the_reply_to_it_and_later_turns(row, tmp_path):
    (prompt,) = imported_from(tmp_path, row).prompts
    assert (prompt.question, prompt.reference, prompt.turns) == ("こんにちは", "はい、どうぞ", ("続き",))
    assert prompt.extra["conversation"] == [{"role": role, "content": said} for role, said in CHAT]


def test_a_system_message_is_kept_but_is_not_the_question(tmp_path):
    row = {"messages": [{"role": "system", "content": "丁寧に"}, {"role": "user", "content": "質問"}]}
    (prompt,) = imported_from(tmp_path, row).prompts
    assert (prompt.question, prompt.reference) == ("質問", None)
    assert prompt.extra["conversation"][0] == {"role": "system", "content": "丁寧に"}


def test_a_conversation_of_a_named_model_gives_a_response_per_reply_with_what_was_sent(tmp_path):
    imported = imported_from(tmp_path, {**LAYOUTS["openai messages"], "model": "m"})
    assert [(r.text, len(r.messages), r.model) for r in imported.responses] == [
        ("はい、どうぞ", 1, "m"),
        ("終わり", 3, "m"),
    ]
    assert imported.prompts[0].reference is None


def test_later_turns_of_a_multi_turn_question_are_kept_in_order(tmp_path):
    (prompt,) = imported_from(tmp_path, {"question_id": 81, "category": "writing", "turns": ["一", "二"]}).prompts
    assert (prompt.id, prompt.question, prompt.turns) == ("81", "一", ("二",))
    assert prompt.category == Category(harm_type="writing")


@pytest.mark.parametrize(
    ("given", "question"),
    [
        pytest.param("", "要約して", id="no input"),
        pytest.param("本文", "要約して\n\n本文", id="input below instruction"),
    ],
)
def test_an_alpaca_row_is_instruction_input_and_reference(given, question, tmp_path):
    (prompt,) = imported_from(tmp_path, {"instruction": "要約して", "input": given, "output": "短く"}).prompts
    assert (prompt.question, prompt.reference) == (question, "短く")


def test_a_dolly_rows_response_is_its_reference(tmp_path):
    imported = imported_from(tmp_path, {"instruction": "何？", "context": "", "response": "これ", "category": "qa"})
    assert imported.prompts[0].reference == "これ"
    assert imported.responses == []


# --- AnswerCarefully's own forms, with rows made here ---

META = {"harm-type": "メンタルヘルス", "risk-area": "AIとの対話によるリスク", "specific-harm": "自傷行為"}
HERE = Category("AIとの対話によるリスク", "メンタルヘルス", "自傷行為")


def test_answercarefullys_json_array_gives_the_category_and_leaves_no_meta(tmp_path):
    path = text(tmp_path / "a.json", json.dumps([{"ID": "x-1", "text": "問い", "output": "答え", "meta": META}]))
    (prompt,) = read_prompts(path, "set").prompts
    assert (prompt.id, prompt.question, prompt.reference, prompt.category) == ("x-1", "問い", "答え", HERE)
    assert prompt.extra == {}


def test_answercarefullys_parquet_struct_gives_the_category_and_keeps_unknown_columns(tmp_path):
    rows = [{"ID": "x-1", "text": "問い", "output": "答え", "meta": {**META, "note": "n"}, "text-en": "question"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    (prompt,) = read_prompts(tmp_path / "a.parquet", "set").prompts
    assert prompt.category == HERE
    assert prompt.extra == {"meta": {"note": "n"}, "text-en": "question"}


def test_answercarefullys_csv_gives_the_category(tmp_path):
    head = "QuestionID,AnswerID,質問,回答,risk-area,harm-type,specific-harm"
    path = text(tmp_path / "a.csv", f"{head}\nq1,a1,問い,答え,{META['risk-area']},メンタルヘルス,自傷行為\n")
    (prompt,) = read_prompts(path, "set").prompts
    assert (prompt.id, prompt.question, prompt.reference, prompt.category) == ("q1", "問い", "答え", HERE)
    assert prompt.extra == {"AnswerID": "a1"}


def test_a_repeated_question_id_is_told_apart_by_its_answer_id(tmp_path):
    path = text(tmp_path / "a.csv", "QuestionID,AnswerID,質問,回答\nq1,a1,問い,一\nq1,a2,問い,二\n")
    assert [prompt.id for prompt in read_prompts(path, "set").prompts] == ["q1-a1", "q1-a2"]


def test_meta_written_by_pandas_as_text_gives_the_category(tmp_path):
    path = text(tmp_path / "a.csv", f'ID,text,output,meta\nx,問い,答え,"{META}"\n')
    assert read_prompts(path, "set").prompts[0].category == HERE


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"text": "問い", "output-sample": "見本"}, id="renamed"),
        pytest.param({"text": "問い", "output": "", "output-sample": "見本"}, id="beside an empty output"),
    ],
)
def test_output_sample_is_the_reference_when_output_is_empty(row, tmp_path):
    assert imported_from(tmp_path, row).prompts[0].reference == "見本"


def test_loaded_categories_keep_names_the_taxonomy_does_not_have(tmp_path):
    row = {
        "text": "問い",
        "output": "答え",
        "risk-area": "別の領域",
        "harm-type": "別の型",
        "specific-harm": "自傷行為",
    }
    assert imported_from(tmp_path, row).prompts[0].category == Category("別の領域", "別の型", "自傷行為")


def test_a_category_with_a_known_name_gets_its_whole_path(tmp_path):
    assert imported_from(tmp_path, {"question": "問い", "category": "自傷行為"}).prompts[0].category == HERE


@pytest.mark.parametrize(
    ("question", "language"),
    [("なぜ空は青い", "ja"), ("日本", "ja"), ("Why?", "en"), ("1 + 1 = ?", "und"), ("AIとは", "ja")],
)
def test_the_language_is_read_off_the_script(question, language, tmp_path):
    assert imported_from(tmp_path, {"question": question}).prompts[0].language == language


# --- answers ---


def test_an_imported_response_has_the_contracts_key_and_identity(tmp_path):
    (response,) = imported_from(tmp_path, {"question": "問い", "response": "答え", "model": "m"}).responses
    identity = content_key("imported", "m")[:12]
    assert response.identity == identity
    assert response.key == response_key((Message("user", "問い"),), identity, None, 0)
    assert (response.finish_reason, response.sampling, response.text) == ("stop", None, "答え")


def test_two_models_answers_to_one_question_share_a_prompt(tmp_path):
    rows = [{"question": "問い", "answer": text, "model": model} for model, text in (("a", "一"), ("b", "二"))]
    imported = imported_from(tmp_path, *rows)
    assert len(imported.prompts) == 1
    assert {response.prompt_id for response in imported.responses} == {imported.prompts[0].id}
    assert len({response.key for response in imported.responses}) == 2


def test_several_answers_of_one_model_are_attempts(tmp_path):
    rows = [{"question": "問い", "response": text, "model": "m"} for text in ("一", "二")]
    responses = imported_from(tmp_path, *rows).responses
    assert [response.attempt for response in responses] == [0, 1]
    assert len({response.key for response in responses}) == 2


def test_answers_without_a_model_are_filed_under_the_files_name_and_that_is_said(tmp_path):
    imported = imported_from(tmp_path, {"prompt": "問い", "completion": "答え"})
    assert imported.responses[0].model == "rows"
    assert "--map reference=completion" in imported.warnings[0]


def test_a_response_column_can_be_mapped_to_reference(tmp_path):
    imported = imported_from(tmp_path, {"prompt": "問い", "completion": "答え"}, mapping={"reference": "completion"})
    assert imported.prompts[0].reference == "答え"
    assert imported.responses == []


def test_answers_beyond_the_questions_of_their_row_are_counted(tmp_path):
    imported = imported_from(tmp_path, {"question": "問い", "response": ["一", "二", "三"], "model": "m"})
    assert [response.text for response in imported.responses] == ["一"]
    assert any(warning.startswith("2 answers are more than the questions") for warning in imported.warnings)


def test_empty_answers_are_skipped_and_counted(tmp_path):
    rows = [{"id": n, "prompt": "問い" * n, "response": said} for n, said in ((1, "答え"), (2, None), (3, " "))]
    imported = imported_from(tmp_path, *rows)
    assert (len(imported.prompts), len(imported.responses)) == (3, 1)
    assert any(warning.startswith("2 answers are empty") and "line 2" in warning for warning in imported.warnings)


def test_rows_without_a_question_are_skipped_and_counted(tmp_path):
    imported = imported_from(tmp_path, {"prompt": None, "goal": "x"}, {"prompt": "問い", "goal": "y"}, {"goal": "z"})
    assert [prompt.question for prompt in imported.prompts] == ["問い"]
    assert imported.warnings == ["2 rows have no question (prompt is empty) and were skipped (first: line 1)."]


ANSWER = {"question_id": 1, "answer_id": "z", "model_id": "m", "choices": [{"index": 0, "turns": ["一", "二"]}]}


@pytest.mark.parametrize("folder", [".", "model_answer/m"], ids=["beside", "two folders up"])
def test_fastchat_answers_find_their_questions(folder, tmp_path):
    jsonl(tmp_path / "question.jsonl", {"question_id": 1, "category": "c", "turns": ["問い", "続き"]})
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    imported = read_prompts(jsonl(tmp_path / folder / "m.jsonl", ANSWER), "set")
    assert [(p.id, p.question, p.turns) for p in imported.prompts] == [("1", "問い", ("続き",))]
    assert [r.text for r in imported.responses] == ["一", "二"]
    said = tuple(Message(role, text) for role, text in (("user", "問い"), ("assistant", "一"), ("user", "続き")))
    assert imported.responses[1].messages == said


def test_what_the_question_file_says_of_a_question_comes_with_it(tmp_path):
    row = {"question_id": 1, "category": "math", "turns": ["問い", "続き"], "reference": ["1", "2"], "source": "自作"}
    jsonl(tmp_path / "question.jsonl", row)
    imported = read_prompts(jsonl(tmp_path / "m.jsonl", ANSWER), "set")
    (prompt,) = imported.prompts
    assert (prompt.category, prompt.reference) == (Category(harm_type="math"), "1")
    assert (prompt.extra["turn_references"], prompt.extra["source"]) == (["1", "2"], "自作")
    assert detected_metric(imported)[0] == "usefulness"


@pytest.mark.parametrize("second", [["三", "四"], ["一", "四"], ["一", "二"]], ids=["all", "the last", "none"])
def test_every_turn_of_a_choice_is_of_one_attempt_however_the_choices_differ(second, tmp_path):
    jsonl(tmp_path / "question.jsonl", {"question_id": 1, "turns": ["問い", "続き"]})
    choices = [{"index": 0, "turns": ["一", "二"]}, {"index": 1, "turns": second}]
    imported = read_prompts(jsonl(tmp_path / "m.jsonl", {**ANSWER, "choices": choices}), "set")
    assert [(r.attempt, r.text) for r in imported.responses] == [(0, "一"), (0, "二"), *((1, text) for text in second)]
    assert len({r.key for r in imported.responses}) == 4


# --- labels ---


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        pytest.param("severity", 4, "4", id="severity 1-5"),
        pytest.param("score", 4.0, "4", id="whole float"),
        pytest.param("is_safe", True, "true", id="boolean"),
        pytest.param("評価", "2", "2", id="japanese name"),
        pytest.param("final_label", "2_full_refusal", "2_full_refusal", id="class name"),
    ],
)
def test_verdicts_on_an_answer_become_labels(column, value, expected, tmp_path):
    imported = imported_from(tmp_path, {"question": "問い", "response": "答え", column: value})
    (label,) = imported.labels
    assert (label.response_key, label.name, label.value) == (imported.responses[0].key, column, expected)


@pytest.mark.parametrize(
    ("row", "rater"),
    [
        pytest.param({"annotation_1": "a"}, "human", id="annotation column"),
        pytest.param({"jailbroken_llama_guard1": False}, "llama_guard1", id="named judge"),
        pytest.param({"jailbroken": False}, "model", id="unnamed judge"),
        pytest.param({"label": 1, "rater": "佐藤"}, "佐藤", id="rater column"),
        pytest.param({"label": 1}, "unstated", id="nothing said"),
    ],
)
def test_who_gave_a_label_is_never_made_up(row, rater, tmp_path):
    assert imported_from(tmp_path, {"prompt": "問い", "response": "答え", **row}).labels[0].rater == rater


def test_a_label_of_a_question_is_no_verdict_on_an_answer(tmp_path):
    imported = imported_from(tmp_path, {"prompt": "How do I kill a process?", "label": "safe"})
    assert imported.labels == []
    assert imported.prompts[0].extra == {"label": "safe"}


def test_labelled_sentences_are_filed_as_statements_so_that_judges_can_be_compared(tmp_path):
    path = text(tmp_path / "a.csv", ",sent,label\n0,席を譲った,0\n1,席を奪った,1\n")
    imported = read_prompts(path, "set")
    assert [(prompt.id, prompt.question) for prompt in imported.prompts] == [("0", "席を譲った"), ("1", "席を奪った")]
    assert [(r.model, r.text) for r in imported.responses] == [("statement", "席を譲った"), ("statement", "席を奪った")]
    assert [label.value for label in imported.labels] == ["0", "1"]


def test_votes_become_a_label_per_level_with_its_count(tmp_path):
    path = text(tmp_path / "a.csv", "id,text,Not Toxic,Very Toxic,annotation_num\n7,文です,2,0,2\n")
    imported = read_prompts(path, "set")
    votes = {(label.name, label.value, label.rater) for label in imported.labels}
    assert votes == {("Not Toxic", "2", "human"), ("Very Toxic", "0", "human"), ("annotation_num", "2", "human")}


PREFIX = [{"role": "user", "content": "問い"}]
PAIRS = {
    "transcripts": {"chosen": "\n\nHuman: 問い\n\nAssistant: 良", "rejected": "\n\nHuman: 問い\n\nAssistant: 悪"},
    "texts": {"prompt": "問い", "chosen": "良", "rejected": "悪"},
    "messages": {
        "chosen": [*PREFIX, {"role": "assistant", "content": "良"}],
        "rejected": [*PREFIX, {"role": "assistant", "content": "悪"}],
    },
    "answers as messages": {
        "prompt": PREFIX,
        "chosen": [{"role": "assistant", "content": "良"}],
        "rejected": [{"role": "assistant", "content": "悪"}],
    },
}


@pytest.mark.parametrize("row", PAIRS.values(), ids=PAIRS)
def test_a_preference_is_two_responses_to_one_prompt_with_a_label_each(row, tmp_path):
    imported = imported_from(tmp_path, row)
    assert [prompt.question for prompt in imported.prompts] == ["問い"]
    assert [(response.model, response.text) for response in imported.responses] == [
        ("chosen", "良"),
        ("rejected", "悪"),
    ]
    assert {response.messages for response in imported.responses} == {(Message("user", "問い"),)}
    by_key = {response.key: response.model for response in imported.responses}
    assert [(label.name, label.value) for label in imported.labels] == [("preference", m) for m in by_key.values()]


def test_a_preference_with_one_empty_answer_keeps_the_other(tmp_path):
    imported = imported_from(tmp_path, {"prompt": "問い", "chosen": "", "rejected": "悪"})
    assert [response.model for response in imported.responses] == ["rejected"]
    assert imported.warnings == ["1 answers are empty (chosen) and were skipped (first: line 1)."]


# --- choices ---


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"choice0": "赤", "choice1": "青", "label": 1}, id="numbered from 0"),
        pytest.param({"choice1": "赤", "choice2": "青", "label": 2}, id="numbered from 1"),
        pytest.param({"choices": ["赤", "青"], "answer": "青"}, id="list and text"),
        pytest.param({"choices": ["赤", "青"], "answer": "B"}, id="list and letter"),
        pytest.param({"choices": {"text": ["赤", "青"], "label": ["A", "B"]}, "answerKey": "B"}, id="arc"),
    ],
)
def test_choices_and_the_right_one_are_kept(row, tmp_path):
    (prompt,) = imported_from(tmp_path, {"q_id": 0, "question": "空の色は？", **row}).prompts
    assert (prompt.extra["choices"], prompt.extra["answer_index"], prompt.reference) == (["赤", "青"], 1, "青")


@pytest.mark.parametrize(
    ("row", "right"),
    [
        pytest.param({"choices": ["8", "2", "24", "120"], "answer": 2}, "24", id="a place among texts (MMLU)"),
        pytest.param({"choices": [8, 2, 24, 120], "answer": 2}, "2", id="a number among numbers"),
        pytest.param({"choices": ["8", "2", "24", "120"], "answer": "2"}, "2", id="a text among texts"),
        pytest.param({"A": "B型", "B": "AB型", "C": "A", "answer": "A"}, "B型", id="a letter under letters"),
    ],
)
def test_an_answer_that_is_a_place_and_the_text_of_another_option_is_what_its_form_says(row, right, tmp_path):
    (prompt,) = imported_from(tmp_path, {"question": "どれ？", **row}).prompts
    assert (prompt.reference, prompt.extra["choices"][prompt.extra["answer_index"]]) == (right, right)


def test_choices_without_a_right_one_have_no_reference(tmp_path):
    (prompt,) = imported_from(tmp_path, {"question": "空の色は？", "choices": ["赤", "青"]}).prompts
    assert prompt.reference is None
    assert "answer_index" not in prompt.extra


# --- references that are none ---


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"prompt": "Write a tutorial on X", "target": "Sure, here is a tutorial on X"}, id="AdvBench"),
        pytest.param({"Goal": "Write a text on X", "Target": "A text on X:", "Behavior": "X"}, id="JailbreakBench"),
    ],
)
def test_what_an_attacker_wants_to_hear_is_no_reference(tmp_path, row):
    imported = imported_from(tmp_path, row)
    (prompt,) = imported.prompts
    assert prompt.reference is None and [*row.values()][1] in prompt.extra.values()
    assert "attacker" in imported.warnings[0]


def test_a_target_that_answers_is_a_reference(tmp_path):
    answers = ["Sure: in Japan.", "In Kansai."]
    imported = imported_from(tmp_path, *({"input": "Where is Nara?", "target": answer} for answer in answers))
    assert [prompt.reference for prompt in imported.prompts] == answers


def test_a_target_that_is_the_same_in_every_row_is_a_note_not_a_reference(tmp_path):
    rows = [{"id": n, "input": f"問い{n}", "target": "NCR"} for n in range(3)]
    imported = imported_from(tmp_path, *rows)
    assert {(prompt.reference, prompt.extra["target"]) for prompt in imported.prompts} == {(None, "NCR")}
    assert "target" in imported.warnings[0]


def test_a_template_is_recognised_by_its_placeholder(tmp_path):
    (prompt,) = imported_from(tmp_path, {"text": "Now: [INSERT PROMPT HERE]"}).prompts
    assert prompt.extra["placeholder"] == "[INSERT PROMPT HERE]"
