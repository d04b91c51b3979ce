"""From a file to rows: JSON, JSON Lines, CSV, TSV, XLSX, Parquet and word lists, as dicts with their place.

Nothing here knows what a question is; that is `columns` and `rows`.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from evaluation.errors import ImportRejected
from evaluation.prompts.columns import is_known
from evaluation.prompts.files import (
    MAX_FILE_BYTES,
    MAX_LINE_BYTES,
    check_signature,
    kind_of,
    read_text,
    refusal,
    shown,
)
from evaluation.prompts.parquet_rows import ParquetDamaged, ParquetTooMuch, parquet_rows, plain

# Names under which the rows of a JSON object are found.
ROW_LISTS = (
    "examples",
    "jailbreaks",
    "data",
    "rows",
    "prompts",
    "questions",
    "items",
    "records",
    "instances",
    "samples",
)
MAX_DEPTH = 50
MAX_COLUMNS = 2_000  # the widest set we know of has a hundred
MAX_CELLS = 5_000_000  # of a workbook's sheet, empty ones included: a far cell makes a small file span billions
MAX_ROWS = 1_000_000  # some twenty seconds of reading; in a packed file, rows that are alike take no room, however many


@dataclass(frozen=True)
class Row:
    """One row and its place ("line 3", "row 3"; both count from 1)."""

    where: str
    values: dict[str, Any]


@dataclass
class Table:
    """All rows of a file. `about` is what a JSON object says beside its rows."""

    rows: list[Row]
    columns: list[str]
    about: dict[str, Any] = field(default_factory=dict)
    headerless: bool = False
    warnings: list[str] = field(default_factory=list)


def read_table(path: Path, encoding: str | None = None, header: Iterable[str] = ()) -> Table:
    """Read `path` by its suffix. `header` names columns that, when seen in the first row, make it a header.

    Raises ImportRejected with the line or row for anything that cannot be read completely.
    """
    check_signature(path)
    kind = kind_of(path)
    if kind == ".xlsx":
        cells, others = _xlsx_cells(path)
        table = _from_cells(path, cells, set(header))
        if others:
            table.warnings.append(f"Only the first sheet was read; {others} more were not.")
    elif kind == ".parquet":
        table = _parquet(path)
    else:
        text, found = read_text(path, encoding)
        if kind in (".csv", ".tsv"):
            table = _from_cells(path, _csv_rows(path, text, "," if kind == ".csv" else "\t"), set(header))
        elif kind == ".txt":
            rows = [Row(f"line {n}", {"text": word.strip()}) for n, word in enumerate(text.splitlines(), 1)]
            table = Table([row for row in rows if row.values["text"]], ["text"])
        else:
            table = _json(path, text, lines=kind == ".jsonl")
        if encoding is None and not found.startswith("utf-8"):
            table.warnings.append(f"The file was read as {found.upper()}; if characters look wrong, name its encoding.")
    if not table.rows:
        raise refusal(path, None, "there are no rows under the header; give a file with at least one question.")
    if len(table.rows) > MAX_ROWS:
        raise refusal(path, None, f"it has {len(table.rows):,} rows, and {MAX_ROWS:,} are the most; split it.")
    if len(table.columns) > MAX_COLUMNS:
        raise refusal(
            path, None, f"it has {len(table.columns):,} columns, and {MAX_COLUMNS:,} are the most; leave some out."
        )
    _check_values(path, None, table.about)
    for row in table.rows:
        _check_values(path, row.where, row.values)
    return table


def _check_values(path: Path, where: str | None, value: Any, depth: int = 0) -> None:
    """JSON can spell what cannot be stored: NUL, half a surrogate pair, 1e999, nesting without end."""
    if depth > MAX_DEPTH:
        raise refusal(path, where, f"the JSON is nested more than {MAX_DEPTH} deep; write one flat object a row.")
    if isinstance(value, str):
        if re.search(r"[\x00\ud800-\udfff]", value):
            raise refusal(path, where, "the text holds a NUL or a broken Unicode character; remove it.")
    elif isinstance(value, float) and not math.isfinite(value):
        raise refusal(path, where, "a number is too large to be read; write it smaller or as text.")
    elif isinstance(value, dict):
        for key, part in value.items():
            _check_values(path, where, key)
            _check_values(path, where, part, depth + 1)
    elif isinstance(value, list):
        for part in value:
            _check_values(path, where, part, depth + 1)


# --- JSON ---


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; write null")


def _parse(path: Path, text: str, line: int, what: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        where = f"line {line + error.lineno - 1}"
        problem = f"{what} is broken or cut off at character {error.colno} ({error.msg}); mend it or download it again."
        raise refusal(path, where, problem) from error
    except RecursionError as error:
        raise refusal(path, f"line {line}", "the JSON is nested too deeply; write one flat object a row.") from error
    except ValueError as error:
        raise refusal(path, f"line {line}", f"{what} cannot be read ({shown(error)}); mend the value.") from error


def _json_lines(path: Path, text: str) -> Iterator[Row]:
    # Not splitlines: JSON strings may hold U+2028 and other separators unescaped.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            value = _parse(path, line, number, "the JSON line")
            if not isinstance(value, dict):
                raise refusal(path, f"line {number}", "the line is not a JSON object; write one object a line.")
            yield Row(f"line {number}", value)


def _json(path: Path, text: str, lines: bool) -> Table:
    if not lines:
        first = text.lstrip().split("\n", 1)[0].strip()
        # A second line that starts an object of its own: JSON Lines under a .json name.
        lines = first.startswith("{") and first.endswith("}") and bool(text.strip()[len(first) :].strip())
    if lines:
        rows = list(_json_lines(path, text))
        return Table(rows, _names(rows))
    document = _parse(path, text, 1, "the JSON")
    about: dict[str, Any] = {}
    warnings = []
    if isinstance(document, dict):
        key = next((key for key in ROW_LISTS if _is_rows(document.get(key))), None)
        key = key or next((key for key, value in document.items() if _is_rows(value) and not is_known(key)), None)
        if key is not None:
            about = {name: value for name, value in document.items() if name != key}
            if others := [name for name, value in about.items() if _is_rows(value)]:
                named = ", ".join(f"{shown(name, 40)!r} ({len(about[name])})" for name in others[:20])
                warnings.append(f"Only the rows under {shown(key, 40)!r} were read; those under {named} were not.")
            document = document[key]
        elif any(is_known(name) for name in document):
            document = [document]
    if not isinstance(document, list):
        keys = ", ".join(shown(name, 40) for name in list(document)[:20]) if isinstance(document, dict) else "none"
        raise refusal(path, None, f"no list of rows was found (keys: {keys}); write an array of objects.")
    rows = []
    for number, value in enumerate(document, 1):
        if not isinstance(value, dict):
            raise refusal(path, f"row {number}", "the row is not a JSON object; write an array of objects.")
        rows.append(Row(f"row {number}", value))
    return Table(rows, _names(rows), about, warnings=warnings)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _names(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.values))


# --- cells: CSV, TSV, XLSX ---


def _csv_rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[str, list[Any]]]:
    # Process-wide, and 131,072 characters by default, which a pasted article exceeds.
    csv.field_size_limit(MAX_LINE_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            yield f"line {line}", cells
            line = reader.line_num + 1
    except csv.Error as error:
        problem = f"the row that starts here is broken ({shown(error)}); check its quotation marks."
        raise refusal(path, f"line {line}", problem) from error


def _xlsx_cells(path: Path) -> tuple[Iterator[tuple[str, list[Any]]], int]:
    """Rows of the first visible sheet, all of one width, and the number of further visible sheets."""
    from openpyxl import load_workbook  # slow to import, and most files are not XLSX

    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > MAX_FILE_BYTES:
            raise refusal(path, None, f"it unpacks to more than {MAX_FILE_BYTES // 1_000_000} MB; split it.")
        book = load_workbook(path, read_only=True, data_only=True)
        sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
        cells = _cells_of(path, sheets[0]) if sheets else []
        book.close()
    # openpyxl answers a damaged workbook with whatever its parsers raise, from KeyError to ElementTree's own.
    except Exception as error:
        if isinstance(error, ImportRejected):
            raise
        raise refusal(path, None, "the workbook cannot be read; open it in Excel and save it again.") from error
    width = max(map(len, cells), default=0)
    padded = ((row + [None] * width)[:width] for row in cells)
    rows = ([] if all(cell is None for cell in row) else [plain(cell) for cell in row] for row in padded)
    return ((f"row {number}", row) for number, row in enumerate(rows, 1)), len(sheets) - 1


def _cells_of(path: Path, sheet: Any) -> list[list[Any]]:
    """The sheet's rows without the empty cells at their ends."""
    sheet.reset_dimensions()  # what the file says of its size may be anything
    cells, seen = [], 0
    for row in sheet.iter_rows(values_only=True):
        seen += len(row) + 1
        if seen > MAX_CELLS:
            raise refusal(path, None, f"its sheet spans over {MAX_CELLS:,} cells; delete the empty rows and columns.")
        filled = next((n for n in range(len(row), 0, -1) if row[n - 1] is not None), 0)
        cells.append([*row[:filled]])
    return cells


