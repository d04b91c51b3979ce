"""Files of questions, answers, labels and scores, spoiled, for everything that imports them."""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from pathlib import Path
from random import Random
from typing import Any

from evaluation.judge.imported_scores import read_scores
from evaluation.prompts.answercarefully import load_answercarefully
from evaluation.prompts.imports import read_prompts
from evaluation.prompts.suites import load_suite, save_imported
from tests.fuzz.mutations import as_json, as_lines, damaged, spoiled, value, zipped_bomb

# A few rows of every layout that is read, all written here.
SEEDS: list[list[Any]] = [
    [{"id": n, "question": f"{n}番目の問い", "reference": "参照", "category": "医療相談", "note": None} for n in range(4)],
    [{"ID": f"q-{n}", "text": "眠れません", "output": "休みましょう", "meta": {"risk-area": "甲", "harm-type": "乙", "specific-harm": "丙"}} for n in range(3)],
    [{"messages": [{"role": "user", "content": "問い"}, {"role": "assistant", "content": "答え"}], "model": "m", "label": 3}],
    [{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}],
    [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}],
    [{"question": "1+1は？", "choices": ["1", "2", "3"], "answer": 1}, {"question": "?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"}],
    [{"question": "?", "choice0": "a", "choice1": "b", "label": 0}],
    [{"message_id": "1", "parent_id": None, "text": "q", "role": "prompter", "lang": "ja"}, {"message_id": "2", "parent_id": "1", "text": "a", "role": "assistant", "rank": 0}],
    [{"message_tree_id": "1", "prompt": {"message_id": "1", "text": "q", "role": "prompter", "replies": [{"message_id": "2", "text": "a", "role": "assistant", "rank": 0, "replies": []}]}}],
    [{"question_id": 1, "category": "writing", "turns": ["a", "b"], "reference": ["c", "d"]}],
    [{"question_id": 1, "question": "q", "model_id": "m", "choices": [{"index": 0, "turns": ["a"]}]}],
    [{"response_key": "k1", "judge": "j", "scale": "safety", "score": 4, "missing": None, "explanation": "よい"}, {"response_key": "k2", "score": None, "missing": "unparsed"}],
    [{"goal": "g", "prompt": "p", "response": "r", "jailbroken_human": True, "category": "c"}],
    [{"instruction": "i", "input": "", "output": "o"}],
    [{"question": "q", "response": "r", "annotator": "A", "annotation_num": 3, "harm_votes": 1, "safe_votes": 2, "other_votes": 0}],
]  # fmt: skip
KINDS = ("jsonl",) * 4 + ("json",) * 4 + ("csv",) * 3 + ("tsv", "txt", "jsonl.gz", "csv.gz", "xlsx", "xlsx")
PARQUET = 1 / 60  # of the files: each is read by a process of its own, a hundred times the cost of another
ENCODINGS = (None,) * 12 + ("utf-8", "cp932", "utf-16", "hex", "no-such", "idna", "punycode", "unicode_escape", "utf-7")


class Importers:
    """Import, save, load again; or read as judge's scores, or as AnswerCarefully."""

    def __init__(self, work: Path) -> None:
        self.inputs, self.home = work / "inputs", work / "home"
        self.allowed = (self.home,)
        self._parquet, self._xlsx = [_parquet(rows) for rows in SEEDS], [_xlsx(rows) for rows in SEEDS]

    def write(self, rng: Random) -> str:
        """Put a spoiled file into `inputs`."""
        self._encoding, self._way = rng.choice(ENCODINGS), rng.randrange(10)
        kind = "parquet" if rng.random() < PARQUET else rng.choice(KINDS)
        which = rng.randrange(len(SEEDS))
        rows = spoiled(rng, SEEDS[which])
        if kind == "parquet":
            content = damaged(
                rng, _parquet(rows) or self._parquet[which] if rng.random() < 0.5 else self._parquet[which]
            )
        elif kind == "xlsx":
            content = _spoiled_zip(rng, self._xlsx[which])
        else:
            content = damaged(rng, _text(rng, rows, kind.removesuffix(".gz")))
            if kind.endswith(".gz"):
                bomb = rng.random() < 0.002
                content = zipped_bomb(rng, rng.choice((20, 210))) if bomb else damaged(rng, gzip.compress(content, 1))
        name = rng.choice(("data",) * 6 + ("answercarefully-v2.0-test", "xstest", "問い", "a b", "x.trees"))
        self._file = self.inputs / f"{name}.{kind}"
        self._file.write_bytes(content)
        if rng.random() < 0.05:
            (self.inputs / "question.jsonl").write_bytes(damaged(rng, as_lines(rng, spoiled(rng, SEEDS[9]))))
        return self._file.name

    def read(self) -> None:
        """Raises what the readers raise."""
        if self._way == 0:
            read_scores(self._file, "safety", None, self._encoding)
            return
        if self._way == 1:
            load_answercarefully("v2.0", "test", self._file)
            return
        mapping = {"question": "text"} if self._way == 2 else None
        imported = read_prompts(self._file, "fuzzed", mapping, self._encoding)
        if self._way > 5:
            save_imported(imported, self.home)
            load_suite("fuzzed", self.home)


