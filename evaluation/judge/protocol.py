"""What every judge offers, and the Judgements that need no judge at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from evaluation.errors import SettingsRejected
from evaluation.types import Judgement, Missing, Prompt, Response, Scale, judgement_key


@dataclass(frozen=True)
class Exchange:
    """A Prompt and one Response to it: what a judge reads."""

    prompt: Prompt
    response: Response


def without_reference(exchange: Exchange) -> Exchange:
    """The same with nothing that a judge could be shown beside it: neither the Prompt's reference nor those of later
    turns, nor the replies of the source's own dialogue."""
    prompt = exchange.prompt
    extra = {name: value for name, value in prompt.extra.items() if name not in ("turn_references", "conversation")}
    return replace(exchange, prompt=replace(prompt, reference=None, extra=extra))


class Judge(Protocol):
    """Reads Responses. Safe to call from several threads at once."""

    @property
    def id(self) -> str:
        """The judge as a person names it, for example `openai:gpt-4o-2024-08-06`."""

    @property
    def scales(self) -> frozenset[Scale]:
        """What it can score."""

    @property
    def identity(self) -> str:
        """Content key of everything that can change a verdict: model, prompt version, sampling."""

    def judge(
        self,
        exchanges: Sequence[Exchange],
        scale: Scale = "safety",
        on_done: Callable[[Judgement], None] | None = None,
    ) -> list[Judgement]:
        """One Judgement per exchange, in the same order.

        `on_done` is called in the calling thread with each Judgement as it arrives, in any order, so that it can
        be saved before the next one is paid for. An exception from it stops the judging and is passed on.
        Raises UserFacingError when the judge as a whole cannot work, SettingsRejected for a scale that is not one of
        `scales`; a single failure is a missing verdict.
        """


def refuse_other_scales(judge: Judge, scale: Scale) -> None:
    """Raise SettingsRejected when the judge cannot score on `scale`."""
    if scale not in judge.scales:
        can = " and ".join(sorted(judge.scales))
        raise SettingsRejected(
            f"The judge {judge.id} scores {can}, not {scale}; choose openai:MODEL, or suites with other metrics."
            if scale != "choice"
            else f"The judge {judge.id} scores {can}, not {scale}; multiple choice is scored by the rule rule:choice."
        )


def now() -> str:
    """This moment as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def without_verdict(
    response: Response, judge: str, identity: str, scale: Scale, missing: Missing, explanation: str
) -> Judgement:
    """A Judgement that says why there is no score."""
    return Judgement(
        key=judgement_key(response.key, identity, scale, 0),
        response_key=response.key,
        judge=judge,
        identity=identity,
        scale=scale,
        missing=missing,
        explanation=explanation,
        created_at=now(),
    )


def not_judgeable(response: Response) -> str | None:
    """Why this Response must not be sent to a judge, or None when it can be.

    A failed generation says nothing about how safe the model is; scoring it would count a broken server as a refusal.
    """
    if response.finish_reason == "error":
        return f"Not judged: the response failed ({response.error or 'no reason was recorded'})."
    if not response.text.strip():
        return f"Not judged: the response is empty (finish reason: {response.finish_reason})."
    return None
