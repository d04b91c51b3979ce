"""A sweep: runs that differ in one multiplier. Their names say so, and by their names they are found again."""

from __future__ import annotations

import re

_MEMBER = re.compile(r"(?P<of>.+)-x(?P<value>\d+)")


def member_name(of: str, value: int) -> str:
    """The adapter's name in the run of sweep `of` whose multiplier is `value`."""
    return f"{of}-x{value}"


def member_of(name: str) -> tuple[str, int] | None:
    """The sweep that a name belongs to and its multiplier there; None for a name that belongs to none."""
    match = _MEMBER.fullmatch(name)
    return (match["of"], int(match["value"])) if match else None
