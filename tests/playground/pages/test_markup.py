"""HTML of the pages: whatever a model, a judge or a file wrote is text there and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from evaluation.types import Category, Judgement, Message, Prompt, Response, Sampling
from playground.engine.protocol import Finish
from playground.pages import EngineStatus, browse, history, markup
from playground.pages.conversation import LiveSide, Turn
from playground.pages.text import say
from tests.fakes import identity_of

PAYLOADS = [
    pytest.param("<script>alert(1)</script>", id="script"),
    pytest.param("<img src=x onerror=alert(1)>", id="image handler"),
    pytest.param("![x](https://evil.example/p.png)", id="markdown image"),
    pytest.param("[x](javascript:alert(1))", id="markdown link"),
    pytest.param("<svg/onload=alert(1)>", id="svg"),
    pytest.param('"><iframe srcdoc="<script>1</script>">', id="attribute break-out"),
    pytest.param("' onmouseover='alert(1)", id="single-quoted break-out"),
    pytest.param("</div></p></section><style>*{display:none}</style>", id="style"),
    pytest.param("<details open ontoggle=alert(1)>", id="toggle"),
    pytest.param("<a href='https://evil.example'>x</a>", id="link"),
    pytest.param("<link rel=stylesheet href=//evil.example>", id="stylesheet"),
    pytest.param("<form action=//evil.example><input>", id="form"),
    pytest.param("<math><mtext></table><img src onerror=alert(1)>", id="mutation"),
    pytest.param("&lt;script&gt;alert(1)&lt;/script&gt;", id="escaped once already"),
    pytest.param("\x00<b>\u202e</b>", id="control characters"),
]
# Tags our own pieces are made of; a payload must add none, and no attribute beyond these.
ATTRIBUTES = {"class", "role", "title", "type", "data-pick", "data-copied", "aria-label", "aria-hidden", "aria-current", "aria-expanded", "open", "lang"}  # fmt: skip


class Seen(HTMLParser):
    """Which tags and attributes are there, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def response(text: str, **changes: object) -> Response:
    values = {
        "key": "k", "prompt_id": text, "model": text, "identity": text, "text": text, "finish_reason": "stop", "tokens": 3,
        "messages": (Message("user", text),), "sampling": Sampling(), "ttft_s": 0.4, "seconds": 1.4,
    }  # fmt: skip
    return Response(**{**values, **changes})  # type: ignore[arg-type]


def judgement(text: str) -> Judgement:
    return Judgement("j", "k", text, text, score=2, explanation=text)


def prompt(text: str) -> Prompt:
    return Prompt(
        text, text, text, Category(text, text, text), suite=text, turns=(text,), extra={text: text, "question_en": text}
    )


def turn(text: str) -> Turn:
    reply = response(text)
    return Turn(
        prompt(text), {"left": text, "right": text}, {"left": Sampling(), "right": Sampling()}, {"left": (), "right": ()},
        responses={"left": reply, "right": reply},
    )  # fmt: skip


def joined(pane: dict[str, str]) -> str:
    return pane["before"] + pane["text"] + pane["after"]


