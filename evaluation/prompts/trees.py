"""Conversation trees as OpenAssistant publishes them: nested (`*.trees.jsonl`) or one message a row (`oasst1`, `oasst2`).

One tree gives one conversation: at each turn the best-ranked reply, or the first where none is ranked, and of follow-up
questions the first. Taking every path would repeat a tree's opening once for each of its leaves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.prompts.tables import Row, Table

_MESSAGE = {"message_id", "parent_id", "text", "role"}


def unfold(table: Table) -> Table:
    """The table with each tree as one row of `messages`; any other table as it is."""
    if table.rows and all(_is_nested(row.values) for row in table.rows):
        found = [(row, _path(row.values["prompt"])) for row in table.rows]
    elif set(table.columns) >= _MESSAGE:
        found = _from_messages(table.rows)
    else:
        return table
    rows = [
        Row(row.where, {"id": path[0].get("message_id"), "language": path[0].get("lang"), "messages": _turns(path)})
        for row, path in found
        if path
    ]
    warnings = [*table.warnings, f"{len(rows)} conversation trees were read, one conversation from each."]
    return Table(rows, ["id", "language", "messages"], table.about, warnings=warnings)


def _is_nested(values: Mapping[str, Any]) -> bool:
    prompt = values.get("prompt")
    return isinstance(prompt, Mapping) and isinstance(prompt.get("replies"), list) and "text" in prompt


def _from_messages(rows: Sequence[Row]) -> list[tuple[Row, list[Mapping[str, Any]]]]:
    replies: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        replies[str(row.values.get("parent_id"))].append(row.values)
    roots = [row for row in rows if row.values.get("parent_id") is None]
    return [(row, _path(row.values, replies)) for row in roots]


def _path(
    message: Mapping[str, Any], replies: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
) -> list[Mapping[str, Any]]:
    """The messages from the root on. An id that leads back to an earlier message ends the path."""
    path: list[Mapping[str, Any]] = []
    seen: set[Any] = set()
    following: Any = [message]
    while following := [m for m in _messages(following) if not m.get("deleted") and id(m) not in seen]:
        best = min(following, key=lambda m: m["rank"] if isinstance(m.get("rank"), int | float) else float("inf"))
        path.append(best)
        seen.add(id(best))
        following = best.get("replies") or () if replies is None else replies.get(str(best.get("message_id")), ())
    return path


def _messages(value: Any) -> list[Mapping[str, Any]]:
    """What is a message in a list of replies; a file may have anything in its place."""
    return [message for message in value if isinstance(message, Mapping)] if isinstance(value, list | tuple) else []


def _turns(path: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"role": message.get("role"), "content": message.get("text")} for message in path]
