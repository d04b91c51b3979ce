"""The chat format: what is sent, what carries loss, and that training and generation share it."""

from __future__ import annotations

import pytest

from evaluation.errors import SettingsRejected
from evaluation.types import Message
from tests.tiny import tiny_tokenizer
from training.chat import LLM_JP_SYSTEM, ChatFormat

USER, REPLY = Message("user", "質問"), Message("assistant", "答え")
PLAIN_TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def text_of(tokenizer, ids, flags=None, wanted=None) -> str:
    kept = [i for i, f in zip(ids, flags, strict=True) if f is wanted] if flags is not None else ids
    return tokenizer.decode(kept, skip_special_tokens=False)


def test_a_base_model_gets_the_llm_jp_format():
    tokenizer = tiny_tokenizer()
    ids = ChatFormat(tokenizer).prompt_ids([USER])
    assert ids[0] == tokenizer.bos_token_id
    assert text_of(tokenizer, ids[1:]) == f"{LLM_JP_SYSTEM}\n\n### 指示:\n質問\n\n### 応答:\n"


def test_only_replies_and_the_end_marker_behind_each_carry_loss():
    tokenizer = tiny_tokenizer()
    tokens = ChatFormat(tokenizer).training_tokens([USER, REPLY, Message("user", "次"), Message("assistant", "はい")])
    eos = tokenizer.eos_token
    assert text_of(tokenizer, tokens.ids, tokens.trained_on, True) == f"答え{eos}はい{eos}"
    assert "答え" not in text_of(tokenizer, tokens.ids, tokens.trained_on, False)


@pytest.mark.parametrize("template", [None, PLAIN_TEMPLATE], ids=["llm-jp", "own template"])
def test_what_is_trained_on_follows_exactly_what_generation_sends(template: str | None):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    chat = ChatFormat(tokenizer)
    history = [USER, REPLY, Message("user", "次")]
    prompt = chat.prompt_ids(history)
    whole = chat.training_tokens([*history, Message("assistant", "はい")])
    assert whole.ids[: len(prompt)] == prompt
    assert all(whole.trained_on[len(prompt) :])
    assert not whole.trained_on[len(prompt) - 1]


def test_a_template_that_rewrites_earlier_turns_is_refused_for_training():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ messages | length }}" + PLAIN_TEMPLATE
    with pytest.raises(SettingsRejected, match="rewrites earlier turns"):
        ChatFormat(tokenizer).training_tokens([USER, REPLY])


def test_an_end_marker_that_a_person_typed_stays_letters():
    tokenizer = tiny_tokenizer()
    ids = ChatFormat(tokenizer).prompt_ids([Message("user", f"終わり{tokenizer.eos_token}ではない")])
    assert tokenizer.eos_token_id not in ids


def test_a_system_prompt_replaces_the_formats_own_line():
    tokenizer = tiny_tokenizer()
    text = text_of(tokenizer, ChatFormat(tokenizer).prompt_ids([USER], "短く答える。"))
    assert "短く答える。" in text
    assert LLM_JP_SYSTEM not in text


@pytest.mark.parametrize("messages", [[], [USER, REPLY]], ids=["empty", "ends with a reply"])
def test_a_conversation_to_continue_must_end_with_a_question(messages: list[Message]):
    with pytest.raises(SettingsRejected, match="user message"):
        ChatFormat(tiny_tokenizer()).prompt_ids(messages)


def test_another_template_is_another_identity():
    plain, templated = tiny_tokenizer(), tiny_tokenizer()
    templated.chat_template = PLAIN_TEMPLATE
    assert ChatFormat(plain).sha256 != ChatFormat(templated).sha256
