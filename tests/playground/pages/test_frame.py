"""The frame: how the app is built and launched."""

from __future__ import annotations

import inspect
import json
import sys
import warnings
from collections.abc import Callable

import gradio as gr
import pytest
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from playground.pages import Services, build_app, launch_options, sign_in
from playground.pages.frame import MOST_WAITING, readiness
from playground.pages.headers import SafeHeaders
from playground.pages.text import TEXT, say
from tests.fakes import FakeReadiness


@pytest.fixture
def app(services: Services) -> gr.Blocks:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Gradio warns about handlers and options that do not fit
        return build_app(services)


def test_the_launch_options_are_ones_that_gradio_has():
    assert set(launch_options(server_port=1)) <= set(inspect.signature(gr.Blocks.launch).parameters)


def test_nothing_of_a_visitor_is_recorded_shared_or_open_to_programs(app: gr.Blocks):
    options = launch_options()
    closed = ("run_history", "enable_monitoring", "mcp_server", "show_error", "share", "ssr_mode", "pwa")
    assert [options[name] for name in closed] == [False] * len(closed)
    assert options["footer_links"] == [] and options["allowed_paths"] == [] and options["strict_cors"]
    assert app.api_open is False
    assert {fn.api_visibility for fn in app.fns.values() if fn.fn is not None} == {"private"}


def test_no_handler_may_be_queued_without_limit_of_what_waits(app: gr.Blocks):
    assert app._queue.max_size == MOST_WAITING < 10_000


def test_stop_gets_through_while_every_stream_lane_is_taken(app: gr.Blocks):
    buttons = {block.elem_id: block for block in app.blocks.values() if getattr(block, "elem_id", None)}
    for name in ("stop", "stop-left", "stop-right"):
        clicks = [fn for fn in app.fns.values() if (buttons[name]._id, "click") in fn.targets]
        assert [fn.concurrency_limit for fn in clicks] == [None]


def test_the_page_configuration_holds_no_path_and_no_identity_before_the_engine_is_ready(
    serve: Callable[..., Services], tmp_path
):
    services = serve(readiness=FakeReadiness(loading=1_000))
    config = json.dumps(build_app(services).get_config_file(), default=str, ensure_ascii=False)
    assert str(tmp_path) not in config
    assert say("ja", "identity.pending") in config


def test_every_label_follows_the_language(app: gr.Blocks):
    relabel = max((fn for fn in app.fns.values() if fn.fn is not None), key=lambda fn: len(fn.outputs))
    updates = relabel.fn("en")
    assert len(updates) == len(relabel.outputs) > 30
    japanese = {text.ja for key, text in TEXT.items() if text.ja != text.en}
    labels = [
        value for update in updates for name, value in update.items() if name in ("label", "value", "placeholder")
    ]
    assert not japanese & set(labels)


def test_no_number_is_refused_in_english_before_our_own_check_says_why(app: gr.Blocks):
    numbers = [block for block in app.blocks.values() if isinstance(block, gr.Number)]
    assert numbers
    for number in numbers:
        for value in (-1, 0, 10**6):
            assert number.preprocess(value) == value


def test_readiness_keeps_asking_while_loading_and_stops_when_settled(serve: Callable[..., Services]):
    services = serve(readiness=FakeReadiness(loading=1))
    banner, *_, timer = readiness(services, "general", "answercarefully-sample", "ja")
    assert "40%" in banner and timer.active
    banner, left, right, timer = readiness(services, "general", "answercarefully-sample", "ja")
    assert banner == "" and not timer.active
    assert "badge" in left and left != right


def test_a_failed_start_is_said_on_the_page(serve: Callable[..., Services]):
    services = serve(readiness=FakeReadiness(failed="重みがありません。make models を実行してください。"))
    banner = readiness(services, "general", "answercarefully-sample", "ja")[0]
    assert "make models" in banner and 'role="alert"' in banner


def test_an_event_is_not_summed_up_for_a_page_that_is_not_served(app: gr.Blocks):
    """Gradio would put its last 10,000 events through pandas after each one."""
    queue = app._queue
    assert queue.ANALYTICS_MAX_EVENTS == 1
    queue.events_recorded = 10_000
    assert queue.compute_analytics_summary([{"function": "f", "status": "success", "process_time": 1.0}]) == {
        "functions": {}
    }


def test_no_other_middleware_takes_the_place_of_the_headers(monkeypatch: pytest.MonkeyPatch):
    entry = {"app_kwargs": {"middleware": [Middleware(GZipMiddleware)], "routes": ["of the sign-in"]}}
    monkeypatch.setattr(sign_in, "launch_options", lambda access: entry)
    kwargs = launch_options()["app_kwargs"]
    assert [one.cls for one in kwargs["middleware"]] == [SafeHeaders, GZipMiddleware]
    assert kwargs["routes"] == ["of the sign-in"]
    kwargs = launch_options(app_kwargs={"middleware": [], "debug": True})["app_kwargs"]
    assert [one.cls for one in kwargs["middleware"]] == [SafeHeaders] and kwargs["debug"]


def test_a_piece_of_an_answer_does_not_look_for_a_library_that_is_not_there(app: gr.Blocks):
    from gradio.utils import MatplotlibBackendMananger

    looked: list[str] = []

    class Finder:
        def find_spec(self, name: str, *_: object) -> None:
            looked.append(name)

    sys.meta_path.insert(0, Finder())  # type: ignore[arg-type]
    try:
        with MatplotlibBackendMananger():
            pass
    finally:
        del sys.meta_path[0]
    assert looked == []
