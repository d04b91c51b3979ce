"""Any OpenAI-compatible chat endpoint as an engine: a hosted model, a vLLM server, a llama.cpp server."""

from __future__ import annotations

import hashlib
import logging
import socket
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai

from evaluation.benchmark.pacing import MOST, Pacer, SpendCapReached, Stopped, Turn
from evaluation.benchmark.run import DOES_NOT_FIT, FILTERED
from evaluation.errors import AccessMissing, ModelUnavailable
from evaluation.judge.endpoint import FILTERED_CODES, origin_of, redacted, retry_after_s, too_long
from evaluation.judge.prices import cost_usd, most_usd
from evaluation.types import FinishReason, ModelIdentity
from playground.engine.flights import Flights
from playground.engine.protocol import Chunk, Finish, GenerationRequest
from playground.engine.thinking import Deltas

log = logging.getLogger(__name__)

TIMEOUT_S = 120.0  # between two chunks
CONNECT_S = 10.0
ATTEMPTS = 3  # to get a reply begun; one that has begun is never asked for again
BACKOFF_S = 0.5  # before the second attempt, doubled before the next
LONGEST_WAIT_S = 60.0  # that a server may ask for before the next attempt
_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "stop"}


@dataclass(eq=False)
class _Flight:
    """A request under way. Cancelling it wakes the thread that waits for the server, at whatever point it waits."""

    request: GenerationRequest
    name: str
    cancelled: threading.Event = field(default_factory=threading.Event)
    _socket: socket.socket | None = None

    def cancel(self) -> None:
        self.cancelled.set()
        self._hang_up()

    def watch(self, request: httpx2.Request) -> None:
        """Hook on each HTTP request: note its connection, which the client shows nobody before the reply begins."""
        request.extensions = {**request.extensions, "trace": self._note}

    def _note(self, event: str, info: dict[str, Any]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")
            if self.cancelled.is_set():
                self._hang_up()

    def _hang_up(self) -> None:
        # Closing would not do: a thread that reads from the connection would not notice.
        if self._socket is not None:
            with suppress(OSError):  # it is closed already
                self._socket.shutdown(socket.SHUT_RDWR)


class EndpointEngine:
    """Serves `models` of one endpoint. The key goes to that endpoint's origin and nowhere else."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        models: Sequence[str],
        *,
        prefix: str = "openai:",
        pacer: Pacer | None = None,
        attempts: int = ATTEMPTS,
    ) -> None:
        """`models` are names as the endpoint knows them; a request names them with `prefix` in front.

        `pacer` is shared with whoever else asks the endpoint. Nobody waits at a screen for long work: it may have more
        `attempts` to get a reply begun.
        """
        if not api_key:
            raise AccessMissing(
                f"No key for {origin_of(base_url)}; put PLAYGROUND_OPENAI_API_KEY in .env and start again."
            )
        self._origin = origin_of(base_url)
        self._prefix = prefix
        self._models = list(models)
        self._base_url, self._api_key = base_url, api_key
        self._pacer, self._attempts = pacer or Pacer(), attempts
        self._certificates = httpx2.create_ssl_context()  # read once; each request has a connection of its own
        self._flights = Flights[_Flight]()
        self._refused: dict[str, list[str]] = {}  # by model, parameters that it answered 400 to

    def model_ids(self) -> list[str]:
        """The served names with their prefix."""
        return [self._prefix + name for name in self._models]

    def identity(self, model: str) -> ModelIdentity:
        """What `model` is, as far as an endpoint tells: its origin and the name it goes by."""
        name = self._name(model)
        told = f"{self._origin} {name}"
        return ModelIdentity(model, told, hashlib.sha256(told.encode()).hexdigest(), None, "endpoint")

    def stream(self, requests: Sequence[GenerationRequest]) -> Generator[Chunk]:
        """See `protocol.Engine.stream`. The endpoint counts its own context, so PromptTooLong comes as an error."""
        flights = [_Flight(request, self._name(request.model)) for request in requests]
        return self._flights.follow(flights, self._one, MOST)

    def cancel(self, request_id: str) -> None:
        """See `protocol.Engine.cancel`. The connection ends, which makes the server stop."""
        self._flights.cancel(request_id)

    def _name(self, model: str) -> str:
        name = model.removeprefix(self._prefix)
        if not model.startswith(self._prefix) or name not in self._models:
            raise ModelUnavailable(f"There is no model {model} here; choose one of {', '.join(self.model_ids())}.")
        return name

    def _one(self, flight: _Flight) -> Generator[Chunk]:
        request = flight.request
        identity = self.identity(request.model).digest
        asked = time.monotonic()
        first: float | None = None
        pieces, tokens, prompt_tokens = 0, None, 0
        reason: FinishReason | None = None
        error: str | None = None
        begun = False
        deltas = Deltas()
        try:
            with self._client(flight) as client, ExitStack() as stack:
                stream, turn = self._open(client, flight, stack)
                begun = True
                for event in stream:
                    if event.usage is not None:
                        tokens, prompt_tokens = event.usage.completion_tokens, event.usage.prompt_tokens
                    for choice in event.choices:
                        text = deltas.text(_thought(choice.delta), choice.delta.content)
                        if text:
                            first = first or time.monotonic()
                            pieces += 1
                            yield Chunk(request.id, identity, text, pieces)
                        if choice.finish_reason is not None:
                            reason = _REASONS.get(choice.finish_reason, "stop")
                if reason is None:
                    error = f"{self._origin} ended the stream without a finish reason; the reply may be cut. Try again."
                else:
                    paid = None if tokens is None else cost_usd(flight.name, self._origin, prompt_tokens, tokens)
                    turn.answered(paid)
        except SpendCapReached as refused:
            error = str(refused)
        except Stopped:  # everything that asks this endpoint is to end
            flight.cancelled.set()
        except Exception as problem:  # of the network or the server; hanging up surfaces here too
            broke_off = f"The reply from {self._origin} broke off ({type(problem).__name__}); try again."
            error = broke_off if begun else self._told(problem, flight.name)
        cancelled = flight.cancelled.is_set()
        if error is not None and not cancelled:
            log.warning("endpoint request failed: %s", error)
        finish = Finish(
            reason="cancelled" if cancelled else "error" if error else reason or "stop",
            tokens=pieces if tokens is None else tokens,
            prompt_tokens=prompt_tokens,
            seconds=time.monotonic() - asked,
            ttft_s=None if first is None else first - asked,
            error=None if cancelled else error,
        )
        yield Chunk(request.id, identity, "", finish.tokens, finish)

    def _client(self, flight: _Flight) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=self._base_url,
            api_key=self._api_key,
            timeout=httpx2.Timeout(TIMEOUT_S, connect=CONNECT_S),
            max_retries=0,  # the client's own waits cannot be cancelled
            http_client=openai.DefaultHttpxClient(
                verify=self._certificates,
                # Redirects are refused: following one would carry the key to another host.
                follow_redirects=False,
                event_hooks={"request": [flight.watch]},
            ),
        )

    def _open(self, client: openai.OpenAI, flight: _Flight, leave: ExitStack) -> tuple[Any, Turn]:
        """The reply's stream and the turn it is made in, both left with `leave`.

        Tries again after what may pass, unless the request is cancelled.
        """
        for attempt in range(1, self._attempts + 1):
            with ExitStack() as failed:
                turn = failed.enter_context(self._pacer.enter(flight.cancelled, self._worst_usd(flight)))
                try:
                    stream = self._ask(client, flight)
                except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as problem:
                    passing, asked_s = problem, self._overloaded(turn, problem)
                except openai.APIStatusError:  # turned down, so nothing was made that could be billed
                    turn.unbilled()
                    raise
                else:
                    leave.push(failed.pop_all())
                    leave.enter_context(stream)
                    return stream, turn
            wait = max(BACKOFF_S * 2 ** (attempt - 1), asked_s)
            if attempt == self._attempts or wait > LONGEST_WAIT_S or flight.cancelled.wait(wait):
                raise passing
        raise AssertionError("the last attempt returns or raises")

    def _overloaded(self, turn: Turn, problem: openai.APIError) -> float:
        """Tell the pacer; return how long the server asked us to wait, in seconds."""
        if not isinstance(problem, openai.APIStatusError):
            return 0.0
        asked_s = retry_after_s(problem.response.headers)
        turn.refused(asked_s)
        return asked_s or 0.0

    def _worst_usd(self, flight: _Flight) -> float | None:
        sampling = flight.request.sampling
        texts = [*(message.content for message in flight.request.messages), sampling.system_prompt or ""]
        return most_usd(flight.name, self._origin, sum(map(len, texts)), sampling.max_tokens)

    def _ask(self, client: openai.OpenAI, flight: _Flight) -> Any:
        sampling = flight.request.sampling
        messages = [{"role": m.role, "content": m.content} for m in flight.request.messages]
        if sampling.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": sampling.system_prompt})
        drawn: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
        }
        for name in self._refused.get(flight.name, ()):
            _say_without(drawn, name)
        create: Any = client.chat.completions.create
        while True:
            try:
                return create(
                    model=flight.name, messages=messages, **drawn, stream=True, stream_options={"include_usage": True}
                )
            except openai.BadRequestError as problem:
                if not _say_without(drawn, problem.param):
                    raise
                self._refused.setdefault(flight.name, []).append(str(problem.param))

    def _said(self, problem: openai.APIStatusError) -> str:
        """The server's own reason, on one line of at most 300 characters and without the key."""
        words = redacted(_message(problem), self._api_key)[:300]
        return f": {words.rstrip('.')}" if words else ""

    def _told(self, problem: Exception, name: str) -> str:
        if isinstance(problem, openai.AuthenticationError | openai.PermissionDeniedError):
            return f"{self._origin} refused the key; check PLAYGROUND_OPENAI_API_KEY in .env."
        if isinstance(problem, openai.NotFoundError):
            return f"{self._origin} has no model {name}; check its name."
        if isinstance(problem, openai.RateLimitError):
            return f"{self._origin} is over its rate limit; wait a minute and try again."
        if isinstance(problem, openai.APIStatusError) and problem.status_code < 400:
            return (
                f"{self._origin} answered with a redirect ({problem.status_code}), and a key is not sent on; "
                "set PLAYGROUND_OPENAI_BASE_URL to its final address."
            )
        if isinstance(problem, openai.APIStatusError) and problem.status_code < 500:
            refused = f"{self._origin} refused the request (HTTP {problem.status_code}){self._said(problem)}"
            if (sake := _for_the_prompts_sake(problem)) is not None:
                return f"{sake}{refused}."
            return f"{refused}; the prompt may be too long, or its settings unknown there."
        if isinstance(problem, openai.APIStatusError):
            return f"{self._origin} answered with HTTP {problem.status_code}; it may be busy, try again later."
        if isinstance(problem, openai.APITimeoutError):
            return f"{self._origin} did not answer within {TIMEOUT_S:.0f} s; try again later."
        if isinstance(problem, openai.APIConnectionError):
            return f"{self._origin} cannot be reached; is the server running, and the URL right?"
        return (
            f"{self._origin} did not answer as an OpenAI-compatible server ({type(problem).__name__}); check the URL."
        )


def _message(problem: openai.APIStatusError) -> str:
    message = problem.body.get("message") if isinstance(problem.body, dict) else None
    return str(message or "")


def _for_the_prompts_sake(problem: openai.APIStatusError) -> str | None:
    """How the error begins where another prompt would have been answered; None where that cannot be said."""
    if str(problem.code) in FILTERED_CODES:
        return FILTERED
    return DOES_NOT_FIT if too_long(problem.status_code, problem.code, _message(problem)) else None


def _say_without(drawn: dict[str, Any], name: str | None) -> bool:
    """Ask for the same without a parameter that the model refuses; False where that cannot be said.

    OpenAI's reasoning models know the longest reply by another name, and draw with a temperature and a top_p of 1 alone.
    """
    if name == "max_tokens" and name in drawn:
        drawn["max_completion_tokens"] = drawn.pop(name)
        return True
    return name in ("temperature", "top_p") and drawn.get(name) == 1 and bool(drawn.pop(name))


def _thought(delta: Any) -> str | None:
    """A reasoning model's thoughts, which servers send beside the reply under either of two names."""
    thought = getattr(delta, "reasoning", None) or getattr(delta, "reasoning_content", None)
    return thought if isinstance(thought, str) else None
