"""What a benchmark will take, before it starts: calls, tokens, dollars, and seconds where a pace is known."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.benchmark.judging import Panel
from evaluation.benchmark.plan import Request
from evaluation.judge.endpoint import origin_of
from evaluation.judge.prices import cost_usd
from evaluation.judge.rubric import system_prompt
from evaluation.types import Prompt

TOKENS_PER_CHARACTER = 0.8  # of Japanese, in the tokenizers of hosted models
RESPONSE_SHARE = 0.6  # of max_tokens, that a response uses on average
VERDICT_TOKENS = 180  # three sentences and a score
REMOTE = "openai:"


@dataclass(frozen=True)
class Pace:
    """Seconds per record that an earlier run with the same models and judge took, both sides at once."""

    response_s: float
    verdict_s: float


@dataclass(frozen=True)
class Forecast:
    """What is still to be done. Tokens and dollars are those of calls to an endpoint; work in this process costs none.

    `cost_usd` is None when a price is not known, `seconds` when no pace is.
    """

    prompts: int
    responses: int
    verdicts: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """The forecast as a JSON-ready dict."""
        return asdict(self)


def forecast(
    requests: Sequence[Request],
    panel: Panel,
    base_url: str,
    *,
    have: Collection[str] = (),
    pace: Pace | None = None,
) -> Forecast:
    """Count what `requests` need, without those Responses and Judgements whose keys are in `have`. Pure.

    `base_url` is where models and judges named `openai:` are asked.
    """
    origin = origin_of(base_url)
    missing = [request for request in requests if request.key not in have]
    calls: list[tuple[str, float, float]] = []  # model, prompt tokens, completion tokens
    for request in missing:
        if request.model.startswith(REMOTE):
            sent = len(request.prompt.question) + len(request.sampling.system_prompt or "")
            expected = RESPONSE_SHARE * request.sampling.max_tokens
            calls.append((request.model.removeprefix(REMOTE), sent * TOKENS_PER_CHARACTER, expected))
    verdicts = 0
    for request in requests:
        for scale, key in panel.keys(request.key, request.prompt).items():
            judge = panel.judge(scale)
            if key in have or scale not in judge.scales:
                continue
            verdicts += 1
            if judge.id.startswith(REMOTE):
                shown = len(system_prompt(scale, "ja", True)) + _characters(request.prompt)
                tokens = shown * TOKENS_PER_CHARACTER + RESPONSE_SHARE * request.sampling.max_tokens
                calls.append((judge.id.removeprefix(REMOTE), tokens, VERDICT_TOKENS))
    costs = [cost_usd(model, origin, round(sent), round(made)) for model, sent, made in calls]
    known = [cost for cost in costs if cost is not None]
    seconds = None if pace is None else max(len(missing) * pace.response_s, verdicts * pace.verdict_s)
    return Forecast(
        prompts=len({request.prompt.id for request in requests}),
        responses=len(missing),
        verdicts=verdicts,
        calls=len(calls),
        prompt_tokens=round(sum(sent for _, sent, _ in calls)),
        completion_tokens=round(sum(made for _, _, made in calls)),
        cost_usd=sum(known) if len(known) == len(costs) else None,
        seconds=seconds,
    )


def _characters(prompt: Prompt) -> int:
    return len(prompt.question) + len(prompt.reference or "")
