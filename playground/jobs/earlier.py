"""Responses and Judgements of earlier runs, found by their keys, so that nothing is made or paid for twice."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from evaluation.benchmark.plan import Earlier
from evaluation.records import parse_record
from evaluation.types import Judgement, Response

# As a record's line begins; the rest is parsed only when the key is wanted.
_KEY = re.compile(rb'\{"key":"([^"\\]{1,200})"')


def earlier_runs(runs: Path, own: str) -> Earlier:
    """Looks through the folders of `runs`, newest first, without the run `own`."""

    def find(responses: Collection[str], judgements: Collection[str]) -> Iterator[Response | Judgement]:
        if not responses and not judgements:
            return
        folders = [path for path in runs.glob("[!.]*") if path.is_dir() and path.name != own]
        for folder in sorted(folders, reverse=True):
            for journal, wanted in (("responses", responses), ("judgements", judgements)):
                yield from _found(folder / f"{journal}.jsonl", wanted)

    return find


def _found(path: Path, wanted: Collection[str]) -> Iterator[Response | Judgement]:
    if not wanted or not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            begins = _KEY.match(line)
            if begins is None or begins[1].decode(errors="replace") not in wanted or not line.endswith(b"\n"):
                continue
            try:
                record = parse_record(path.stem, line)
            except ValueError:  # damaged; ingest says so, and here it only means that the record is made again
                continue
            if isinstance(record, Response | Judgement):
                yield record
