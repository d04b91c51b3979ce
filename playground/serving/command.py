"""The call of a vLLM server: its program, options and environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from playground.serving.environment import VllmEnvironment
from playground.serving.plan import MemoryPlan
from playground.serving.reasons import Reason, ServerFailed

INSIDE = Path(__file__).parent / "inside"
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM takes as --max-lora-rank, but for 1
LEAST_RANK = 16  # what a training has when nobody says otherwise: the next adapter must find room
ADAPTERS_AT_ONCE = 8  # in one batch; each costs the memory of one adapter of the largest rank
ADAPTERS_KEPT = 32  # in main memory, from where one comes back without being read again
FEW_CORES = 4
SERVER_MARK = "PLAYGROUND_VLLM_SERVER"  # in the environment of all processes of one server
# With adapters vLLM compiles nothing on a CPU, and takes torch's single operations where it has one of its own.
CPU_OPERATIONS = {"custom_ops": ["none", "+rotary_embedding"]}
# Options that would break a promise: where the server listens, who may ask it, what runs in it, what it is called.
_OURS = (
    "--host", "--port", "--uds", "--api-key", "--model", "--served-model-name", "--lora-modules", "--middleware",
    "--trust-remote-code", "--config", "--ssl-keyfile", "--ssl-certfile", "--root-path",
)  # fmt: skip
# Somebody's keys: a server that loads nothing but local folders needs none of them.
_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY")


def largest_rank(ranks: Sequence[int]) -> int:
    """The --max-lora-rank that all these adapters, and the next ordinary training, fit in."""
    wanted = max((LEAST_RANK, *ranks))
    return next(rank for rank in RANKS if rank >= wanted)


def check_options(options: Sequence[str]) -> None:
    """Raise ServerFailed for an option that the app decides itself."""
    for option in options:
        name = option.partition("=")[0].replace("_", "-")
        if name in _OURS:
            raise ServerFailed(
                Reason("arguments", f"{name} is set by the app; take it out of PLAYGROUND_VLLM_ARGS, or run a server "
                "of your own and name it in PLAYGROUND_VLLM_URL.")
            )  # fmt: skip


def devices_wanted(options: Sequence[str]) -> tuple[int, int]:
    """How many GPUs share one copy of the model (tensor times pipeline parallel), and how many copies there are.

    Raises ServerFailed for an option without a number.
    """
    return (
        _number(options, "--tensor-parallel-size", "-tp") * _number(options, "--pipeline-parallel-size", "-pp"),
        _number(options, "--data-parallel-size", "-dp"),
    )


def _number(options: Sequence[str], *names: str) -> int:
    found = 1
    for place, option in enumerate(options):
        name, sign, value = option.partition("=")
        if name.replace("_", "-") in names:
            value = value if sign else (options[place + 1] if place + 1 < len(options) else "")
            if not value.isdigit() or int(value) < 1:
                raise ServerFailed(Reason("arguments", f"{name} needs a number; change PLAYGROUND_VLLM_ARGS."))
            found = int(value)
    return found


def command_line(
    environment: VllmEnvironment,
    folder: Path,
    served_as: str,
    plan: MemoryPlan,
    adapters: Mapping[str, Path],
    rank: int | None,
    port: int,
    options: Sequence[str],
) -> list[str]:
    """What is run. No key is in it: every user of the machine can read a command line.

    `rank` None: the server takes no adapters. `options` come last, so that they win over ours.
    """
    command = [
        str(environment.python),
        *environment.program,
        *("--model", str(folder)),
        *("--served-model-name", served_as),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
        *("--dtype", "bfloat16"),
        *("--load-format", "safetensors"),  # never a pickle
        *("--max-model-len", str(plan.max_model_len)),
        *("--generation-config", "vllm"),  # sampling is what the request says, not what the model's folder wishes
        *("--middleware", "require_key.RequireKey"),
        "--disable-uvicorn-access-log",
        "--disable-fastapi-docs",
    ]
    if plan.gpu_share is None:
        command += ["--kv-cache-memory-bytes", str(plan.cache)]
    else:
        command += ["--gpu-memory-utilization", f"{plan.gpu_share:.2f}"]
    if not _has_template(folder):  # a judge asks by the chat endpoint
        command += ["--chat-template", str(INSIDE / "llm_jp.jinja")]
    if rank is not None:
        at_once = min(ADAPTERS_AT_ONCE, max(4, len(adapters) + 1))
        command += ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(at_once)]
        command += ["--max-cpu-loras", str(ADAPTERS_KEPT)]
        if plan.gpu_share is None:
            command += ["--compilation-config", json.dumps(CPU_OPERATIONS)]
        if adapters:
            command += ["--lora-modules", *(f"{name}={path}" for name, path in adapters.items())]
    return [*command, *options]


def _has_template(folder: Path) -> bool:
    """Whether the model brings a chat template, in a file of its own or in its tokenizer's settings."""
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        return bool(json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template"))
    except (OSError, ValueError, AttributeError):  # the server says better what is wrong with the folder
        return False


def settings_on_cpu() -> dict[str, str]:
    """What makes a server on a CPU compute faster, where the user has not said otherwise in the environment.

    vLLM keeps a core of each server for its scheduler and computes on the others: on two cores that is half of them. The
    scheduler works while the computation waits for it, so with few cores all of them compute.

    A step's scores, 33 MB for 32 requests and a vocabulary of 262,144, are memory that the kernel gives anew each time.
    In pages of 2 MB instead of 4 KB a step takes a quarter less; where glibc or the kernel has none, nothing changes.
    """
    said = {"VLLM_CPU_NUM_OF_RESERVED_CPU", "VLLM_CPU_OMP_THREADS_BIND"} & os.environ.keys()
    few = len(os.sched_getaffinity(0)) <= FEW_CORES if hasattr(os, "sched_getaffinity") else False
    ours = {"VLLM_CPU_NUM_OF_RESERVED_CPU": "0"} if few and not said else {}
    return ours if "GLIBC_TUNABLES" in os.environ else {**ours, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def environment_of(key: str, mark: str, cache: Path, visible_gpus: str | None) -> dict[str, str]:
    """The server's environment: ours without our settings and keys, and with its own key."""
    inherited = {
        name: value for name, value in os.environ.items() if name not in _SECRETS and not name.startswith("PLAYGROUND_")
    }
    # OMP_NUM_THREADS is for our own torch; PYTHONPATH would put our packages before vLLM's.
    for name in ("OMP_NUM_THREADS", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        inherited.pop(name, None)
    ours = {
        "PYTHONPATH": str(INSIDE),
        "PYTHONUNBUFFERED": "1",
        "VLLM_API_KEY": key,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_CACHE_ROOT": str(cache),
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",  # everything it needs is in a folder here
        "TRANSFORMERS_OFFLINE": "1",
        "NO_COLOR": "1",
        "SPT_NOENV": "1",  # else vLLM's processes write their titles over the environment, and with it over the mark
        SERVER_MARK: mark,
    }
    if visible_gpus is not None:
        ours["CUDA_VISIBLE_DEVICES"] = visible_gpus
    else:
        ours |= settings_on_cpu()
    return {**inherited, **ours}
