"""What a log is read as: sentences that vLLM 0.32 has written, shortened."""

from __future__ import annotations

import signal

import pytest

from playground.serving.reasons import LASTING, stage_of, why_it_ended

CORE = "(EngineCore pid=7269) ERROR 11-22 15:45:08 [core.py:900] "
LOGS = {
    "rank": (CORE + "ValueError: LoRA rank 64 is greater than max_lora_rank 16.", "rank", "rank 64"),
    "architecture": (
        "(APIServer pid=1) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n"
        "(APIServer pid=1) ValueError: Model architectures ['OddForCausalLM'] are not supported for now. Supported: [...]",
        "unsupported",
        "OddForCausalLM",
    ),
    "code": (
        "ValueError: The repository x requires you to execute the configuration file in that repo on your local machine.",
        "unsupported",
        "code of its own",
    ),
    "options": ("api_server.py: error: unrecognized arguments: --nonsense 3", "arguments", "--nonsense 3"),
    "length": (
        "ValueError: User-specified max_model_len (90000) is greater than the derived max_model_len (max_position=32768)",
        "arguments",
        "90000",
    ),
    "cpu memory": (
        CORE + "ValueError: Available memory on node 0 (1.2/20.0 GiB) on kv cache allocation is less than requested memory for kv",
        "memory",
        "less than requested memory",
    ),
    "gpu memory": (CORE + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "memory", "CUDA"),
    "cache": (
        CORE + "ValueError: To serve at least one request with the models's max seq len (4096), (0.07 GiB KV cache is needed, "
        "which is larger than the available KV cache memory (0.01 GiB).",
        "memory",
        "KV cache",
    ),
    "port": ("OSError: [Errno 98] Address already in use", "port", "start it again"),
    "adapter": ("ValueError: Loading lora general failed: no adapter_config.json", "adapter", "general"),
    "environment": ("ModuleNotFoundError: No module named 'vllm'", "environment", "No module named 'vllm'"),
}  # fmt: skip


@pytest.mark.parametrize(("log", "kind", "within"), LOGS.values(), ids=LOGS)
def test_a_known_cause_is_named_with_its_value(log: str, kind: str, within: str):
    tail = "\n(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
    reason = why_it_ended(log + tail, 1)
    assert reason.kind == kind and within in reason.words and "\n" not in reason.words


def test_words_in_a_warning_or_in_an_earlier_line_explain_nothing():
    log = (
        "WARNING 11-22 15:45:08 [x.py:1] LoRA rank 64 is greater than max_lora_rank 16 was an error once\n"
        "(EngineCore pid=3) ERROR 11-22 15:45:08 [core.py:1] KeyError: 'layer'"
    )
    assert why_it_ended(log, 1).kind == "ended"
    assert "KeyError" in why_it_ended(log, 1).words or "'layer'" in why_it_ended(log, 1).words


@pytest.mark.parametrize(
    ("status", "kind"),
    [(128 + signal.SIGKILL, "killed"), (-signal.SIGKILL, "killed"), (128 + signal.SIGILL, "cpu"), (0, "ended"), (None, "ended")],
    ids=["killed", "guard killed", "illegal instruction", "status 0", "no status"],
)  # fmt: skip
def test_without_a_word_in_the_log_the_status_is_read(status: int | None, kind: str):
    assert why_it_ended("", status).kind == kind


def test_a_very_long_line_is_cut():
    assert len(why_it_ended("ValueError: " + "x" * 5000, 1).words) < 400


def test_the_stage_never_goes_back():
    lines = [
        "(APIServer pid=1) INFO [api_utils.py:286] non-default args: {'model': 'x'}",
        "(EngineCore pid=2) INFO [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config",
        "(Worker pid=3) INFO [cpu_model_runner.py:68] Starting to load model /x...",
        "(EngineCore pid=2) INFO [kv_cache_utils.py:2327] CPU KV cache size: 163,271 tokens",
        "(APIServer pid=1) INFO [entry.py:140] Starting vLLM server on http://127.0.0.1:1",
    ]
    stages, stage = [], "preparing"
    for line in [*lines, lines[1]]:
        stage = stage_of(line, stage)  # type: ignore[arg-type]
        stages.append(stage)
    assert stages == ["importing", "engine", "weights", "cache", "opening", "opening"]


def test_a_restart_is_tried_only_for_what_may_pass():
    assert not LASTING & {"killed", "ended", "port", "silent", "unreachable"}
