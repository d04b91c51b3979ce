"""The embedded judge's training from graded rows to a file that a judge reads, on a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evaluation.judge.embedded import EmbeddedJudge, load_heads
from evaluation.judge.features import pooled_states
from evaluation.prompts.graded import GRADED_FILE, Graded, read_graded
from evaluation.prompts.suites import sample_suites
from playground.jobs import workers
from tests.tiny import tiny_model, tiny_tokenizer
from training import judge_head
from training.judge_terms import FittingStopped, TermSettings

QUICK = TermSettings(rank=2, epochs=1)
ROWS = 24  # of each scale, held out or not


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer of two, and few of the rows that are put together."""
    monkeypatch.setattr(judge_head, "LAYER", 1)
    some = {kind: rows[:4] for kind, rows in judge_head.put_together(held_out=True).items()}
    monkeypatch.setattr(judge_head, "put_together", lambda held_out: some)
    monkeypatch.setattr(judge_head, "put_together_to_fit", list)


def graded() -> list[Graded]:
    """Short rows of every scale, of many prompts, held out and not."""
    prompts = {p.id: p for suite in sample_suites().values() for p in suite.prompts}
    rows = sorted(read_graded(GRADED_FILE, prompts), key=lambda g: len(g.text))
    return [
        g
        for scale in ("safety", "refusal")
        for held_out in (True, False)
        for score in ((1, 3, 5) if scale == "safety" else (1, 2, 3))
        for g in [g for g in rows if (g.scale, g.held_out, g.score) == (scale, held_out, score)][: ROWS // 3]
    ]


def test_the_file_that_is_written_judges_on_both_scales_and_the_report_says_how_well(tmp_path: Path):
    told: list[tuple[str, dict[str, Any]]] = []
    model, out = tiny_model(), tmp_path / "head.safetensors"
    found = judge_head.train_judge(graded(), model, tiny_tokenizer(), lambda *event: told.append(event), out, QUICK)
    assert {name for name in found if name.startswith(("safety", "refusal"))} == {
        f"{scale}, {shown} reference" for scale in ("safety", "refusal") for shown in ("with", "without")
    }
    assert found["safety, with reference"]["n"] == sum(g.held_out and g.scale == "safety" for g in graded())
    assert found["right opening, other harm's advice"]["n"] == 4
    assert [event for event, _ in told].count("metric") == len(found)
    heads = load_heads(out)
    assert heads.terms.keys() == {"safety"}
    judge = EmbeddedJudge(lambda *read: pooled_states(model, tiny_tokenizer(), *read), "tiny", heads)
    asked = graded()[0].exchange()
    for scale, highest in (("safety", 5), ("refusal", 3)):
        (judgement,) = judge.judge([asked], scale)
        assert judgement.score in range(1, highest + 1)


def test_what_is_measured_is_what_the_written_file_gives(tmp_path: Path):
    """Not the terms before they were rounded for the file."""
    model, out = tiny_model(), tmp_path / "head.safetensors"
    found = judge_head.train_judge(graded(), model, tiny_tokenizer(), lambda *_: None, out, QUICK)
    heads, use = load_heads(out), ("safety", True)
    rows = [g for g in judge_head.fitted_on(graded(), use) if g.held_out]
    features = judge_head.features_of(rows, model, tiny_tokenizer(), True, 1, heads.terms["safety"])
    assert judge_head.held_out_agreement(heads.by_use[use], features, rows) == found["safety, with reference"]


def test_told_to_stop_it_leaves_no_file(tmp_path: Path):
    out = tmp_path / "head.safetensors"
    with pytest.raises(FittingStopped):
        judge_head.train_judge(
            graded(), tiny_model(), tiny_tokenizer(), lambda *_: None, out, QUICK, should_stop=lambda: True
        )
    assert not out.exists()


def test_a_run_that_is_stopped_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from types import SimpleNamespace

    import transformers

    monkeypatch.setattr(workers, "ensure_embedded", lambda *_: tmp_path)
    for kind, made in (("AutoModelForCausalLM", tiny_model()), ("AutoTokenizer", tiny_tokenizer())):
        monkeypatch.setattr(transformers, kind, SimpleNamespace(from_pretrained=lambda _, made=made: made))
    monkeypatch.setattr(workers, "read_graded", lambda *_: graded())
    run = SimpleNamespace(home=tmp_path, path=tmp_path, report=lambda *_: None, should_stop=lambda: True)
    assert workers.fit_judge(run) == workers.Outcome(stopped=True)  # type: ignore[arg-type]
