"""Supervisors with a tiny worker, and an end for every process that a test has started."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from playground.jobs import Supervisor
from playground.jobs.process import read_process
from tests.playground.jobs.waiting import FAKE_WORK

MakeSupervisor = Callable[..., Supervisor]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An empty home; whoever still works on one of its runs in the end is killed."""
    home = tmp_path / "home"
    (home / "runs").mkdir(parents=True)
    yield home
    for run in (home / "runs").glob("[!.]*"):
        process = read_process(run)
        if process is not None and process.pid != os.getpid() and process.leads_group:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.fixture
def make_supervisor(home: Path) -> Iterator[MakeSupervisor]:
    """Make started supervisors of `home` that work with the tiny worker; they are closed in the end."""
    made: list[Supervisor] = []

    def make(**options: Any) -> Supervisor:
        supervisor = Supervisor(home, **{"program": FAKE_WORK, **options})
        made.append(supervisor)
        supervisor.start()
        return supervisor

    yield make
    for supervisor in made:
        supervisor.close()


@pytest.fixture
def supervisor(make_supervisor: MakeSupervisor) -> Supervisor:
    return make_supervisor()
