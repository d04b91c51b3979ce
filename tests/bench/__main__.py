"""Every figure of docs/benchmarks.md, taken on a machine that should be otherwise idle.

`python -m tests.bench` takes all of them, `python -m tests.bench training` those of one part; each part's section of
the page carries its own date and machine.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from tests.bench import app_cost, benchmark, decoding, load, results, serving, start_up, supervision, training
from training.embedded import ensure_embedded

REPEATS = 5
TRAININGS = 2  # of each candidate: TRL takes minutes
PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
Rows = list[str]


def main(asked: Sequence[str]) -> int:
    """Measure the parts asked for, print them, write them into the page. Returns 2 for a part that there is not."""
    if unknown := set(asked) - PARTS.keys():
        print(f"There is no part {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}.", file=sys.stderr)
        return 2
    home = Path(os.environ.get("PLAYGROUND_HOME", Path(__file__).resolve().parents[2] / "var")).resolve()
    torch.set_num_threads(os.cpu_count() or 1)  # tests.tiny has left it one
    for name in asked or PARTS:
        title, measure = PARTS[name]
        section = _section(name, title, *measure(home))
        print(section, flush=True)
        PAGE.write_text(_with_section(PAGE.read_text(encoding="utf-8"), name, section), encoding="utf-8")
    return 0


def answering(home: Path) -> tuple[Rows, Rows]:
    """The Compare page's way: decoding, the app around it, starting."""
    decode = decoding.measure(home, REPEATS)
    start = start_up.measure(home, REPEATS)
    cost = app_cost.measure(home, REPEATS)
    return [
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
        _row("the same without int8 weights (bfloat16 only)", decode["bf16_over_generate"]),
        _row("App (page handlers, queue, HTTP, store) / bare engine, per pair", cost["app_over_engine"], "≤ 1.10"),
        _row("Page answers after `python app.py`, seconds", start["page_s"], "≤ 5"),
        _row("Embedded model ready after `python app.py`, seconds (already converted)", start["ready_s"]),
        _row("Peak memory of the app after judged pairs, GB", cost["peak_gb"], "≤ 2.5"),
        _row("First text of a pair after the click, seconds", cost["first_text_s"], "≤ 3"),
        _row("Two judged responses after the click, seconds (64 tokens a side)", cost["judged_s"], "≤ 30"),
        _row("Embedded judge, batch of 32, responses/s", cost["judge_per_s"], "≥ 10"),
    ], [
        _row("`model.generate`, bfloat16, tokens/s", decode["generate_tok_s"]),
        _row("ours, bfloat16 only, base, tokens/s", decode["bf16_tok_s"]),
        _row("ours, int8 weights, base, tokens/s", decode["int8_tok_s"]),
        _row("ours, int8 weights, one adapter, tokens/s", decode["tuned_tok_s"]),
        _row("ours, pair, tokens/s both sides together", decode["pair_tok_s"]),
    ]


