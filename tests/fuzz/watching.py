"""Watches one process while it reads hostile inputs: what it writes, starts and reaches for, how long and how much.

Everything here works inside the process that is watched, so that an input costs microseconds; the limits on memory are
the kernel's.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from evaluation.prompts.parquet_rows import READER

CPU_S = 10.0  # of one input; processor time, so that a busy machine does not look like a hang
MEMORY = 3 << 30  # bytes of data of the whole process
GROWTH = 600 << 20  # bytes that the process may grow by on one input

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATHS = {  # which arguments of an audit event are paths that are changed
    "os.mkdir": (0,), "os.rename": (0, 1), "os.remove": (0,), "os.rmdir": (0,), "os.symlink": (1,), "os.link": (1,),
    "os.truncate": (0,), "os.chmod": (0,), "os.chown": (0,), "os.utime": (0,), "shutil.rmtree": (0,), "shutil.move": (0, 1),
}  # fmt: skip
_RELATIVE = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "shutil.rmtree")
_NEVER = (
    "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "socket.connect", "socket.bind",
    "socket.getaddrinfo", "pickle.find_class", "ctypes.dlopen", "os.kill", "ftplib.connect", "urllib.Request",
)  # fmt: skip


class Hang(BaseException):
    """The input took more than CPU_S. Not an Exception: nothing that reads the input may swallow it."""


class Watch:
    """Armed around each input. `allowed`: the folders that may be written."""

    def __init__(self, *allowed: Path) -> None:
        self._allowed = tuple(str(folder.resolve()) for folder in allowed)
        self._armed = False
        self.trespasses: list[str] = []
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGPROF, self._late)
        sys.addaudithook(self._audit)

    @contextmanager
    def input(self) -> Iterator[None]:
        """Around the reading of one input. Raises Hang in it, and MemoryError after it when it grew too much."""
        before = _peak()
        self.trespasses = []
        self._armed = True
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self._armed = False
        if _peak() - before > GROWTH:
            raise MemoryError(f"the process grew by {(_peak() - before) >> 20} MiB")

    def _late(self, number: int, frame: FrameType | None) -> None:
        raise Hang(f"more than {CPU_S:g} s of processor time")

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._armed:
            return
        if event == "subprocess.Popen" and tuple(arguments[1][: len(READER)]) == READER:
            return  # Parquet is read by a process of its own, which has no Watch; only its rows come back
        if event.startswith(_NEVER):
            self.trespasses.append(f"{event} {str(arguments)[:100]}")
        elif event == "open":
            path, _mode, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and (flags or 0) & _WRITES:
                self._check(event, path)
        elif event in _PATHS:
            places = _PATHS[event]
            # Last come the descriptors of the folders that the paths are relative to, or -1.
            folders = arguments[-len(places) :] if event in _RELATIVE else ()
            for order, place in enumerate(places):
                if isinstance(arguments[place], str | bytes | os.PathLike):
                    folder = folders[order] if folders and type(folders[order]) is int else -1
                    at = Path() if folder < 0 else Path("/proc/self/fd", str(folder)).readlink()
                    self._check(event, os.path.join(at, os.fsdecode(arguments[place])))  # noqa: PTH118

    def _check(self, event: str, path: Any) -> None:
        real = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  (resolve() would raise for what is no path)
        if not any(real == folder or real.startswith(f"{folder}/") for folder in self._allowed):
            self.trespasses.append(f"{event} {real[:200]}")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def snapshot(folder: Path, *left_out: Path) -> dict[str, tuple[int, int]]:
    """Every file under `folder` with size and time of change, except under `left_out`."""
    found = {}
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(place, name) not in left_out]
        for name in [*folders, *files]:
            told = os.lstat(f"{place}/{name}")
            found[f"{place}/{name}"] = (0, 0) if name in folders else (told.st_size, told.st_mtime_ns)
    return found
