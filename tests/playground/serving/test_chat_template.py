"""The chat template that a server is given for a base model is the app's own format."""

from __future__ import annotations

import pytest

from evaluation.types import Message
from playground.serving.command import INSIDE
from tests.tiny import tiny_tokenizer
from training.chat import ChatFormat

CONVERSATIONS = {
    "one question": ([Message("user", "質問")], None),
    "a system line of one's own": ([Message("user", "質問")], "短く答えてください。"),
    "several turns": ([Message("user", "一"), Message("assistant", "答え"), Message("user", "二")], None),
    "nothing for a system line": ([Message("user", "質問")], ""),
}


@pytest.mark.parametrize(("messages", "system"), CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_the_server_reads_a_chat_as_the_app_writes_it(messages, system):
    template = (INSIDE / "llm_jp.jinja").read_text(encoding="utf-8")
    turns = [{"role": message.role, "content": message.content} for message in messages]
    if system is not None:
        turns.insert(0, {"role": "system", "content": system})
    theirs = tiny_tokenizer(template).apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert list(theirs) == ChatFormat(tiny_tokenizer()).prompt_ids(messages, system)