def _from_cells(path: Path, numbered: Iterator[tuple[str, list[Any]]], header: set[str]) -> Table:
    filled = [(where, cells) for where, cells in numbered if cells]
    if not filled:
        raise refusal(path, None, "the file has no rows; give a file with at least one question.")
    first = ["" if cell is None else str(cell).strip() for cell in filled[0][1]]
    headed = _is_header(first, [cells for _, cells in filled[1:51]], header)
    if headed:
        if len(first) > MAX_COLUMNS:  # before they are compared with each other
            raise refusal(path, filled[0][0], f"it has {len(first):,} columns; {MAX_COLUMNS:,} are the most.")
        names = ["index" if not name and n == 1 else name or f"column {n}" for n, name in enumerate(first, 1)]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise refusal(path, filled[0][0], f"two columns are named {shown(twice)!r}; give each its own name.")
    else:
        names = [f"column {n}" for n in range(1, len(first) + 1)]
    rows = []
    for where, cells in filled[1:] if headed else filled:
        if len(cells) != len(names):
            expected = f"the {'header' if headed else 'first row'} has {len(names)}"
            problem = (
                f"the row has {len(cells)} cells and {expected}; quote cells that hold a comma, tab or line break."
            )
            raise refusal(path, where, problem)
        rows.append(Row(where, dict(zip(names, cells, strict=True))))
    return Table(rows, names, headerless=not headed)


