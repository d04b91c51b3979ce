"""Small synthetic files in the formats that people bring."""

import json
from pathlib import Path
from typing import Any

from openpyxl import Workbook


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def text(path: Path, content: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(content.encode(encoding))
    return path


def xlsx(path: Path, *rows: list[Any], sheets: int = 1) -> Path:
    book = Workbook()
    for row in rows:
        book.active.append(row)
    for number in range(1, sheets):
        book.create_sheet(f"other {number}")
    book.save(path)
    return path
