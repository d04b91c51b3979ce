"""What the rest of the program says in English, told to a visitor who reads Japanese."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

import evaluation.errors
from playground.pages.text_errors import FORMS, LONGEST, PHRASES, line_for
from playground.serving.reasons import _KNOWN

ROOT = Path(__file__).parents[3]
JAPANESE = re.compile(r"[぀-ヿ一-鿿]")
# Where a visitor's click leads. What only the command line, an import or a cluster raises stays English.
MET = (
    "evaluation/benchmark/plan.py", "evaluation/benchmark/settings.py", "evaluation/disk.py", "evaluation/judge/endpoint.py",
    "evaluation/judge/embedded.py", "playground/adapter_imports.py", "playground/adapters.py", "playground/benchmarks.py",
    "playground/engine", "playground/serving", "playground/jobs/control.py", "playground/jobs/job.py", "playground/jobs/leases.py",
    "playground/store", "playground/trainings.py", "playground/pages/train_form.py", "training/base.py", "training/chat.py",
    "training/leaks.py", "training/loop.py", "training/mix.py", "training/presets.py", "training/hub.py",
)  # fmt: skip
# Set by whoever starts the app, never reached by a click.
NEVER_MET = re.compile(
    r"shard is true|Device X is not known|concurrency is|holds what looks like|looks like a secret|profile zerogpu needs"
)


def family() -> set[str]:
    """Names of every error whose text is for a person."""
    names = {name for name in dir(evaluation.errors) if isinstance(getattr(evaluation.errors, name), type)}
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for package in ("evaluation", "training", "playground")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    while more := {name for name, above in bases.items() if above & names} - names:
        names |= more
    return names - {"Refused"}  # raised by pages, in the visitor's language already


def example(text: ast.expr) -> str | None:
    """A line as it would be raised, X in place of every value; None for one that is put together elsewhere."""
    if isinstance(text, ast.Constant):
        return str(text.value)
    if isinstance(text, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in text.values)
    return None


def raised() -> Iterator[tuple[str, str]]:
    """(where, a line) of every error that a visitor can meet."""
    errors = family()
    for name in MET:
        for path in [ROOT / name] if name.endswith(".py") else sorted((ROOT / name).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Call) and node.args):
                    continue
                called = ast.unparse(node.func).rpartition(".")[2]
                if called == "Reason" and len(node.args) > 1:  # why there is no vLLM server: a kind, and the line
                    line = example(node.args[1])
                elif called in errors:
                    line = example(node.args[0])
                else:
                    continue
                if line is not None and not NEVER_MET.search(line) and re.search(r"[a-z]{3} [a-z]", line):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", line


@pytest.mark.parametrize(("where", "line"), [pytest.param(where, line, id=where) for where, line in raised()])
def test_an_error_that_a_visitor_meets_has_a_japanese_form(where: str, line: str):
    assert JAPANESE.search(line_for(line, "ja")), f"{where}: give text_errors.FORMS a form of: {line}"


def test_the_walk_finds_the_errors():
    assert len([*raised()]) > 80


@pytest.mark.parametrize(("english", "japanese"), (FORMS | PHRASES).items())
def test_a_form_fills_all_its_values_and_says_it_in_japanese(english: str, japanese: str):
    def fields(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    assert fields(japanese) <= fields(english)
    assert not JAPANESE.search(english)
    assert JAPANESE.search(japanese)


def test_the_values_of_a_line_come_along():
    line = "There is no model 'x' here; choose one of base, general."
    assert line_for(line, "ja") == "モデル 'x' はここにありません。base, general から選んでください。"
    assert line_for(line, "en") == line


def test_a_rule_inside_a_line_is_told_in_japanese_too():
    line = "learning_rate is 5; it must be above 0 and below 0.1. Change it in the settings and start again."
    assert (
        line_for(line, "ja")
        == "learning_rate の値 5 は使えません。0 より大きく 0.1 未満にして、もう一度実行してください。"
    )


def test_the_more_exact_form_wins():
    line = "There is no model x here; choose one of base, hub:ORG/NAME or path:FOLDER."
    assert line_for(line, "ja").startswith("モデル x はここにありません。base、または hub:ORG/NAME")


def test_a_line_without_a_form_is_shown_as_it_is():
    assert line_for("Nobody thought of this.", "ja") == "Nobody thought of this."


def test_a_very_long_line_is_not_searched_for():
    line = f"There is no model {'x' * LONGEST} here; choose one of base."
    assert line_for(line, "ja") == line


@pytest.mark.parametrize("words", [words for _, _, words in _KNOWN], ids=[kind for kind, _, _ in _KNOWN])
def test_what_a_servers_log_is_read_as_has_a_japanese_form(words: str):
    assert JAPANESE.search(line_for(words.format("X", "Y"), "ja"))


def test_a_reason_inside_a_reason_is_told_in_japanese_too():
    line = "The server ended 4 times in 10 minutes. The server says nothing in its log for 900 s and is ended."
    told = "サーバーが 10 分間に 4 回終了しました。サーバーが 900 秒間ログに何も書かないため、終了させます。"
    assert line_for(line, "ja") == told
