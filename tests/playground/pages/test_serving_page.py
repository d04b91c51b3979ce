"""The page of the vLLM server: what is shown in each state, and what its buttons do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr
import pytest

from playground.pages import Services, serving, serving_markup
from playground.pages.memory import Memory
from playground.pages.text import say
from playground.serving import Reason, ServerState
from playground.serving.plan import GIB, MemoryPlan
from playground.serving.reasons import _STAGES, LASTING
from tests.playground.pages.test_train import HOSTILE

PLAN = MemoryPlan("cpu", 20 * GIB, GIB // 2, 3 * GIB, 2 * GIB, 18432, 4096)
READY = ServerState(
    "ready", 1_790_000_000.0, model="base", models=("base", "general"), urls=("http://127.0.0.1:1/v1",), plan=PLAN
)


class FakeServer:
    def __init__(self, state: ServerState, log: str = "") -> None:
        self.now, self.log, self.calls = state, log, []  # type: ignore[var-annotated]

    def state(self) -> ServerState:
        return self.now

    def log_tail(self, lines: int = 80) -> str:
        return self.log

    def start(self) -> None:
        self.calls.append("start")
        self.now = replace(self.now, phase="starting", stage="weights")

    def stop(self, *, wait: bool = True) -> None:
        self.calls.append(f"stop, waiting {wait}")
        self.now = replace(self.now, phase="stopping")


def opened(services: Services, state: ServerState, log: str = "") -> tuple[Services, FakeServer, Memory]:
    server = FakeServer(state, log)
    return replace(services, vllm=server), server, Memory()  # type: ignore[arg-type]


def pieces(outputs: list[Any]) -> dict[str, Any]:
    return dict(zip(serving.NAMES, outputs, strict=True))


def test_a_server_that_runs_shows_what_it_serves_and_can_be_stopped(services: Services):
    page, server, desk = opened(services, READY, "last line")
    shown = pieces(serving.arrive(page, desk, "en"))
    assert "running" in shown["state"] and "general" in shown["state"] and "4,096 tokens" in shown["state"]
    assert "weights 0.5 GiB, cache 2.0 GiB (of 20.0 GiB free)" in shown["state"] and "last line" in shown["log"]
    assert not shown["start"]["visible"] and shown["stop"]["visible"] and server.calls == []
    shown = pieces(serving.stop(page, desk, "en"))
    assert server.calls == ["stop, waiting False"] and "stopping" in shown["state"] and not shown["stop"]["visible"]


def test_one_that_is_off_can_be_started_and_says_how_far_it_is(services: Services):
    page, server, desk = opened(services, ServerState("off", 0.0, model="base"))
    shown = pieces(serving.arrive(page, desk, "ja"))
    assert shown["start"]["visible"] and not shown["stop"]["visible"]
    shown = pieces(serving.start(page, desk, "ja"))
    assert server.calls == ["start"] and say("ja", "serving.stage.weights") in shown["state"]


def test_where_vllm_is_not_installed_the_page_says_so_before_anybody_tries(services: Services, monkeypatch, tmp_path):
    from playground.serving.environment import find_environment

    monkeypatch.setattr(serving, "find_environment", lambda: find_environment(tmp_path))
    page, _, desk = opened(services, ServerState("off", 0.0, model="base"))
    assert "make vllm" in pieces(serving.arrive(page, desk, "en"))["state"]


@pytest.mark.parametrize("language", ["ja", "en"])
def test_a_failure_is_said_in_the_language_with_its_details(services: Services, language: str):
    reason = Reason("memory", "LlamaForCausalLM needs 20.1 GiB and 4.0 GiB are free.")
    page, _, desk = opened(services, ServerState("failed", 1.0, model="base", reason=reason))
    shown = pieces(serving.arrive(page, desk, language))
    assert say(language, "serving.reason.memory") in shown["state"] and "20.1 GiB" in shown["state"]
    assert 'role="alert"' in shown["state"] and shown["start"]["visible"]


def test_reasons_that_have_a_japanese_form_are_told_in_it_and_others_are_marked_as_english(services: Services):
    silent = "http://a:1/v1 does not answer as a vLLM server does (timeout). http://b:1/v1 serves no model."
    state = ServerState("failed", 1.0, model="base", reason=Reason("unreachable", silent), left_out=("Odd words.",))
    shown = serving_markup.state(state, "", "ja")
    assert (
        "http://a:1/v1 は vLLM サーバーとして応答しません" in shown and "http://b:1/v1 にはモデルがありません" in shown
    )
    assert shown.count('lang="en"') == 1 and '<span lang="en">Odd words.</span>' in shown
    assert silent in serving_markup.state(state, "", "en")
    hint = "vLLM is not installed in /x; run `make vllm` in the project's folder."
    assert "vLLM がありません" in serving_markup.state(ServerState("off", 0.0, model="base"), hint, "ja")


def test_a_server_that_starts_again_says_why(services: Services):
    reason = Reason("killed", "The server was killed.")
    state = ServerState("starting", 1.0, "engine", "base", reason=reason, restarts=2)
    html = serving_markup.state(state, "", "en")
    assert "restart 2" in html and "The server was killed." in html


def test_every_stage_and_reason_has_words():
    assert {stage for stage, _ in _STAGES} < set(serving_markup.STAGES)
    assert set(serving_markup.REASONS) >= LASTING


def test_servers_of_others_are_asked_but_neither_started_nor_stopped_here(services: Services):
    page, server, desk = opened(services, replace(READY, external=True, plan=None))
    shown = pieces(serving.arrive(page, desk, "en"))
    assert server.calls == ["start"] and "PLAYGROUND_VLLM_URL" in shown["heading"]
    assert not shown["start"]["visible"] and not shown["stop"]["visible"] and not shown["folder"]["visible"]


def test_only_what_changed_is_sent_and_nothing_while_the_tab_is_closed(services: Services):
    page, server, desk = opened(services, READY)
    serving.arrive(page, desk, "en")
    assert all(piece == gr.skip() for piece in serving.look(page, desk, "en"))
    server.log = "more"
    assert [name for name, piece in pieces(serving.look(page, desk, "en")).items() if piece != gr.skip()] == ["log"]
    serving.leave(desk)
    server.log = "and more"
    assert all(piece == gr.skip() for piece in serving.look(page, desk, "en"))


def test_nothing_that_a_server_says_becomes_markup(services: Services):
    state = replace(
        READY, models=("base", HOSTILE), urls=(HOSTILE,), left_out=(HOSTILE,), reason=Reason("unreachable", HOSTILE)
    )
    page, _, desk = opened(services, state, HOSTILE)
    shown = pieces(serving.arrive(page, desk, "en"))
    assert HOSTILE not in shown["state"] and HOSTILE not in shown["log"]
