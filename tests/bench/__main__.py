"""Every figure of docs/benchmarks.md, taken in one run on a machine that should be otherwise idle."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

from tests.bench import app_cost, decoding, start_up, supervision, training

REPEATS = 5
TRAININGS = 3  # of each candidate: TRL's defaults take minutes
PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


def main() -> int:
    """Measure, print, write. Returns the exit status: 1 when a figure that must be reached is not."""
    home = Path(os.environ.get("PLAYGROUND_HOME", Path(__file__).resolve().parents[2] / "var")).resolve()
    decode = decoding.measure(home, REPEATS)
    start = start_up.measure(home, REPEATS)
    cost = app_cost.measure(home, REPEATS)
    supervised = supervision.measure(REPEATS)
    trained = training.measure(home, TRAININGS)
    rows = [
        _row(
            "Streamed pair (general + answercarefully-sample, 64 tokens each) / tuned side alone",
            decode["pair_over_tuned"],
            "≤ 1.3",
        ),
        _row(
            "Streamed pair (base + answercarefully-sample) / tuned side alone", decode["base_pair_over_tuned"], "≤ 1.3"
        ),
        _row(
            "Decode at batch 1, base, / `model.generate`, same weights and sampling",
            decode["decode_over_generate"],
            "≥ 1.3",
        ),
        _row("the same without int8 weights (bfloat16 only)", decode["bf16_over_generate"], ""),
        _row("App (page handlers, queue, HTTP, store) / bare engine, per pair", cost["app_over_engine"], "≤ 1.10"),
        _row("Page answers after `python app.py`, seconds", start["page_s"], "≤ 5"),
        _row("Embedded model ready after `python app.py`, seconds (already converted)", start["ready_s"], ""),
        _row("Peak memory of the app after judged pairs, GB", cost["peak_gb"], "≤ 2.5"),
        _row("First text of a pair after the click, seconds", cost["first_text_s"], "≤ 3"),
        _row("Two judged responses after the click, seconds (64 tokens a side)", cost["judged_s"], "≤ 30"),
        _row("Training, tokens/s / TRL's SFTTrainer with its defaults", trained["over_default"], "≥ 4"),
        _row("Training, tokens/s / TRL's SFTTrainer with its best settings", trained["over_best"], "≥ 1.5"),
        _row("Held-out loss after it / after TRL's defaults", trained["loss_over_default"], "0.99 to 1.01"),
        _row("Held-out loss after it / after TRL's best settings", trained["loss_over_best"], "0.99 to 1.01"),
        _row("Peak memory of training / of TRL's defaults", trained["peak_over_default"], "≤ 1"),
        _row("Start of training to its first logged step, seconds", trained["ours_first_step_s"], "≤ 15"),
        _row("Training's share of the processor's bfloat16 peak", trained["share_of_peak"], ""),
        _row("Supervision of a training, percent of one core", [100 * share for share in supervised["all"]], "≤ 1"),
    ]
    absolute = [
        _row("`model.generate`, bfloat16, tokens/s", decode["generate_tok_s"], ""),
        _row("ours, bfloat16 only, base, tokens/s", decode["bf16_tok_s"], ""),
        _row("ours, int8 weights, base, tokens/s", decode["int8_tok_s"], ""),
        _row("ours, int8 weights, one adapter, tokens/s", decode["tuned_tok_s"], ""),
        _row("ours, pair, tokens/s both sides together", decode["pair_tok_s"], ""),
        _row("embedded judge, batch of 32, responses/s", cost["judge_per_s"], ""),
        _row("training, ours, tokens/s", trained["ours_tok_s"], ""),
        _row("training, TRL's best settings, tokens/s", trained["trl_best_tok_s"], ""),
        _row("training, TRL's defaults, tokens/s", trained["trl_default_tok_s"], ""),
        _row("training, ours, peak memory, GB", trained["ours_peak_gb"], ""),
        _row("training, TRL's best settings, peak memory, GB", trained["trl_best_peak_gb"], ""),
        _row("training, TRL's defaults, peak memory, GB", trained["trl_default_peak_gb"], ""),
        _row("bfloat16 product of 2,048 x 2,048, TFLOP/s", trained["matmul_tflops"], ""),
    ]
    page = _page(rows, absolute)
    print(page)
    PAGE.write_text(page, encoding="utf-8")
    return 0


def _row(what: str, values: list[float], target: str) -> str:
    middle = statistics.median(values)
    return f"| {what} | {middle:.2f} | {min(values):.2f} to {max(values):.2f} | {target} |"


def _page(rows: list[str], absolute: list[str]) -> str:
    machine = f"{_cpu()}, {os.cpu_count()} cores, {platform.system()}; torch {torch.__version__}, {torch.get_num_threads()} threads"
    head = "| | median of 5 | range | must reach |\n|---|---|---|---|\n"
    notes = (Path(__file__).parent / "notes.md").read_text(encoding="utf-8")
    return (
        "# Benchmarks\n\nWritten by `make bench`; a figure here was measured by that command and nowhere else.\n\n"
        f"Machine: {machine}. Date: {datetime.now(UTC):%Y-%m-%d}. Model: embedded Gemma 3 270M.\n\n"
        f"## Ratios and limits\n{head}" + "\n".join(rows) + f"\n\n## Absolute figures behind them\n{head}" + "\n".join(absolute)
        + "\n\n" + notes
    )  # fmt: skip


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    sys.exit(main())
