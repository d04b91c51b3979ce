"""A training that takes seconds: a tiny model, four rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tiny import tiny_folder


@pytest.fixture
def settings_file(call, tmp_path: Path) -> Path:
    """Settings of a training of two steps, on disk; its suite `mine` is imported."""
    rows = tmp_path / "rows.jsonl"
    lines = [json.dumps({"question": f"問{n}", "reference": "断る。"}, ensure_ascii=False) for n in range(4)]
    rows.write_text("\n".join(lines), encoding="utf-8")
    assert call("data", "import", str(rows), "--as", "mine").status == 0
    base = tiny_folder(tmp_path / "base")
    path = tmp_path / "settings.json"
    sources = [{"suite": "mine", "multiplier": 2}]
    document = {"name": "tuned", "base": str(base), "sources": sources, "lora_rank": 2, "batch_size": 4, "checks": 0}
    path.write_text(json.dumps(document))
    return path
