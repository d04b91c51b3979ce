"""Any OpenAI-compatible chat endpoint as an engine: a hosted model, a vLLM server, a llama.cpp server."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import openai

from evaluation.errors import AccessMissing, ModelUnavailable
from evaluation.judge.endpoint import origin_of
from evaluation.types import FinishReason, ModelIdentity
from playground.engine.merge import merged
from playground.engine.protocol import Chunk, Finish, GenerationRequest

log = logging.getLogger(__name__)

TIMEOUT_S = 120.0  # between two chunks
_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "stop"}


class EndpointEngine:
    """Serves `models` of one endpoint. The key goes to that endpoint's origin and nowhere else."""

    def __init__(self, base_url: str, api_key: str | None, models: Sequence[str], *, prefix: str = "openai:") -> None:
        """`models` are names as the endpoint knows them; a request names them with `prefix` in front."""
        if not api_key:
            raise AccessMissing(
                f"No key for {origin_of(base_url)}; put PLAYGROUND_OPENAI_API_KEY in .env and start again."
            )
        self._origin = origin_of(base_url)
        self._prefix = prefix
        self._models = list(models)
        # Redirects are refused: following one would carry the key to another host.
        self._client = openai.OpenAI(
            base_url=base_url,
            api_key=api_key,
            timeout=TIMEOUT_S,
            max_retries=2,
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )
        self._streams: dict[str, Any] = {}
        self._cancelled: set[str] = set()
        self._lock = threading.Lock()

    def model_ids(self) -> list[str]:
        """The served names with their prefix."""
        return [self._prefix + name for name in self._models]

    def identity(self, model: str) -> ModelIdentity:
        """What `model` is, as far as an endpoint tells: its origin and the name it goes by."""
        name = self._name(model)
        told = f"{self._origin} {name}"
        return ModelIdentity(model, told, hashlib.sha256(told.encode()).hexdigest(), None, "endpoint")

    def stream(self, requests: Sequence[GenerationRequest]) -> Iterator[Chunk]:
        """See `protocol.Engine.stream`. The endpoint counts its own context, so PromptTooLong comes as an error."""
        named = [(request, self._name(request.model)) for request in requests]

        def stop() -> None:
            for request, _ in named:
                self.cancel(request.id)

        return merged([self._one(request, name) for request, name in named], stop)

    def cancel(self, request_id: str) -> None:
        """See `protocol.Engine.cancel`. Closing the connection makes the server stop."""
        with self._lock:
            self._cancelled.add(request_id)
            stream = self._streams.get(request_id)
        if stream is not None:
            stream.close()

    def _name(self, model: str) -> str:
        name = model.removeprefix(self._prefix)
        if not model.startswith(self._prefix) or name not in self._models:
            raise ModelUnavailable(f"There is no model {model} here; choose one of {', '.join(self.model_ids())}.")
        return name

    def _one(self, request: GenerationRequest, name: str) -> Iterator[Chunk]:
        identity = self.identity(request.model).digest
        asked = time.monotonic()
        first: float | None = None
        pieces, tokens, prompt_tokens = 0, None, 0
        reason: FinishReason | None = None
        error: str | None = None
        try:
            with self._open(request, name) as stream:
                self._remember(request.id, stream)
                for event in stream:
                    if event.usage is not None:
                        tokens, prompt_tokens = event.usage.completion_tokens, event.usage.prompt_tokens
                    for choice in event.choices:
                        text = choice.delta.content or ""
                        if text:
                            first = first or time.monotonic()
                            pieces += 1
                            yield Chunk(request.id, identity, text, pieces)
                        if choice.finish_reason is not None:
                            reason = _REASONS.get(choice.finish_reason, "stop")
                if reason is None and not self._is_cancelled(request.id):
                    error = f"{self._origin} ended the stream without a finish reason; the reply may be cut. Try again."
        except Exception as problem:
            # Closing the stream from another thread surfaces here as some transport error.
            if not self._is_cancelled(request.id):
                log.warning("endpoint request failed: %s", type(problem).__name__)
                error = self._told(problem, name)
        finally:
            cancelled = self._forget(request.id)
        finish = Finish(
            reason="cancelled" if cancelled else "error" if error else reason or "stop",
            tokens=pieces if tokens is None else tokens,
            prompt_tokens=prompt_tokens,
            seconds=time.monotonic() - asked,
            ttft_s=None if first is None else first - asked,
            error=None if cancelled else error,
        )
        yield Chunk(request.id, identity, "", finish.tokens, finish)

    def _open(self, request: GenerationRequest, name: str) -> Any:
        sampling = request.sampling
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        if sampling.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": sampling.system_prompt})
        return self._client.chat.completions.create(
            model=name,
            messages=messages,  # type: ignore[arg-type]
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=sampling.seed,
            stream=True,
            stream_options={"include_usage": True},
        )

    def _told(self, problem: Exception, name: str) -> str:
        if isinstance(problem, openai.AuthenticationError | openai.PermissionDeniedError):
            return f"{self._origin} refused the key; check PLAYGROUND_OPENAI_API_KEY in .env."
        if isinstance(problem, openai.NotFoundError):
            return f"{self._origin} has no model {name}; check its name."
        if isinstance(problem, openai.RateLimitError):
            return f"{self._origin} is over its rate limit; wait a minute and try again."
        if isinstance(problem, openai.APIStatusError):
            return f"{self._origin} answered with HTTP {problem.status_code}; the prompt may be too long or the server busy."
        if isinstance(problem, openai.APIConnectionError):
            return f"{self._origin} cannot be reached; is the server running, and the URL right?"
        return f"The stream from {self._origin} broke off ({type(problem).__name__}); try again."

    def _remember(self, request_id: str, stream: Any) -> None:
        with self._lock:
            self._streams[request_id] = stream
            cancelled = request_id in self._cancelled
        if cancelled:
            stream.close()

    def _forget(self, request_id: str) -> bool:
        with self._lock:
            self._streams.pop(request_id, None)
            cancelled = request_id in self._cancelled
            self._cancelled.discard(request_id)
            return cancelled

    def _is_cancelled(self, request_id: str) -> bool:
        with self._lock:
            return request_id in self._cancelled
