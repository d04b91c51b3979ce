"""The Compare page: one question, two models, their answers, a judge's verdicts and a person's vote."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from evaluation.types import Prompt, Sampling
from playground.pages import asking, consent, markup, screen, verdicts
from playground.pages.conversation import SIDES, Session, Side
from playground.pages.errors import shown_to_user
from playground.pages.labels import Labels
from playground.pages.lanes import Lanes
from playground.pages.services import Services
from playground.pages.text import say

# The list is drawn anew after a click; who works with keys must not be thrown back to the top of the page by that.
PICK_JS = """let picked = null;
element.addEventListener('click', (event) => {
    const button = event.target.closest('[data-pick]');
    if (!button) return;
    picked = button.dataset.pick;
    trigger('pick', {id: picked});
});
new MutationObserver(() => {
    if (picked === null || document.activeElement !== document.body) return;
    const again = [...element.querySelectorAll('[data-pick]')].find((button) => button.dataset.pick === picked);
    if (again) again.focus({preventScroll: true});
}).observe(element, {childList: true, subtree: true});"""
# A refused question goes back into its box, unless something new has been typed meanwhile.
GIVE_BACK_JS = """async () => {
    await new Promise(done => setTimeout(done, 60));
    const box = document.querySelector("#question textarea");
    const refused = document.querySelector(".composer [data-question]");
    return refused && !box.value.trim() ? refused.dataset.question : box.value;
}"""
# The button that was pressed is hidden now: without this the next Tab would lead out of the page. Not into the box, which
# would bring up a phone's keyboard.
TO_COMPARE_JS = """async () => {
    window.scrollTo({top: 0});
    await new Promise(done => setTimeout(done, 60));
    const panel = document.querySelector('#question').closest('[role=tabpanel]');
    panel.tabIndex = -1;
    panel.focus({preventScroll: true});
}"""
# What a generator that is no longer shown yields last: Gradio sends the last value once more when it ends.
NO_CHANGE = (gr.skip(), gr.skip())
LINE_S = 1.0  # seconds between two looks at one's place in the line


def to_detail_js(place: str) -> str:
    """What was picked comes into sight where it stands below its list, as on a phone."""
    return f"() => {{ if (window.innerWidth < 900) document.getElementById('{place}').scrollIntoView({{block: 'start'}}); }}"


@dataclass(frozen=True)
class ComparePage:
    """What other tabs need of this page: where to put a question, and what shows it."""

    session: gr.State
    box: gr.Textbox
    models: Mapping[Side, gr.Dropdown]
    badges: Mapping[Side, gr.HTML]
    judge: gr.Dropdown
    everything: list[Any]  # outputs of `new_conversation`, the box first


# ---- handlers ------------------------------------------------------------------------------------------------------


def begin(
    services: Services,
    repeat: bool,
    session: Session,
    language: str,
    question: str,
    left: str,
    right: str,
    unlocked: bool,
    *values: object,
) -> list[Any]:
    """Take the question (or the last one again), clear the answers, and say that it has begun."""
    with shown_to_user(language):
        models = asking.chosen_models(services, left, right, language)
        samplings: Mapping[Side, Sampling] = asking.samplings_from(unlocked, values, language)
        longest = max(sampling.max_tokens for sampling in samplings.values())
        services.access.check_question("" if repeat else question, longest, language)
        if repeat:
            asking.ask_again(session, models, samplings, language)
        else:
            asking.ask(session, question, models, samplings, language)
    waiting = markup.waiting_pane(language)
    return [question if repeat else "", waiting, waiting, "", "", "", *screen.surroundings(session, True, language)]


def stream(services: Services, lanes: Lanes, session: Session, language: str) -> Generator[tuple[Any, Any], None, None]:
    """Both panes: the visitor's place while there is a line, then the answers while they are being written."""
    running = session.running
    if not running.take():  # before the line, in which each call holds a thread
        yield NO_CHANGE
        return
    with lanes.place() as place:
        while (number := place.number()) and len(running.stopped) < len(SIDES):
            waiting = markup.waiting_pane(language, say(language, "pane.line", number=number))
            yield waiting, waiting
            place.wait(LINE_S)
        if session.running is not running:  # stopped, and asked anew meanwhile: that question has a place of its own
            yield NO_CHANGE
            return
        with closing(asking.stream(services, session, language)) as stream_of_panes:
            for panes in stream_of_panes:
                yield panes if panes is not None else NO_CHANGE


