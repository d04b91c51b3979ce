"""Several streams of chunks consumed as one, each on its own thread, so that a slow side holds nobody up."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import TypeVar

from playground.engine.protocol import Chunk

T = TypeVar("T")


def in_lanes(
    items: Sequence[T], one: Callable[[T], Generator[Chunk]], most: int, stop: Callable[[], None]
) -> Generator[Chunk]:
    """`one` of each item, `most` at a time, merged: a thread for each of a benchmark's requests would be too many."""
    waiting = deque(items)

    def lane() -> Generator[Chunk]:
        while True:
            try:
                item = waiting.popleft()
            except IndexError:  # another lane took the last
                return
            yield from one(item)

    return merged([lane() for _ in range(max(1, min(len(items), most)))], stop)


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
