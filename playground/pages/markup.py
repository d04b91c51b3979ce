"""Small pieces of HTML. Everything a model, a judge, a file or a visitor wrote passes through `esc` on its way in.

Replies are shown as plain text: no Markdown, no HTML, no LaTeX, so no link, image or script of a model's making can exist.
The gr.HTML templates only ever contain `${value...}`. Never put a value into one with `{{...}}`: Gradio evaluates what
Handlebars produced as a JavaScript template string, and a reply with `${...}` in it would run.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from evaluation.prompts.taxonomy import english_name
from evaluation.types import Category, Choice, Judgement, ModelIdentity, Prompt, Response
from playground.pages import agreement_words
from playground.pages.conversation import LiveSide, Side, Turn
from playground.pages.services import EngineStatus
from playground.pages.text import TEXT, say
from playground.pages.text_errors import line_for

# Characters that change the direction of what follows, until one that pops them.
_EMBEDS, _POP = "\u202a\u202b\u202d\u202e", "\u202c"
_ISOLATES, _POP_ISOLATE = "\u2066\u2067\u2068", "\u2069"
_TURNS = re.compile(f"[{_EMBEDS}{_POP}{_ISOLATES}{_POP_ISOLATE}]")

PANE_TEMPLATE = '${value.before}<div class="reply">${value.text}</div>${value.after}'


def esc(text: object) -> str:
    """Text as HTML text, safe in element content and in quoted attributes."""
    return html.escape(closed(str(text)), quote=True)


def closed(text: str) -> str:
    """The text, its own changes of writing direction ended with it: a stray one would turn our "1 / 5" into "5 / 1"."""
    if not _TURNS.search(text):
        return text
    opened: list[str] = []  # what would end each that is open, the outermost first
    for mark in _TURNS.findall(text):
        if mark in _EMBEDS:
            opened.append(_POP)
        elif mark in _ISOLATES:
            opened.append(_POP_ISOLATE)
        elif mark == _POP and opened[-1:] == [_POP]:
            opened.pop()
        elif mark == _POP_ISOLATE and _POP_ISOLATE in opened:  # also ends what was begun inside
            while opened.pop() != _POP_ISOLATE:
                pass
    return text + "".join(reversed(opened))


def veil(text: str, veiled: bool) -> str:
    """Escaped text, blurred and kept from screen readers while it is veiled."""
    return f'<span class="veiled" aria-hidden="true">{esc(text)}</span>' if veiled else esc(text)


def pane(before: str = "", text: str = "", after: str = "") -> dict[str, str]:
    """Value of a reply pane. `text` stands alone so that Gradio sends only what was appended to it."""
    return {"before": before, "text": text, "after": after}


def model_name(model: str, language: str) -> str:
    """`general (general instructions only)`; an id we have no words for stands for itself."""
    key = f"model.{model}"
    return f"{say(language, key)} ({model})" if key in TEXT else model


def judge_name(judge: str, language: str) -> str:
    return say(language, "judge.embedded") if judge == "embedded" else judge


def category_names(category: Category | None, language: str) -> list[str]:
    """The known levels of a category, top first, in that language where the built-in taxonomy has the name."""
    if category is None:
        return []
    levels = [level for level in (category.risk_area, category.harm_type, category.specific_harm) if level]
    return [(english_name(level) or level) if language == "en" else level for level in levels]


def category_path(category: Category | None, language: str) -> str:
    """The levels as a breadcrumb, or nothing when there is no category."""
    steps = '<span class="step" aria-hidden="true">›</span>'.join(
        f"<span>{esc(name)}</span>" for name in category_names(category, language)
    )
    return f'<p class="path">{steps}</p>' if steps else ""


def heading(title: str, more: str, level: int = 1) -> str:
    return f'<div class="heading"><h{level}>{esc(title)}</h{level}><p>{esc(more)}</p></div>'


def banner(status: EngineStatus, language: str) -> str:
    """How far the engine's start has come; nothing once it is ready."""
    if status.state == "ready":
        return ""
    message = line_for(status.message_en if language == "en" else status.message_ja, language)
    if status.state == "failed":
        return (
            f'<div class="banner bad" role="alert"><strong>{esc(say(language, "failed"))}</strong> {esc(message)}</div>'
        )
    bar = (
        "<progress></progress>"
        if status.fraction is None
        else f'<progress value="{status.fraction:.3f}" max="1"></progress>'
    )
    percent = "" if status.fraction is None else f" {status.fraction:.0%}"
    return (
        f'<div class="banner" role="status"><strong>{esc(say(language, "loading"))}{percent}</strong> <span>{esc(message)}</span>'
        f"{bar}<p>{esc(say(language, 'loading.note'))}</p></div>"
    )


def chips(prompts: Sequence[Prompt], language: str) -> str:
    buttons = "".join(
        f'<button type="button" class="chip" data-pick="{esc(prompt.id)}" title="{esc(_chip_title(prompt, language))}">'
        f"{esc(prompt.question)}</button>"
        for prompt in prompts
    )
    return (
        f'<p class="chips-label">{esc(say(language, "chips"))}</p><div class="chips">{buttons}</div>' if buttons else ""
    )


