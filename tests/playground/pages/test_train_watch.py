"""Watching trainings: what is shown comes from the run folders, and only what changed is sent."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import gradio as gr
import plotly.graph_objects as go
import pytest

from evaluation.journal import RunFolder, create_run
from playground.pages import Services, screen, train_charts, train_markup, train_watch
from playground.pages.text import say
from playground.pages.train_watch import NAMES, PIECES, Desk
from playground.trainings import Curve, read_curve
from tests.playground.pages.test_train import HOSTILE

QUESTION = "眠れない夜が続きます。"


def step(folder: RunFolder, n: int, loss: float = 1.0) -> None:
    folder.event("metric", step=n, steps=9, loss=loss, lr=1e-4, tokens_per_s=52.0, tokens=n, eta_s=75.0)


def training(home: Path, name: str = "mine", words: str = QUESTION, **more: object) -> RunFolder:
    """A run at work after two steps; close it, or write its end."""
    folder = create_run(home / "runs", "training", {"name": name, "base": "embedded", **more}, {})
    folder.event("started", command=f"python -m playground train {words}")
    step(folder, 1, 5.0)
    folder.event("metric", stage="before", step=0, held_out_loss={"sample-test": 4.25})
    folder.event("metric", stage="samples", step=0, samples=[{"prompt_id": "p", "question": words, "text": words}])
    step(folder, 2, 4.0)
    return folder


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def home(services: Services) -> Path:
    path: Path = services.settings.home
    return path


def looked(outputs: list[Any]) -> dict[str, Any]:
    assert len(outputs) == PIECES
    return dict(zip(NAMES, outputs, strict=True))


def skipped(value: Any) -> bool:
    return isinstance(value, dict) and value.get("__type__") == "update" and len(value) == 1


def changed(pieces: dict[str, Any]) -> set[str]:
    return {name for name, value in pieces.items() if not skipped(value)}


# ---- finding runs ----


def test_a_reloaded_page_finds_the_run_that_is_at_work(services: Services, home: Path, desk: Desk):
    with training(home, "older") as folder:
        folder.event("finished")
    with training(home) as folder:
        pieces = looked(train_watch.arrive(services, desk, "ja"))
        assert desk.run_id == folder.path.name
        assert "2 / 9" in pieces["summary"] and "52 トークン/秒" in pieces["summary"] and "75 秒" in pieces["summary"]
        assert pieces["halt"]["visible"] and pieces["timer"].active
        assert pieces["loss"]["visible"] and pieces["rate"]["visible"]


def test_after_a_restart_of_the_app_everything_is_there_again(serve: Callable[..., Services], home: Path):
    with training(home) as folder:
        folder.event("finished", adapter="x", model_id="mine")
    services = serve()
    pieces = looked(train_watch.arrive(services, Desk(), "ja"))
    assert "mine" in pieces["listing"] and QUESTION in pieces["samples"] and "4.250" in pieces["held_out"]
    assert pieces["compare"]["visible"] and not pieces["timer"].active


def test_only_what_changed_is_sent(services: Services, home: Path, desk: Desk):
    with training(home) as folder:
        train_watch.arrive(services, desk, "ja")
        assert changed(looked(train_watch.look(services, desk, "ja"))) == set()
        step(folder, 3, 3.0)
        assert changed(looked(train_watch.look(services, desk, "ja"))) == {"summary"}  # charts wait a little
        desk.charted = 0.0
        assert changed(looked(train_watch.look(services, desk, "ja"))) == {"loss", "rate"}
        folder.event("finished", model_id="mine")
    pieces = looked(train_watch.look(services, desk, "ja"))
    assert {"listing", "summary", "halt", "compare", "timer"} <= changed(pieces)
    assert not pieces["timer"].active


def test_a_slow_look_does_not_put_an_older_list_back(
    services: Services, home: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    desk.here = True
    held, go = threading.Event(), threading.Event()
    listed = services.jobs.jobs

    def slow() -> Any:
        found = listed()
        if not held.is_set():  # the first to come
            held.set()
            assert go.wait(60)
        return found

    monkeypatch.setattr(services.jobs, "jobs", slow)
    arriving = threading.Thread(target=train_watch.redraw, args=(services, desk, "ja"))
    arriving.start()
    assert held.wait(60)
    with training(home, "started-meanwhile") as folder:
        folder.event("finished")
    later = threading.Thread(target=train_watch.look, args=(services, desk, "ja"))
    later.start()
    later.join(0.5)  # it would be done by now if it did not wait for its turn
    go.set()
    for thread in (arriving, later):
        thread.join(60)
        assert not thread.is_alive()
    assert "started-meanwhile" in desk.drawn["listing"]


def test_visitors_do_not_wait_for_each_other(desk: Desk):
    other = copy.deepcopy(desk)  # as Gradio makes a visitor's own
    got = threading.Event()

    def take() -> None:
        with other.turn:
            got.set()

    with desk.turn:
        thread = threading.Thread(target=take)
        thread.start()
        assert got.wait(60)
    thread.join(60)


def test_nobody_polls_while_the_tab_is_closed_or_nothing_runs(services: Services, home: Path, desk: Desk):
    assert not looked(train_watch.arrive(services, desk, "ja"))["timer"].active
    with training(home):
        assert looked(train_watch.redraw(services, desk, "ja"))["timer"].active
        assert not train_watch.leave(desk).active
        assert changed(looked(train_watch.look(services, desk, "ja"))) == set()
        assert looked(train_watch.arrive(services, desk, "ja"))["timer"].active


def test_two_visitors_look_at_different_runs(services: Services, home: Path):
    with training(home, "one") as first, training(home, "two") as second:
        desks = [Desk(), Desk()]
        for desk, folder in zip(desks, (first, second), strict=True):
            train_watch.arrive(services, desk, "ja")
            train_watch.pick(services, desk, "ja", folder.path.name)
        assert [desk.run_id for desk in desks] == [first.path.name, second.path.name]


def test_an_id_from_the_browser_names_a_run_or_nothing(services: Services, desk: Desk):
    for clicked in ("../../etc", "", "20260101T000000000-abcdef"):
        with pytest.raises(gr.Error, match=say("ja", "error.run")):
            train_watch.pick(services, desk, "ja", clicked)


def test_a_failure_shows_its_one_line_reason_and_can_be_resumed(services: Services, home: Path, desk: Desk):
    with training(home) as folder:
        folder.event("failed", reason="The loss is nan at step 3; lower learning_rate.")
    pieces = looked(train_watch.arrive(services, desk, "ja"))
    assert "lower learning_rate" in pieces["summary"] and pieces["resume"]["visible"] and not pieces["halt"]["visible"]


def test_warnings_and_the_stage_before_the_first_step_are_shown(services: Services, home: Path, desk: Desk):
    with create_run(home / "runs", "training", {"name": "mine"}, {}) as folder:
        folder.event("started", command="c")
        folder.event("progress", stage="model", message="loading embedded")
        folder.event("warning", message="3 rows are left out.")
        summary = looked(train_watch.arrive(services, desk, "ja"))["summary"]
    assert "embedded を読み込んでいます" in summary and "3 rows are left out." in summary


def test_the_log_ends_where_the_run_is(services: Services, home: Path, desk: Desk):
    with training(home) as folder:
        (folder.path / "log.txt").write_text("first\nlast line", encoding="utf-8")
        pieces = looked(train_watch.arrive(services, desk, "ja"))
    assert "last line" in pieces["log"] and pieces["folder"]["visible"]


def test_an_empty_home_says_so(services: Services, desk: Desk):
    pieces = looked(train_watch.arrive(services, desk, "en"))
    assert say("en", "watch.none") in pieces["listing"] and not pieces["folder"]["visible"]


# ---- what can be done ----


def queued(services: Services, name: str = "mine") -> str:
    return services.jobs.submit("training", {"name": name}, {}, device="cpu", command="c")


def test_the_queue_shows_places_and_a_waiting_run_can_be_taken_out(services: Services, desk: Desk):
    first, second = queued(services, "one"), queued(services, "two")
    pieces = looked(train_watch.arrive(services, desk, "ja"))
    assert "cpu の 1 番目" in pieces["listing"] and "cpu の 2 番目" in pieces["listing"]
    train_watch.pick(services, desk, "ja", second)
    assert desk.drawn["halt"].count(say("ja", "watch.cancel")) == 1
    train_watch.halt(services, desk, "ja")
    assert [(job.run_id, job.status) for job in services.jobs.jobs()] == [(first, "queued"), (second, "cancelled")]
    train_watch.resume(services, desk, "ja")
    assert services.jobs.job(second).status == "queued"  # type: ignore[union-attr]


def test_stopping_asks_the_run_and_the_button_then_waits(services: Services, home: Path, desk: Desk):
    with training(home) as folder:
        train_watch.arrive(services, desk, "ja")
        pieces = looked(train_watch.halt(services, desk, "ja"))
        assert (folder.path / "cancel.json").is_file()
        assert not pieces["halt"]["interactive"] and say("ja", "watch.state.stopping") in pieces["summary"]


def test_a_run_that_ended_cannot_be_stopped_again(services: Services, home: Path, desk: Desk):
    with training(home) as folder:
        folder.event("finished")
    train_watch.arrive(services, desk, "ja")
    with pytest.raises(gr.Error, match="止めるものがありません"):
        train_watch.halt(services, desk, "ja")
    with pytest.raises(gr.Error, match="再開できません"):
        train_watch.resume(services, desk, "ja")


def test_one_click_opens_compare_with_the_new_adapter_on_the_right(services: Services, engine, home: Path, desk: Desk):
    engine.replies["mine"] = "新しい答え"  # type: ignore[index]
    with training(home) as folder:
        folder.event("finished", adapter="x", model_id="mine")
    train_watch.arrive(services, desk, "ja")
    left, right, tabs = train_watch.compare_run(services, desk, "ja")
    assert right["value"] == "mine" and "value" not in left
    assert "mine" in [value for _, value in right["choices"]] == [value for _, value in left["choices"]]
    assert tabs.selected == "compare"
    *models, _ = screen.choices_now(services, "ja")
    assert [update["choices"] for update in models] == [left["choices"], right["choices"]]


def test_an_adapter_that_the_engine_cannot_load_is_told(services: Services, home: Path, desk: Desk):
    with training(home) as folder:
        folder.event("finished", adapter="x", model_id="gone")
    train_watch.arrive(services, desk, "ja")
    with pytest.raises(gr.Error, match="no model"):
        train_watch.compare_run(services, desk, "ja")


def test_an_adapter_for_another_base_is_not_offered_to_compare(services: Services, home: Path, desk: Desk):
    with training(home) as folder:
        folder.event("finished", adapter="x", model_id=None)
    pieces = looked(train_watch.arrive(services, desk, "ja"))
    assert not pieces["compare"]["visible"] and say("ja", "watch.elsewhere") in pieces["summary"]


# ---- what is drawn ----


def test_charts_are_figures_that_plotly_accepts_in_both_languages(tmp_path: Path):
    with training(tmp_path) as folder:
        curve = read_curve(folder.path)
    for language in ("ja", "en"):
        for chart in (train_charts.loss_chart(curve, language), train_charts.rate_chart(curve, language)):
            assert chart is not None
            document = json.loads(chart.plot)
            assert document.pop("config") == {"displayModeBar": False}
            figure = go.Figure(document)
            assert figure.layout.height >= 200 and figure.layout.xaxis.title.text == say(language, "watch.step")
    loss = json.loads(train_charts.loss_chart(curve, "ja").plot)  # type: ignore[union-attr]
    assert [trace["y"] for trace in loss["data"]] == [[5.0, 4.0], [4.25]]
    assert train_charts.loss_chart(Curve(tmp_path), "ja") is train_charts.rate_chart(Curve(tmp_path), "ja") is None


@pytest.mark.parametrize("count", [1, 2, 299, 300, 301, 5000])
def test_long_curves_are_thinned_and_keep_their_ends(count: int):
    points = train_charts.thinned({n: float(n) for n in range(1, count + 1)})
    assert points[0][0] == 1 and points[-1][0] == count
    assert len(points) <= train_charts.MOST_POINTS + 1


def test_answers_are_shown_before_now_and_in_between(tmp_path: Path):
    with training(tmp_path) as folder:
        for n in (3, 6, 9):
            folder.event(
                "metric", stage="samples", step=n, samples=[{"prompt_id": "p", "question": "q", "text": f"答え{n}"}]
            )
        text = train_markup.samples(read_curve(folder.path), "ja")
    assert text.index("学習前") < text.index("答え9") < text.index("途中の回答（2）") < text.index("答え3")


def test_a_sweep_is_shown_side_by_side(services: Services, home: Path, desk: Desk):
    for value, loss in ((0, 4.0), (16, 2.0)):
        with training(home, f"mine-x{value}") as folder:
            folder.event("metric", stage="after", step=9, held_out_loss={"sample-test": loss})
            folder.event("finished")
    table = looked(train_watch.arrive(services, desk, "ja"))["sweep"]
    assert table.index("0x") < table.index("4.250 → 4.000") < table.index("16x") < table.index("4.250 → 2.000")


class Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))


def test_hostile_answers_logs_and_reasons_add_no_element(services: Services, home: Path):
    def drawn(words: str) -> list[tuple[str, tuple[str, ...]]]:
        desk = Desk()
        with training(home, words, words) as folder:
            (folder.path / "log.txt").write_text(words, encoding="utf-8")
            folder.event("warning", message=words)
            folder.event("failed", reason=words)
        desk.run_id = folder.path.name
        pieces = looked(train_watch.arrive(services, desk, "ja"))
        parts = [pieces[name] for name in ("summary", "samples", "command", "log", "held_out")]
        return Seen("".join(parts)).tags

    assert drawn(HOSTILE) == drawn("無害")
