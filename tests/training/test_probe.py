"""What is shown before a run is started: rows as the model sees them, the mix, and what three steps cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import ROWS, settings_for

from evaluation.errors import SettingsRejected, UserFacingError
from evaluation.types import Message
from tests.tiny import TEMPLATE, tiny_tokenizer
from training import loop
from training.chat import ChatFormat
from training.mix import Example
from training.probe import Probe, preview, probe, shown_row


@pytest.mark.parametrize("template", [None, TEMPLATE], ids=["llm-jp format", "own template"])
def test_a_shown_row_is_all_that_the_model_gets_with_the_trained_pieces_marked(template):
    tokenizer = tiny_tokenizer(template)
    turns = [Message("user", "質問"), Message("assistant", "答え"), Message("user", "次"), Message("assistant", "はい")]
    tokens = ChatFormat(tokenizer).training_tokens(turns)
    row = shown_row(Example("r", "s", tuple(tokens.ids), tuple(tokens.trained_on)), tokenizer)
    assert "".join(text for text, _ in row.pieces) == tokenizer.decode(tokens.ids)
    assert [on for _, on in row.pieces] == [False, True, False, True]
    assert [text.split("<eos>")[0] for text, on in row.pieces if on] == ["答え", "はい"]
    assert row.tokens == len(tokens.ids)


def test_the_preview_tells_rows_tokens_and_each_sources_share_and_loads_no_model(base, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)
    seen = preview(settings_for(base), tmp_path, ROWS.__getitem__)
    general, safety = seen.mix
    assert (general.rows, safety.rows, seen.steps) == (6, 24, 15)
    assert seen.tokens == 3 * (general.tokens + safety.tokens)
    assert seen.shares["safety"] == safety.tokens / (general.tokens + safety.tokens)
    assert sum(seen.trained_shares.values()) == pytest.approx(1)
    assert {row.suite for row in seen.rows} == {"general", "safety"}
    assert len({row.prompt_id for row in seen.rows}) == 5


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_probe_expects_the_time_of_all_steps_from_three_and_leaves_nothing_behind(base, tmp_path, method):
    settings = settings_for(base, method=method, save_steps=1, checks=3)
    before = set(tmp_path.iterdir())
    found = probe(settings, tmp_path, ROWS.__getitem__)
    assert isinstance(found, Probe)
    assert found.seconds == pytest.approx(found.preview.tokens / found.tokens_per_s)
    assert found.tokens_per_s > 0
    assert 0 <= found.peak_bytes < 8 << 30  # a tiny model may fit into what the test process has given back
    assert found.device == (torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu")
    assert set(tmp_path.iterdir()) == before


def test_a_probe_of_a_run_shorter_than_three_steps_takes_what_there_is(base, tmp_path):
    found = probe(settings_for(base, epochs=0.1), tmp_path, ROWS.__getitem__)
    assert found is not None and found.preview.steps == 1 and found.seconds > 0


def test_a_probe_stops_when_asked(base, tmp_path):
    assert probe(settings_for(base), tmp_path, ROWS.__getitem__, should_stop=lambda: True) is None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the mark can be reset on Linux only")
def test_the_peak_is_that_of_the_probe_and_not_of_what_the_process_did_before():
    # A process of its own with mapped memory: a heap that earlier tests left free would serve both without growing.
    said = subprocess.run([sys.executable, "-c", _MAPS_BEFORE_AND_AFTER], capture_output=True, text=True, check=True)
    assert 90 << 20 <= int(said.stdout) < 200 << 20  # the kernel counts pages in batches


_MAPS_BEFORE_AND_AFTER = """
import mmap
from training.probe import _Memory

def touch(size):
    with mmap.mmap(-1, size) as memory:
        for page in range(0, size, mmap.PAGESIZE):
            memory[page] = 1

touch(400 << 20)
memory = _Memory()
touch(100 << 20)
print(memory.peak())
"""


def test_a_mix_that_cannot_be_trained_on_is_refused_before_anything_is_measured(base, tmp_path):
    with pytest.raises(SettingsRejected, match="over max_length"):
        preview(settings_for(base, max_length=16), tmp_path, ROWS.__getitem__)


def test_a_gpu_whose_memory_runs_out_in_a_probe_is_told_with_what_to_change(base, tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    monkeypatch.setattr(loop, "summed_loss", full)
    with pytest.raises(UserFacingError, match=r"memory ran out \(.*2\.00 GiB\.\)\. Lower micro_batch_size") as told:
        probe(settings_for(base), tmp_path, ROWS.__getitem__)
    assert "\n" not in str(told.value)
