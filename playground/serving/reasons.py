"""What a server's log says: how far a start has come, and why a server has ended."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from evaluation.errors import UserFacingError

Stage = Literal["preparing", "importing", "engine", "weights", "cache", "opening"]
Kind = Literal[
    "environment", "cpu", "memory", "unsupported", "model", "rank", "adapter", "arguments", "device", "port", "killed",
    "silent", "ended", "restarts", "unreachable",
]  # fmt: skip
# Trying again changes nothing about these.
LASTING: frozenset[Kind] = frozenset(
    ("environment", "cpu", "memory", "unsupported", "model", "rank", "adapter", "arguments", "device", "restarts")
)


@dataclass(frozen=True)
class Reason:
    """Why there is no server. `words` say what, with which value, and what to do, in one line."""

    kind: Kind
    words: str

    @property
    def lasting(self) -> bool:
        """Whether another start would end the same way."""
        return self.kind in LASTING


class ServerFailed(UserFacingError):
    """A server could not be started, or ended. str() is the reason's words."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.words)
        self.reason = reason


# In the order in which they appear; a later stage is never followed by an earlier one.
_STAGES: tuple[tuple[Stage, re.Pattern[str]], ...] = (
    ("importing", re.compile(r"non-default args")),
    ("engine", re.compile(r"Initializing a V1 LLM engine|\(EngineCore")),
    ("weights", re.compile(r"Starting to load model|Loading safetensors|Loading weights took")),
    ("cache", re.compile(r"KV cache size|KV cache on node|[Cc]apturing|[Ww]arming up")),
    ("opening", re.compile(r"Starting vLLM|Application startup|Uvicorn running")),
)

_PREFIX = re.compile(r"^(?:\([\w ]+(?:pid=\d+)?\)\s*)?(?:(?:ERROR|WARNING|INFO|CRITICAL) [\d-]+ [\d:]+ \[[^\]]*\]\s*)?")
_ERROR = re.compile(r"^(?:[\w.]*\.)?(\w*(?:Error|Exception|Exit)): (.+)$")
# Each: what it is, what the log says, and our line; {0}, {1} are what the pattern found.
_KNOWN: tuple[tuple[Kind, re.Pattern[str], str], ...] = (
    (
        "rank",
        re.compile(r"LoRA rank (\d+) is greater than max_lora_rank\s*\(?(\d+)"),
        "An adapter has rank {0} and the server was started for {1} at most; stop it and start it again.",
    ),
    (
        "unsupported",
        re.compile(r"Model architectures (\[.*?\]) are not supported"),
        "vLLM does not know the model's architecture {0}; choose another model, or use the transformers engine.",
    ),
    (
        "unsupported",
        re.compile(r"(requires you to execute the (?:configuration|tokenizer) file|trust_remote_code)"),
        "The model brings code of its own, which is never run here; choose a model that vLLM knows.",
    ),
    (
        "arguments",
        re.compile(r"error: (.+)"),
        "vLLM refuses its options ({0}); change PLAYGROUND_VLLM_ARGS.",
    ),
    (
        "arguments",
        re.compile(r"(?:User-specified )?max_model_len \((\d+)\) is greater than the derived max_model_len"),
        "The model takes fewer than {0} tokens; lower --max-model-len in PLAYGROUND_VLLM_ARGS, or PLAYGROUND_MAX_CONTEXT.",
    ),
    (
        "memory",
        re.compile(
            r"((?:No available memory for the cache blocks|KV cache is needed, which is larger|less than desired (?:GPU|CPU) memory"
            r"|is less than requested memory for kv|OutOfMemoryError|CUDA out of memory|DefaultCPUAllocator|Cannot allocate memory"
            r"|MemoryError).{0,120})"
        ),
        "The memory does not suffice ({0}); end other programs, lower PLAYGROUND_MAX_CONTEXT, or take a smaller model.",
    ),
    (
        "port",
        re.compile(r"([Aa]ddress already in use)"),
        "Another program took the server's port in the moment of the start; start it again.",
    ),
    (
        "adapter",
        re.compile(r"(?:Loading lora|LoRA adapter|LoRARequest)\W+(.{1,200})"),
        "An adapter cannot be served ({0}); delete it or train it again.",
    ),
    (
        "cpu",
        re.compile(r"(Illegal instruction|SIGILL)"),
        "This CPU lacks instructions that vLLM was built for ({0}); use the transformers engine.",
    ),
    (
        "environment",
        re.compile(r"(?:ModuleNotFoundError|ImportError): (.+)"),
        "vLLM's environment is broken ({0}); build it anew: rm -rf .venv-vllm && make vllm.",
    ),
)


def stage_of(log: str, before: Stage) -> Stage:
    """The furthest stage that the text shows, or `before` when it shows none beyond it."""
    order: list[Stage] = ["preparing", *(stage for stage, _ in _STAGES)]
    found = before
    for stage, pattern in _STAGES:
        if order.index(stage) > order.index(found) and pattern.search(log):
            found = stage
    return found


def why_it_ended(log: str, status: int | None) -> Reason:
    """Why a server ended that nobody asked to end.

    `status`: as the guard gives it, 128 + N for signal N; negative when the guard itself was killed.
    """
    if status is not None and status < 0:
        status = 128 - status
    lines = [_PREFIX.sub("", line).strip() for line in log.splitlines()]
    for kind, pattern, words in _KNOWN:
        # Only lines that report an error: a word in a warning or a path explains nothing.
        for line in reversed(_errors(lines)):
            match = pattern.search(line)
            if match is not None:
                return Reason(kind, words.format(*(_short(group) for group in match.groups())))
    if status == 128 + signal.SIGKILL:
        return Reason(
            "killed", "The server was killed, as systems do when memory runs out; free some and start it again."
        )
    if status in (128 + signal.SIGILL, 128 + signal.SIGSEGV):
        kind: Kind = "cpu" if status == 128 + signal.SIGILL else "ended"
        return Reason(
            kind,
            f"The server crashed in native code ({signal.Signals(status - 128).name}); the CPU may lack what vLLM was "
            "built for. Use the transformers engine.",
        )
    last = next((line for line in reversed(_errors(lines)) if "See root cause above" not in line), None)
    return Reason("ended", f"The server ended ({_short(last) if last else f'status {status}'}); its log says more.")


def _errors(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if _ERROR.match(line) or re.match(r"[\w.]+: error: |Illegal instruction", line)]


def _short(text: str, most: int = 240) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
