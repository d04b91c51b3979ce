"""The nouns: Prompt, Response, Judgement, Pair, Rating, Label, and what identifies a model.

Every key is a content hash, so that importing or resuming twice changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Missing = Literal["unparsed", "judge_refused", "unreachable", "not_run"]
Scale = Literal["safety", "refusal", "usefulness", "choice"]
Metric = Literal["safety", "borderline", "usefulness", "attack", "choice"]  # what a suite measures
FinishReason = Literal["stop", "length", "cancelled", "error"]
Choice = Literal["left", "right", "tie", "both_bad"]
Role = Literal["system", "user", "assistant"]

# Lowest and highest score of each scale; docs/suites.md says what the numbers mean.
SCORES: Mapping[Scale, tuple[int, int]] = {"safety": (1, 5), "refusal": (1, 3), "usefulness": (1, 10), "choice": (0, 1)}


def content_key(*parts: object) -> str:
    """Return the first 24 hex digits of the sha256 over the parts' canonical JSON."""
    canonical = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Category:
    """A place in the taxonomy, by its Japanese names. A deeper level may be unknown."""

    risk_area: str | None = None
    harm_type: str | None = None
    specific_harm: str | None = None


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True)
class Prompt:
    """A question we send, with what is known about it.

    `turns` holds the later user turns of a multi-turn prompt. `extra` keeps the columns of the
    source that we do not know, so that they can be shown; nothing depends on them.
    """

    id: str
    question: str
    reference: str | None = None
    category: Category | None = None
    language: str = "ja"
    suite: str = ""
    turns: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def messages(self) -> tuple[Message, ...]:
        """The prompt as a one-turn conversation."""
        return (Message("user", self.question),)


# Read from JSON, a number is finite; NaN could not be written back.
_FINITE = {"allow_inf_nan": False}


@dataclass(frozen=True)
class Sampling:
    """How text is drawn. `max_tokens` counts new tokens; `temperature` 0 is greedy."""

    __pydantic_config__ = _FINITE

    temperature: float = 0.3  # the embedded model loses its thread at higher ones (docs/embedded-model.md)
    top_p: float = 0.95
    max_tokens: int = 256
    seed: int = 0
    system_prompt: str | None = None  # None: the chat format's own line


@dataclass(frozen=True)
class ModelIdentity:
    """What exactly answered. Two identities are equal only if weights, adapter and template are."""

    model: str  # model id as the user names it
    base: str  # id or folder name of the base weights
    weights_sha256: str  # over the weights' file list and hashes; for a remote model: of its reported name
    adapter_sha256: str | None
    template_sha256: str

    @property
    def digest(self) -> str:
        """Short form shown on the badge and stored with every Response."""
        return content_key(self.base, self.weights_sha256, self.adapter_sha256, self.template_sha256)[:12]


@dataclass(frozen=True)
class Response:
    """One model's reply to one conversation, with the settings and timing it was made with.

    `seconds` and `ttft_s` (time to first token) are wall-clock seconds from the request.
    `tokens` counts generated tokens. Imported responses have no timing and `sampling` None.
    `thinking` is what a reasoning model thought before its reply: shown folded, never judged, never sent back.
    """

    __pydantic_config__ = _FINITE

    key: str
    prompt_id: str
    model: str
    identity: str
    text: str
    finish_reason: FinishReason
    messages: tuple[Message, ...] = ()  # what was sent, the reply excluded
    sampling: Sampling | None = None
    tokens: int | None = None
    prompt_tokens: int | None = None
    ttft_s: float | None = None
    seconds: float | None = None
    attempt: int = 0
    error: str | None = None
    created_at: str = ""  # ISO 8601, UTC
    thinking: str = ""


def response_key(prompt: tuple[Message, ...], identity: str, sampling: Sampling | None, attempt: int) -> str:
    """Key of a Response: what was sent + model identity + sampling + attempt."""
    sent = [[message.role, message.content] for message in prompt]
    return content_key("response", sent, identity, asdict(sampling) if sampling else None, attempt)


@dataclass(frozen=True)
class Judgement:
    """One judge's reading of one Response.

    Exactly one of `score` and `missing` is set: a judge that failed has told us nothing about
    the model it was reading. On the safety scale `score` is 1 (severe violation) to 5 (safe and
    very helpful); on the refusal scale 1 (excessive refusal) to 3 (no refusal); on the usefulness
    scale 1 to 10; on the choice scale 1 (the right option) or 0.
    """

    __pydantic_config__ = _FINITE

    key: str
    response_key: str
    judge: str  # judge id, never a display name
    identity: str  # judge model + prompt version + sampling
    scale: Scale = "safety"
    score: int | None = None
    missing: Missing | None = None
    explanation: str = ""
    raw_text: str = ""  # as received, so that a better parser can read it again
    with_reference: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None
    attempt: int = 0
    created_at: str = ""

    def __post_init__(self) -> None:
        if (self.score is None) == (self.missing is None):
            raise ValueError("A Judgement has either a score or the reason it is missing.")
        lowest, highest = SCORES[self.scale]
        if self.score is not None and not lowest <= self.score <= highest:
            raise ValueError(f"A {self.scale} score is {lowest} to {highest}, not {self.score}.")


def judgement_key(response: str, judge_identity: str, scale: Scale, attempt: int) -> str:
    """Key of a Judgement: response key + judge identity + scale + attempt."""
    return content_key("judgement", response, judge_identity, scale, attempt)


def as_attempt(judgement: Judgement, attempt: int) -> Judgement:
    """The same reading under the key of that attempt: a record's key is taken once it stands in a journal."""
    key = judgement_key(judgement.response_key, judgement.identity, judgement.scale, attempt)
    return replace(judgement, key=key, attempt=attempt)


@dataclass(frozen=True)
class Pair:
    """Two Responses to the same Prompt, and which side of the screen each stood on.

    `question` is what was asked in this turn: in a conversation it is the last user message, which
    need not be the Prompt's first question. `turn` counts the user messages so far, from 1.
    """

    key: str
    prompt_id: str
    question: str
    left: str  # response key
    right: str  # response key
    turn: int = 1
    created_at: str = ""


def pair_key(prompt_id: str, left: str, right: str, turn: int) -> str:
    """Key of a Pair: prompt + the two response keys in order + turn."""
    return content_key("pair", prompt_id, left, right, turn)


@dataclass(frozen=True)
class Rating:
    """A person's vote on a Pair: two Responses to the same Prompt."""

    key: str
    left: str  # response key
    right: str  # response key
    choice: Choice
    rater: str = "local"
    created_at: str = ""


@dataclass(frozen=True)
class Label:
    """An imported verdict on a Response, by a person or a named model."""

    response_key: str
    name: str  # the column it came from
    value: str
    rater: str


def to_json(record: Prompt | Response | Judgement | Pair | Rating | Label) -> dict[str, Any]:
    """The record as a JSON-ready dict, None and empty fields included."""
    return asdict(record)


def prompt_from_json(row: Mapping[str, Any]) -> Prompt:
    """Inverse of `to_json` for a Prompt. Raises KeyError or TypeError on a malformed row."""
    category = row.get("category")
    return Prompt(
        **{**row, "category": Category(**category) if category else None, "turns": tuple(row.get("turns", ()))}
    )


def response_from_json(row: Mapping[str, Any]) -> Response:
    """Inverse of `to_json` for a Response. Raises KeyError or TypeError on a malformed row."""
    sampling = row.get("sampling")
    messages = tuple(Message(**message) for message in row.get("messages", ()))
    return Response(**{**row, "sampling": Sampling(**sampling) if sampling else None, "messages": messages})
