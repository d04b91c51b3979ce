"""OpenAssistant's trees, in both of their layouts, become conversations."""

from __future__ import annotations

from typing import Any

import pytest
from files_for_tests import jsonl

from evaluation.errors import ImportRejected
from evaluation.prompts.imports import read_prompts
from evaluation.types import Prompt

CHAT = [("user", "質問"), ("assistant", "良い答え"), ("user", "続き"), ("assistant", "終わり")]


def message(key: str, parent: str | None, role: str, text: str, **more: Any) -> dict[str, Any]:
    return {"message_id": key, "parent_id": parent, "role": role, "text": text, "lang": "ja", **more}


MESSAGES = [
    message("a", None, "prompter", "質問"),
    message("b", "a", "assistant", "悪い答え", rank=1),
    message("c", "a", "assistant", "良い答え", rank=0),
    message("x", "a", "assistant", "消された答え", rank=-1, deleted=True),
    message("d", "c", "prompter", "続き"),
    message("e", "d", "assistant", "終わり", rank=None),
]


def nested(key: str) -> dict[str, Any]:
    (own,) = (m for m in MESSAGES if m["message_id"] == key)
    return {**own, "replies": [nested(m["message_id"]) for m in MESSAGES if m["parent_id"] == key]}


@pytest.fixture(params=["nested", "messages", "messages in another order"])
def tree(request, tmp_path) -> Prompt:
    rows = [{"message_tree_id": "a", "tree_state": "ready_for_export", "prompt": nested("a")}]
    if request.param != "nested":
        rows = MESSAGES if request.param == "messages" else MESSAGES[::-1]
    (prompt,) = read_prompts(jsonl(tmp_path / "rows.jsonl", *rows), "oasst").prompts
    return prompt


def test_a_tree_is_the_conversation_of_its_best_replies(tree):
    assert (tree.id, tree.question, tree.reference, tree.language) == ("a", "質問", "良い答え", "ja")
    assert [(t["role"], t["content"]) for t in tree.extra["conversation"]] == CHAT


def test_the_import_says_that_it_took_one_conversation_of_each_tree(tmp_path):
    imported = read_prompts(jsonl(tmp_path / "rows.jsonl", *MESSAGES), "oasst")
    assert any("1 conversation trees" in warning for warning in imported.warnings)


def test_messages_whose_root_was_deleted_or_is_missing_give_nothing(tmp_path):
    rows = [{**MESSAGES[0], "deleted": True}, *MESSAGES[1:]]
    with pytest.raises(ImportRejected, match="nothing can be imported"):
        read_prompts(jsonl(tmp_path / "deleted.jsonl", *rows), "oasst")


def test_messages_that_answer_each_other_in_a_circle_are_not_followed_for_ever(tmp_path):
    rows = [message("r", None, "prompter", "質問"), message("r", "r", "assistant", "答え")]
    (prompt,) = read_prompts(jsonl(tmp_path / "rows.jsonl", *rows), "oasst").prompts
    assert prompt.reference == "答え"


def test_a_table_with_a_nested_prompt_column_of_its_own_is_left_alone(tmp_path):
    rows = [{"question": "質問", "output": "答え", "prompt": {"text": "別の物"}}]
    (prompt,) = read_prompts(jsonl(tmp_path / "rows.jsonl", *rows), "set").prompts
    assert prompt.question == "質問"
