"""From chunks to Responses, for callers that want whole replies and no screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from evaluation.types import Response, response_key
from playground.engine.protocol import Chunk, Engine, GenerationRequest


def replies(
    engine: Engine,
    requests: Sequence[GenerationRequest],
    prompt_ids: Sequence[str],
    on_chunk: Callable[[Chunk], None] = lambda _: None,
) -> list[Response]:
    """Stream all requests to their end. One Response per request, in order; `prompt_ids` runs parallel to `requests`.

    Raises what `engine.stream` raises. A request that failed later is a Response with finish_reason "error".
    """
    texts = {request.id: "" for request in requests}
    last: dict[str, Chunk] = {}
    for chunk in engine.stream(requests):
        texts[chunk.request_id] += chunk.text
        last[chunk.request_id] = chunk
        on_chunk(chunk)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return [
        _response(request, prompt_id, texts[request.id], last[request.id], now)
        for request, prompt_id in zip(requests, prompt_ids, strict=True)
    ]


def _response(request: GenerationRequest, prompt_id: str, text: str, last: Chunk, now: str) -> Response:
    finish = last.finish
    if finish is None:
        raise RuntimeError(f"request {request.id} ended without a finish")
    return Response(
        key=response_key(request.messages, last.identity, request.sampling, 0),
        prompt_id=prompt_id,
        model=request.model,
        identity=last.identity,
        text=text,
        finish_reason=finish.reason,
        messages=request.messages,
        sampling=request.sampling,
        tokens=finish.tokens,
        prompt_tokens=finish.prompt_tokens,
        ttft_s=finish.ttft_s,
        seconds=finish.seconds,
        error=finish.error,
        created_at=now,
    )
