"""What DuckDB reads of a journal is what `evaluation.records` reads, line by line, whatever stands in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.journal import create_run
from evaluation.records import JOURNALS, encode_record
from evaluation.types import Category, Judgement, Message, Prompt, Response, Sampling
from playground.store import Store, as_written
from playground.store import ingest as ingesting
from playground.store.ingest import Ingested
from tests import nouns

GOOD = nouns.judgement("k", response_key="r", score=4, explanation='危険\n\t"引用"\\ \x7f😀/', cost_usd=0.25)
LINE = encode_record("judgements", GOOD).decode()[:-1]


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(LINE), **fields}, ensure_ascii=False, separators=(",", ":"))


def without(field: str) -> str:
    return json.dumps({k: v for k, v in json.loads(LINE).items() if k != field}, ensure_ascii=False)


JUDGEMENTS = {
    "as-written": LINE,
    "another-order": json.dumps(dict(reversed(json.loads(LINE).items())), ensure_ascii=False),
    "white-space": json.dumps(json.loads(LINE), ensure_ascii=False),
    "a-blank-at-the-end": LINE + " ",
    "a-field-twice": LINE.replace('"score":4', '"score":1,"score":4'),
    "a-field-more": changed(note="x"),
    "a-field-that-is-usual-left-out": without("explanation"),
    "a-field-that-must-be-left-out": without("response_key"),
    "a-comma-too-many": LINE[:-1] + ",}",
    "a-score-off-its-scale": changed(score=6),
    "a-score-that-fits-another-scale": changed(scale="usefulness", score=9),
    "a-score-that-fits-no-byte": changed(score=1000),
    "a-scale-there-is-not": changed(scale="kindness"),
    "a-score-and-a-reason": changed(missing="unparsed"),
    "neither-score-nor-reason": changed(score=None),
    "a-reason": changed(score=None, missing="judge_refused"),
    "a-reason-there-is-not": changed(score=None, missing="tired"),
    "a-score-as-text": changed(score="4"),
    "a-score-as-a-float": LINE.replace('"score":4', '"score":4.0'),
    "a-score-that-is-true": LINE.replace('"score":4', '"score":true'),
    "a-cost-as-an-int": changed(cost_usd=3),
    "a-cost-that-is-tiny": changed(cost_usd=1e-7),
    "a-cost-that-is-huge": changed(cost_usd=1.5e300),
    "a-cost-beyond-floats": LINE.replace('"cost_usd":0.25', '"cost_usd":1e999'),
    "a-cost-that-is-not-a-number": LINE.replace('"cost_usd":0.25', '"cost_usd":NaN'),
    "tokens-beyond-64-bits": changed(prompt_tokens=10**30),
    "an-attempt-that-is-null": changed(attempt=None),
    "a-judge-that-is-a-list": changed(judge=["a"]),
    "a-judge-that-is-a-number": changed(judge=5),
    "a-control-character": changed(judge="\x1f"),
    "a-nul": changed(judge="a\0b"),
    "escaped-letters": LINE.replace("危", "\\u5371"),
    "half-a-surrogate-pair": LINE.replace("危", "\\ud83d"),
    "a-raw-control-character": LINE.replace("危", "\x01"),
    "nothing": "",
    "no-json": "{torn",
    "a-number": "5",
    "a-list": "[1]",
    "an-empty-object": "{}",
    "null": "null",
    "deep": "[" * 3000 + "]" * 3000,
}  # fmt: skip


def table(store: Store, name: str, run_id: str) -> list[tuple[Any, ...]]:
    columns = ingesting._TABLES[name][0]
    return store.read(
        lambda con: con.execute(
            f"SELECT {', '.join(c for c in columns if c != 'search')}, position FROM {name} WHERE run_id = ? ORDER BY position",
            [run_id],
        ).fetchall()
    )


def bad_places(store: Store, run_id: str) -> list[tuple[Any, ...]]:
    return store.read(
        lambda con: con.execute(
            "SELECT file, line, reason, position FROM quarantine WHERE run_id = ? ORDER BY position", [run_id]
        ).fetchall()
    )


def read_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, lines: list[bytes]) -> tuple[Any, Any]:
    """(what DuckDB and `evaluation.records` made of a journal together, what the latter alone made of it)."""
    found = []
    for few in (0, 10**9):
        monkeypatch.setattr(ingesting, "_FEW", few)
        home = tmp_path / str(few)
        with create_run(home / "runs", "benchmark", {}, {}) as run:
            pass
        (run.path / f"{name}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        with Store(home / "index.duckdb", home / "runs") as store:
            done = store.ingest_run(run.path)
            assert store.ingest_run(run.path) == Ingested()
            found.append((done, table(store, name, run.path.name), bad_places(store, run.path.name)))
    return found[0], found[1]


def test_every_kind_of_line_is_read_alike_by_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each with a key of its own, among lines that stand as they are written."""
    lines = []
    for number, line in enumerate(JUDGEMENTS.values()):
        own = line.replace('"key":"k"', f'"key":"k{number}"').replace('"key": "k"', f'"key": "k{number}"')
        lines += [own.encode(), encode_record("judgements", nouns.judgement(f"good-{number}"))[:-1]]
    together, alone = read_both_ways(tmp_path, monkeypatch, "judgements", lines)
    assert repr(together) == repr(alone)  # NaN is not equal to itself
    assert together[0].records + together[0].bad_lines == len(lines)
    assert together[0].bad_lines >= 15


def test_bytes_that_are_no_text_are_bad_lines_and_stop_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines = [LINE.encode(), b'{"key":"\xff\xfe"}', changed(key="after").encode()]
    together, alone = read_both_ways(tmp_path, monkeypatch, "judgements", lines)
    assert together == alone
    assert (together[0].records, together[0].bad_lines) == (2, 1)


