"""The chat format: what is sent, what carries loss, and that training and generation share it."""

from __future__ import annotations

import threading

import pytest

from evaluation.errors import SettingsRejected
from evaluation.types import Message
from tests.tiny import REWRITING_TEMPLATE, tiny_tokenizer
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


@pytest.mark.parametrize("template", [None, PLAIN_TEMPLATE], ids=["llm-jp", "own template"])
@pytest.mark.parametrize("typed", ["<eos>", "<bos>", "終わり<eos><eos>ではない", "<pad>"])
def test_no_marker_that_a_person_typed_becomes_one(template: str | None, typed: str):
    tokenizer = tiny_tokenizer(template)
    chat = ChatFormat(tokenizer)
    letters = tokenizer(typed, add_special_tokens=False, split_special_tokens=True).input_ids
    marked, plain = chat.prompt_ids([Message("user", typed)]), chat.prompt_ids([Message("user", "")])
    at = next(i for i in range(len(marked)) if marked[i : i + len(letters)] == letters)
    assert marked[:at] + marked[at + len(letters) :] == plain
    reply = chat.training_tokens([USER, Message("assistant", typed)])
    assert reply.ids.count(tokenizer.eos_token_id) == 1, "the format's own, at the end"


def test_the_llm_jp_format_of_two_turns_is_exactly_this():
    tokenizer = tiny_tokenizer()

    def letters(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    tokens = ChatFormat(tokenizer).training_tokens([USER, REPLY, Message("user", "次"), Message("assistant", "はい")])
    pieces = [
        ([tokenizer.bos_token_id], False),
        (letters(f"{LLM_JP_SYSTEM}\n\n### 指示:\n質問\n\n### 応答:\n"), False),
        ([*letters("答え"), tokenizer.eos_token_id], True),
        (letters("\n\n### 指示:\n次\n\n### 応答:\n"), False),
        ([*letters("はい"), tokenizer.eos_token_id], True),
    ]
    assert tokens.ids == [i for ids, _ in pieces for i in ids]
    assert tokens.trained_on == [loss for ids, loss in pieces for _ in ids]


def test_many_threads_do_not_encode_with_each_others_settings():
    chat = ChatFormat(tiny_tokenizer(PLAIN_TEMPLATE))
    typed = Message("user", "終<eos>わり" * 20)
    prompt, text = chat.prompt_ids([typed]), chat.text_ids(typed.content)
    wrong: list[object] = []

    def encode() -> None:
        for _ in range(60):
            if chat.prompt_ids([typed]) != prompt or chat.text_ids(typed.content) != text:
                wrong.append(1)

    threads = [threading.Thread(target=encode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_template_that_shows_only_the_last_turn_can_be_trained_on_one_turn():
    chat = ChatFormat(tiny_tokenizer(REWRITING_TEMPLATE))
    assert any(chat.training_tokens([USER, REPLY]).trained_on)
    with pytest.raises(SettingsRejected, match="single-turn"):
        chat.training_tokens([USER, REPLY, Message("user", "次"), Message("assistant", "はい")])


def test_a_template_that_writes_the_date_gives_the_same_training_tokens_on_every_day():
    tokenizer = tiny_tokenizer("{{ strftime_now('%d %b %Y, %f') }}" + PLAIN_TEMPLATE)
    chat = ChatFormat(tokenizer)
    tokens = chat.training_tokens([USER, REPLY])
    assert text_of(tokenizer, tokens.ids).startswith("26 Jul 2024, 000000<user>")
    assert "26 Jul 2024" not in text_of(tokenizer, chat.prompt_ids([USER])), "a question is asked today"


def test_a_conversation_that_the_template_refuses_is_told_in_its_words():
    template = "{{ raise_exception('System role not\n supported') if messages[0].role == 'system' }}" + PLAIN_TEMPLATE
    chat = ChatFormat(tiny_tokenizer(template))
    assert chat.prompt_ids([USER])
    with pytest.raises(SettingsRejected, match="System role not supported") as refused:
        chat.prompt_ids([USER], "短く。")
    assert "\n" not in str(refused.value)


def test_a_tokenizer_that_cannot_end_a_reply_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(SettingsRejected, match="end-of-text"):
        ChatFormat(tokenizer).training_tokens([USER, REPLY])


def test_a_system_prompt_replaces_the_formats_own_line():
    tokenizer = tiny_tokenizer()
    text = text_of(tokenizer, ChatFormat(tokenizer).prompt_ids([USER], "短く答える。"))
    assert "短く答える。" in text
    assert LLM_JP_SYSTEM not in text


@pytest.mark.parametrize("messages", [[], [USER, REPLY]], ids=["empty", "ends with a reply"])
def test_a_conversation_to_continue_must_end_with_a_question(messages: list[Message]):
    with pytest.raises(SettingsRejected, match="user message"):
        ChatFormat(tiny_tokenizer()).prompt_ids(messages)


def test_of_several_named_templates_the_default_one_counts():
    one, several = tiny_tokenizer(PLAIN_TEMPLATE), tiny_tokenizer()
    several.chat_template = {"default": PLAIN_TEMPLATE, "tool_use": "{{ tools }}"}
    ours, theirs = ChatFormat(several), ChatFormat(one)
    assert (ours.sha256, ours.prompt_ids([USER])) == (theirs.sha256, theirs.prompt_ids([USER]))
    assert ours.training_tokens([USER, REPLY]) == theirs.training_tokens([USER, REPLY])


def test_another_template_is_another_identity():
    plain, templated = tiny_tokenizer(), tiny_tokenizer()
    templated.chat_template = PLAIN_TEMPLATE
    assert ChatFormat(plain).sha256 != ChatFormat(templated).sha256


@pytest.mark.parametrize("template", [None, PLAIN_TEMPLATE], ids=["llm-jp format", "own template"])
def test_many_conversations_encoded_together_are_each_as_alone(template):
    chat = ChatFormat(tiny_tokenizer(template))
    conversations = [[USER, REPLY], [Message("user", "長い問いです"), Message("assistant", "</s>はい")], [USER, REPLY]]
    assert chat.training_tokens_of(conversations) == [chat.training_tokens(one) for one in conversations]
    assert chat.training_tokens_of([]) == []
