"""The app's server in the processes of runs: who gets it, how it goes over, and what happens when it is gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.journal import RunInfo
from playground.serving import RemoteServers, lending
from playground.serving.lending import LENT, LentServer, ServerStarting, lent_server, lent_to
from playground.serving.server import VllmServer
from playground.serving.state import ServerState
from playground.settings import Settings
from tests.playground.serving.staging import Stage

Make = Callable[..., VllmServer]


def run(kind: str = "benchmark", **settings: object) -> RunInfo:
    return RunInfo("r", kind, "2026-01-01T00:00:00Z", settings, {}, {}, None, 1)  # type: ignore[arg-type]


ASKS = run(engine="vllm", judge="embedded")


def ready(server: VllmServer) -> VllmServer:
    server.start()
    server.wait_ready()
    return server


def test_a_running_server_goes_over_whole_and_its_key_in_nothing_that_is_printed(make_server: Make):
    server = ready(make_server())
    lent = lent_server(lent_to(ASKS, server))
    found = server.server()
    assert lent == replace(found, models=(), adapters={})
    assert found.api_key and found.api_key not in repr(lent)


@pytest.mark.parametrize(
    ("info", "engine", "gets_it"),
    [
        (run(engine="vllm"), "transformers", True),
        (run(engine="transformers", judge="embedded"), "vllm", False),
        (run("judging", judge="vllm:base"), "vllm", True),
        (run("judging", judge="vllm:base"), "transformers", False),
        (run("judging", judge="openai:x"), "vllm", False),
        (run("training", engine="vllm"), "vllm", False),
    ],
    ids=["answers", "answers-here", "judge", "judge-elsewhere", "endpoint", "training"],
)
def test_only_a_run_that_asks_a_server_of_our_own_gets_its_key(make_server: Make, info, engine, gets_it):
    assert bool(lent_to(info, ready(make_server(engine=engine)))) is gets_it


def test_a_judge_with_a_server_of_its_own_gets_no_key_of_ours(make_server: Make):
    server = ready(make_server(engine="vllm", judge_url="http://127.0.0.1:1/v1"))
    assert lent_to(run("judging", judge="vllm:base"), server) == {}


def test_a_run_waits_while_the_server_starts_and_goes_without_where_there_is_none(make_server: Make, stage: Stage):
    stage.play({"mute": True})
    server = make_server()
    assert lent_to(ASKS, server) == {}
    server.start()
    with pytest.raises(ServerStarting, match="starting"):
        lent_to(ASKS, server)
    server.stop()
    assert lent_to(ASKS, server) == {}


def test_servers_of_others_are_in_the_settings_and_are_not_lent():
    settings = Settings.model_construct(vllm_url=("http://127.0.0.1:1/v1",), vllm_api_key=None)
    assert lent_to(ASKS, RemoteServers(settings)) == {}
    assert lent_server({}) is None


def test_a_lent_server_is_used_while_it_answers_and_is_not_ended_by_the_run(make_server: Make, stage: Stage):
    server = ready(make_server())
    lent = lent_server(lent_to(ASKS, server))
    assert lent is not None
    borrower = LentServer(lent, server.settings)
    borrower.start()
    assert borrower.wait_ready() is lent and borrower.server() is lent
    borrower.close()
    assert len(stage.starts()) == 1 and len(stage.living()) == 1


def test_when_the_lent_server_is_gone_the_run_starts_its_own_and_ends_it(
    make_server: Make, stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    first = ready(make_server())
    environment = lent_to(ASKS, first)
    first.stop()
    monkeypatch.setattr(lending, "vllm_server", lambda settings: make_server())
    lent = lent_server(environment)
    assert lent is not None
    borrower, said = LentServer(lent, first.settings), list[str]()
    own = borrower.wait_ready(said.append)
    assert own.base_url != "" and own.api_key != lent.api_key and borrower.server() == own
    assert "starts its own" in said[0] and len(stage.starts()) == 2
    assert borrower.own() == own, "one is enough"
    borrower.close()
    assert stage.living() == []


def test_what_is_lent_names_no_folder_where_there_is_none(tmp_path: Path):
    document = {"base_url": "http://127.0.0.1:1/v1", "api_key": None, "model": "base", "folder": None}
    found = lent_server({LENT: json.dumps({**document, "max_model_len": None, "max_lora_rank": None})})
    assert found is not None and found.folder is None


def test_a_run_waits_while_the_server_stops_since_its_own_could_not_have_the_device(make_server: Make, monkeypatch):
    server = make_server()
    monkeypatch.setattr(server, "state", lambda: ServerState("stopping", 0.0))
    with pytest.raises(ServerStarting, match="stopping"):
        lent_to(ASKS, server)
