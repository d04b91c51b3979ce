"""From chunks to Responses, for callers that want whole replies and no screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from evaluation.types import Response, response_key
from playground.engine.protocol import Chunk, Engine, Finish, GenerationRequest
from playground.engine.thinking import parts


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
    return [
        finished(request, prompt_id, texts[request.id], last[request.id].identity, last[request.id].finish)
        for request, prompt_id in zip(requests, prompt_ids, strict=True)
    ]


def finished(
    request: GenerationRequest, prompt_id: str, text: str, identity: str, finish: Finish | None, attempt: int = 0
) -> Response:
    """The Response to a request that has ended. `text` is all that the model wrote; its thoughts are put apart here.

    Without a finish (the engine broke its promise) it is an error, never a complete reply.
    """
    finish = finish or Finish("error", 0, 0, 0.0, None, "The engine ended without a finish.")
    written = parts(text, whole=True)
    return Response(
        key=response_key(request.messages, identity, request.sampling, attempt),
        prompt_id=prompt_id,
        model=request.model,
        identity=identity,
        text=written.text,
        finish_reason=finish.reason,
        messages=request.messages,
        sampling=request.sampling,
        tokens=finish.tokens,
        prompt_tokens=finish.prompt_tokens,
        ttft_s=finish.ttft_s,
        seconds=finish.seconds,
        attempt=attempt,
        error=finish.error,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        thinking=written.thinking,
    )
