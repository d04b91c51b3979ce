"""What a benchmark will take, before it starts: calls, tokens, dollars, and seconds where a pace is known."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evaluation.benchmark.judging import Panel
from evaluation.benchmark.plan import Request
from evaluation.benchmark.turns import ends_of
from evaluation.judge.endpoint import origin_of
from evaluation.judge.prices import cost_usd
from evaluation.judge.protocol import Exchange, Judge
from evaluation.judge.rubric import system_prompt
from evaluation.types import Prompt, Scale

TOKENS_PER_CHARACTER = 0.8  # of Japanese, in the tokenizers of hosted models
RESPONSE_SHARE = 0.6  # of max_tokens, that a response uses on average
VERDICT_TOKENS = 180  # three sentences and a score
REMOTE = "openai:"

_Call = tuple[str, float, float]  # model, prompt tokens, completion tokens


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

    Of a conversation the turns after a Response in `have` are requests of their own; those after one that is missing
    are counted with it. `base_url` is where models and judges named `openai:` are asked.
    """
    calls: list[_Call] = []
    responses = verdicts = 0
    for request in requests:
        made = RESPONSE_SHARE * request.sampling.max_tokens
        keys = panel.keys(request.key, request.prompt, last=request.last)
        readings = [(request.turn, scale) for scale, key in keys.items() if key not in have]
        turns = [request.turn]
        if request.key not in have:
            later = range(request.turn + 1, len(request.prompt.turns) + 2)
            turns += later
            for turn in later:
                last = turn > len(request.prompt.turns)
                readings += [(turn, scale) for scale in panel.scales(request.prompt, last=last)]
            responses += len(turns)
        for turn in turns if request.key not in have and request.model.startswith(REMOTE) else ():
            sent = TOKENS_PER_CHARACTER * (_sent(request, turn) + len(request.sampling.system_prompt or ""))
            calls.append((request.model.removeprefix(REMOTE), sent + made * (turn - request.turn), made))
        for turn, scale in readings:
            judge = panel.judge(scale)
            if scale not in judge.scales:
                continue
            verdicts += 1
            replied = made * (turn - request.turn + 1)
            calls += _verdict_calls(judge, scale, request.prompt, _sent(request, turn), replied)
    seconds = None if pace is None else max(responses * pace.response_s, verdicts * pace.verdict_s)
    return _total(len({request.prompt.id for request in requests}), responses, verdicts, calls, base_url, seconds)


def forecast_judging(
    exchanges: Sequence[Exchange], panel: Panel, base_url: str, *, have: Collection[str] = ()
) -> Forecast:
    """Count the verdicts that Responses which exist are owed, without those Judgements whose keys are in `have`. Pure.

    `base_url` is where judges named `openai:` are asked. How long a judge takes is not known from other work.
    """
    calls: list[_Call] = []
    verdicts = 0
    ends = ends_of([exchange.response for exchange in exchanges])
    for exchange in exchanges:
        response, prompt = exchange.response, exchange.prompt
        shown = sum(len(message.content) for message in response.messages) or len(prompt.question)
        for scale, key in panel.keys(response.key, prompt, last=response.key in ends).items():
            judge = panel.judge(scale)
            if key not in have and scale in judge.scales:
                verdicts += 1
                calls += _verdict_calls(judge, scale, prompt, shown, TOKENS_PER_CHARACTER * len(response.text))
    return _total(len({exchange.prompt.id for exchange in exchanges}), 0, verdicts, calls, base_url, None)


def _verdict_calls(judge: Judge, scale: Scale, prompt: Prompt, asked: int, replied: float) -> list[_Call]:
    """The call that a verdict takes; none in this process. `asked`: characters of the user's side, `replied`: tokens."""
    if not judge.id.startswith(REMOTE):
        return []
    shown = len(system_prompt(scale, "ja", True)) + asked + len(prompt.reference or "")
    return [(judge.id.removeprefix(REMOTE), shown * TOKENS_PER_CHARACTER + replied, VERDICT_TOKENS)]


def _total(
    prompts: int, responses: int, verdicts: int, calls: Sequence[_Call], base_url: str, seconds: float | None
) -> Forecast:
    origin = origin_of(base_url)
    costs = [cost_usd(model, origin, round(sent), round(made)) for model, sent, made in calls]
    known = [cost for cost in costs if cost is not None]
    return Forecast(
        prompts=prompts,
        responses=responses,
        verdicts=verdicts,
        calls=len(calls),
        prompt_tokens=round(sum(sent for _, sent, _ in calls)),
        completion_tokens=round(sum(made for _, _, made in calls)),
        cost_usd=sum(known) if len(known) == len(costs) else None,
        seconds=seconds,
    )


def _sent(request: Request, turn: int) -> int:
    """Characters of the messages that are known when that turn is asked; the replies between them are not."""
    return sum(len(message.content) for message in request.messages) + sum(
        map(len, request.prompt.turns[request.turn - 1 : turn - 1])
    )
