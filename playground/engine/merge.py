"""Several streams of chunks consumed as one, each on its own thread, so that a slow side holds nobody up."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from playground.engine.protocol import Chunk


def merged(streams: Sequence[Generator[Chunk]], stop: Callable[[], None]) -> Generator[Chunk]:
    """Yield the chunks of all streams as they come. `stop` is called when the consumer leaves early.

    A stream that had not begun by then is closed at its first chunk, since `stop` came too soon for it.
    An exception of one stream is raised after the others' chunks so far.
    """
    if len(streams) == 1:
        yield from streams[0]
        return
    out: queue.SimpleQueue[Chunk | BaseException | None] = queue.SimpleQueue()
    left = threading.Event()

    def pump(stream: Generator[Chunk]) -> None:
        try:
            with closing(stream):
                for chunk in stream:
                    if left.is_set():
                        return
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
            left.set()
            stop()
