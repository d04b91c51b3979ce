"""Pieces of HTML for the page of the vLLM server. What a log or somebody else's server says passes through `esc`."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from playground.pages.history import when
from playground.pages.markup import esc
from playground.pages.text import say
from playground.pages.text_errors import line_for
from playground.pages.train_markup import facts
from playground.serving import ServerState
from playground.serving.plan import GIB, MemoryPlan

PHASES = {
    "off": ("serving.phase.off", "none"),
    "starting": ("serving.phase.starting", "none live"),
    "ready": ("serving.phase.ready", "good"),
    "failed": ("serving.phase.failed", "bad"),
    "stopping": ("serving.phase.stopping", "none live"),
}
STAGES = {
    "preparing": "serving.stage.preparing",
    "importing": "serving.stage.importing",
    "engine": "serving.stage.engine",
    "weights": "serving.stage.weights",
    "cache": "serving.stage.cache",
    "opening": "serving.stage.opening",
}
REASONS = {
    "environment": "serving.reason.environment",
    "cpu": "serving.reason.cpu",
    "memory": "serving.reason.memory",
    "unsupported": "serving.reason.unsupported",
    "model": "serving.reason.model",
    "rank": "serving.reason.rank",
    "adapter": "serving.reason.adapter",
    "arguments": "serving.reason.arguments",
    "device": "serving.reason.device",
    "port": "serving.reason.port",
    "killed": "serving.reason.killed",
    "silent": "serving.reason.silent",
    "ended": "serving.reason.ended",
    "restarts": "serving.reason.restarts",
    "unreachable": "serving.reason.unreachable",
}


def state(found: ServerState, hint: str, language: str) -> str:
    """How the server stands. `hint`: why it could not be started, where that is known before anybody tries."""
    key, tone = PHASES[found.phase]
    badge = f'<b class="state {tone}">{esc(say(language, key))}</b>'
    parts = [f'<p class="run"><span class="label">{esc(found.model or found.urls[0])}</span>{badge}</p>']
    if found.reason is not None:
        heading = say(language, REASONS[found.reason.kind])
        parts.append(
            f'<div class="problem" role="{"alert" if found.phase == "failed" else "status"}"><strong>{esc(heading)}</strong>'
            f"<p>{_line(found.reason.words, language)}</p></div>"
        )
    if found.phase == "starting":
        words = say(language, STAGES[found.stage or "preparing"])
        if found.restarts:
            words = f"{say(language, 'serving.again', count=found.restarts)} · {words}"
        parts.append(f'<p class="quiet waiting" role="status">{esc(words)}</p>')
    if found.phase == "off" and hint:
        parts.append(f'<p class="problem">{_line(hint, language)}</p>')
    known = _facts(found, language)
    parts += [facts(known)] if known else []
    if found.left_out:
        items = "".join(f"<li>{_line(words, language)}</li>" for words in found.left_out)
        parts.append(f'<p class="label">{esc(say(language, "serving.left_out"))}</p><ul class="fine">{items}</ul>')
    return f'<section class="card detail">{"".join(parts)}</section>'


def _line(words: str, language: str) -> str:
    """A reason in the reader's language, as HTML; what there is no form for is marked as English."""
    # What several servers say stands in one line, each beginning with its address.
    told = " ".join(line_for(part, language) for part in re.split(r"(?<=\.) (?=https?://)", words))
    return esc(told) if language == "en" or told != words else f'<span lang="en">{esc(told)}</span>'


def _facts(found: ServerState, language: str) -> list[tuple[str, str]]:
    known: list[tuple[str, str]] = []
    if found.phase == "ready":
        adapters = [name for name in found.models if name != found.model]
        known += [
            (say(language, "serving.model"), found.model),
            (say(language, "serving.adapters"), ", ".join(adapters) or say(language, "serving.none")),
            (say(language, "serving.address"), ", ".join(found.urls)),
        ]
    if found.phase in ("ready", "failed"):
        since = datetime.fromtimestamp(found.since, UTC).isoformat()
        known.append((say(language, "serving.since"), when(since)))
    if found.restarts:
        known.append((say(language, "serving.restarts"), str(found.restarts)))
    if found.plan is not None and found.phase != "off":
        known += _plan(found.plan, language)
    return known


def _plan(plan: MemoryPlan, language: str) -> list[tuple[str, str]]:
    memory = say(
        language, "serving.memory.value",
        weights=plan.weights / GIB, cache=plan.cache / GIB, free=plan.free / GIB,
    )  # fmt: skip
    return [
        (say(language, "serving.device"), plan.device),
        (say(language, "serving.context"), say(language, "serving.tokens", count=plan.max_model_len)),
        (say(language, "serving.memory"), memory),
        (say(language, "serving.sequences"), f"{plan.sequences:.0f}"),
    ]