def tuning(home: Path) -> tuple[Rows, Rows]:
    """Training against TRL, and what its supervision costs."""
    supervised = supervision.measure(REPEATS)
    ensure_embedded(home)
    started = [training.first_step_s(home) for _ in range(REPEATS)]
    trained = training.measure(home, TRAININGS)
    return [
        _row("Training, tokens/s / TRL's SFTTrainer with its defaults", trained["over_default"], "≥ 4"),
        _row("Training, tokens/s / TRL's SFTTrainer with its best settings", trained["over_best"], "≥ 1.5"),
        _row("Held-out loss after it / after TRL's defaults", trained["loss_over_default"], "0.99 to 1.01"),
        _row("Held-out loss after it / after TRL's best settings", trained["loss_over_best"], "0.99 to 1.01"),
        _row("Peak memory of training / of TRL's defaults", trained["peak_over_default"], "≤ 1"),
        _row("The command to its first logged step, seconds", started, "≤ 15"),
        _row("Training's share of the processor's bfloat16 peak", trained["share_of_peak"]),
        _row("Supervision of a training, percent of one core", [100 * share for share in supervised["all"]], "≤ 1"),
    ], [
        _row("ours, tokens/s", trained["ours_tok_s"]),
        _row("TRL's best settings, tokens/s", trained["trl_best_tok_s"]),
        _row("TRL's defaults, tokens/s", trained["trl_default_tok_s"]),
        _row("ours, held-out loss, nats", trained["ours_held_out"]),
        _row("TRL's best settings, held-out loss, nats", trained["trl_best_held_out"]),
        _row("TRL's defaults, held-out loss, nats", trained["trl_default_held_out"]),
        _row("ours, peak memory, GB", trained["ours_peak_gb"]),
        _row("TRL's best settings, peak memory, GB", trained["trl_best_peak_gb"]),
        _row("TRL's defaults, peak memory, GB", trained["trl_default_peak_gb"]),
        _row("TRL's best settings, start to first logged step, seconds", trained["trl_best_first_step_s"]),
        _row("bfloat16 product of 2,048 x 2,048, TFLOP/s", trained["matmul_tflops"]),
    ]


def judging(home: Path) -> tuple[Rows, Rows]:
    """The benchmark runner against an unreliable judge, and its batches against one prompt at a time."""
    slow = [benchmark.judging(seed) for seed in range(TRAININGS)]
    made = [benchmark.generation(home)]
    return [
        _row("336 verdicts, 1 s each, 5 % 429, 2 % 500, 1 % torn: seconds", [run["seconds"] for run in slow], "≤ 30"),
        _row("of them right, none lost or doubled", [float(run["right"]) for run in slow], "336"),
        _row("Benchmark generation / one at a time by `model.generate`", [run["faster"] for run in made], "≥ 4"),
        _row(
            "Texts that differ from those made one at a time, in float32, share",
            [run["exact_different"] for run in made],
            "≤ 0.01",
        ),
    ], [
        _row("the same as the app computes: int8 alone, bfloat16 in batches", [run["different"] for run in made]),
        _row("seconds of `model.generate` for 96 responses", [run["generate_s"] for run in made]),
        _row("seconds of the benchmark's", [run["ours_s"] for run in made]),
    ]


def index(home: Path) -> tuple[Rows, Rows]:
    """The index and the Benchmark page under a million judgements."""
    found = results.measure()
    return [
        _row("Slowest chart query over 1,000,000 judgements, ms", found["query_ms"], "≤ 150"),
        _row("All that the Benchmark page shows, seconds", found["page_s"], "≤ 2"),
        _row("Ingest, records/s", found["ingest_per_s"], "≥ 200,000"),
    ], []


def many(home: Path) -> tuple[Rows, Rows]:
    """Fifty visitors for ten minutes, and two hundred at once; `home` is not used, the engine is a stub."""
    found = load.measure()
    return [
        _row("50 visitors for 10 minutes: chunks lost, doubled or crossed, and errors", found["lost"], "0"),
        _row(
            "What the app adds to a chunk's way from the engine to the visitor, 95 % of chunks, ms",
            found["p95_ms"],
            "≤ 100",
        ),
        _row("Memory after the third minute, MB a minute", found["slope_mb"], "≤ 1"),
        _row("200 visitors for a minute: errors", found["crowd_errors"], "0"),
    ], [
        _row("50 visitors: pairs answered", found["pairs"]),
        _row("50 visitors: added, half of the chunks, ms", found["p50_ms"]),
        _row("50 visitors: added, 99 % of the chunks, ms", found["p99_ms"]),
        _row("50 visitors: memory at the end, MB", found["memory_mb"]),
        _row("200 visitors: pairs answered", found["crowd_pairs"]),
        _row("200 visitors: longest place in the line that was shown", found["crowd_line"]),
        _row("200 visitors: longest wait from the click to the first text, seconds", found["crowd_wait_s"]),
        _row("200 visitors: added, 95 % of the chunks, ms", found["crowd_p95_ms"]),
    ]