def _is_header(first: list[str], below: list[list[Any]], wanted: set[str]) -> bool:
    """Whether the first row names columns: it holds a known name, or it looks unlike the rows under it."""
    if any(name in wanted or is_known(name) for name in first):
        return True
    words = [name for name in first if name]
    if len(set(words)) < len(words) or any(re.search(r"[。、．？！?!\n]|^-?\d+(\.\d+)?$", name) for name in words):
        return False
    if len(first) > 1 and all(
        re.fullmatch(r"[A-Za-z][\w .()/-]{0,30}", name) and name.count(" ") < 3 for name in words
    ):
        return True
    lengths = [[len(str(row[n])) for row in below if n < len(row)] for n in range(len(first))]
    return len(first) > 1 and any(
        column and sum(column) / len(column) > 3 * max(len(name), 2)
        for name, column in zip(first, lengths, strict=True)
    )


# --- Parquet ---


def _parquet(path: Path) -> Table:
    try:
        values = parquet_rows(path, MAX_FILE_BYTES, MAX_ROWS)
    except ParquetTooMuch as error:
        raise _unpacks_to_too_much(path) from error
    except ParquetDamaged as error:
        raise refusal(path, None, "the Parquet file is damaged or cut off; download or write it again.") from error
    rows = [Row(f"row {n}", row) for n, row in enumerate(values, 1)]
    return Table([row for row in rows if row.values], _names(rows))


def _unpacks_to_too_much(path: Path) -> ImportRejected:
    problem = f"it unpacks to more than {MAX_FILE_BYTES // 1_000_000} MB or {MAX_ROWS:,} rows; split it."
    return refusal(path, None, problem)
