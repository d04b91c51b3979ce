"""The supervision of a server, with true processes that play one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from playground.jobs.leases import holder
from playground.serving import leftovers
from playground.serving.environment import VllmEnvironment
from playground.serving.reasons import ServerFailed
from playground.serving.server import Adapters, Base, Patience, VllmServer
from playground.settings import ROOT, Settings
from tests.playground.jobs.waiting import wait_until
from tests.playground.serving.staging import FAKE, QUICK, Stage, fake_environment, model_folder

Make = Callable[..., VllmServer]


def start(server: VllmServer):
    server.start()
    return server.wait_ready()


def ends_as(server: VllmServer, phase: str):
    return wait_until(lambda: (state := server.state()).phase == phase and state, f"{phase}, not {server.state()}")


def test_a_server_is_ready_when_it_answers_and_says_what_it_serves(make_server: Make, stage: Stage):
    stage.play({"wait": 0.2})
    server = make_server(adapters=Adapters({"general": stage.folder / "g"}, {"general": 16}))
    said: list[str] = []
    server.start()
    assert server.state().phase == "starting"
    found = server.wait_ready(said.append)
    assert (found.model, found.models, found.max_model_len) == ("base", ("base", "general"), 256)
    assert found.base_url.startswith("http://127.0.0.1:") and found.base_url.endswith("/v1")
    assert server.state().phase == "ready" and server.server() is found
    assert said[0] == "vLLM server: preparing"
    assert "Starting vLLM server" in server.log_tail()


def test_stopping_leaves_no_process_and_takes_the_address_back(make_server: Make, stage: Stage):
    stage.play({"helper": "same"})
    server = make_server()
    start(server)
    assert len(stage.living()) == 2
    server.stop()
    assert stage.living() == [] and server.state().phase == "off"
    with pytest.raises(ServerFailed):
        server.server()


@pytest.mark.parametrize("helper", ["same", "own"])
def test_one_that_ignores_the_request_to_end_is_killed_with_all_it_started(make_server: Make, stage: Stage, helper):
    stage.play({"deaf": True, "helper": helper})
    server = make_server(replace(QUICK, stop=0.3))
    start(server)
    server.stop()
    assert len(stage.pids()) == 2 and stage.living() == []


def test_a_stop_during_the_start_ends_it_at_once(make_server: Make, stage: Stage):
    stage.play({"mute": True})
    server = make_server()
    server.start()
    wait_until(stage.pids, "the server's process")
    server.stop()
    assert server.state().phase == "off" and stage.living() == []
    with pytest.raises(ServerFailed):
        server.wait_ready()


def test_a_server_that_dies_comes_back_under_the_same_address_and_key(make_server: Make, stage: Stage):
    stage.play({"die_after": 0.3}, {})
    server = make_server()
    before = start(server)
    wait_until(lambda: server.state().restarts == 1, "a restart")
    after = server.wait_ready()
    assert (after.base_url, after.api_key) == (before.base_url, before.api_key)
    assert len(stage.living()) == 1


def test_a_server_whose_engine_is_dead_is_started_again(make_server: Make, stage: Stage):
    stage.play({"dead": 0.2}, {})
    server = make_server()
    start(server)
    wait_until(lambda: server.state().restarts == 1, "a restart")
    server.wait_ready()
    assert len(stage.living()) == 1


def test_a_server_that_keeps_dying_is_given_up_with_the_reason(make_server: Make, stage: Stage):
    stage.play({"log": ["(EngineCore pid=9) ERROR 01-01 00:00:00 [core.py:1] ValueError: the moon is full"], "exit": 1})
    server = make_server(replace(QUICK, restarts=2))
    server.start()
    state = ends_as(server, "failed")
    assert state.reason.kind == "restarts"
    assert "ended 3 times in 10 minutes" in state.reason.words and "the moon is full" in state.reason.words
    assert len(stage.starts()) == 3
    with pytest.raises(ServerFailed, match="the moon is full"):
        server.wait_ready()


def test_what_another_start_would_not_change_is_not_tried_again(make_server: Make, stage: Stage):
    stage.play({"log": ["ValueError: Model architectures ['Odd'] are not supported for now."], "exit": 1})
    server = make_server()
    server.start()
    assert ends_as(server, "failed").reason.kind == "unsupported"
    assert len(stage.starts()) == 1


def test_after_a_failure_it_can_be_started_again(make_server: Make, stage: Stage):
    stage.play({"log": ["ValueError: Model architectures ['Odd'] are not supported for now."], "exit": 1}, {})
    server = make_server()
    server.start()
    ends_as(server, "failed")
    assert start(server).model == "base"


def test_a_start_without_a_sign_of_life_is_ended(make_server: Make, stage: Stage):
    stage.play({"mute": True})
    server = make_server(replace(QUICK, silent=0.5, restarts=0))
    server.start()
    state = ends_as(server, "failed")
    assert "says nothing in its log for 0.5 s" in state.reason.words and stage.living() == []


def test_the_key_is_in_no_command_line_and_no_file_and_no_key_of_ours_reaches_the_server(
    make_server: Make, stage: Stage, monkeypatch
):
    monkeypatch.setenv("PLAYGROUND_OPENAI_API_KEY", "sk-ours")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-ours")
    monkeypatch.setenv("HF_TOKEN", "hf-ours")
    server = make_server()
    found = start(server)
    [started] = stage.starts()
    assert found.api_key and started["environment"]["VLLM_API_KEY"] == found.api_key
    assert not any(found.api_key in word for word in started["argv"])
    assert "sk-ours" not in str(started) and "hf-ours" not in str(started)
    assert found.api_key not in repr(found) and found.api_key not in repr(server.state())
    files = [path for path in stage.home.rglob("*") if path.is_file()]
    assert any(path.name == "server.log" for path in files)
    assert not [path for path in files if found.api_key.encode() in path.read_bytes()]


def test_the_true_rank_of_the_adapters_is_set(make_server: Make, stage: Stage):
    adapters = Adapters({"a": stage.folder / "a", "b": stage.folder / "b"}, {"a": 8, "b": 48})
    found = start(make_server(adapters=adapters))
    words = stage.starts()[0]["argv"]
    assert words[words.index("--max-lora-rank") + 1] == "64" and found.max_lora_rank == 64
    assert "+rotary_embedding" in words[words.index("--compilation-config") + 1], "on a CPU"


def test_an_adapter_that_cannot_be_used_is_left_out_and_named(make_server: Make, stage: Stage):
    server = make_server(adapters=Adapters({}, {}, ("Adapter x: r must be 1 to 256.",)))
    start(server)
    assert server.state().left_out == ("Adapter x: r must be 1 to 256.",)


def test_options_of_the_user_come_last_and_those_of_the_app_are_refused(make_server: Make, stage: Stage):
    start(make_server(vllm_args="--max-num-seqs 8"))
    assert stage.starts()[0]["argv"][-2:] == ["--max-num-seqs", "8"]
    refused = make_server(vllm_args="--api-key=abc")
    refused.start()
    assert ends_as(refused, "failed").reason.kind == "arguments"


def test_too_little_memory_is_said_before_anything_is_started(stage: Stage):
    folder = model_folder(stage.folder / "large", {"w": ("BF16", [1 << 20, 1 << 20])})
    server = VllmServer(
        Settings.model_construct(home=stage.home, max_context=256),
        Base("base", lambda report: folder),
        environment=fake_environment,
    )
    server.start()
    state = ends_as(server, "failed")
    assert state.reason.kind == "memory" and "2048.0" in state.reason.words and stage.starts() == []


def test_without_an_environment_the_reason_says_what_to_do(stage: Stage, tmp_path):
    from playground.serving.environment import find_environment

    server = VllmServer(
        Settings.model_construct(home=stage.home, max_context=256),
        Base("base", lambda report: tmp_path),
        environment=lambda: find_environment(tmp_path / "nowhere"),
    )
    server.start()
    state = ends_as(server, "failed")
    assert state.reason.kind == "environment" and "make vllm" in state.reason.words
    server.stop()
    assert server.state().phase == "off"


def test_on_a_gpu_the_server_holds_the_lease_until_it_has_ended(stage: Stage, monkeypatch):
    monkeypatch.setattr("playground.serving.server.free_gpu_memory", lambda gpu: (70 << 30, 80 << 30))
    folder = model_folder(stage.folder / "model")
    server = VllmServer(
        Settings.model_construct(home=stage.home, max_context=256),
        Base("base", lambda report: folder),
        environment=lambda: VllmEnvironment(Path(sys.executable), "cuda", "0", (str(FAKE),)),
        patience=QUICK,
    )
    start(server)
    held = holder(stage.home, "cuda:0")
    assert held is not None and held.kind == "vllm"
    words = stage.starts()[0]
    assert words["argv"][words["argv"].index("--gpu-memory-utilization") + 1] == "0.86"
    assert "--compilation-config" not in words["argv"], "a GPU has its own"
    assert words["environment"]["CUDA_VISIBLE_DEVICES"] == "0"
    second = VllmServer(server.settings, server._base, environment=server._find, patience=QUICK)
    second.start()
    assert "cuda:0 is in use by vllm" in ends_as(second, "failed").reason.words
    server.stop()
    assert holder(stage.home, "cuda:0") is None


# ---- the app is killed ----

APP = """
import os, sys, time
from pathlib import Path
from tests.playground.serving.staging import QUICK, fake_environment, model_folder, roomy
from dataclasses import replace
from playground.serving import server as supervised
from playground.serving.server import Base, VllmServer
from playground.settings import Settings
supervised.free_memory = roomy
home = Path(sys.argv[1])
folder = model_folder(home / "model")
server = VllmServer(Settings.model_construct(home=home, max_context=256), Base("base", lambda report: folder),
                    environment=fake_environment, patience=replace(QUICK, stop=float(sys.argv[2])))
