"""Every function that makes HTML, found by itself and called with hostile text in every place that takes text.

The rule: the elements and attributes are the same as with harmless text. So a new piece of HTML is tried as soon as it is
there, and one that forgets to escape fails.
"""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

from evaluation.agreement import Agreement
from evaluation.benchmark.comparison import PairedShare
from evaluation.types import SCORES, Judgement
from playground.pages import adapters, browse, diff, history, markup, quality_markup, results_markup, train_markup
from playground.pages.plot_text import plotly_text
from playground.pages.train_form import Form
from playground.probing import Stage
from playground.scoreboard import Board
from playground.trainings import Curve

MODULES = (markup, browse, history, adapters, quality_markup, results_markup, train_markup)
# These give words, which their callers escape.
WORDS = {
    "markup.esc", "markup.veil", "markup.closed", "markup.model_name", "markup.judge_name", "markup.choice_name", "markup.pane",
    "browse.folded", "history.when", "adapters.origin", "adapters.chosen", "quality_markup.day", "quality_markup.figure",
    "results_markup.harm_name", "results_markup.number", "results_markup.count", "results_markup.warning",
    "train_markup.duration", "train_markup.size", "train_markup.place",
}  # fmt: skip
HOSTILE = (
    "<script>window.hit=1</script>", "<img src=x onerror=window.hit=1>", "<svg onload=window.hit=1>", '"><iframe srcdoc="x">',
    "' onmouseover='window.hit=1", "</div></p></span></section></details><style>*{display:none}</style>", "<a href=javascript:window.hit=1>x</a>",
    "![x](https://evil.example/x.png)", "[x](javascript:alert(1))", "<b", "<!-- ", "]]>", "&lt;script&gt;", "${window.hit=1}",
    "{{value.text}}", "<meta http-equiv=refresh content=0;url=//evil.example>", "\u202e<i>\u2066", "<math><mtext></table><img src onerror=x>",
    "\x00<u>", "`<b>`", "<link rel=stylesheet href=//evil.example>", "<input autofocus onfocus=x>", '" autofocus onfocus="x',
)  # fmt: skip


class Structure(HTMLParser):
    """The elements in order, each with the names of its attributes and the values of those that do something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[object] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        doing = {
            name: value for name, value in attrs if name.startswith("on") or name in ("href", "src", "style", "class")
        }
        self.found.append((tag, tuple(name for name, _ in attrs), tuple(doing.items())))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.found.append("comment")

    def handle_decl(self, decl: str) -> None:
        self.found.append("declaration")

    def unknown_decl(self, data: str) -> None:
        self.found.append("declaration")

    def handle_pi(self, data: str) -> None:
        self.found.append("instruction")


def _row(text: str) -> dict[str, Any]:
    return {
        "suite": text,
        "prompt_id": text,
        "tokens": 3,
        "trained_tokens": 1,
        "rows": 1,
        "pieces": [(text, True), (text, False)],
    }


# What annotations do not say of a dataclass: the names in its dicts, and what excludes what.
PARTS: dict[Any, Any] = {
    Stage: lambda text: {
        "preview": {"mix": [_row(text)], "rows": [_row(text)], "shares": {text: 1.0}, "trained_shares": {text: 1.0}, "warnings": [text], "steps": 3, "tokens": 9},
        "cost": {"seconds": 9.0, "tokens_per_s": 2.0, "peak_bytes": 9, "device": text},
    },
    Curve: lambda text: {
        "run": Path("/nowhere"), "newest": {"loss": 1.0, "tokens_per_s": 1.0, "eta_s": 1.0, "step": 1}, "_offset": 0,
        "samples": {step: [{"question": text, "text": text}] for step in (0, 1, 2)},
    },
    Agreement: lambda text: {"preference": None, "missing": {"unparsed": 1}, "confusion": ((1, 1), (1, 1))},
    Board: lambda text: {"scores": (1,)},
    Form: lambda text: {"safety": [text]},
    PairedShare: lambda text: {"test": "exact McNemar", "p_value": 0.5, "p_mid": 0.5},
}  # fmt: skip


def made(kind: Any, text: str) -> Any:
    """A value of that annotated type, with `text` wherever it takes any text."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind in (str, object, Any):
        return text
    if kind is Judgement:
        values = {field.name: made(_types(Judgement)[field.name], text) for field in fields(Judgement)}
        return Judgement(**values | {"scale": "safety", "score": SCORES["safety"][0], "missing": None})
    if origin is Literal:
        return inner[0]
    if origin in (typing.Union, types.UnionType):
        return made(next(part for part in inner if part is not type(None)), text)
    if isinstance(origin, type) and issubclass(origin, typing.Mapping):
        keys = get_args(inner[0]) if get_origin(inner[0]) is Literal else (made(inner[0], text),)
        return {key: made(inner[1], text) for key in keys}
    if isinstance(origin, type) and issubclass(origin, tuple):
        return tuple(made(part, text) for part in inner if part is not Ellipsis)
    if isinstance(origin, type) and issubclass(origin, typing.Iterable):
        values = [made(inner[0], text)]
        return set(values) if issubclass(origin, set) else values
    if kind in (int, float):
        return kind(1)
    if kind is bool:
        return False
    if kind is Path:
        return Path("/nowhere")
    if is_dataclass(kind):
        hints, given = _types(kind), PARTS.get(kind, lambda text: {})(text)
        return kind(
            **{f.name: given[f.name] if f.name in given else made(hints[f.name], text) for f in fields(kind) if f.init}
        )
    raise LookupError(f"say in this test how a {kind} is made")


