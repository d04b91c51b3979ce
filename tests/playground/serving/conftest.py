"""Servers that are played by `fake_vllm.py`, and an end for every one of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.serving.server import Adapters, Base, Patience, VllmServer
from playground.settings import Settings
from tests.playground.serving.staging import QUICK, Stage, fake_environment, model_folder, roomy


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    found = Stage(tmp_path)
    found.play({})
    monkeypatch.setenv("FAKE_VLLM", str(tmp_path))
    monkeypatch.setattr("playground.serving.server.free_memory", roomy)
    yield found
    for pid in found.living():
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def make_server(stage: Stage) -> Iterator[Callable[..., VllmServer]]:
    """Make servers over `stage`; they are ended in the end."""
    made: list[VllmServer] = []

    def make(patience: Patience = QUICK, adapters: Adapters | None = None, **settings: Any) -> VllmServer:
        folder = model_folder(stage.folder / "model")
        base = Base("base", lambda report: folder, (lambda: adapters) if adapters is not None else None)
        chosen = Settings.model_construct(home=stage.home, max_context=256, **settings)
        made.append(VllmServer(chosen, base, environment=fake_environment, patience=patience))
        return made[-1]

    yield make
    for server in made:
        server.close()
