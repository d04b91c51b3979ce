"""Imports point one way, and each heavy library has one home.

app > playground.pages > playground.{cli,jobs,store,engine} > training > evaluation
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("evaluation", "training", "playground")
LEVELS = {"app": 4, "playground.pages": 3, "playground": 2, "training": 1, "evaluation": 0}
# Where a library may be imported; everywhere else it may not.
HOMES = {
    "gradio": ("app", "playground.pages"),
    "duckdb": ("playground.store",),
}


def modules() -> Iterator[tuple[str, Path]]:
    yield "app", ROOT / "app.py"
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: import by the full name"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def level(name: str) -> int | None:
    return next((at for package, at in LEVELS.items() if within(name, package)), None)


FILES = pytest.mark.parametrize(("name", "path"), [pytest.param(n, p, id=n) for n, p in modules()])


def test_the_walk_finds_the_packages():
    names = {name for name, _ in modules()}
    assert {"app", "evaluation.types", "training.sft", "playground.engine.local", "playground.pages.compare"} <= names


@FILES
def test_imports_point_one_way(name, path):
    mine = level(name)
    assert mine is not None
    for line, imported in imports(path):
        other = level(imported)
        if other is None:
            continue
        assert other <= mine, f"{path.name}:{line}: {name} imports {imported}, which stands above it"


@FILES
def test_the_engine_the_store_and_the_jobs_do_not_know_the_command_line(name, path):
    """Within the middle layer only the command line looks at the others, and the engine at none of them."""
    for line, imported in imports(path):
        if within(imported, "playground.cli"):
            assert within(name, "playground.cli") or name == "playground.__main__", f"{path.name}:{line}"
        if within(name, "playground.engine"):
            assert not within(imported, "playground") or within(imported, "playground.engine"), f"{path.name}:{line}"
        if within(imported, "playground.store"):
            assert not within(name, "playground.serving"), f"{path.name}:{line}"


@FILES
def test_gradio_and_duckdb_are_imported_only_where_they_live(name, path):
    for line, imported in imports(path):
        for library, homes in HOMES.items():
            if within(imported, library):
                assert any(within(name, home) for home in homes), f"{path.name}:{line}: {library} does not belong here"


@FILES
def test_nothing_that_is_shipped_imports_a_test(name, path):
    assert not [imported for _, imported in imports(path) if within(imported, "tests") or within(imported, "pytest")]


def test_a_worker_without_gradio_and_duckdb_can_import_what_it_runs():
    lean = ("evaluation", "training", "playground.engine", "playground.serving", "playground.cli")
    names = [name for name, _ in modules() if name.startswith(lean)]
    program = f"""
import importlib, sys
for library in ("gradio", "duckdb", "plotly"):
    sys.modules[library] = None  # importing it raises ImportError
for name in {names!r} + ["playground.catalog", "playground.settings"]:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]