def _types(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def pieces() -> Iterator[Any]:
    """Every public function of the modules that gives text and takes some."""
    for module in MODULES:
        short = module.__name__.rpartition(".")[2]
        for name, function in vars(module).items():
            own = inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
            if not own or f"{short}.{name}" in WORDS:
                continue
            given = function.__annotations__.get("return")
            if given in ("str", "dict[str, str]") and set(inspect.signature(function).parameters) != {"language"}:
                yield pytest.param(function, id=f"{short}.{name}")


# What the annotations do not say, by function: other arguments than the made ones.
GIVEN: dict[str, dict[str, Any]] = {
    "heading": {"key": "train.title", "more": "train.title", "level": 2},
    "waiting": {"key": "mix.reading"},
    "parts": {"title": "quality.by_harm"},
    "extra_rows": {"title": "detail.extra"},
    "done_pane": {"text_html": None},
    "status_line": {"reason": "error"},
    "past_side": {"side": "left"},
}


def drawn(function: Any, text: str) -> str:
    hints = typing.get_type_hints(function)
    arguments = {}
    for name in inspect.signature(function).parameters:
        arguments[name] = "ja" if name == "language" else made(hints[name], text)
    arguments |= {name: value for name, value in GIVEN.get(function.__name__, {}).items() if name in arguments}
    found = function(**arguments)
    return found if isinstance(found, str) else "".join(found.values())


@pytest.mark.parametrize("function", [*pieces()])
def test_hostile_text_adds_no_element_and_no_attribute(function: Any):
    harmless = Structure(drawn(function, "text")).found
    assert harmless, "this piece draws no element; if it gives words, list it in WORDS"
    for text in HOSTILE:
        assert Structure(drawn(function, text)).found == harmless, text


@pytest.mark.parametrize("text", HOSTILE)
def test_what_differs_between_two_hostile_replies_is_marked_and_nothing_more(text: str):
    for html in diff.highlight(text, f"{text} and {text[::-1]}"):
        assert {one[0] for one in Structure(html).found if isinstance(one, tuple)} <= {"mark"}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_chart_draws_hostile_names_as_they_are_written(text: str):
    figure = {"data": [{"type": "bar", "name": text, "x": [text, 1, None], "y": (text,), "hovertemplate": "%{x}<br>"}], "layout": {"annotations": [{"text": text}]}}  # fmt: skip
    safe = plotly_text(figure)
    assert safe["data"][0]["hovertemplate"] == "%{x}<br>" and safe["data"][0]["type"] == "bar"
    written = json.dumps([safe["data"][0]["name"], safe["data"][0]["x"], safe["data"][0]["y"], safe["layout"]])
    assert "<" not in written and ">" not in written


@pytest.mark.parametrize(
    ("text", "ended"),
    [
        ("a", "a"), ("\u202ea", "\u202ea\u202c"), ("\u2067a", "\u2067a\u2069"), ("\u202ea\u202c", "\u202ea\u202c"),
        ("\u202a\u2067\u202e", "\u202a\u2067\u202e\u202c\u2069\u202c"), ("\u2067\u202ea\u2069b", "\u2067\u202ea\u2069b"),
        ("\u202c\u2069a", "\u202c\u2069a"), ("\u202b\u2066\u202c", "\u202b\u2066\u202c\u2069\u202c"), ("שלום", "שלום"),
    ],
)  # fmt: skip
def test_a_text_that_turns_the_direction_turns_it_back_at_its_end(text: str, ended: str):
    assert markup.closed(text) == ended


def test_alerts_are_given_our_own_words_or_escaped_ones():
    """Gradio's alerts render HTML. A value in them is a number or has passed through an escape."""
    pages = Path(markup.__file__).parent
    said = {
        f"{file.name}: {match[1][:60]}"
        for file in pages.glob("*.py")
        for match in re.finditer(r"gr\.(?:Info|Warning|Error)\(\s*(.*)", file.read_text(encoding="utf-8"))
        if not re.match(r'(esc|html\.escape)\(|say\([a-z_]+, "[\w.]+"(, count=count)?\)|words, title', match[1])
    }
    assert said == set()


def test_no_component_renders_markdown_or_takes_html_of_others():
    """gr.Markdown and gr.Chatbot would turn a model's text into links and images; replies are text in our own HTML."""
    pages = Path(markup.__file__).parent
    used = {file.name for file in pages.glob("*.py") if re.search(r"gr\.(Markdown|Chatbot|Dataframe|HighlightedText|JSON)\(", file.read_text(encoding="utf-8"))}  # fmt: skip
    assert used == set()
