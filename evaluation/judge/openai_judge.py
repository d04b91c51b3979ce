"""A judge behind any OpenAI-compatible chat API: build the prompt, ask, parse."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

from evaluation.benchmark.pacing import MOST, Pacer, SpendCapReached, Stopped
from evaluation.errors import SettingsRejected, UserFacingError
from evaluation.judge.endpoint import Answer, ChatEndpoint, Filtered, Patience, TooLong, Unreachable
from evaluation.judge.parse import Verdict, parse_verdict
from evaluation.judge.prices import cost_usd
from evaluation.judge.protocol import Exchange, not_judgeable, now, refuse_other_scales, without_verdict
from evaluation.judge.rubric import (
    PROMPT_VERSION,
    Language,
    ask_again,
    build_prompt,
    shows_reference,
    verdict_schema,
)
from evaluation.types import Judgement, Message, Scale, content_key, judgement_key

DEFAULT_MODEL = "gpt-4o-2024-08-06"  # llm-jp-judge's default, so that published numbers can be compared
DEFAULT_BASE_URL = "https://api.openai.com/v1"
RE_ASKS = 2


@dataclass
class _Usage:
    """What one sample's replies used, all asks together. None once any reply did not say."""

    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    cost_usd: float | None = 0.0
    replies: list[str] = field(default_factory=list)

    def add(self, answer: Answer, model: str, origin: str) -> None:
        self.replies.append(answer.text or answer.refusal or "")
        prompt, completion = answer.prompt_tokens, answer.completion_tokens
        cost = None
        if prompt is not None and completion is not None:
            cost = cost_usd(model, origin, prompt, completion, answer.cached_tokens)
        self.prompt_tokens = None if self.prompt_tokens is None or prompt is None else self.prompt_tokens + prompt
        self.completion_tokens = (
            None if self.completion_tokens is None or completion is None else self.completion_tokens + completion
        )
        self.cost_usd = None if self.cost_usd is None or cost is None else self.cost_usd + cost


