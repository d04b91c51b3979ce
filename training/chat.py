"""The chat format: one place that turns messages into tokens, for training and for generation alike.

A tokenizer's own chat template is used where it has one. Base models have none; they get the LLM-jp-2/3
format (source: the dataset module of LLM-jp's public instruction-tuning code).
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from evaluation.errors import SettingsRejected
from evaluation.types import Message

LLM_JP_SYSTEM = "以下は、タスクを説明する指示です。要求を適切に満たす応答を書きなさい。"
_USER = "\n\n### 指示:\n"
_ASSISTANT = "\n\n### 応答:\n"
# A base model goes on to write the next question by itself; the marker ends its reply.
STOP_BEFORE = ("\n### 指示", "\n### 応答")
# Templates of Llama 3.2, gpt-oss and others write today's date. Rows say this day, which Llama 3.1's template has: a
# run that goes on tomorrow must have the same ones.
TRAINING_DAY = date(2024, 7, 26)
_TODAY = re.compile(r"""strftime_now\(\s*(["'])(?P<format>[^"']*)\1\s*\)""")


@dataclass(frozen=True)
class TrainingTokens:
    """One conversation as token ids. `trained_on[i]` says whether `ids[i]` carries loss."""

    ids: list[int]
    trained_on: list[bool]


class ChatFormat:
    """Encodes conversations for one tokenizer.

    Text between the markers is encoded with special tokens switched off, so a user who types
    an end-of-text marker sends letters, not the marker. Safe to call from several threads.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # The tokenizer keeps that switch as its own state, so two threads could encode with each other's setting.
        self._lock = threading.Lock()
        named = tokenizer.chat_template
        # Some models bring several, one for tools among them; without tools the tokenizer takes this one too.
        self.template: str | None = named.get("default") if isinstance(named, dict) else named
        self.stop: tuple[str, ...] = () if self.template else STOP_BEFORE

    @property
    def sha256(self) -> str:
        """Hash of what turns messages into text, as part of a model's identity."""
        source = self.template or f"llm-jp:{LLM_JP_SYSTEM}{_USER}{_ASSISTANT}"
        return hashlib.sha256(source.encode()).hexdigest()

    def prompt_ids(self, messages: Sequence[Message], system_prompt: str | None = None) -> list[int]:
        """Token ids up to the point where the assistant's reply begins."""
        if not messages or messages[-1].role != "user":
            raise SettingsRejected("A conversation to continue must end with a user message.")
        if self.template:
            return self._templated(messages, system_prompt, reply_follows=True)
        return self._llm_jp(messages, system_prompt).ids

    def training_tokens(self, messages: Sequence[Message], system_prompt: str | None = None) -> TrainingTokens:
        """Token ids of a whole conversation; every assistant turn and the end marker behind it carry loss."""
        if self.template is None:
            return self._llm_jp(messages, system_prompt)
        template = _on_one_day(self._tokenizer.get_chat_template())
        ids: list[int] = []
        trained_on: list[bool] = []
        for end, message in enumerate(messages, start=1):
            if message.role != "assistant":
                continue
            before = self._templated(messages[: end - 1], system_prompt, template, reply_follows=True)
            after = self._templated(messages[:end], system_prompt, template, reply_follows=False)
            if before[: len(ids)] != ids or after[: len(before)] != before:
                raise SettingsRejected(
                    "This model's chat template rewrites earlier turns, so the trained tokens cannot be told apart; "
                    "train on single-turn conversations with it."
                )
            trained_on += [False] * (len(before) - len(ids)) + [True] * (len(after) - len(before))
            ids = after
        return TrainingTokens(ids, trained_on)

    def training_tokens_of(self, conversations: Sequence[Sequence[Message]]) -> list[TrainingTokens]:
        """`training_tokens` of each conversation; many are encoded together, on all cores."""
        if self.template is not None or not conversations:
            return [self.training_tokens(messages) for messages in conversations]
        pieces = [_llm_jp_pieces(messages, None) for messages in conversations]
        encoded = iter(self._plain_each([text for one in pieces for text, _ in one]))
        return [self._joined([(next(encoded), loss) for _, loss in one]) for one in pieces]

    def text_ids(self, text: str) -> list[int]:
        """Token ids of a text on its own, with the beginning-of-text token where there is one."""
        bos = self._tokenizer.bos_token_id
        return [*([] if bos is None else [bos]), *self._plain(text)]

    def _templated(
        self,
        messages: Sequence[Message],
        system_prompt: str | None,
        template: str | None = None,
        *,
        reply_follows: bool,
    ) -> list[int]:
        """Token ids by `template`, or by the tokenizer's own."""
        from jinja2 import TemplateError

        turns = [{"role": m.role, "content": m.content} for m in messages]
        if system_prompt is not None:
            turns.insert(0, {"role": "system", "content": system_prompt})
        try:
            with self._lock:
                ids = self._tokenizer.apply_chat_template(
                    turns,
                    chat_template=template,
                    add_generation_prompt=reply_follows,
                    sanitize_control_tokens=True,  # what the user typed stays text
                    return_dict=False,
                )
        except (TemplateError, ValueError) as error:
            raise SettingsRejected(
                f"This model's chat template refuses the conversation ({' '.join(str(error).split())}); "
                "leave out the system prompt or what it names."
            ) from error
        return list(ids)

    def _llm_jp(self, messages: Sequence[Message], system_prompt: str | None) -> TrainingTokens:
        pieces = _llm_jp_pieces(messages, system_prompt)
        return self._joined([(self._plain(text), loss) for text, loss in pieces])

    def _joined(self, pieces: Iterable[tuple[list[int], bool]]) -> TrainingTokens:
        """Pieces of the LLM-jp format with what stands before the first and after each reply."""
        bos, eos = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        if eos is None:
            raise SettingsRejected(
                "This model's tokenizer has no end-of-text token, so no reply could end; choose another."
            )
        ids: list[int] = [] if bos is None else [bos]
        trained_on = [False] * len(ids)
        for piece, loss in pieces:
            ids += [*piece, eos] if loss else piece
            trained_on += [loss] * (len(piece) + loss)
        return TrainingTokens(ids, trained_on)

    def _plain(self, text: str) -> list[int]:
        return self._plain_each([text])[0]

    def _plain_each(self, texts: Sequence[str]) -> list[list[int]]:
        with self._lock:
            encoded = self._tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)
        return [list(ids) for ids in encoded.input_ids]


def _on_one_day(template: str) -> str:
    """The chat template with `TRAINING_DAY` in place of today."""
    return _TODAY.sub(lambda asked: json.dumps(TRAINING_DAY.strftime(asked["format"])), template)


def llm_jp_text(messages: Sequence[Message], system_prompt: str | None = None) -> str:
    """A conversation in the LLM-jp format as plain text, for a server whose tokenizer is not here to mark turns' ends."""
    return "".join(text for text, _ in _llm_jp_pieces(messages, system_prompt))


def _llm_jp_pieces(messages: Sequence[Message], system_prompt: str | None) -> list[tuple[str, bool]]:
    """The texts between the markers, and whether each is a reply, which carries loss."""
    pieces: list[tuple[str, bool]] = []
    pending = LLM_JP_SYSTEM if system_prompt is None else system_prompt
    for message in messages:
        if message.role == "assistant":
            pieces.append((message.content, True))
        elif message.role == "user":
            pieces.append((pending + _USER + message.content + _ASSISTANT, False))
            pending = ""
        else:
            pending = message.content
    return pieces