def settle(session: Session, language: str, differences: bool) -> list[Any]:
    """Show the finished turn, and what GIVE_BACK_JS puts into the box again when the question was refused.

    The box is no output here. Gradio answers every update of a component that is an input too with a new component that
    the session keeps for good, and `gr.skip()` is an update.
    """
    if session.running.active:  # asked anew before the stopped turn had ended: what is shown belongs to that question
        return redraw(session, language, differences)[1:]
    refused = asking.settle(session)
    cards = verdicts.verdict_cards(session, session.conversation.last, language)
    return [
        *screen.answers(session, differences, language),
        *cards,
        screen.diff_legend(session, differences, language),
        *screen.surroundings(session, False, language, refused),
    ]


def judge_now(
    services: Services, session: Session, language: str, judge_id: str
) -> Generator[tuple[Any, Any], None, None]:
    """The Judge button."""
    with shown_to_user(language):
        asking_for = session.conversation.last
        if asking_for is None or not asking_for.responses:
            raise asking.Refused(say(language, "error.nothing"))
    yield from _verdict_cards(services, session, language, judge_id)


def judge_automatically(
    services: Services, session: Session, language: str, judge_id: str, wanted: bool
) -> Generator[tuple[Any, Any], None, None]:
    """The same after an answer, if the visitor wants that.

    A question that was refused has left the answers before it on the page: they have been read, and a judge may cost money.
    """
    if wanted and not session.problem:
        with shown_to_user(language):
            services.access.count("verdict", language)
        yield from _verdict_cards(services, session, language, judge_id)


def _verdict_cards(
    services: Services, session: Session, language: str, judge_id: str
) -> Generator[tuple[Any, Any], None, None]:
    """Both verdict cards while a judge is reading."""
    with closing(verdicts.judge(services, session, judge_id, language)) as stream_of_cards:
        for cards in stream_of_cards:
            yield cards if cards is not None else NO_CHANGE


def stop(services: Services, sides: tuple[Side, ...], session: Session) -> None:
    session.running.stop(services.engine, sides)


def vote(services: Services, choice: str, session: Session, language: str) -> list[Any]:
    with shown_to_user(language):
        verdicts.vote(services, session, choice, language)
    return [*[gr.update(interactive=False)] * len(verdicts.CHOICES), verdicts.vote_note(session, language)]


def show_differences(session: Session, language: str, differences: bool) -> list[Any]:
    """Redraw the answers; while they are being written they are left alone."""
    if session.running.active:
        return [gr.skip()] * 3
    return [*screen.answers(session, differences, language), screen.diff_legend(session, differences, language)]


def new_conversation(services: Services, session: Session, language: str) -> list[Any]:
    asking.clear(services, session)
    return ["", *screen.answers(session, False, language), "", "", "", *screen.surroundings(session, False, language)]


def picked(event: gr.EventData) -> str:
    """The id that a click in one of our lists sent. It comes from the browser, so it is only ever looked up."""
    data = event._data
    return str(data.get("id", "")) if isinstance(data, dict) else ""


def pick_chip(prompts: Mapping[str, Prompt], session: Session, clicked: str) -> Any:
    return asking.pick(session, prompts[clicked]) if clicked in prompts else gr.skip()


