"""The log of one server: what is new in it, its end, and that it does not fill the disk."""

from __future__ import annotations

import os
from pathlib import Path

from playground.serving.reasons import Stage, stage_of

LOG_FILE = "server.log"
MOST_BYTES = 16 << 20  # then the older part is thrown away; vLLM writes a line every ten seconds while it works
_KEPT_BYTES = 1 << 20
_TAIL_BYTES = 64 << 10


class Log:
    """server.log in a server's folder. The server appends to it; nobody else writes while it lives."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG_FILE
        self._read = 0  # bytes seen by `grown`
        self._stage: Stage = "preparing"

    def grown(self) -> bool:
        """Whether there is more than at the last call; what is new is searched for the stage."""
        new = self._from(self._read, MOST_BYTES)
        self._read += len(new)
        self._stage = stage_of(new.decode(errors="replace"), self._stage)
        return bool(new)

    def stage(self) -> Stage:
        """How far the start has come, as of the last `grown`."""
        return self._stage

    def all(self) -> str:
        """The log, or its last megabyte."""
        return self._from(max(0, self._size() - _KEPT_BYTES), _KEPT_BYTES).decode(errors="replace")

    def tail(self, lines: int) -> str:
        """The last lines."""
        text = self._from(max(0, self._size() - _TAIL_BYTES), _TAIL_BYTES).decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def keep_short(self) -> None:
        """Throw the older part away when the file is long. The server appends, so it goes on after the cut."""
        if self._size() > MOST_BYTES:
            with self.path.open("r+b") as file:
                file.seek(-_KEPT_BYTES, os.SEEK_END)
                end = file.read(_KEPT_BYTES)
                file.seek(0)
                file.write(end)
                file.truncate()
            self._read = 0

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _from(self, start: int, most: int) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                return file.read(most)
        except FileNotFoundError:
            return b""
