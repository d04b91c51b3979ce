"""What the Compare page shows, computed from the visitor's session. compare.py decides when."""

from __future__ import annotations

from typing import Any

import gradio as gr

from evaluation.errors import UserFacingError
from evaluation.types import ModelIdentity, Prompt
from playground.pages import markup, verdicts
from playground.pages.conversation import SIDES, Session, Side
from playground.pages.diff import highlight
from playground.pages.services import Services
from playground.pages.text import as_language, say
from playground.pages.text_errors import line_for

PREFERRED: dict[Side, str] = {"left": "general", "right": "answercarefully-sample"}
# One harmless-looking question from each of these harms, each of another harm type, shown as chips.
CHIP_HARMS = (
    "医療相談",
    "一般的なメンタルヘルス",
    "文化的特有性",
    "デジタル空間の違法行為",
    "誤った文脈・背景",
    "AIへの感情的依存",
)


def _sample_prompts(services: Services) -> list[Prompt]:
    return [prompt for suite in services.suites() if suite.name == "sample-test" for prompt in suite.prompts]


def sample_prompt(services: Services, question: str) -> Prompt | None:
    """The Prompt of the sample test set with this question, so that its reference comes along; None if it is not there."""
    return next((prompt for prompt in _sample_prompts(services) if prompt.question == question), None)


def chip_prompts(services: Services) -> list[Prompt]:
    """The shortest question of each chip harm in the sample test set; fewer when the set is smaller."""
    prompts = [p for p in _sample_prompts(services) if p.question != say("ja", "first.question")]
    chips = []
    for harm in CHIP_HARMS:
        matching = [prompt for prompt in prompts if prompt.category and prompt.category.specific_harm == harm]
        if matching:
            chips.append(min(matching, key=lambda prompt: (len(prompt.question), prompt.id)))
    return chips


def default_model(services: Services, side: Side) -> str | None:
    models = services.engine.model_ids()
    if PREFERRED[side] in models:
        return PREFERRED[side]
    return models[0 if side == "left" else -1] if models else None


def model_choices(services: Services, language: str) -> list[tuple[str, str]]:
    return [(markup.model_name(model, language), model) for model in services.engine.model_ids()]


def judge_choices(services: Services, language: str) -> list[tuple[str, str]]:
    return [(markup.judge_name(judge, language), judge) for judge in services.judges]


def choices_now(services: Services, language: str) -> list[Any]:
    """Both model lists and the judges as they are now, for who is here: the page was drawn for a stranger."""
    models = [gr.update(choices=model_choices(services, language)) for _ in SIDES]
    return [*models, gr.update(choices=judge_choices(services, language))]


def badge(services: Services, model: object, language: object) -> str:
    """The identity badge of a model; a placeholder while the engine cannot tell yet."""
    identity: ModelIdentity | None = None
    if services.readiness.status().state != "loading" and model in services.engine.model_ids():
        try:
            identity = services.engine.identity(str(model))
        except UserFacingError as error:
            return f'<p class="badge problem">{markup.esc(line_for(error, as_language(language)))}</p>'
    return markup.badge(identity, as_language(language))


def answers(session: Session, differences: bool, language: str) -> tuple[dict[str, str], dict[str, str]]:
    """Both panes of the last turn, at rest."""
    turn = session.conversation.last
    if turn is None or not turn.responses:
        return markup.empty_pane(language), markup.empty_pane(language)
    left, right = turn.responses["left"], turn.responses["right"]
    marked: tuple[str | None, str | None] = highlight(left.text, right.text) if differences else (None, None)
    return markup.done_pane(left, language, marked[0]), markup.done_pane(right, language, marked[1])


def diff_legend(session: Session, differences: bool, language: str) -> str:
    turn = session.conversation.last
    if not differences or turn is None or not turn.responses:
        return ""
    if turn.responses["left"].text == turn.responses["right"].text:
        return f'<p class="legend">{markup.esc(say(language, "diff.same"))}</p>'
    return markup.legend(language)


def surroundings(session: Session, running: bool, language: str, refused: str | None = None) -> list[Any]:
    """Everything around the answers, in the order of `around` in compare.py. `refused`: a question to give back."""
    turns = session.conversation.turns
    turn = session.conversation.last
    done = turn is not None and bool(turn.responses) and not running
    if session.problem and not running:
        under_box = f'<p class="problem" role="alert">{markup.esc(session.problem)}</p>'
    else:
        under_box = (
            f'<p class="follow-up">{markup.esc(say(language, "follow.up", count=len(turns) + 1))}</p>' if done else ""
        )
    if refused is not None:
        under_box += f'<span hidden data-question="{markup.esc(refused)}"></span>'
    return [
        markup.asked(turn, len(turns), language),
        *[markup.earlier(turns[:-1], side, session.judgements, language) for side in SIDES],
        markup.reference(turn.prompt.reference if turn else None, language),
        under_box,
        gr.update(visible=not running),
        gr.update(visible=running),
        gr.update(visible=running),
        gr.update(visible=running),
        *[gr.update(interactive=not running and verdicts.can_vote(session))] * len(verdicts.CHOICES),
        verdicts.vote_note(session, language),
        gr.update(interactive=done),
        gr.update(interactive=done),
    ]
