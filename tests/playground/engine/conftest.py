"""One tiny model with two adapters for the engine tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import tiny_adapter, tiny_folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("tiny") / "tiny-llama", seed=5)


@pytest.fixture(scope="session")
def tiny_adapters(tiny, tmp_path_factory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("tiny-adapters")
    return {name: tiny_adapter(home / name, tiny, seed) for seed, name in enumerate(("first", "second"), start=1)}
