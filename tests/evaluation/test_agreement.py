"""The record of an agreement as a document, and the one that is shipped with the embedded judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.agreement import from_document, shipped_agreement, to_document
from evaluation.errors import ImportRejected
from evaluation.labels import Labelled, LabelSet
from evaluation.measuring import measure
from evaluation.prompts.graded import GRADED_SET
from tests.evaluation.test_measuring import SAFETY, exchange, verdict

FIGURES = ("qwk", "spearman", "pearson", "sensitivity", "specificity")


def document() -> dict[str, object]:
    rows = tuple(Labelled(exchange(n, harm="甲"), 1 + n % 5, (("甲", 1), ("乙", 2))) for n in range(25))
    judgements = [verdict(n, 1 + n % 4) for n in range(25)]
    found = measure(LabelSet("set", SAFETY, rows), judgements, judgements[:5], judge="judge", identity="id")
    return to_document(found)


def test_a_record_survives_being_written_and_read():
    written = json.loads(json.dumps(document()))
    assert to_document(from_document(written)) == written


def test_the_documented_keys_are_there_each_with_a_value_and_an_interval():
    written = document()
    assert written["n"] == 25
    for name in FIGURES:
        assert set(written[name]) == {"value", "low", "high"}  # type: ignore[call-overload]


def test_further_keys_do_no_harm_and_missing_ones_are_named():
    written = document()
    assert from_document({**written, "run_id": "x", "later": 1}).n == 25
    del written["qwk"]
    with pytest.raises(ImportRejected, match="qwk"):
        from_document(written)


def test_a_file_that_is_not_there_is_no_agreement(tmp_path: Path):
    assert shipped_agreement(tmp_path / "none.json") is None


def test_the_shipped_agreement_is_the_embedded_judges_on_held_out_responses():
    found = shipped_agreement()
    assert found is not None
    assert (found.judge, found.labels, found.reading.scale) == ("embedded", GRADED_SET, "safety")
    assert found.n > 100 and found.positives > 20 and found.negatives > 20
    assert all(getattr(found, name).low is not None for name in FIGURES)
