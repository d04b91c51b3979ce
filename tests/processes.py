"""Forked processes to be limited, demoted or killed; a fork has everything imported and starts at once."""

from __future__ import annotations

import os
from collections.abc import Callable


def in_child(work: Callable[[int], None]) -> tuple[int, int]:
    """Run `work(pipe)` in a forked process; return its pid and the pipe's reading end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            work(writing)
            os._exit(0)
        except BaseException as error:  # a forked pytest must not run on
            os.write(writing, f"{type(error).__name__}: {error}".encode())
            os._exit(1)
    os.close(writing)
    return child, reading


def output_of(child: int, reading: int) -> str:
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text
