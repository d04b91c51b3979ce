"""Reads a Parquet file in a process of its own: `python -m evaluation.prompts.parquet_rows FILE BYTES ROWS`.

Arrow ends the whole process on some damaged files, by an exception of C++ that nobody catches (seen with the fuzzer:
"Definition level histogram size mismatch"), and that must not be the app's. The rows go out as JSON Lines.
"""

from __future__ import annotations

import base64
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

DAMAGED, TOO_MUCH = 3, 4  # exit statuses
TIMEOUT_S = 600
ROOT = Path(__file__).resolve().parents[2]
READER = (sys.executable, "-m", "evaluation.prompts.parquet_rows")


class ParquetDamaged(Exception):
    """The file cannot be read, or its reading ended the process."""


class ParquetTooMuch(Exception):
    """It unpacks to more than was allowed."""


def parquet_rows(path: Path, max_bytes: int, max_rows: int) -> list[dict[str, Any]]:
    """The rows, their values as JSON can hold them. `max_bytes`: of text, unpacked.

    Raises ParquetDamaged and ParquetTooMuch.
    """
    command = [*READER, str(path), str(max_bytes), str(max_rows)]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=TIMEOUT_S, env={**os.environ, "PYTHONPATH": paths}, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ParquetDamaged(f"no end after {TIMEOUT_S} s") from error
    if done.returncode == TOO_MUCH:
        raise ParquetTooMuch
    if done.returncode != 0:
        raise ParquetDamaged(f"the reader ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def _read(path: Path, max_bytes: int, max_rows: int) -> int:
    import pyarrow
    import pyarrow.parquet

    out = sys.stdout
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            metadata = file.metadata
            groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
            if sum(group.total_byte_size for group in groups) > max_bytes or metadata.num_rows > max_rows:
                return TOO_MUCH
            chunks = [group.column(n).total_uncompressed_size for group in groups for n in range(group.num_columns)]
            # A value stands in one piece of a column, so as many rows as this cannot come to more than the limit.
            rows_at_once = max(1, min(10_000, max_bytes // max([1, *chunks])))
            size = 0
            for batch in file.iter_batches(rows_at_once):
                rows = batch.to_pylist()
                size += sum(map(_size, rows))
                if size > max_bytes:
                    return TOO_MUCH
                out.writelines(json.dumps(plain(row)) + "\n" for row in rows)
    except (pyarrow.ArrowException, OSError, ValueError):
        return DAMAGED
    out.flush()
    return 0


def _size(value: Any) -> int:
    """How much there is to read in a value: characters or bytes of text, and a few for anything else."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return 8 + sum(map(_size, value.values()))
    return 8 + (sum(map(_size, value)) if isinstance(value, list | tuple) else 0)


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: dates as ISO 8601, decimals as text, bytes as base64, NaN as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, timedelta)):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


if __name__ == "__main__":
    sys.exit(_read(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
