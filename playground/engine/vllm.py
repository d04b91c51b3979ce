"""vLLM servers as an engine: one or several, balanced, whose base and adapters share batches and prefix caches.

`our_models` is for servers that have loaded a model whose folder lies here, `their_models` for any other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.benchmark.pacing import Stopped
from evaluation.benchmark.run import DOES_NOT_FIT
from evaluation.errors import ModelUnavailable, UserFacingError
from evaluation.judge.endpoint import too_long
from evaluation.types import FinishReason, ModelIdentity
from playground.engine.balance import Balancer, NoneWorks, Place, Server
from playground.engine.flights import Flights
from playground.engine.protocol import Chunk, Finish, GenerationRequest
from playground.engine.thinking import Deltas
from playground.engine.vllm_cards import none_answers
from playground.engine.vllm_models import Models, OurModels, Prepared
from playground.engine.vllm_theirs import TheirModels
from playground.engine.wire import BROKEN, Address, Call, HungUp, Refused, Unreachable

log = logging.getLogger(__name__)

ATTEMPTS = 3  # a request that broke off, or that the server failed on, is made; it may be what breaks servers
BUSY_ATTEMPTS = 8  # one that servers put off
PATIENCE_S = 5.0  # somebody at a screen waits for a server that does not answer
LONG_PATIENCE_S = 180.0  # a benchmark waits: a server that crashed is started anew in about a minute
EVERY_TOKENS = 32  # of a benchmark's reply come together: nobody reads along, and each piece costs the server time
LONGEST_WAIT_S = 60.0  # that a server may ask for
_BACKOFF_S = 0.5
_MOST_LANES = 1024
_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


def our_models(
    addresses: Sequence[Address],
    folder: Path,
    *,
    base_id: str = "base",
    max_rank: int | None = None,
    long_work: bool = False,
    spare: Callable[[], Address] | None = None,
) -> VllmEngine:
    """The engine of servers that have loaded `folder`; see `OurModels`, and `VllmEngine` for `spare`."""
    servers = [Server(address) for address in addresses]
    models = OurModels(servers, folder, base_id=base_id, max_rank=max_rank)
    return VllmEngine(servers, models, long_work=long_work, spare=spare)


def their_models(addresses: Sequence[Address], *, prefix: str = "vllm:", long_work: bool = False) -> VllmEngine:
    """The engine of servers that somebody else runs; see `TheirModels`."""
    servers = [Server(address) for address in addresses]
    return VllmEngine(servers, TheirModels(servers, prefix=prefix), long_work=long_work)


@dataclass(eq=False)
class _Flight:
    """A request under way."""

    request: GenerationRequest
    prepared: Prepared
    cancelled: threading.Event = field(default_factory=threading.Event)
    call: Call | None = None

    def cancel(self) -> None:
        self.cancelled.set()
        if self.call is not None:
            self.call.hang_up()


class _Written:
    """What has come of a request. `begin` stands before the first text."""

    def __init__(self, begin: str) -> None:
        self._begin = begin
        self.restart()

    def restart(self) -> None:
        """Forget a reply that broke off, to make it anew."""
        self.pieces: list[str] = []
        self.tokens = self.prompt_tokens = 0
        self.first_at: float | None = None
        self.reason: FinishReason | None = None
        self._deltas = Deltas()

    def take(self, event: dict[str, Any]) -> str:
        """Read one event; the new text. Raises ValueError for what is no completion."""
        if "error" in event:
            error = event["error"]
            raise ValueError(str(error.get("message") if isinstance(error, dict) else error))
        text = ""
        for choice in event.get("choices") or ():
            delta = choice.get("delta")
            if delta is None:
                text += choice.get("text") or ""
            else:
                thought = delta.get("reasoning") or delta.get("reasoning_content")
                text += self._deltas.text(thought, delta.get("content"))
            if choice.get("finish_reason") is not None:
                self.reason = _REASONS.get(choice["finish_reason"])
        if text and self.first_at is None:
            self.first_at = time.monotonic()
            text = self._begin + text
        usage = event.get("usage")
        if usage:
            self.tokens, self.prompt_tokens = usage.get("completion_tokens") or 0, usage.get("prompt_tokens") or 0
        else:
            self.tokens += bool(text)
        return text


class VllmEngine:
    """Serves the models of one or several vLLM servers. Fits `protocol.Engine`."""

    def __init__(
        self,
        servers: Sequence[Server],
        models: Models,
        *,
        long_work: bool = False,
        spare: Callable[[], Address] | None = None,
    ) -> None:
        """With `long_work` nobody reads along: a reply's text comes when it is whole, so that one that breaks off at
        one server can be made at another, and a server that is gone is waited for longer.

        `spare` is called once, when no server has worked for that long: it starts one more with the same model, which
        the requests go on at, or raises UserFacingError. Only with `OurModels`: others are known by their addresses.
        """
        self._balancer, self._models, self._long = Balancer(servers), models, long_work
        self._patience_s = LONG_PATIENCE_S if long_work else PATIENCE_S
        self._flights = Flights[_Flight]()
        self._spare, self._sparing = spare, threading.Lock()

    def model_ids(self) -> list[str]:
        """See `protocol.Engine.model_ids`."""
        return self._models.model_ids()

    def identity(self, model: str) -> ModelIdentity:
        """See `protocol.Engine.identity`."""
        return self._models.identity(model)

    def add_adapter(self, name: str, folder: Path) -> None:
        """Load one more adapter, or a new version of one, into running servers. Raises ModelUnavailable."""
        if not isinstance(self._models, OurModels):
            raise ModelUnavailable(f"Adapter {name} cannot be loaded into a server that somebody else runs.")
        self._models.add_adapter(name, folder)

    def check(self) -> None:
        """Raise ModelUnavailable unless a server answers, and serves what it should."""
        self._models.check()

    def close(self) -> None:
        """End all requests. The servers go on."""
        self._flights.cancel()

    def stream(self, requests: Sequence[GenerationRequest]) -> Generator[Chunk]:
        """See `protocol.Engine.stream`. Where only the server can count a prompt, one too long is an error at its end."""
        flights = [_Flight(request, self._models.prepare(request)) for request in requests]
        return self._flights.follow(flights, self._one, min(self._balancer.most, _MOST_LANES))

    def cancel(self, request_id: str) -> None:
        """See `protocol.Engine.cancel`. The connection ends, upon which the server drops the request."""
        self._flights.cancel(request_id)

    def _one(self, flight: _Flight) -> Generator[Chunk]:
        request, identity = flight.request, flight.prepared.identity
        asked = time.monotonic()
        written = _Written(flight.prepared.begin)
        error: str | None = None
        try:
            error = yield from self._attempts(flight, written)
        except Stopped:
            flight.cancelled.set()
        except UserFacingError as refused:
            error = str(refused)
        finally:
            flight.call = None
        cancelled = flight.cancelled.is_set()
        if error is not None and not cancelled:
            log.warning("vLLM request failed: %s", error)
        finish = Finish(
            reason="cancelled" if cancelled else "error" if error else written.reason or "error",
            tokens=written.tokens,
            prompt_tokens=written.prompt_tokens,
            seconds=time.monotonic() - asked,
            ttft_s=None if written.first_at is None else written.first_at - asked,
            error=None if cancelled else error,
        )
        yield Chunk(request.id, identity, "".join(written.pieces) if self._long else "", finish.tokens, finish)

    def _attempts(self, flight: _Flight, written: _Written) -> Generator[Chunk, None, str | None]:
        """Make the request until its reply is whole. Returns why it will not be, or None."""
        since = self._balancer.clock()
        broken = busy = 0
        while True:
            known = len(self._balancer.servers)
            try:
                place = self._balancer.enter(
                    flight.cancelled,
                    self._patience_s,
                    since,
                    lambda server: self._models.able(server, flight.request.model),
                )
            except NoneWorks:
                if self._spared(known):
                    continue
                return str(none_answers(self._balancer.servers))
            origin, wait_s = place.server.address.origin, 0.0
            try:
                yield from self._reply(flight, place, written)
                place.worked()
                return None
            except Unreachable:
                place.failed()
                told = f"{origin} cannot be reached."  # until another server is, or patience ends
            except Refused as refused:
                told = _told(refused, origin, flight)
                wait_s = min(refused.retry_after or _BACKOFF_S * 2**busy, LONGEST_WAIT_S)
                if refused.status in (429, 503):
                    busy += 1
                    place.overloaded(refused.retry_after)
                elif refused.status >= 500:
                    broken += 1
                    place.failed()
                elif refused.status == 404 and flight.prepared.adapter is not None:
                    broken += 1  # a server that was started anew has forgotten what it had loaded
                    place.worked()
                    place.server.adapters.discard(flight.prepared.body["model"])
                else:
                    place.worked()
                    return told
            except (HungUp, *BROKEN) as problem:
                if flight.cancelled.is_set():
                    return None
                broken += 1
                place.failed()
                told = f"The reply from {origin} broke off ({type(problem).__name__}); try again."
                if written.pieces and not self._long:
                    return told  # what was shown cannot be taken back
            finally:
                place.leave()
            if broken >= ATTEMPTS or busy >= BUSY_ATTEMPTS or flight.cancelled.wait(wait_s):
                return told
            written.restart()

    def _spared(self, known: int) -> bool:
        """Whether there is a server beside the `known` that do not work, started here if need be. Raises what `spare` does."""
        with self._sparing:  # the first of many requests starts it, the others wait for it
            models, spare = self._models, self._spare
            if spare is not None and isinstance(models, OurModels) and len(self._balancer.servers) == known:
                self._spare = None
                server = Server(spare())
                models.add_server(server)
                self._balancer.add(server)
            return len(self._balancer.servers) > known

    def _reply(self, flight: _Flight, place: Place, written: _Written) -> Generator[Chunk]:
        """One attempt at one server, streamed. Raises what `Call` does, ValueError for a reply without an end."""
        self._models.ready(place.server, flight.prepared)
        flight.call = call = Call(place.server.address)
        if flight.cancelled.is_set():  # between the place and the call
            raise HungUp
        usage = {"include_usage": True, "continuous_usage_stats": True}
        body: dict[str, Any] = {**flight.prepared.body, "stream": True, "stream_options": usage}
        if self._long:
            body["stream_interval"] = EVERY_TOKENS
        request, identity = flight.request, flight.prepared.identity
        try:
            for event in call.events(flight.prepared.path, body):
                text = written.take(event)
                if text:
                    written.pieces.append(text)
                if text or self._long:
                    yield Chunk(request.id, identity, "" if self._long else text, written.tokens)
        finally:
            call.hang_up()
        if written.reason is None:
            raise ValueError("no finish reason")


def _told(refused: Refused, origin: str, flight: _Flight) -> str:
    """A refusal, for the person at the screen."""
    status = refused.status
    if status in (401, 403):
        return f"{origin} refused the key; check PLAYGROUND_VLLM_API_KEY in .env."
    if status == 404:
        return f"{origin} has no model {flight.prepared.body.get('model', flight.request.model)} (404); check its name."
    if status < 400:
        return f"{origin} answered with a redirect ({status}), and a key is not sent on; set PLAYGROUND_VLLM_URL to its final address."
    if status in (429, 503):
        return f"{origin} is overloaded ({status}); wait a minute and try again."
    said = f": {refused.told}" if refused.told else ""
    if status < 500 and too_long(status, None, refused.told):
        return f"{DOES_NOT_FIT}{origin} refused the request ({status}){said}"
    return f"{origin} refused the request ({status}){said}; the prompt may be too long, or its settings unknown there."