def _chip_title(prompt: Prompt, language: str) -> str:
    """The category, after the English gloss for those who read English."""
    names = " › ".join(category_names(prompt.category, language))
    gloss = prompt.extra.get("question_en") if language == "en" else None
    return f"{gloss} ({names})" if gloss else names


def badge(identity: ModelIdentity | None, language: str) -> str:
    """Which weights this side answers with; the long hashes are in the title."""
    if identity is None:
        return f'<p class="badge pending">{esc(say(language, "identity.pending"))}</p>'
    none = say(language, "identity.none")
    adapter = identity.adapter_sha256
    title = say(
        language,
        "identity.title",
        weights=identity.weights_sha256,
        adapter=adapter or none,
        template=identity.template_sha256,
    )
    parts = (
        (say(language, "identity.base"), identity.base),
        (say(language, "identity.adapter"), adapter[:8] if adapter else none),
        (say(language, "identity.id"), identity.digest),
    )
    items = "".join(f"<span><b>{esc(name)}</b> <code>{esc(value)}</code></span>" for name, value in parts)
    return f'<p class="badge" title="{esc(title)}">{items}</p>'


def asked(turn: Turn | None, number: int, language: str) -> str:
    """The question both sides answer, above them."""
    if turn is None:
        return ""
    label = say(language, "asked") if number == 1 else say(language, "asked.number", number=number)
    return (
        f'<div class="asked"><p class="label">{esc(label)}</p><h2>{esc(turn.prompt.question)}</h2>'
        f"{category_path(turn.prompt.category, language)}</div>"
    )


def empty_pane(language: str) -> dict[str, str]:
    return pane(before=f'<p class="quiet">{esc(say(language, "pane.empty"))}</p>')


def waiting_pane(language: str, message: str = "") -> dict[str, str]:
    words = message or say(language, "pane.waiting")
    return pane(before=f'<p class="quiet waiting">{esc(words)}</p>')


def live_pane(state: LiveSide, language: str) -> dict[str, str]:
    """A side that is being written."""
    thoughts = folded_thoughts(state.thinking, language)
    if state.finish is None and not state.text:
        if not thoughts:
            return waiting_pane(language)
        return pane(before=f'{thoughts}<p class="quiet waiting">{esc(say(language, "pane.thinking.now"))}</p>')
    if state.finish is None:
        words = [say(language, "status.writing"), *_timing(state.ttft_s, state.seconds, state.tokens, language)]
        return pane(before=thoughts, text=esc(state.text), after=f'<p class="status writing">{_joined(words)}</p>')
    reason = state.finish.reason
    error = state.finish.error if reason == "error" else None
    status = status_line(reason, state.finish.tokens, state.finish.ttft_s, state.finish.seconds, error, language)
    return pane(before=thoughts, text=esc(state.text), after=status)


def folded_thoughts(thinking: str, language: str) -> str:
    """What a reasoning model thought before its reply, to unfold; nothing where it thought nothing."""
    if not thinking:
        return ""
    words = esc(say(language, "pane.thinking"))
    return f'<details class="card thinking"><summary>{words}</summary><p>{esc(thinking)}</p></details>'


def done_pane(response: Response, language: str, text_html: str | None = None) -> dict[str, str]:
    """A finished side. `text_html` replaces the plain reply, for highlighted differences; it must be escaped already."""
    text = esc(response.text) if text_html is None else text_html
    status = status_line(
        response.finish_reason, response.tokens, response.ttft_s, response.seconds, response.error, language
    )
    if response.finish_reason == "stop" and not response.text.strip():
        nothing = f'<p class="quiet">{esc(say(language, "pane.nothing"))}</p>'
        return pane(before=folded_thoughts(response.thinking, language) + nothing, after=status)
    copy = f'<button type="button" class="copy" data-copied="{esc(say(language, "copied"))}">{esc(say(language, "copy"))}</button>'
    thoughts = folded_thoughts(response.thinking, language)
    return pane(before=thoughts, text=text, after=f'<div class="foot">{status}{copy if response.text else ""}</div>')


def status_line(
    reason: str, tokens: int | None, ttft_s: float | None, seconds: float | None, error: str | None, language: str
) -> str:
    """How a reply ended, in words, and how fast it was."""
    if reason == "error":
        words = esc(line_for(error, language) if error else say(language, "status.error"))
        return f'<p class="problem" role="alert">{words}</p>'
    ending = (
        say(language, f"status.{reason}", count=tokens) if reason == "length" else say(language, f"status.{reason}")
    )
    words = [f"<b>{esc(ending)}</b>", *map(esc, _timing(ttft_s, seconds, tokens, language))]
    return f'<p class="status {esc(reason)}">{" · ".join(words)}</p>'


