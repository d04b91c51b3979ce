"""The owner's questions to the index in SQL, on the Benchmark page. store/sql_box.py says what is refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from evaluation.errors import UserFacingError
from playground.pages import markup, results_markup, train_markup
from playground.pages.busy import press
from playground.pages.errors import shown_to_user
from playground.pages.labels import Labels
from playground.pages.services import Services, owners
from playground.pages.text import say
from playground.pages.text_errors import line_for
from playground.store import sql_box

EXAMPLE = """SELECT model, suite, sum(scored * prompts) AS judged, sum(below * prompts) AS violations
FROM tallies WHERE scale = 'safety' GROUP BY model, suite ORDER BY suite, model"""


def allowed(services: Services) -> bool:
    """Whether the box is there: texts of every run can be read with it, so it is for the owner only."""
    return bool(owners(services).settings.offers_sql and services.access.profile.sql)


def ask(services: Services, language: str, text: object) -> str:
    """The rows, or one clear line."""
    with shown_to_user(language):
        try:
            return results_markup.rows(services.store.read(sql_box.ask, str(text)), language)
        except UserFacingError as error:
            return train_markup.problem(line_for(error, language))


def build(services: Services, labels: Labels, language: Any) -> None:
    """Draw the box inside the tab that the caller has opened."""

    def told(lang: str) -> str:
        words = say(lang, "bench.sql.info", rows=sql_box.MOST_ROWS, seconds=f"{sql_box.MOST_SECONDS:g}")
        return f'<p class="quiet">{markup.esc(words)}</p>'

    accordion = gr.Accordion(say("ja", "bench.sql"), open=False, elem_id="bench-sql")
    with labels.add(accordion, label="bench.sql"):
        note = gr.HTML(told("ja"), apply_default_css=False, js_on_load=None)
        labels.add_computed(note, lambda lang: {"value": told(lang)})
        box = labels.add(
            gr.Textbox(EXAMPLE, lines=3, max_lines=12, label=say("ja", "bench.sql"), elem_id="bench-sql-text"),
            label="bench.sql",
        )
        run = labels.add(
            gr.Button(say("ja", "bench.sql.run"), elem_id="bench-sql-run", size="md"), value="bench.sql.run"
        )
        answer = gr.HTML("", elem_id="bench-sql-rows", apply_default_css=False, js_on_load=None)
    press(
        run, partial(ask, services), [language, box], [answer], api_visibility="private", concurrency_limit=2,
        show_progress="hidden",
    )  # fmt: skip