class OpenAIJudge:
    """Scores Responses with a chat model, as many at a time as the endpoint bears and `concurrency` at most.

    `pacer` is shared with whoever else asks the endpoint; without one the judge paces itself. `max_tokens` bounds a reply; it leaves room for a judge that thinks first (about 1,900 tokens were seen).
    `api_key` None sends no key. `kind` begins the judge's id. `where` stands for the endpoint in the judge's identity;
    unset, its address does, which for a server on any free port would be another each time. `sleep` (seconds), `clock` (seconds) and `jitter` ([0, 1)) are there for tests.
    Raises SettingsRejected or AccessMissing when it could never work.
    """

    scales: frozenset[Scale] = frozenset({"safety", "refusal", "usefulness"})

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        base_url: str = DEFAULT_BASE_URL,
        api_key: str | None,
        language: Language = "ja",
        with_reference: bool = True,
        concurrency: int = MOST,
        pacer: Pacer | None = None,
        kind: str = "openai",
        where: str | None = None,
        seed: int = 0,
        max_tokens: int = 2048,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if concurrency < 1:
            raise SettingsRejected(f"The judge's concurrency is {concurrency}; it must be 1 or more.")
        self._pacer = pacer or Pacer(most=concurrency, clock=clock)
        self._endpoint = ChatEndpoint(model, base_url, api_key, self._pacer)
        self._language, self._with_reference = language, with_reference
        self._concurrency, self._seed, self._max_tokens = concurrency, seed, max_tokens
        self._sleep, self._clock, self._jitter = sleep, clock, jitter
        self.id = f"{kind}:{model}"
        sampling = {"temperature": None if self._endpoint.reasoning else 0, "seed": seed, "max_tokens": max_tokens}
        self.identity = content_key(
            "openai-judge", model, where or self._endpoint.origin, PROMPT_VERSION, language, with_reference, sampling
        )

    def judge(
        self,
        exchanges: Sequence[Exchange],
        scale: Scale = "safety",
        on_done: Callable[[Judgement], None] | None = None,
    ) -> list[Judgement]:
        """One Judgement per exchange, in order; see `protocol.Judge`.

        When the endpoint turns out not to work at all (key, model, redirect), what is already being answered is
        still waited for and handed to `on_done`, since it is paid for; then the error is raised. When the pacer is
        stopped, what is being answered is waited for as well, and the rest has no Judgement. What the spend cap has no
        room for is `not_run`.
        """
        refuse_other_scales(self, scale)
        done: list[Judgement | None] = [None] * len(exchanges)
        stopped = threading.Event()
        failure: UserFacingError | None = None
        with (
            self._pacer.woken(stopped),
            ThreadPoolExecutor(max_workers=self._concurrency, thread_name_prefix="judge") as pool,
        ):
            places = {
                pool.submit(self._judge_one, exchange, scale, stopped): place
                for place, exchange in enumerate(exchanges)
            }
            try:
                for future in as_completed(places):
                    try:
                        judgement = future.result()
                    except UserFacingError as error:
                        failure = failure or error
                        # What is queued ends with Stopped by itself; cancel_futures would leave as_completed waiting for ever.
                        continue
                    except Stopped:
                        continue
                    done[places[future]] = judgement
                    if on_done:
                        on_done(judgement)
            except BaseException:
                # From on_done, a bug or Ctrl-C: leave at once, without asking what has not been asked yet.
                stopped.set()
                raise
        if failure:
            raise failure
        return [judgement for judgement in done if judgement is not None]

    def _judge_one(self, exchange: Exchange, scale: Scale, stopped: threading.Event) -> Judgement:
        if stopped.is_set():
            raise Stopped
        reason = not_judgeable(exchange.response)
        if reason:
            return without_verdict(exchange.response, self.id, self.identity, scale, "not_run", reason)
        started = self._clock()
        # Event.wait sleeps too, and wakes when the whole judging stops.
        patience = Patience(self._sleep or stopped.wait, self._clock, self._jitter, stopped)
        usage = _Usage()
        try:
            verdict = self._ask(exchange, scale, patience, usage)
        except Unreachable as error:
            return self._record(exchange, scale, usage, started, Verdict(None, "unreachable", f"Unreachable: {error}."))
        except TooLong as error:
            return self._record(exchange, scale, usage, started, Verdict(None, "not_run", f"Not judged: {error}."))
        except SpendCapReached as error:
            return self._record(exchange, scale, usage, started, Verdict(None, "not_run", str(error)))
        except UserFacingError:
            stopped.set()  # here and not only in judge(): this thread would take up the next exchange first
            raise
        return self._record(exchange, scale, usage, started, verdict)

    def _ask(self, exchange: Exchange, scale: Scale, patience: Patience, usage: _Usage) -> Verdict:
        """Ask until a verdict or a refusal comes, at most 1 + RE_ASKS times."""
        max_tokens = self._max_tokens
        verdict = Verdict(None, "unparsed", "")
        for turn in range(1 + RE_ASKS):

            def build(structured: bool, turn: int = turn) -> tuple[Message, ...]:
                messages = build_prompt(exchange, scale, self._language, self._with_reference, structured)
                return messages if turn == 0 else ask_again(messages, self._language)

            try:
                # Another seed each time: the same one would draw the same unreadable reply.
                answer = self._endpoint.ask(build, verdict_schema(scale), max_tokens, self._seed + turn, patience)
            except Filtered as error:
                return Verdict(None, "judge_refused", f"Refused: {error}.")
            usage.add(answer, self._endpoint.model, self._endpoint.origin)
            verdict = read_answer(answer, scale)
            if verdict.missing != "unparsed":
                return verdict
            if answer.finish_reason == "length":
                max_tokens *= 2
        return verdict

    def _record(self, exchange: Exchange, scale: Scale, usage: _Usage, started: float, verdict: Verdict) -> Judgement:
        response = exchange.response
        asked = bool(usage.replies)
        return Judgement(
            key=judgement_key(response.key, self.identity, scale, 0),
            response_key=response.key,
            judge=self.id,
            identity=self.identity,
            scale=scale,
            score=verdict.score,
            missing=verdict.missing,
            explanation=verdict.explanation,
            raw_text=usage.replies[-1] if asked else "",
            with_reference=shows_reference(exchange, scale, self._with_reference),
            prompt_tokens=usage.prompt_tokens if asked else None,
            completion_tokens=usage.completion_tokens if asked else None,
            cost_usd=usage.cost_usd if asked else None,
            seconds=self._clock() - started,
            created_at=now(),
        )


def read_answer(answer: Answer, scale: Scale) -> Verdict:
    """A reply's verdict, given how the reply ended. Pure.

    A reply cut off at the length limit has none, whatever it holds: what looks like a verdict in it may be quoted.
    """
    if answer.refusal is not None:
        return Verdict(None, "judge_refused", answer.refusal)
    if answer.finish_reason == "content_filter":
        return Verdict(None, "judge_refused", "Refused: the provider's content filter ended the reply.")
    if answer.finish_reason == "length":
        return Verdict(None, "unparsed", "The reply was cut off at its length limit before the verdict.")
    return parse_verdict(answer.text, scale)