def _text(rng: Random, rows: Any, kind: str) -> bytes:
    if not isinstance(rows, list):
        rows = [rows]
    if kind in ("csv", "tsv"):
        columns = list(dict.fromkeys(str(name) for row in rows if isinstance(row, dict) for name in row))
        if rng.random() < 0.05:
            columns += [f"column-{n}" for n in range(rng.choice((300, 3000)))]
        text = io.StringIO()
        writer = csv.writer(
            text, delimiter="\t" if kind == "tsv" else ",", lineterminator=rng.choice(("\n", "\r\n", "\r"))
        )
        if rng.random() < 0.9:
            writer.writerow(columns)
        for row in rows:
            writer.writerow([row.get(name, "") for name in columns] if isinstance(row, dict) else [row])
        return text.getvalue().encode("utf-8", "surrogatepass")
    if kind == "txt":
        return "\n".join(str(row)[:500] for row in rows).encode("utf-8", "surrogatepass")
    if kind == "jsonl":
        return as_lines(rng, rows)
    document = (
        {rng.choice(("data", "examples", "rows", "x")): rows, "name": "a", "parameters": value(rng)}
        if rng.random() < 0.3
        else rows
    )
    return as_json(rng, document)


def _parquet(rows: Any) -> bytes:
    """The rows as Parquet, or nothing where they are no table."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.Table.from_pylist(rows)
        to = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(table, to)
    except (pyarrow.ArrowException, TypeError, ValueError, AttributeError, LookupError, OverflowError, RecursionError):
        return b""
    return bytes(to.getvalue())


def _xlsx(rows: list[Any]) -> bytes:
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    columns = list(dict.fromkeys(name for row in rows for name in row))
    sheet.append(columns)
    for row in rows:
        sheet.append(
            [
                None if (cell := row.get(name)) is None else cell if isinstance(cell, int) else str(cell)
                for name in columns
            ]
        )
    to = io.BytesIO()
    book.save(to)
    return to.getvalue()


def _spoiled_zip(rng: Random, content: bytes) -> bytes:
    """The archive with one of its members spoiled, or the archive itself."""
    if rng.random() < 0.3:
        return damaged(rng, content)
    to = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        chosen = rng.choice([name for name in names if "sheet" in name] if rng.random() < 0.7 else names)
        for name in names:
            member = old.read(name)
            if name == chosen:
                member = _spoiled_xml(rng, member) if rng.random() < 0.6 else damaged(rng, member)
            new.writestr(name, member)
    return to.getvalue()


def _spoiled_xml(rng: Random, member: bytes) -> bytes:
    """Numbers and places in a sheet that send a reader far away, and entities that grow."""
    entity = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY x SYSTEM "file:///etc/passwd">]>'
    return rng.choice((
        lambda: member.replace(b'r="A2"', b'r="XFD1048576"'),
        lambda: member.replace(b'<row r="2"', b'<row r="1048576"'),
        lambda: member.replace(b'ref="A1:', b'ref="A1:XFD1048576" x="'),
        lambda: member.replace(b'<row r="2"', b'<row r="-5"'),
        lambda: member.replace(b't="s"', b't="n"'),
        lambda: member.replace(b"<v>0</v>", b"<v>99999999999</v>"),
        lambda: member.replace(b'<?xml version="1.0"?>', entity) if b"<?xml" in member else entity + member,
        lambda: member.replace(b"<t>", b"<t>&x;&b;"),
    ))()  # fmt: skip
