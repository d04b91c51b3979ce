"""Responses and Judgements of earlier runs, found by their keys, so that nothing is made or paid for twice."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from evaluation.benchmark.plan import Earlier
from evaluation.prompts.conversations import source_replies
from evaluation.records import parse_record, read_records
from evaluation.types import Judgement, Prompt, Response, as_attempt, content_key

# As a record's line begins; the rest is parsed only when the key is wanted.
_KEY = re.compile(rb'\{"key":"([^"\\]{1,200})"')


def earlier_runs(runs: Path, own: str, prompts: Iterable[Prompt] = ()) -> Earlier:
    """Looks through the folders of `runs`, newest first, without the run `own`.

    `prompts` are those of the run that asks. A Judgement's key does not say which reference or right option the judge
    was shown, so one that was made beside another than theirs is left out.
    """
    shown: dict[str, set[str]] = {}
    for prompt in prompts:
        shown.setdefault(_question(prompt), set()).add(_shown(prompt))

    def find(responses: Collection[str], judgements: Collection[str]) -> Iterator[Response | Judgement]:
        if not responses and not judgements:
            return
        folders = [path for path in runs.glob("[!.]*") if path.is_dir() and path.name != own]
        for folder in sorted(folders, reverse=True):
            yield from _found(folder / "responses.jsonl", responses)
            read = [*_verdicts(folder / "judgements.jsonl", judgements)]
            fits = _beside_the_same(folder, {j.response_key for j in read}, shown) if read and shown else None
            yield from (j for j in read if fits is None or j.response_key in fits)

    return find


def _question(prompt: Prompt) -> str:
    return content_key(prompt.question, prompt.turns)


def _shown(prompt: Prompt) -> str:
    """Everything beside the words of the conversation that a judge may read."""
    extra = prompt.extra
    told = [extra.get(name) for name in ("turn_references", "choices", "answer_index")]
    return content_key(prompt.reference or None, source_replies(prompt), told)


def _beside_the_same(folder: Path, responses: Collection[str], shown: dict[str, set[str]]) -> set[str]:
    """Those of the Responses whose Prompt shows a judge what it would be shown now."""
    asked = {p.id: p for p, _ in read_records(folder / "prompts.jsonl") if isinstance(p, Prompt)}
    fits: set[str] = set()
    for response in _found(folder / "responses.jsonl", responses):
        prompt = asked.get(response.prompt_id) if isinstance(response, Response) else None
        if prompt is not None and shown.get(_question(prompt)) == {_shown(prompt)}:
            fits.add(response.key)
    return fits


def _verdicts(path: Path, wanted: Collection[str]) -> Iterator[Judgement]:
    """The wanted Judgements that have a score; of one that was asked for again, the attempt with it, as the first."""
    looked_for, first = set(wanted), dict[str, str]()  # the key of a further attempt -> that of the first
    for record in _found(path, looked_for):
        if not isinstance(record, Judgement):
            continue
        key = first.get(record.key, record.key)
        if record.score is not None:
            yield replace(record, key=key, attempt=0)
        else:
            after = as_attempt(record, record.attempt + 1).key
            first[after] = key
            looked_for.add(after)


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
