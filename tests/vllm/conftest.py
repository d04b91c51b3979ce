"""The real vLLM server, once for all tests here: the embedded model and both shipped adapters."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from playground.serving import Server, ServerFailed, VllmServer, vllm_server
from playground.serving.environment import find_environment
from playground.settings import Settings
from training import embedded
from training.embedded import embedded_folder

ROOT = Path(__file__).parents[2]
MAX_CONTEXT = 1024  # tokens; less memory for the cache


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder has the marker."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vllm)


@pytest.fixture(scope="session")
def vllm_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of its own, over the embedded model that other tests have converted. Skips where something is missing."""
    try:
        find_environment()
    except ServerFailed as error:
        pytest.skip(str(error))
    source = Path(os.environ.get("PLAYGROUND_HOME", ROOT / "var"))
    if not (embedded_folder(source) / embedded.MANIFEST).is_file():
        if os.environ.get("PLAYGROUND_TEST_MODEL") != "1":
            pytest.skip("the embedded model is not converted yet; PLAYGROUND_TEST_MODEL=1 converts it, about a minute")
        embedded.ensure_embedded(source)
    home = tmp_path_factory.mktemp("vllm") / "home"
    home.mkdir()
    (home / "models").symlink_to((source / "models").resolve())
    return home


@pytest.fixture(scope="session")
def vllm_settings(vllm_home: Path) -> Settings:
    return Settings.model_construct(home=vllm_home, max_context=MAX_CONTEXT)


@pytest.fixture(scope="session")
def own_server(vllm_settings: Settings) -> Iterator[VllmServer]:
    """The supervised server, ready when the first test gets it. A test may kill it: it comes back."""
    server = vllm_server(vllm_settings)
    assert isinstance(server, VllmServer)
    server.start()
    try:
        server.wait_ready()
        yield server
    finally:
        server.close()


@pytest.fixture
def real_server(own_server: VllmServer) -> Server:
    """What is needed to speak to it, now."""
    return own_server.wait_ready()