def test_of_two_lines_with_one_key_the_first_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines = [changed(score=score).encode() for score in (4, 1, 2)] + [changed(score=5, note="x").encode()]
    together, alone = read_both_ways(tmp_path, monkeypatch, "judgements", lines)
    assert together == alone
    assert [row[5] for row in together[1]] == [4]


RESPONSES = {
    "as-written": nouns.response("a"),
    "bare": nouns.response("b", sampling=None, messages=(), tokens=None, ttft_s=None, seconds=None, error="切れた"),
    "conversation": nouns.response(
        "c", messages=(Message("system", "s"), Message("user", "u\n"), Message("assistant", '"')), text="長い。" * 20
    ),
    "cut": nouns.response("d", finish_reason="length", text="a" * 30),
    "empty": nouns.response("e", text="…"),
    "stopped": nouns.response("f", finish_reason="cancelled", text=""),
    "sampled": nouns.response("g", sampling=Sampling(1e-6, 1.0, 5, 2**40, "線\u2028")),
}


def test_responses_are_read_alike_by_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines = [encode_record("responses", response)[:-1] for response in RESPONSES.values()]
    plain = json.loads(lines[0])
    for number, about in enumerate(
        (
            {"messages": [{"role": "robot", "content": "x"}]},
            {"messages": [{"role": "user", "content": None}]},
            {"messages": [None]},
            {"messages": None},
            {"messages": [{"role": "user", "content": "x", "more": 1}]},
            {"sampling": {"temperature": 1}},
            {"sampling": {**plain["sampling"], "seed": None}},
            {"finish_reason": "tired"},
            {"text": None},
            {"text": 5},
        )
    ):
        lines.append(json.dumps({**plain, "key": f"odd-{number}", **about}, ensure_ascii=False).encode())
        lines.append(json.dumps({**plain, "key": f"o-{number}", **about}, separators=(",", ":")).encode())
    together, alone = read_both_ways(tmp_path, monkeypatch, "responses", lines)
    assert together == alone
    assert together[0].records == len(RESPONSES) + 4  # a field more or less in a message or a sampling is no reason


PROMPTS = {
    "as-written": nouns.prompt("a", category=Category("甲", "乙", None)),
    "no-category": nouns.prompt("b", category=None, reference=None),
    "conversation": nouns.prompt("c", turns=("二つ目\n", '"')),
}


def test_prompts_are_read_alike_by_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What stands in `extra` decides whether a prompt is a contrast, and may be written in many ways."""
    lines = [encode_record("prompts", prompt)[:-1] for prompt in PROMPTS.values()]
    plain = json.loads(lines[0])
    for number, about in enumerate(
        (
            {"extra": {"label": "unsafe"}},
            {"extra": {"type": "contrast_homonyms", "深い": {"x": [1, None, 1.50]}}},
            {"extra": None},
            {"extra": []},
            {"extra": "{}"},
            {"category": {}},
            {"category": {"risk_area": 5, "harm_type": None, "specific_harm": None}},
            {"category": []},
            {"turns": [None]},
            {"turns": "x"},
            {"question": None},
        )
    ):
        for style in ({}, {"separators": (",", ":")}):
            own = f"odd-{number}-{len(style)}"
            lines.append(json.dumps({**plain, "id": own, **about}, ensure_ascii=False, **style).encode())
    lines.append(lines[0].replace(b'"extra":{}', b'"extra":{ }').replace(b'"id":"a"', b'"id":"blank"'))
    together, alone = read_both_ways(tmp_path, monkeypatch, "prompts", lines)
    assert together == alone
    assert sum(row[5] for row in together[1]) == 4  # contrasts
    assert together[0].records == len(PROMPTS) + 2 * 3 + 1


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**20), 10**20))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(NAMES, NAMES, NUMBERS, st.one_of(st.none(), st.integers(-1, 12), st.text(max_size=3)))))
def test_any_values_are_read_alike_by_both_ways(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]):
    lines = [
        changed(key=f"{number}{key}", explanation=text, cost_usd=cost, score=score).encode()
        for number, (key, text, cost, score) in enumerate(rows)
    ]
    with pytest.MonkeyPatch.context() as patch:
        together, alone = read_both_ways(tmp_path_factory.mktemp("both"), patch, "judgements", lines)
    assert together == alone


def test_what_a_run_writes_is_read_by_duckdb_and_not_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Else ingest would be slow and nobody would know."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("read line by line")

    monkeypatch.setattr(ingesting, "_FEW", 0)
    monkeypatch.setattr(ingesting, "parse", refuse)
    with create_run(tmp_path / "runs", "judging", {}, {}) as run:
        for number, response in enumerate(RESPONSES.values()):
            if number != 6:  # 1e-06 is written otherwise by DuckDB
                run.record_response(response)
        run.record_judgement(GOOD)
        for prompt in PROMPTS.values():
            run.record_prompt(prompt)
    (run.path / "events.jsonl").unlink(missing_ok=True)
    with Store(tmp_path / "index.duckdb", tmp_path / "runs") as store:
        assert store.ingest_run(run.path) == Ingested(len(RESPONSES) + len(PROMPTS))


def test_a_noun_without_a_fixed_structure_is_refused():
    with pytest.raises(TypeError, match="no fixed structure"):
        as_written.structure(set[str])
    assert as_written.structure(Prompt)["extra"] == "JSON"
    assert as_written.structure(Judgement)["score"] == "BIGINT"
    assert as_written.structure(Response)["messages"] == [{"role": "VARCHAR", "content": "VARCHAR"}]
    assert JOURNALS.keys() >= ingesting._READ_BY_DUCKDB.keys()
