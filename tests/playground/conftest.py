"""A home and a command line to call, for every test of what people touch."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from playground.cli import main
from tests.playground.calling import Call, Said


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty PLAYGROUND_HOME, and no settings of the person who runs the tests."""
    for name in list(os.environ):
        if name.startswith("PLAYGROUND_") or name == "HF_TOKEN":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def call(home, capsys) -> Call:
    def run(*arguments: str) -> Said:
        capsys.readouterr()
        try:
            status = main(list(arguments))
        except SystemExit as left:  # how argparse leaves
            status = int(left.code or 0)
        printed = capsys.readouterr()
        return Said(status, printed.out, printed.err)

    return run
