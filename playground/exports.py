"""Runs as tables for other programs: Parquet, CSV or JSON lines, the numbers, and a manifest that says what they are.

An export appears whole or not at all, and never in place of something else. Texts of protected suites, and what may
quote them, are withheld unless they are asked for: AnswerCarefully's terms forbid passing its rows on.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

from evaluation.benchmark.answers import outcome
from evaluation.benchmark.recorded import Recorded
from evaluation.benchmark.turns import turn_of
from evaluation.disk import told_to_people, utf8
from evaluation.errors import SettingsRejected
from evaluation.journal import library_versions, utc_now

Format = Literal["parquet", "csv", "jsonl"]
FORMATS: tuple[Format, ...] = get_args(Format)
TERMS = (
    "These files hold texts of a protected suite. AnswerCarefully may be used to make language models safer, "
    "and its rows may not be passed on: keep the files to yourself."
)
WITHHELD = "Texts of protected suites are withheld: their prompts, responses and judges' reasons are null."
CSV_NOTE = (
    "UTF-8 with a byte order mark. Null and empty text are both empty. A text that a spreadsheet would take for a "
    "formula has an apostrophe before it: remove one from a text that is apostrophes, then optional white space, "
    "then one of = + - @ (or their full-width forms)."
)
# What a spreadsheet would calculate; with apostrophes before it, so that adding one can be undone.
_FORMULA = re.compile(r"'*\s*[=+\-@＝＋－＠]|'*[\t\r\n]")

_TEXT, _WHOLE, _REAL, _FLAG, _JSON = "text", "whole", "real", "flag", "json"
# Columns in order; those marked True are withheld for a protected suite.
TABLES: Mapping[str, Mapping[str, tuple[str, bool]]] = {
    "prompts": {
        "run_id": (_TEXT, False), "id": (_TEXT, False), "suite": (_TEXT, False), "language": (_TEXT, False),
        "risk_area": (_TEXT, False), "harm_type": (_TEXT, False), "specific_harm": (_TEXT, False),
        "withheld": (_FLAG, False), "question": (_TEXT, True), "reference": (_TEXT, True), "turns": (_JSON, True),
        "extra": (_JSON, True),
    },
    "responses": {
        "run_id": (_TEXT, False), "key": (_TEXT, False), "prompt_id": (_TEXT, False), "model": (_TEXT, False),
        "identity": (_TEXT, False), "attempt": (_WHOLE, False), "turn": (_WHOLE, False), "finish_reason": (_TEXT, False),
        "outcome": (_TEXT, False), "error": (_TEXT, True), "tokens": (_WHOLE, False), "prompt_tokens": (_WHOLE, False),
        "ttft_s": (_REAL, False), "seconds": (_REAL, False), "sampling": (_JSON, False), "created_at": (_TEXT, False),
        "withheld": (_FLAG, False), "text": (_TEXT, True), "thinking": (_TEXT, True), "messages": (_JSON, True),
    },
    "judgements": {
        "run_id": (_TEXT, False), "key": (_TEXT, False), "response_key": (_TEXT, False), "judge": (_TEXT, False),
        "identity": (_TEXT, False), "scale": (_TEXT, False), "score": (_WHOLE, False), "missing": (_TEXT, False),
        "with_reference": (_FLAG, False), "attempt": (_WHOLE, False), "prompt_tokens": (_WHOLE, False),
        "completion_tokens": (_WHOLE, False), "cost_usd": (_REAL, False), "seconds": (_REAL, False),
        "created_at": (_TEXT, False), "withheld": (_FLAG, False), "explanation": (_TEXT, True), "raw_text": (_TEXT, True),
    },
}  # fmt: skip
# What people said of imported Responses: a further table where there is any.
LABELS: Mapping[str, tuple[str, bool]] = {
    "run_id": (_TEXT, False), "suite": (_TEXT, False), "response_key": (_TEXT, False), "prompt_id": (_TEXT, False),
    "model": (_TEXT, False), "scale": (_TEXT, False), "levels": (_WHOLE, False), "level": (_WHOLE, False),
    "columns": (_JSON, False), "withheld": (_FLAG, False),
}  # fmt: skip
_COLUMNS = {**TABLES, "labels": LABELS}

Row = dict[str, Any]
_MOST_WHOLE = 1 << 63  # what 64 bits hold; a journal that somebody wrote may have any number


def export(runs: Sequence[Recorded], folder: Path, form: Format, *, with_text: bool = False) -> dict[str, Any]:
    """Write the runs' tables, results.json and manifest.json as `folder`; returns the manifest.

    Raises SettingsRejected when something is there already, DiskRefused when the disk refuses.
    """
    refuse_taken(folder)
    tables = {name: [*_rows(name, runs, with_text)] for name in _COLUMNS}
    if not tables["labels"]:
        del tables["labels"]
    with told_to_people(folder):
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".exporting-", dir=folder.absolute().parent))
        try:
            for name, rows in tables.items():
                _WRITERS[form](draft / f"{name}.{form}", _COLUMNS[name], rows)
            _write_json(draft / "results.json", {run.run_id: _results(run) for run in runs})
            manifest = _manifest(runs, draft, tables, form, with_text)
            _write_json(draft / "manifest.json", manifest)
            draft.chmod(0o755)  # mkdtemp makes it private
            refuse_taken(folder)
            draft.rename(folder)  # takes the place of nothing, or of an empty folder
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return manifest


def refuse_taken(folder: Path) -> None:
    """Raise SettingsRejected unless there is nothing in that place, or an empty folder."""
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise SettingsRejected(f"{folder} is there already and is not replaced; choose another folder, or remove it.")


# ---- rows ----------------------------------------------------------------------------------------------------------


def _rows(table: str, runs: Sequence[Recorded], with_text: bool) -> Iterator[Row]:
    for run in runs:
        prompt_of = {response.key: response.prompt_id for response in run.responses}
        made = {
            "prompts": lambda run=run: ((p.id, _prompt(p)) for p in run.prompts),
            "responses": lambda run=run: ((r.prompt_id, _response(r)) for r in run.responses),
            "judgements": lambda run=run, prompt_of=prompt_of: (
                (prompt_of.get(j.response_key, ""), asdict(j)) for j in run.judgements
            ),
            "labels": lambda run=run, prompt_of=prompt_of: _labels(run, prompt_of),
        }
        for prompt_id, values in made[table]():
            withheld = run.is_protected(prompt_id) and not with_text
            row = values | {"run_id": run.run_id, "withheld": withheld}
            yield {name: None if withheld and secret else row[name] for name, (_, secret) in _COLUMNS[table].items()}


def _prompt(prompt: Any) -> Row:
    category = (
        asdict(prompt.category) if prompt.category else dict.fromkeys(("risk_area", "harm_type", "specific_harm"))
    )
    return asdict(prompt) | category | {"turns": list(prompt.turns)}


def _labels(run: Recorded, prompt_of: Mapping[str, str]) -> Iterator[tuple[str, Row]]:
    for suite, labels in run.labelled.items():
        if isinstance(labels, str):
            continue
        about = {
            "scale": labels.reading.scale,
            "levels": labels.reading.levels,
            "columns": list(labels.reading.columns),
        }
        for row in labels.rows:
            response = row.exchange.response
            if response.key in prompt_of:
                own = {"response_key": response.key, "prompt_id": response.prompt_id, "model": response.model}
                yield response.prompt_id, {"suite": suite, "level": row.level, **about, **own}


def _response(response: Any) -> Row:
    row = asdict(response)
    return row | {"turn": turn_of(response), "outcome": outcome(response), "messages": list(row["messages"])}


# ---- files ---------------------------------------------------------------------------------------------------------


def in_csv(text: str) -> str:
    """The text as a spreadsheet will show it and not calculate it."""
    return f"'{text}" if _FORMULA.match(text) else text


def _cell(kind: str, value: Any) -> Any:
    if value is None:
        return ""
    if kind == _FLAG:
        return "true" if value else "false"
    if kind == _JSON:
        return in_csv(_json(value))
    return in_csv(value) if kind == _TEXT else value


def _write_csv(path: Path, columns: Mapping[str, tuple[str, bool]], rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_cell(kind, row[name]) for name, (kind, _) in columns.items()] for row in rows)


def _write_jsonl(path: Path, columns: Mapping[str, tuple[str, bool]], rows: Sequence[Row]) -> None:
    with path.open("wb") as file:
        file.writelines(utf8(_json(row)) + b"\n" for row in rows)


def _write_parquet(path: Path, columns: Mapping[str, tuple[str, bool]], rows: Sequence[Row]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    types = {_TEXT: pa.string(), _JSON: pa.string(), _WHOLE: pa.int64(), _REAL: pa.float64(), _FLAG: pa.bool_()}

    def values(name: str, kind: str) -> list[Any]:
        column = [row[name] for row in rows]
        if kind == _WHOLE and (
            long := next((v for v in column if v is not None and not -_MOST_WHOLE <= v < _MOST_WHOLE), None)
        ):
            raise SettingsRejected(
                f"{path.stem} has a {name} of {str(long)[:24]}, which Parquet cannot hold; export as csv or jsonl."
            )
        return [None if v is None else _json(v) for v in column] if kind == _JSON else column

    arrays = [pa.array(values(name, kind), types[kind]) for name, (kind, _) in columns.items()]
    parquet.write_table(pa.Table.from_arrays(arrays, names=[*columns]), path, compression="zstd")


_WRITERS = {"csv": _write_csv, "jsonl": _write_jsonl, "parquet": _write_parquet}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _write_json(path: Path, document: Any) -> None:
    path.write_bytes(utf8(json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)) + b"\n")


# ---- what it is ----------------------------------------------------------------------------------------------------


def _results(run: Recorded) -> dict[str, Any]:
    """The run's numbers; the reason where it has none to tell."""
    try:
        return run.document()
    except SettingsRejected as error:
        return {"reason": str(error)}