PIECES: dict[str, Callable[[str], str]] = {
    "finished reply": lambda text: joined(markup.done_pane(response(text), "ja")),
    "reply that failed": lambda text: joined(markup.done_pane(response(text, finish_reason="error", error=text), "ja")),
    "reply being written": lambda text: joined(markup.live_pane(LiveSide(text, 2), "ja")),
    "thoughts being written": lambda text: joined(markup.live_pane(LiveSide("", 2, thinking=text), "ja")),
    "thoughts before a reply": lambda text: joined(markup.done_pane(response("答え", thinking=text), "ja")),
    "reply that just failed": lambda text: joined(
        markup.live_pane(LiveSide(text, 2, finish=Finish("error", 2, 1, 0.1, None, text)), "ja")
    ),
    "question": lambda text: markup.asked(turn(text), 2, "ja"),
    "reference": lambda text: markup.reference(text, "ja"),
    "verdict": lambda text: markup.verdict(judgement(text), "ja"),
    "earlier turns": lambda text: markup.earlier([turn(text)], "left", {"k": judgement(text)}, "ja"),
    "chips": lambda text: markup.chips([prompt(text)], "en"),
    "badge": lambda text: markup.badge(identity_of(text), "ja"),
    "loading banner": lambda text: markup.banner(EngineStatus("loading", text, text), "ja"),
    "failure banner": lambda text: markup.banner(EngineStatus("failed", text, text), "ja"),
    "taxonomy": lambda text: browse.taxonomy([prompt(text)], (text,), "ja"),
    "definition": lambda text: browse.definition((text, text), "ja"),
    "list of questions": lambda text: browse.rows([prompt(text)], text, False, "ja"),
    "veiled list": lambda text: browse.rows([prompt(text)], text, True, "ja"),
    "question in detail": lambda text: browse.detail(prompt(text), False, "ja"),
    "past side": lambda text: history.past_side("left", response(text), {"k": judgement(text)}, "ja"),
}


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("piece", PIECES)
def test_hostile_text_adds_no_element_and_no_attribute(piece: str, payload: str):
    seen, harmless = Seen(PIECES[piece](payload)), Seen(PIECES[piece]("無害な文"))
    assert seen.tags == harmless.tags
    assert seen.attributes <= ATTRIBUTES
    assert not {"script", "img", "iframe", "svg", "style", "a", "link", "form", "input"} & set(seen.tags)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_text_is_shown_as_it_was_written(payload: str):
    shown = Seen(joined(markup.done_pane(response(payload), "ja"))).text
    assert payload.replace("\x00", "") in shown.replace("\x00", "").replace("�", "")


def test_thoughts_are_folded_before_the_reply_and_a_reply_of_nothing_else_is_empty():
    both = markup.done_pane(response("答え", thinking="迷う"), "ja")
    assert both["before"].startswith("<details") and "open" not in both["before"].partition(">")[0]
    assert both["text"] == "答え" and "迷う" not in both["text"] + both["after"]
    nothing = joined(markup.done_pane(response("", thinking="迷う"), "ja"))
    assert "迷う" in nothing and "（空の回答）" in nothing
    assert "<details" not in joined(markup.done_pane(response("答え"), "ja"))


def test_a_pane_template_never_uses_handlebars():
    # What Handlebars fills in is evaluated as a JavaScript template string: `${...}` of a reply would run.
    assert "{{" not in markup.PANE_TEMPLATE


def test_the_reply_stands_alone_in_a_pane_so_that_only_new_text_is_sent():
    early, late = markup.live_pane(LiveSide("あい", 2), "ja"), markup.live_pane(LiveSide("あいう", 3), "ja")
    assert late["text"].startswith(early["text"])


@pytest.mark.parametrize(
    ("reason", "words"),
    [("stop", "完了"), ("length", "3 トークンで打ち切り"), ("cancelled", "停止しました")],
)
def test_a_reply_says_how_it_ended_and_how_fast_it_was(reason: str, words: str):
    status = joined(markup.done_pane(response("答え", finish_reason=reason), "ja"))
    assert words in status
    assert "最初の文字まで 0.4 秒" in status and "2.0 トークン/秒" in status and "3 トークン" in status


def test_timing_that_is_not_known_is_left_out():
    status = joined(markup.done_pane(response("答え", tokens=None, ttft_s=None, seconds=None), "ja"))
    assert "秒" not in status and "トークン" not in status and "None" not in status


def test_an_empty_reply_says_that_it_is_empty():
    assert say("ja", "pane.nothing") in joined(markup.done_pane(response(""), "ja"))


def test_a_prompt_without_a_reference_shows_no_reference_card():
    assert markup.reference(None, "ja") == ""


def test_categories_have_english_names_where_the_taxonomy_has_them():
    known = Category("悪用", "違法行為への加担", "著作権侵害")
    assert markup.category_names(known, "en") == [
        "Malicious uses",
        "Assisting illegal activities",
        markup.category_names(known, "en")[2],
    ]
    assert markup.category_names(Category("独自の分類"), "en") == ["独自の分類"]
    assert markup.category_names(None, "ja") == []
