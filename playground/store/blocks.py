"""A journal in blocks of whole lines, each with where its lines end; and lines that `evaluation.records` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ValidationError

from evaluation.records import JOURNALS, BadLine, lines_before, one_line

BLOCK_BYTES = 16 << 20  # a block is held in memory several times over
_ARROW = {
    "VARCHAR": pa.string(), "BIGINT": pa.int64(), "TINYINT": pa.int8(), "DOUBLE": pa.float64(), "BOOLEAN": pa.bool_()
}  # fmt: skip
_TOO_LARGE = "line: a number is too large to be stored"

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Block:
    """Whole lines of a journal: bytes `start` to `end` of the file. ends[i] is where line i ends in `data`."""

    journal: Path
    data: bytes
    start: int
    ends: NDArray[np.int64]

    @property
    def end(self) -> int:
        return self.start + len(self.data)

    def positions(self) -> NDArray[np.int64]:
        """For each line the byte of the file after it."""
        return self.ends + self.start

    def lines(self, wanted: Sequence[int] | None = None) -> Iterator[tuple[int, bytes]]:
        """(its number in the block, the line without its newline) of the wanted lines, or of all."""
        for number in range(len(self.ends)) if wanted is None else wanted:
            begin = int(self.ends[number - 1]) if number else 0
            yield number, self.data[begin : int(self.ends[number]) - 1]

    def column(self) -> pa.StringArray | None:
        """The lines, newlines included, without a copy; None where they are not UTF-8 throughout."""
        offsets = np.zeros(len(self.ends) + 1, np.int32)
        offsets[1:] = self.ends
        found = pa.StringArray.from_buffers(len(self.ends), pa.py_buffer(offsets), pa.py_buffer(self.data))
        try:
            found.validate(full=True)
        except pa.ArrowInvalid:
            return None
        return found


def blocks(journal: Path, position: int, size: int) -> Iterator[Block]:
    """The journal from byte `position` on, some `size` bytes at a time. What follows the last newline is still being written, or was cut off."""
    with journal.open("rb") as file:
        file.seek(position)
        rest = b""
        while data := file.read(size):
            data, rest = rest + data, b""
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                data, rest = data[:whole], data[whole:]
            if data:
                ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10) + 1
                yield Block(journal, data, position, ends)
                position += len(data)


@dataclass
class Parsed:
    """What `evaluation.records` made of lines: rows as columns, and the lines that are no records, with their position."""

    rows: int = 0
    table: pa.Table = None
    bad: list[tuple[BadLine, int]] = field(default_factory=list)


def parse(
    block: Block,
    columns: Mapping[str, str],
    to_row: Callable[[Any, str], Row],
    wanted: Sequence[int] | None = None,
) -> Parsed:
    """Read the wanted lines, or all. A number that no column can hold makes its line a bad one."""
    columns = {**columns, "position": "BIGINT"}
    read = JOURNALS[block.journal.stem][0].validate_json
    rows: list[Row] = []
    refused: list[tuple[int, str]] = []
    numbers: list[int] = []
    for number, line in block.lines(wanted):
        try:
            record = read(line, strict=True)
        except ValidationError as error:
            refused.append((number, one_line(error)))
        else:
            rows.append((*to_row(record, line.decode()), block.start + int(block.ends[number])))
            numbers.append(number)
    try:
        table = _table(columns, rows)
    except (OverflowError, pa.ArrowInvalid):
        rows = [row for row, number in zip(rows, numbers, strict=True) if _fits(columns, row, number, refused)]
        table = _table(columns, rows)
    before = lines_before(block.journal, block.start) if refused else 0
    bad = [
        (BadLine(block.journal.name, before + number + 1, reason), block.start + int(block.ends[number]))
        for number, reason in sorted(refused)
    ]
    return Parsed(len(rows), table, bad)


def _fits(columns: Mapping[str, str], row: Row, number: int, refused: list[tuple[int, str]]) -> bool:
    try:
        _table(columns, [row])
    except (OverflowError, pa.ArrowInvalid):
        refused.append((number, _TOO_LARGE))
        return False
    return True


def _table(columns: Mapping[str, str], rows: Sequence[Row]) -> pa.Table:
    by_column = zip(*rows, strict=True) if rows else [()] * len(columns)
    values = [pa.array(own, type=_ARROW[kind]) for kind, own in zip(columns.values(), by_column, strict=True)]
    return pa.table(values, names=list(columns))
