"""A tiny base model for the trainings of this folder, and sample responses of a few tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import tiny_folder
from training import leaks, samples


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("base") / "tiny", "gemma3", seed=2)


@pytest.fixture(scope="session", autouse=True)
def short_samples():
    """64 tokens, one at a time, would be most of a tiny run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "NEW_TOKENS", 4)
        yield


@pytest.fixture(scope="session", autouse=True)
def few_suites_guarded():
    """Reading every shipped suite for each run would only cost time; test_leaks.py has the guard's own tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaks, "list_suites", lambda home: ["sample-test"])
        yield
