"""Our training against TRL's SFTTrainer on the embedded preset: same rows, batch, LoRA shape, steps and learning rate.

Each candidate trains in a process of its own (`python -m tests.bench.training HOME CANDIDATE STEPS SEED`), so that the
memory it reports is its own, and says what it learned on the same held-out rows, measured by the same code.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import set_seed

from evaluation.prompts.suites import load_suite
from training.base import load_base, precision_of
from training.embedded import ensure_embedded
from training.held_out import mean_loss
from training.mix import Example, Mix
from training.model import autocast, with_response_loss
from training.plan import plan_run
from training.presets import preset
from training.settings import SftSettings
from training.sft import prepare

ROOT = Path(__file__).resolve().parents[2]
CANDIDATES = ("ours", "trl_best", "trl_default")
STEPS = 6
CPU = torch.device("cpu")


def measure(home: Path, repeats: int, steps: int = STEPS) -> dict[str, list[float]]:
    """Figures by name, one value per repeat, each with a seed of its own: of rows, their order and the first factors.

    The candidates take turns, so that a busy minute hits all of them.
    """
    found: dict[str, list[float]] = {}
    for seed in range(repeats):
        turn = {name: _in_child(home, name, steps, seed) for name in CANDIDATES}
        for name, figures in turn.items():
            for figure, value in figures.items():
                found.setdefault(f"{name}_{figure}", []).append(value)
        ours, best, default = (turn[name] for name in CANDIDATES)
        peak = matmul_flops()
        for figure, value in {
            "over_default": ours["tok_s"] / default["tok_s"],
            "over_best": ours["tok_s"] / best["tok_s"],
            "loss_over_default": ours["held_out"] / default["held_out"],
            "loss_over_best": ours["held_out"] / best["held_out"],
            "peak_over_default": ours["peak_gb"] / default["peak_gb"],
            "matmul_tflops": peak / 1e12,
            "share_of_peak": ours["tok_s"] * ours["flop_per_token"] / peak,
        }.items():
            found.setdefault(figure, []).append(value)
    return found


def _in_child(home: Path, candidate: str, steps: int, seed: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.training", str(home), candidate, str(steps), str(seed)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def first_step_s(home: Path) -> float:
    """Seconds from the command of a training by preset to its first logged step; the training is then ended."""
    with scratch() as own:
        (own / "models").symlink_to(home / "models")  # converted already
        command = [sys.executable, "-m", "playground", "train", "--preset", "embedded-answercarefully"]
        began = time.time()
        child = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PLAYGROUND_HOME": str(own)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )  # fmt: skip
        try:
            assert child.stderr is not None
            if not any(line.startswith("metric: step 1,") for line in child.stderr):
                raise RuntimeError("the training ended before its first step")
            return time.time() - began
        finally:
            child.kill()
            child.wait()


def matmul_flops(size: int = 2048, seconds: float = 2.0) -> float:
    """Floating-point operations a second of a large bfloat16 product: what the processor can do at most."""
    left, right = (torch.randn(size, size, dtype=torch.bfloat16) for _ in range(2))
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        left @ right
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def flop_per_token(model: Any, mix: Mix, settings: SftSettings) -> float:
    """Multiplications and additions that a step cannot do without, per token, attention's own products left out.

    Frozen layers: forward, and backward to their inputs. Adapter factors: to their weights as well. Head: logits and
    the pull of the softmax, for tokens that carry loss.
    """
    head = model.get_output_embeddings().weight
    linear = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear) and m.weight is not head]
    factors = sum(settings.lora_rank * (w.shape[0] + w.shape[1]) for w in linear)
    part = mix.summary()
    trained = sum(p.trained_tokens for p in part) / sum(p.tokens for p in part)
    return 4 * sum(w.numel() for w in linear) + 6 * factors + 4 * trained * head.numel()


# --- in the child ---


def candidate(home: Path, name: str, steps: int, seed: int) -> dict[str, float]:
    """Train as `name` does and say how it went."""
    settings = replace(
        preset("embedded-answercarefully"), checks=0, held_out=("sample-test",), held_out_rows=32, seed=seed
    )
    folder = ensure_embedded(home)
    ready = prepare(settings, home, lambda suite: load_suite(suite, home).prompts, lambda event, data: None)
    # The preset's own rows, as many as the steps take, in the order of its plan: no candidate sees others.
    chosen = [row for micro in plan_run(ready.mix, settings).micro_batches[:steps] for row in micro.rows]
    rows = [ready.mix.examples[row] for row in chosen]
    mix = Mix(tuple(rows), (1,) * len(rows), ready.mix.held_out)
    set_seed(seed)
    train: Callable[..., tuple[Any, float, float]] = _ours if name == "ours" else _trl
    model, seconds, first = train(settings, folder, mix, rows, best=name == "trl_best")
    with autocast(CPU, precision_of(settings.precision)):
        held_out = mean_loss(with_response_loss(model.get_base_model()), mix.held_out["sample-test"], 8, CPU)
    assert held_out is not None
    return {
        "tok_s": sum(len(e.ids) for e in rows) / seconds,
        "first_step_s": first,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "held_out": held_out,
        "flop_per_token": flop_per_token(load_base(settings, folder), mix, settings),
    }


def _ours(
    settings: SftSettings, folder: Path, mix: Mix, rows: list[Example], *, best: bool
) -> tuple[Any, float, float]:
    """The trained model, seconds of the loop, seconds from the start of the process to the first logged step."""
    from training.loop import Watch, fresh_progress, make_trainer, training_arguments
    from training.model import load_trainable

    plan = plan_run(mix, settings)
    logged: list[float] = []
    with scratch() as out:
        progress = fresh_progress(mix, settings)
        progress.loss_before = {}  # nothing is to be measured
        arguments = training_arguments(settings, plan, out)
        watch = Watch(
            settings, plan, progress, lambda *_: logged.append(time.time()), lambda: False, lambda _: True, CPU
        )
        trainer = make_trainer(load_trainable(settings, folder), mix, watch, out, arguments)
        start = time.perf_counter()
        trainer.train()
    return trainer.model, time.perf_counter() - start, logged[0] - psutil.Process().create_time()


def _trl(settings: SftSettings, folder: Path, mix: Mix, rows: list[Example], *, best: bool) -> tuple[Any, float, float]:
    """As `_ours`. Default: what SFTConfig has where the task does not fix it. Best: what else it offers on a CPU."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    logged: list[float] = []

    class Log(TrainerCallback):  # type: ignore[misc]
        def on_log(self, *_: Any, **__: Any) -> None:
            logged.append(time.time())

    task = {
        "per_device_train_batch_size": settings.batch_size,
        "num_train_epochs": 1,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "cosine",
        "adam_beta2": settings.adam_beta2,
        "warmup_steps": -(-int(settings.warmup_ratio * len(rows)) // settings.batch_size),
        "max_length": settings.max_length,
        "completion_only_loss": True,  # or it would learn the questions too
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "seed": settings.seed,
        "use_cpu": True,
        "disable_tqdm": True,
    }
    tuned = {
        "gradient_checkpointing": False,
        "bf16": True,
        "train_sampling_strategy": "group_by_length",
        "dataloader_pin_memory": False,
    }
    with scratch() as out:
        trainer = SFTTrainer(
            model=load_base(settings, folder) if best else str(folder),
            args=SFTConfig(output_dir=str(out), **task, **(tuned if best else {})),
            train_dataset=Dataset.from_list(
                [{"input_ids": list(e.ids), "completion_mask": [int(on) for on in e.trained_on]} for e in rows]
            ),
            peft_config=LoraConfig(
                r=settings.lora_rank,
                lora_alpha=settings.lora_alpha,
                lora_dropout=settings.lora_dropout,
                target_modules="all-linear",
                task_type="CAUSAL_LM",
            ),
            callbacks=[Log()],
        )
        start = time.perf_counter()
        trainer.train()
    return trainer.model, time.perf_counter() - start, logged[0] - psutil.Process().create_time()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


if __name__ == "__main__":
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    print(json.dumps(candidate(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
