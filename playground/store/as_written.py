"""Journal lines that DuckDB can be trusted to read by itself: those that stand exactly as `encode_record` writes them.

`evaluation.records` says what a record is, and takes 5 µs a line to say it. DuckDB reads a line much faster and is more
lenient. So a line counts as read by DuckDB only when writing the typed record gives the very same line again: then it
has each field once, in order, of the right type, and nothing else. What fields may hold beyond their type follows from
the noun's own annotations. Every other line, right or wrong, is left to `evaluation.records`.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_TYPES = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}


def structure(kind: Any) -> Any:
    """The type as `json_transform` wants it. Raises TypeError for one that has no fixed structure, such as a set."""
    kind, _ = _without_none(kind)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return {field.name: structure(hints[field.name]) for field in fields(kind)}
    if get_origin(kind) is tuple:
        return [structure(get_args(kind)[0])]
    if get_origin(kind) is Literal:
        return "VARCHAR"
    if get_origin(kind) is Mapping:
        return "JSON"
    if kind not in _TYPES:
        raise TypeError(f"{kind} has no fixed structure.")
    return _TYPES[kind]


def condition(kind: Any, value: str) -> str:
    """SQL that is true when `value`, an expression of the type's structure, is a value of the type."""
    kind, optional = _without_none(kind)
    found = [] if optional else [f"{value} IS NOT NULL"]
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        found += [condition(hints[field.name], f"{value}.{field.name}") for field in fields(kind)]
    elif get_origin(kind) is tuple:
        each = condition(get_args(kind)[0], "item")
        found.append(f"len(list_filter({value}, lambda item: {each})) = len({value})")
    elif get_origin(kind) is Literal:
        found.append(f"{value} IN ({', '.join(_quoted(word) for word in get_args(kind))})")
    elif get_origin(kind) is Mapping:
        found.append(f"{value} = '{{}}'")  # what stands in one may be anything: only an empty one is sure
    elif kind is float:
        found.append(f"isfinite({value})")  # DuckDB reads and writes NaN, which is no JSON
    every = " AND ".join(part for part in found if part != "true")
    if not every:
        return "true"
    return f"({value} IS NULL OR ({every}))" if optional else f"({every})"


def _without_none(kind: Any) -> tuple[Any, bool]:
    """The type without None, and whether None was in it."""
    if get_origin(kind) in (Union, types.UnionType):
        rest = [part for part in get_args(kind) if part is not type(None)]
        if len(rest) != 1:
            raise TypeError(f"{kind} has no fixed structure.")
        return rest[0], True
    return kind, False


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "''") + "'"
