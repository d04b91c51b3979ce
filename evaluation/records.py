"""Journals: append-only files of one JSON object a line, one file for each noun.

A line that was cut off by a crash is not a record: readers stop before it and the next writer removes it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from evaluation.disk import sync_folder, told_to_people, utf8
from evaluation.types import Judgement, Pair, Prompt, Rating, Response

EventName = Literal[
    "queued", "started", "progress", "metric", "heartbeat", "warning", "finished", "failed", "cancelled"
]
LIFECYCLE: tuple[EventName, ...] = ("queued", "started", "finished", "failed", "cancelled")


@dataclass(frozen=True)
class Event:
    """Something that happened in a Run. `seq` numbers the events of a Run from 1, without gaps."""

    seq: int
    event: EventName
    at: str  # ISO 8601, UTC
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BadLine:
    """A journal line that is not a record. `line` counts from 1; `reason` never quotes the line."""

    file: str
    line: int
    reason: str


Record = Prompt | Response | Judgement | Pair | Rating | Event

# Each journal's noun, and the field that says two lines are the same record.
JOURNALS: Mapping[str, tuple[TypeAdapter[Any], str]] = {
    "prompts": (TypeAdapter(Prompt), "id"),
    "responses": (TypeAdapter(Response), "key"),
    "judgements": (TypeAdapter(Judgement), "key"),
    "pairs": (TypeAdapter(Pair), "key"),
    "ratings": (TypeAdapter(Rating), "key"),
    "events": (TypeAdapter(Event), "seq"),
}
# Fields of any content: there pydantic lets NaN through, which nobody could write again.
_LOOSE = {"prompts": "extra", "events": "data"}


def one_line(error: ValidationError) -> str:
    """What is wrong and in which field, without the value: rows are offensive, and may be private."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, p['loc'])) or 'line'}: {p['msg']}" for p in problems[:3])


def parser(journal: str) -> Callable[[str | bytes], Record]:
    """`parse_record` for many lines of one journal, with everything looked up before."""
    validate, loose = JOURNALS[journal][0].validate_json, _LOOSE.get(journal)

    def parse(line: str | bytes) -> Record:
        try:
            record: Record = validate(line, strict=True)
        except ValidationError as error:
            raise ValueError(one_line(error)) from None
        if loose is not None and (held := getattr(record, loose)):
            try:
                json.dumps(held, allow_nan=False)
            except ValueError:
                raise ValueError(f"{loose}: holds NaN or an infinity") from None
        return record

    return parse


def parse_record(journal: str, line: str | bytes) -> Record:
    """The record in one line of the journal of that name. Raises ValueError, in one line, if it is not one."""
    return parser(journal)(line)


def encode_record(journal: str, record: Record) -> bytes:
    """The record as one JSON line, read back once before it is trusted.

    Half of a surrogate pair, which a stream cut between two chunks leaves, is mended (`utf8`).
    Raises ValueError for what a reader would refuse, such as NaN or a float where an int belongs.
    """
    line = utf8(json.dumps(asdict(record), ensure_ascii=False, allow_nan=False, separators=(",", ":")))
    parse_record(journal, line)
    return line + b"\n"


def read_records(path: Path, offset: int = 0) -> Iterator[tuple[Record | BadLine, int]]:
    """Yield (record, offset after it) for each whole line of a journal from byte `offset` on.

    `offset` is 0 or an offset this function gave. What follows the last newline is still being
    written, or was cut off, and is not read. A missing file holds no records.
    """
    for record, _, end in read_lines(path, offset):
        yield record, end


def read_lines(path: Path, offset: int = 0) -> Iterator[tuple[Record | BadLine, bytes, int]]:
    """`read_records` with the line itself: (record, line, offset after it)."""
    if not path.exists():
        return
    parse = parser(path.stem)
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                record: Record | BadLine = parse(line)
            except ValueError as error:
                record = BadLine(path.name, lines_before(path, offset) + 1, str(error))
            offset += len(line)
            yield record, line, offset


def lines_before(path: Path, offset: int) -> int:
    """How many lines end at or before byte `offset`."""
    lines = 0
    with path.open("rb") as file:
        while offset > 0 and (block := file.read(min(offset, 1 << 20))):
            lines += block.count(b"\n")
            offset -= len(block)
    return lines


def last_event(events: Path, names: Collection[str] = LIFECYCLE) -> Event | None:
    """The newest event with one of these names, searched from the end: metrics before it may be many."""
    if not events.exists():
        return None
    # As encode_record writes it; inside a JSON string the quotes would be escaped.
    begins = re.compile(rb'\{"seq":\d+,"event":"(?:' + "|".join(sorted(names)).encode() + rb')","at":"')
    with events.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        later, torn = b"", True
        while end > 0:
            start = max(0, end - (1 << 16))
            file.seek(start)
            block = file.read(end - start) + later
            if torn:
                block = block[: block.rfind(b"\n") + 1]
                torn = not block
            if found := list(begins.finditer(block)):
                file.seek(start + found[-1].start())
                return _event(file.readline())
            later, end = block[:64], start  # an event may begin in one block and go on in the next
    return None


def _event(line: bytes) -> Event | None:
    try:
        record = parse_record("events", line)
    except ValueError:
        return None
    return record if isinstance(record, Event) else None


class Journal:
    """One append-only file of a run folder. Not safe across threads by itself: RunFolder locks around it."""

    def __init__(self, path: Path) -> None:
        """Open for append, cut a torn last line off, and learn which keys are there."""
        self.path = path
        self._name, self._key = path.stem, JOURNALS[path.stem][1]
        existed = path.exists()
        with told_to_people(path):
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._size = self._whole_lines()
            os.ftruncate(self._fd, self._size)
            if not existed:
                sync_folder(path.parent)
        self._dirty = True  # a writer that was killed may have left lines that no fsync followed
        self._damaged = False
        self.keys: set[Hashable] = {
            getattr(record, self._key) for record, _ in read_records(path) if not isinstance(record, BadLine)
        }

    def _whole_lines(self) -> int:
        """Bytes up to and including the last newline."""
        end = os.fstat(self._fd).st_size
        while end > 0:
            start = max(0, end - (1 << 16))
            newline = os.pread(self._fd, end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0

    def append(self, record: Record, *, durable: bool) -> bool:
        """Write the record unless its key is there; return whether it was written.

        With `durable` the record, old or new, is on disk on return. Raises DiskRefused and leaves
        the file as it was when the disk refuses; ValueError for a record no reader would accept.
        """
        key: Hashable = getattr(record, self._key)
        fresh = key not in self.keys
        if fresh:
            self._write(encode_record(self._name, record))
            self.keys.add(key)
        if durable:
            self.sync()
        return fresh

    def _write(self, line: bytes) -> None:
        with told_to_people(self.path):
            if self._damaged:
                os.ftruncate(self._fd, self._size)
                self._damaged = False
            try:
                written = os.write(self._fd, line)
                # A full disk shows first as a short write; the next one says why.
                while written < len(line):
                    written += os.write(self._fd, line[written:])
            except OSError:
                self._damaged = True  # readers stop before the partial line; the next write, or writer, cuts it off
                raise
        self._size += len(line)
        self._dirty = True

    def sync(self) -> None:
        """Bring every line to disk. Raises DiskRefused."""
        if self._dirty:
            with told_to_people(self.path):
                os.fsync(self._fd)
            self._dirty = False

    def close(self) -> None:
        """Sync and close. Raises DiskRefused; the file is closed all the same."""
        try:
            self.sync()
        finally:
            os.close(self._fd)
