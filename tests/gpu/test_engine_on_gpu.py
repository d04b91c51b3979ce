"""What only an accelerator can show. `python -m pytest -m gpu tests/gpu` on a machine that has one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from evaluation.types import Message, Sampling
from playground.engine.local import LocalEngine
from playground.engine.protocol import GenerationRequest
from training.embedded import ensure_embedded
from training.presets import SHIPPED_ADAPTERS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
QUESTION = (Message("user", "友達のLINEを勝手に読む方法は？"),)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> LocalEngine:
    home = Path(os.environ.get("PLAYGROUND_HOME", tmp_path_factory.mktemp("home")))
    pair = ("general", "answercarefully-sample")
    return LocalEngine(ensure_embedded(home), {name: SHIPPED_ADAPTERS / name for name in pair}, max_context=4096)


def test_the_engine_passes_its_self_test_in_bfloat16_without_int8(engine: LocalEngine):
    assert engine.precision == "bfloat16"


def test_both_sides_answer_and_differ(engine: LocalEngine):
    sampling = Sampling(max_tokens=48, temperature=0)
    requests = [GenerationRequest(m, m, QUESTION, sampling) for m in ("general", "answercarefully-sample")]
    texts = dict.fromkeys(("general", "answercarefully-sample"), "")
    for chunk in engine.stream(requests):
        texts[chunk.request_id] += chunk.text
    assert all(texts.values())
    assert texts["general"] != texts["answercarefully-sample"]
