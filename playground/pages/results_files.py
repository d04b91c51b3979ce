"""What can be kept of a benchmark: one report to send, and the tables for other programs. The twin of `report` and `export`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from evaluation.benchmark.recorded import Recorded, read_recorded
from evaluation.disk import told_to_people, utf8
from evaluation.journal import utc_now
from evaluation.report import build_report
from playground.exports import FORMATS, Format, export
from playground.jobs.job import find_run
from playground.pages import markup
from playground.pages.errors import shown_to_user
from playground.pages.labels import Labels
from playground.pages.results_view import Desk
from playground.pages.services import Services
from playground.pages.text import say


def report(services: Services, desk: Desk, language: str) -> Iterator[Any]:
    """The run that is shown as one HTML file to download."""

    def make(run: Recorded, folder: Path) -> Path:
        file = folder / f"report-{run.run_id}.html"
        file.write_bytes(utf8(build_report([run], utc_now())))
        return file

    yield from _kept(services, desk, language, make)


def tables(services: Services, desk: Desk, language: str, form: Format) -> Iterator[Any]:
    """The run that is shown as tables with their manifest, in one zip to download."""

    def make(run: Recorded, folder: Path) -> Path:
        name = f"export-{run.run_id}"
        export([run], folder / name, form)
        return Path(shutil.make_archive(str(folder / name), "zip", folder, name))

    yield from _kept(services, desk, language, make)


def _kept(services: Services, desk: Desk, language: str, make: Callable[[Recorded, Path], Path]) -> Iterator[Any]:
    """Gradio copies the file into its cache, which it clears by itself, before it asks for more; then ours goes."""
    with shown_to_user(language):
        run = read_recorded(find_run(services.settings.runs, desk.current(language)), services.settings.home)
    with tempfile.TemporaryDirectory(prefix="playground-keep-", ignore_cleanup_errors=True) as folder:
        with shown_to_user(language), told_to_people(Path(folder)):
            file = make(run, Path(folder))
        yield gr.update(value=str(file), visible=True)


def build(services: Services, labels: Labels, desk: gr.State, language: Any) -> gr.Column:
    """Draw this part inside the column that the caller has opened; not there while there is nothing to keep."""
    with gr.Column(visible=False, elem_id="bench-keep") as whole:
        with gr.Row(elem_classes="tools fields"):
            made = gr.Button(say("ja", "bench.keep.report"), elem_id="bench-report", size="md")
            written = gr.Button(say("ja", "bench.keep.tables"), elem_id="bench-tables", size="md")
            form = gr.Dropdown(
                list(FORMATS), value=FORMATS[0], label=say("ja", "bench.keep.form"), filterable=False,
                elem_id="bench-tables-form", min_width=160,
            )  # fmt: skip
        note = gr.HTML(_note("ja"), apply_default_css=False, js_on_load=None)
        file = gr.File(label=say("ja", "bench.keep.file"), visible=False, interactive=False, elem_id="bench-file")
    labels.add(made, value="bench.keep.report")
    labels.add(written, value="bench.keep.tables")
    labels.add(form, label="bench.keep.form")
    labels.add(file, label="bench.keep.file")
    labels.add_computed(note, lambda lang: {"value": _note(lang)})
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    made.click(partial(report, services), [desk, language], [file], **quiet)
    written.click(partial(tables, services), [desk, language, form], [file], **quiet)
    return whole


def _note(language: str) -> str:
    return f'<p class="fine">{markup.esc(say(language, "bench.keep.note"))}</p>'
