from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from playground.pages import Services
from tests.fakes import FakeEngine, fake_services


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Services]]:
    """Make services with fakes; what is asked for under the same name twice is a restart over the same folder."""
    opened: list[Services] = []

    def make(**fakes: object) -> Services:
        for services in opened:
            services.store.close()
        opened.append(fake_services(tmp_path, **fakes))  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for services in opened:
        services.store.close()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def services(serve: Callable[..., Services], engine: FakeEngine) -> Services:
    return serve(engine=engine)
