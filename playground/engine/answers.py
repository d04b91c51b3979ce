"""A benchmark's requests through an engine: many at once, each Response as soon as it is whole."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import cast

from evaluation.benchmark.plan import Request
from evaluation.benchmark.run import DOES_NOT_FIT
from evaluation.errors import PromptTooLong
from evaluation.types import Response
from playground.engine.protocol import Chunk, Engine, Finish, GenerationRequest
from playground.engine.replies import finished

IN_HAND = 8192  # requests given to the engine together; it makes as many at a time as it can and keeps the rest waiting


def answers(engine: Engine, requests: Sequence[Request], should_stop: Callable[[], bool]) -> Generator[Response]:
    """One Response per request, as they are done; fewer once `should_stop` says so, asked after each chunk.

    The order of `requests` is kept where the engine decodes in batches, so neighbours share one. A prompt that is too
    long is a Response with finish_reason "error" whose error begins with DOES_NOT_FIT. Raises ModelUnavailable.
    """
    for start in range(0, len(requests), IN_HAND):
        part = requests[start : start + IN_HAND]
        try:
            chunks = engine.stream([_asked(request) for request in part])
        except PromptTooLong:  # the engine refuses all of them for one
            part, refused = _fitting(engine, part)
            yield from refused
            chunks = engine.stream([_asked(request) for request in part])
        yield from _follow(chunks, part, should_stop)
        if should_stop():
            return


def _follow(
    chunks: Iterator[Chunk], requests: Sequence[Request], should_stop: Callable[[], bool]
) -> Iterator[Response]:
    waiting = {request.key: request for request in requests}
    texts = dict.fromkeys(waiting, "")
    # Every engine's iterator is a generator, though the protocol does not say so; closing it cancels what still runs.
    with closing(cast("Generator[Chunk]", chunks)):
        for chunk in chunks:
            texts[chunk.request_id] += chunk.text
            if chunk.finish is not None:
                request = waiting.pop(chunk.request_id)
                yield _response(request, texts.pop(request.key), chunk.identity, chunk.finish)
            if should_stop():
                return


def _fitting(engine: Engine, requests: Sequence[Request]) -> tuple[list[Request], list[Response]]:
    """The requests that the engine takes, and error Responses for those whose prompt is too long."""
    asked, refused = [], []
    for request in requests:
        try:
            engine.stream([_asked(request)])
        except PromptTooLong as error:
            finish = Finish("error", 0, 0, 0.0, None, f"{DOES_NOT_FIT}{error}")
            refused.append(_response(request, "", request.identity, finish))
        else:
            asked.append(request)
    return asked, refused


def _asked(request: Request) -> GenerationRequest:
    return GenerationRequest(request.key, request.model, request.messages, request.sampling)


def _response(request: Request, text: str, identity: str, finish: Finish) -> Response:
    return finished(_asked(request), request.prompt.id, text, identity, finish, request.attempt)