def _manifest(
    runs: Sequence[Recorded], draft: Path, tables: Mapping[str, Sequence[Row]], form: Format, with_text: bool
) -> dict[str, Any]:
    protected = any(run.is_protected(prompt.id) for run in runs for prompt in run.prompts)
    notes = [CSV_NOTE] if form == "csv" else []
    if protected:
        notes.append(TERMS if with_text else WITHHELD)
    return {
        "format": form,
        "created_at": utc_now(),
        "versions": dict(library_versions()),
        "notes": notes,
        "runs": [_about(run) for run in runs],
        "files": [
            {
                "name": path.name,
                "rows": len(tables[path.stem]) if path.stem in tables else None,
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in sorted(draft.iterdir())
        ],
    }


def _about(run: Recorded) -> dict[str, Any]:
    suites = dict.fromkeys(prompt.suite for prompt in run.prompts)
    return {
        **asdict(run.info),
        "status": run.status,
        "models": list(run.models),
        "judges": {scale: {"id": judge, "identity": identity} for scale, (judge, identity) in run.judges.items()},
        "suites": {
            suite: {
                "prompts": sum(prompt.suite == suite for prompt in run.prompts),
                "metrics": list(run.metrics[suite]) if suite in run.metrics else None,
                "protected": any(p.suite == suite and run.is_protected(p.id) for p in run.prompts),
            }
            for suite in suites
        },
        "counts": {"prompts": len(run.prompts), "responses": len(run.responses), "judgements": len(run.judgements)},
        "bad_lines": run.bad_lines,
    }
