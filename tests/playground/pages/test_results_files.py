"""What can be kept of a benchmark: the report and the tables that the command line makes, without protected texts."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from playground.exports import FORMATS
from playground.pages import Services, results, results_files
from playground.pages.results_view import Desk
from tests.evaluation.benchmark.made import two_models
from tests.playground.pages.test_results import arrived, benchmark, desk, home, looked

__all__ = ["desk", "home"]  # fixtures


def test_the_report_is_that_of_the_run_on_the_screen_and_does_not_stay_with_us(
    services: Services, desk: Desk, home: Path
):
    two_models(9).write(home / "runs")
    shown = two_models().write(home / "runs")
    arrived(services, desk)
    desk.run_id = shown
    making = results_files.report(services, desk, "ja")
    file = Path(next(making)["value"])
    page = file.read_text(encoding="utf-8")
    assert file.name == f"report-{shown}.html"
    assert page.startswith("<!DOCTYPE html>") and "33 %" in page and "sample-test" in page and "<script" not in page
    assert next(making, None) is None and not file.parent.exists()


@pytest.mark.parametrize("form", FORMATS)
def test_the_tables_come_in_one_zip_with_their_manifest(services: Services, desk: Desk, home: Path, form: str):
    desk.run_id = two_models(9).write(home / "runs")
    making = results_files.tables(services, desk, "ja", form)  # type: ignore[arg-type]
    with zipfile.ZipFile(next(making)["value"]) as archive:
        inside = {Path(name).name: name for name in archive.namelist() if not name.endswith("/")}
        manifest = json.loads(archive.read(inside["manifest.json"]))
    tables = {f"{name}.{form}" for name in ("prompts", "responses", "judgements")}
    assert inside.keys() == tables | {"manifest.json", "results.json"}
    assert [run["run_id"] for run in manifest["runs"]] == [desk.run_id]
    making.close()


def test_texts_of_protected_suites_are_in_neither(services: Services, desk: Desk, home: Path):
    made = two_models(9)
    made.prompts = [replace(prompt, suite="answercarefully-v2.2-test") for prompt in made.prompts]
    desk.run_id = made.write(home / "runs")
    report = results_files.report(services, desk, "en")
    assert made.prompts[0].question not in Path(next(report)["value"]).read_text(encoding="utf-8")
    report.close()
    tables = results_files.tables(services, desk, "en", "jsonl")
    with zipfile.ZipFile(next(tables)["value"]) as archive:
        everything = b"".join(archive.read(name) for name in archive.namelist()).decode()
    tables.close()
    assert made.prompts[0].id in everything and made.prompts[0].question not in everything


def test_without_a_run_there_is_nothing_to_keep(services: Services, desk: Desk, home: Path):
    assert arrived(services, desk)["keep"]["visible"] is False
    with pytest.raises(gr.Error):
        next(results_files.report(services, desk, "ja"))


def test_what_can_be_kept_is_offered_once_there_is_an_answer(services: Services, desk: Desk, home: Path):
    benchmark(home)
    assert looked(results.arrive(services, desk, "ja"))["keep"]["visible"] is True