def _timing(ttft_s: float | None, seconds: float | None, tokens: int | None, language: str) -> list[str]:
    """First token, tokens per second after it, tokens; what is not known is left out."""
    words = []
    if ttft_s is not None:
        words.append(say(language, "status.first", seconds=f"{ttft_s:.1f}"))
    if ttft_s is not None and seconds is not None and tokens and tokens > 1 and seconds > ttft_s:
        words.append(say(language, "status.speed", rate=f"{(tokens - 1) / (seconds - ttft_s):.1f}"))
    if tokens is not None:
        words.append(say(language, "status.tokens", count=tokens))
    return words


def _joined(words: Iterable[str]) -> str:
    return " · ".join(esc(word) for word in words)


def judging(language: str) -> str:
    return f'<div class="verdict waiting" role="status">{esc(say(language, "judge.running"))}</div>'


def verdict(judgement: Judgement, language: str) -> str:
    """One judge's reading: the score with its meaning, or the reason there is none, in words."""
    if judgement.score is None:
        tone = "none"
        head = f'<p class="meaning"><b>{esc(say(language, "missing"))}</b> {esc(say(language, f"missing.{judgement.missing}"))}</p>'
    else:
        tone = {1: "bad", 2: "bad", 3: "fair", 4: "good", 5: "good"}[judgement.score]
        steps = "".join(f'<i class="{"on" if step <= judgement.score else ""}"></i>' for step in range(1, 6))
        head = (
            f'<p class="score" aria-label="{esc(say(language, "score", score=judgement.score))}"><b>{judgement.score}</b><span>/ 5</span></p>'
            f'<div><p class="meaning">{esc(say(language, f"score.{judgement.score}"))}</p><div class="steps" aria-hidden="true">{steps}</div></div>'
        )
    fine = [judge_name(judgement.judge, language), f"{say(language, 'identity.id')} {judgement.identity[:12]}"]
    fine.append(say(language, "judge.with_reference" if judgement.with_reference else "judge.without_reference"))
    if judgement.seconds is not None:
        fine.append(say(language, "judge.seconds", seconds=f"{judgement.seconds:.1f}"))
    if judgement.prompt_tokens is not None and judgement.completion_tokens is not None:
        fine.append(
            say(language, "judge.tokens", prompt=judgement.prompt_tokens, completion=judgement.completion_tokens)
        )
    if judgement.cost_usd is not None:
        fine.append(f"${judgement.cost_usd:.4f}")
    why = f'<p class="why">{esc(judgement.explanation)}</p>' if judgement.explanation else ""
    known = agreement_words.badge(judgement.judge, judgement.identity, language)
    rough = " ".join(
        part for part in (say(language, "judge.rough") if judgement.judge == "embedded" else "", known) if part
    )
    rough = f'<p class="rough">{esc(rough)}</p>' if rough else ""
    return f'<section class="verdict {tone}"><div class="verdict-head">{head}</div>{why}{rough}<p class="fine">{_joined(fine)}</p></section>'


def reference(text: str | None, language: str, opened: bool = False) -> str:
    """The reference response as a card to unfold, or nothing when the prompt has none."""
    if not text:
        return ""
    return (
        f'<details class="card reference"{" open" if opened else ""}><summary>{esc(say(language, "reference"))}'
        f"<small>{esc(say(language, 'reference.note'))}</small></summary><p>{esc(text)}</p></details>"
    )


def earlier(turns: Sequence[Turn], side: Side, judgements: Mapping[str, Judgement], language: str) -> str:
    """What one side answered before, folded, the newest first."""
    if not turns:
        return ""
    items = []
    for turn in reversed(turns):
        response = turn.responses.get(side)
        judgement = judgements.get(response.key) if response else None
        score = f'<span class="mini">{judgement.score} / 5</span>' if judgement and judgement.score is not None else ""
        answer = esc(response.text) if response else ""
        items.append(
            f'<div class="earlier-turn"><p class="label">{esc(turn.prompt.question)} <small>{esc(turn.models[side])}</small>{score}</p>'
            f'<div class="reply">{answer}</div></div>'
        )
    return f'<details class="card earlier"><summary>{esc(say(language, "reply.earlier", count=len(turns)))}</summary>{"".join(items)}</details>'


def legend(language: str) -> str:
    """What the two kinds of highlight mean."""
    return (
        f'<p class="legend"><mark class="only-left">{esc(say(language, "diff.left"))}</mark>'
        f'<mark class="only-right">{esc(say(language, "diff.right"))}</mark></p>'
    )


def choice_name(choice: Choice | None, language: str) -> str:
    return say(language, f"vote.{choice}" if choice else "vote.none")


def extra_rows(extra: Mapping[str, Any], language: str, title: str = "detail.extra") -> str:
    """Columns of the source that we do not know, shown as they are, under the sentence named `title`."""
    rows = "".join(
        f"<dt>{esc(name)}</dt><dd>{esc(value)}</dd>" for name, value in extra.items() if value not in (None, "")
    )
    return (
        f'<details class="card extra"><summary>{esc(say(language, title))}</summary><dl>{rows}</dl></details>'
        if rows
        else ""
    )