def serving_vllm(home: Path) -> tuple[Rows, Rows]:
    """The app in front of vLLM, and one benchmark over many servers."""
    rows = serving.scaling()
    found = serving.measure(home)
    efficiency = [row["efficiency"] for row in rows if row["servers"] <= serving.MUST_SCALE_UP_TO]
    return [
        _row("Benchmark generation through the app / vLLM's `LLM.generate`, tokens/s", found["over_offline"], "≥ 0.9"),
        _row("the same / our transformers engine, 32 prompts at once", found["over_transformers"], "≥ 1.8"),
        _row("Streamed pair / one side", found["pair_over_one"], "≤ 1.3"),
        _row("First tokens of both sides / two direct requests", found["first_over_direct"], "≤ 1.2"),
        _row("New adapter in its place to its first token, seconds", found["hot_load_s"], "≤ 10"),
        _row(
            f"Efficiency, 1 to {serving.MUST_SCALE_UP_TO} stub servers (responses/s over that of one, per server)",
            efficiency,
            f"≥ {serving.MUST_SCALE}",
        ),
    ], [
        *(
            _row(f"{row['servers']:.0f} stub servers: responses/s (efficiency {row['efficiency']:.2f})", [row["per_s"]])
            for row in rows
        ),
        _row("client CPU, ms for a response, 16 stub servers", [1000 * rows[-1]["cpu_s"] / (serving.EACH * 16)]),
        _row("through the app, tokens/s", found["server_tok_s"]),
        _row("`LLM.generate` with the plugins that the app's servers load, tokens/s", found["offline_tok_s"]),
        _row("`LLM.generate` without them, tokens/s", found["bare_offline_tok_s"]),
        _row("our transformers engine, tokens/s", found["transformers_tok_s"]),
        _row("through the app, tokens/s, usual temperature and top_p", found["drawn_tok_s"]),
        _row("our transformers engine, tokens/s, usual temperature and top_p", found["transformers_drawn_tok_s"]),
        _row("first tokens of both sides, seconds", found["first_s"]),
        _row("of two direct requests, seconds", found["direct_s"]),
    ]


PARTS: Mapping[str, tuple[str, Callable[[Path], tuple[Rows, Rows]]]] = {
    "answering": ("Answering", answering),
    "training": ("Training", tuning),
    "benchmark": ("Benchmark", judging),
    "index": ("Index", index),
    "serving": ("vLLM", serving_vllm),
    "load": ("Load", many),
}


def _row(what: str, values: list[float], target: str = "") -> str:
    middle, digits = statistics.median(values), 3 if max(values) < 10 else 2
    return f"| {what} | {middle:,.{digits}f} | {min(values):,.{digits}f} to {max(values):,.{digits}f} | {len(values)} | {target} |"


def _section(name: str, title: str, rows: Rows, absolute: Rows) -> str:
    machine = f"{_cpu()}, {os.cpu_count()} cores, {platform.system()}; torch {torch.__version__}, {torch.get_num_threads()} threads"
    head = "| | median | range | of | must reach |\n|---|---|---|---|---|"
    behind = ["", "Behind them:", "", head, *absolute] if absolute else []
    return "\n".join(
        [
            f"## {title}",
            f"{datetime.now(UTC):%Y-%m-%d}, `python -m tests.bench {name}`. {machine}. Embedded Gemma 3 270M.",
            "",
            head,
            *rows,
            *behind,
        ]
    )


def _with_section(page: str, name: str, section: str) -> str:
    """The page with the part's section in place of the one between its marks."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    found, count = re.subn(
        f"{re.escape(begin)}.*{re.escape(end)}", lambda _: f"{begin}\n{section}\n{end}", page, flags=re.S
    )
    if not count:
        raise ValueError(f"{PAGE} has no marks {begin} and {end}.")
    return found


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