server.start()
server.wait_ready()
if sys.argv[3] == "fork" and os.fork() == 0:  # keeps every descriptor of the app open, as a careless library would
    time.sleep(3600)
print("ready", flush=True)
time.sleep(3600)
"""


def app(stage: Stage, stop_s: float = 10.0, also: str = "") -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", APP, str(stage.home), f"{stop_s:g}", also],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    return child


def guard_of(stage: Stage) -> int:
    [file] = stage.home.glob("vllm/servers/*/guard.json")
    return int(json.loads(file.read_text())["pid"])


@pytest.mark.parametrize(
    "play", [{}, {"helper": "own"}, {"deaf": True, "helper": "same"}], ids=["plain", "own", "deaf"]
)
def test_nothing_of_the_server_outlives_an_app_that_is_killed(stage: Stage, play):
    stage.play(play)
    killed = app(stage, 0.3 if "deaf" in play else 10.0)
    guard = guard_of(stage)
    assert stage.living()
    killed.kill()
    killed.wait()
    wait_until(lambda: not stage.living(), "the end of the server", 60)
    wait_until(lambda: not Path(f"/proc/{guard}").exists(), "the end of its guard", 60)


def test_a_fork_of_the_app_does_not_keep_the_server(stage: Stage):
    killed = app(stage, also="fork")
    try:
        killed.kill()
        killed.wait()
        wait_until(lambda: not stage.living(), "the end of the server", 60)
    finally:
        os.killpg(killed.pid, signal.SIGKILL)  # the fork


def test_a_guard_that_is_killed_takes_the_server_with_it_and_the_app_starts_another(make_server: Make, stage: Stage):
    stage.play({"helper": "own"}, {})
    server = make_server()
    start(server)
    first = stage.living()
    os.kill(guard_of(stage), signal.SIGKILL)
    wait_until(lambda: server.state().restarts == 1, "a restart")
    server.wait_ready()
    assert len(first) == 2 and not set(first) & set(stage.living())


def test_what_both_killed_at_once_leave_is_ended_by_the_next_start(make_server: Make, stage: Stage):
    stage.play({"helper": "own"}, {})
    killed = app(stage)
    guard = guard_of(stage)
    os.kill(killed.pid, signal.SIGSTOP)  # so that it cannot clear up before it is killed
    os.kill(guard, signal.SIGKILL)
    killed.kill()
    killed.wait()
    [orphan] = wait_until(lambda: len(left := stage.living()) == 1 and left, "the helper alone")
    start(make_server())
    assert orphan not in stage.living()


def test_logs_of_ended_servers_are_kept_but_not_all(stage: Stage):
    made = [leftovers.new_folder(stage.home) for _ in range(leftovers.KEPT + 3)]
    for folder in made:
        (folder / leftovers.GUARD_FILE).write_text(
            json.dumps({"pid": 1, "start_time": 0, "boot_id": "x", "leads_group": True})
        )
    leftovers.sweep(stage.home)
    left = [folder for folder in made if folder.exists()]
    assert left == sorted(made)[3:] or len(left) == leftovers.KEPT


def test_patience_is_what_the_documentation_says():
    assert (Patience().restarts, Patience().window) == (3, 600.0)
