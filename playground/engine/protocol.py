"""The one protocol every engine speaks: a batch of requests in, chunks per request out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from evaluation.types import FinishReason, Message, ModelIdentity, Sampling


@dataclass(frozen=True)
class GenerationRequest:
    """One conversation to continue. `model` names the adapter explicitly, or the base: nothing is implied."""

    id: str  # unique among the requests in flight
    model: str
    messages: tuple[Message, ...]
    sampling: Sampling


@dataclass(frozen=True)
class Finish:
    """How a request ended. `tokens` counts generated tokens; times are wall-clock seconds from the request."""

    reason: FinishReason
    tokens: int
    prompt_tokens: int
    seconds: float
    ttft_s: float | None = None  # None when no token came
    error: str | None = None  # set exactly when reason is "error"; written for the person at the screen


@dataclass(frozen=True)
class Chunk:
    """New text of one request. The last chunk of a request has `finish` set, and its text may be empty."""

    request_id: str
    identity: str  # digest of the model that made this text
    text: str
    tokens: int  # generated so far
    finish: Finish | None = None


class Engine(Protocol):
    """Generates text. Safe to call from several threads at once."""

    def model_ids(self) -> list[str]:
        """Ids that may stand in a request, in display order."""

    def identity(self, model: str) -> ModelIdentity:
        """What `model` is. Raises ModelUnavailable for an unknown id."""

    def stream(self, requests: Sequence[GenerationRequest]) -> Iterator[Chunk]:
        """Yield chunks as they are made, the requests interleaved, exactly one finish per request.

        Raises ModelUnavailable or PromptTooLong before the first chunk. A failure later ends only
        its own request, with reason "error". Closing the iterator cancels what still runs.
        """

    def cancel(self, request_id: str) -> None:
        """End that request within one token; it finishes with reason "cancelled". Unknown ids are ignored."""