def redraw(session: Session, language: str, differences: bool) -> list[Any]:
    """Everything that was computed, in another language."""
    running = session.running.active
    panes = [gr.skip()] * 3 if running else show_differences(session, language, differences)
    cards = verdicts.verdict_cards(session, session.conversation.last, language)
    return [gr.skip(), panes[0], panes[1], *cards, panes[2], *screen.surroundings(session, running, language)]


# ---- layout --------------------------------------------------------------------------------------------------------


def _sampling_controls(labels: Labels, most_tokens: int) -> list[Any]:
    usual = Sampling()
    with gr.Row():
        temperature = labels.add(
            gr.Slider(0, 2, usual.temperature, step=0.05, label=say("ja", "temperature"), min_width=180),
            label="temperature",
        )
        top_p = labels.add(
            gr.Slider(0.05, 1, usual.top_p, step=0.05, label=say("ja", "top_p"), min_width=180), label="top_p"
        )
        tokens = labels.add(
            gr.Slider(16, most_tokens, usual.max_tokens, step=16, label=say("ja", "max_tokens"), min_width=180),
            label="max_tokens",
        )
        # No bounds: Gradio would refuse a number beyond them itself, in English alone.
        seed = labels.add(gr.Number(usual.seed, precision=0, label=say("ja", "seed"), min_width=120), label="seed")
    system = labels.add(gr.Textbox("", lines=2, max_lines=6, label=say("ja", "system")), label="system")
    return [temperature, top_p, tokens, seed, system]


