"""Several streams of chunks consumed as one, each on its own thread, so that a slow side holds nobody up."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence

from playground.engine.protocol import Chunk


def merged(streams: Sequence[Iterator[Chunk]], stop: Callable[[], None]) -> Iterator[Chunk]:
    """Yield the chunks of all streams as they come. `stop` is called when the consumer leaves early.

    An exception of one stream is raised after the others' chunks so far.
    """
    if len(streams) == 1:
        yield from streams[0]
        return
    out: queue.SimpleQueue[Chunk | BaseException | None] = queue.SimpleQueue()

    def pump(stream: Iterator[Chunk]) -> None:
        try:
            for chunk in stream:
                out.put(chunk)
        except BaseException as error:
            out.put(error)
        finally:
            out.put(None)

    for stream in streams:
        threading.Thread(target=pump, args=(stream,), daemon=True).start()
    open_streams = len(streams)
    try:
        while open_streams:
            chunk = out.get()
            if chunk is None:
                open_streams -= 1
            elif isinstance(chunk, BaseException):
                raise chunk
            else:
                yield chunk
    finally:
        if open_streams:
            stop()
