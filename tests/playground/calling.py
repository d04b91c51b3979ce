"""Calls of the command line, as people and programs make them; the fixtures `home` and `call` are in conftest.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Said:
    """What one call printed and its exit status."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as JSON; fails when there is anything else on it."""
        return json.loads(self.out)


Call = Callable[..., Said]


def refused(said: Said, status: int, *words: str) -> None:
    """The call failed with one line on standard error that has these words, and printed nothing else."""
    assert (said.status, said.out) == (status, "")
    lines = [line for line in said.err.splitlines() if line not in ("answering", "judging")]
    assert len(lines) == 1, lines
    for word in words:
        assert word in lines[0]