def build(services: Services, labels: Labels, language: Any) -> ComparePage:
    """Draw the page inside the tab that the caller has opened. `language` is the language switch."""
    first = say("ja", "first.question")
    session = gr.State(Session(prompt=screen.sample_prompt(services, first)))
    chips = screen.chip_prompts(services)
    lanes = Lanes(services.access.profile.concurrent_answers)

    labels.add_computed(
        gr.HTML(
            markup.heading(say("ja", "promise"), say("ja", "promise.more")), apply_default_css=False, js_on_load=None
        ),
        lambda lang: {"value": markup.heading(say(lang, "promise"), say(lang, "promise.more"))},
    )
    with gr.Column(elem_classes="composer"):
        with gr.Row(elem_classes="composer-row"):
            box = gr.Textbox(
                first,
                lines=1,
                max_lines=8,
                max_length=services.access.profile.longest_question,
                show_label=False,
                container=False,
                scale=1,
                label=say("ja", "question"),
                placeholder=say("ja", "question.placeholder"),
                elem_id="question",
                autofocus=False,
            )
            labels.add(box, label="question", placeholder="question.placeholder")
            send = labels.add(
                gr.Button(say("ja", "send"), variant="primary", elem_id="send", scale=0, min_width=132), value="send"
            )
            stop_both = labels.add(
                gr.Button(say("ja", "stop"), variant="stop", elem_id="stop", visible=False, scale=0, min_width=132),
                value="stop",
            )
        follow_up = gr.HTML("", apply_default_css=False, js_on_load=None)
        chip_bar = gr.HTML(markup.chips(chips, "ja"), elem_id="chips", apply_default_css=False, js_on_load=PICK_JS)
        labels.add_computed(chip_bar, lambda lang: {"value": markup.chips(chips, lang)})
    asked = gr.HTML("", elem_id="asked", apply_default_css=False, js_on_load=None)

    panes, cards, earlier, models, badges, stop_side = {}, {}, {}, {}, {}, {}
    with gr.Row(elem_classes="panes"):
        for side in SIDES:
            with gr.Column(elem_classes=["pane", side], elem_id=f"pane-{side}", min_width=300):
                models[side] = gr.Dropdown(
                    screen.model_choices(services, "ja"),
                    value=screen.default_model(services, side),
                    label=say("ja", f"model.{side}"),
                    elem_id=f"model-{side}",
                    filterable=False,
                )
                labels.add_computed(
                    models[side],
                    lambda lang, side=side: {
                        "label": say(lang, f"model.{side}"),
                        "choices": screen.model_choices(services, lang),
                    },
                )
                badges[side] = gr.HTML(
                    screen.badge(services, screen.default_model(services, side), "ja"),
                    apply_default_css=False,
                    js_on_load=None,
                )
                panes[side] = gr.HTML(
                    markup.empty_pane("ja"),
                    html_template=markup.PANE_TEMPLATE,
                    elem_id=f"answer-{side}",
                    apply_default_css=False,
                    js_on_load=None,
                )
                stop_side[side] = labels.add(
                    gr.Button(
                        say("ja", "stop.side"),
                        size="sm",
                        visible=False,
                        elem_id=f"stop-{side}",
                        elem_classes="stop-side",
                    ),
                    value="stop.side",
                )
                cards[side] = gr.HTML("", elem_id=f"verdict-{side}", apply_default_css=False, js_on_load=None)
                earlier[side] = gr.HTML("", apply_default_css=False, js_on_load=None)
    with gr.Row(elem_classes="tools"):
        differences = labels.add(
            gr.Checkbox(False, label=say("ja", "diff"), elem_id="diff", container=False, min_width=160), label="diff"
        )
        legend = gr.HTML("", elem_classes="spring", apply_default_css=False, js_on_load=None)
        regenerate = labels.add(
            gr.Button(say("ja", "regenerate"), size="sm", interactive=False, elem_id="again", scale=0, min_width=150),
            value="regenerate",
        )
        new = labels.add(gr.Button(say("ja", "new"), size="sm", elem_id="new", scale=0, min_width=150), value="new")
    reference = gr.HTML("", elem_id="reference", apply_default_css=False, js_on_load=None)

    with gr.Row(elem_classes="after"):
        with gr.Column(elem_classes=["card", "votes"], min_width=300):
            labels.add_computed(
                gr.HTML(f"<h3>{say('ja', 'vote')}</h3>", apply_default_css=False, js_on_load=None),
                lambda lang: {"value": f"<h3>{markup.esc(say(lang, 'vote'))}</h3>"},
            )
            with gr.Row(elem_classes="vote-row"):
                votes = [
                    labels.add(
                        gr.Button(
                            say("ja", f"vote.{choice}"),
                            interactive=False,
                            size="md",
                            elem_id=f"vote-{choice}",
                            min_width=110,
                        ),
                        value=f"vote.{choice}",
                    )
                    for choice in verdicts.CHOICES
                ]
            vote_note = gr.HTML(
                verdicts.vote_note(Session(), "ja"), elem_id="vote-note", apply_default_css=False, js_on_load=None
            )
            consent.build(services, labels, session)
        with gr.Column(elem_classes=["card", "judging"], min_width=300):
            with gr.Row(elem_classes="judge-row"):
                judge = gr.Dropdown(
                    screen.judge_choices(services, "ja"),
                    value=next(iter(services.judges), None),
                    label=say("ja", "judge"),
                    elem_id="judge",
                    filterable=False,
                    min_width=180,
                    scale=1,
                )
                labels.add_computed(
                    judge, lambda lang: {"label": say(lang, "judge"), "choices": screen.judge_choices(services, lang)}
                )
                judge_button = labels.add(
                    gr.Button(
                        say("ja", "judge.now"),
                        interactive=False,
                        elem_id="judge-now",
                        size="md",
                        scale=0,
                        min_width=110,
                    ),
                    value="judge.now",
                )
            auto = labels.add(
                gr.Checkbox(True, label=say("ja", "judge.auto"), elem_id="judge-auto", container=False),
                label="judge.auto",
            )
    with labels.add(gr.Accordion(say("ja", "sampling"), open=False, elem_id="sampling"), label="sampling"):
        labels.add_computed(
            gr.HTML(f'<p class="quiet">{say("ja", "sampling.note")}</p>', apply_default_css=False, js_on_load=None),
            lambda lang: {"value": f'<p class="quiet">{markup.esc(say(lang, "sampling.note"))}</p>'},
        )
        left_title = labels.add_computed(
            gr.HTML(f"<h3>{say('ja', 'sampling.left')}</h3>", visible=False, apply_default_css=False, js_on_load=None),
            lambda lang: {"value": f"<h3>{markup.esc(say(lang, 'sampling.left'))}</h3>"},
        )
        left_values = _sampling_controls(labels, services.access.profile.max_new_tokens)
        unlocked = labels.add(
            gr.Checkbox(False, label=say("ja", "sampling.unlock"), elem_id="unlock", container=False),
            label="sampling.unlock",
        )
        with gr.Column(visible=False) as right_group:
            labels.add_computed(
                gr.HTML(f"<h3>{say('ja', 'sampling.right')}</h3>", apply_default_css=False, js_on_load=None),
                lambda lang: {"value": f"<h3>{markup.esc(say(lang, 'sampling.right'))}</h3>"},
            )
            right_values = _sampling_controls(labels, services.access.profile.max_new_tokens)

    around = [
        asked, earlier["left"], earlier["right"], reference, follow_up, send, stop_both, stop_side["left"], stop_side["right"],
        *votes, vote_note, regenerate, judge_button,
    ]  # fmt: skip
    answer_panes = [panes[side] for side in SIDES]
    verdict_panes = [cards[side] for side in SIDES]
    everything = [box, *answer_panes, *verdict_panes, legend, *around]
    settings = [session, language, box, models["left"], models["right"], unlocked, *left_values, *right_values]
    quiet = {"api_visibility": "private", "show_progress": "hidden"}

    for begun in (
        gr.on([send.click, box.submit], partial(begin, services, False), settings, everything, **quiet),
        regenerate.click(partial(begin, services, True), settings, everything, **quiet),
    ):
        settled = begun.success(
            partial(stream, services, lanes), [session, language], answer_panes, concurrency_limit=None, postprocess=False, **quiet
        ).then(settle, [session, language, differences], everything[1:], **quiet)  # fmt: skip
        settled.then(
            partial(judge_automatically, services), [session, language, judge, auto], verdict_panes,
            concurrency_limit=8, concurrency_id="judge", **quiet,
        )  # fmt: skip
        settled.then(None, None, box, js=GIVE_BACK_JS)
    judge_button.click(
        partial(judge_now, services),
        [session, language, judge],
        verdict_panes,
        concurrency_limit=8,
        concurrency_id="judge",
        **quiet,
    )
    # Stop must get through while every other lane is taken.
    for button, sides in ((stop_both, SIDES), (stop_side["left"], ("left",)), (stop_side["right"], ("right",))):
        button.click(partial(stop, services, sides), [session], [], concurrency_limit=None, **quiet)
    for button, choice in zip(votes, verdicts.CHOICES, strict=True):
        button.click(partial(vote, services, choice), [session, language], [*votes, vote_note], **quiet)
    differences.change(show_differences, [session, language, differences], [*answer_panes, legend], **quiet)
    new.click(partial(new_conversation, services), [session, language], everything, **quiet)

    # Not a partial: Gradio reads the annotation of a plain function to know that it wants the event.
    def on_chip(session: Session, event: gr.EventData) -> Any:
        return pick_chip({prompt.id: prompt for prompt in chips}, session, picked(event))

    chip_bar.pick(on_chip, [session], [box], **quiet)
    unlocked.change(lambda on: [gr.update(visible=bool(on))] * 2, [unlocked], [left_title, right_group], **quiet)
    for side in SIDES:
        models[side].change(partial(screen.badge, services), [models[side], language], [badges[side]], **quiet)
    language.change(redraw, [session, language, differences], everything, **quiet)
    return ComparePage(session, box, models, badges, judge, everything)
