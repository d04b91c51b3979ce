"""The supervision of vLLM itself: what it serves, who may ask, that it comes back, and that it leaves nothing."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from playground.serving import Server, VllmServer
from playground.serving.command import SERVER_MARK
from playground.settings import ROOT
from tests.playground.jobs.waiting import wait_until

APP = """
import sys, time
from pathlib import Path
from playground.serving import vllm_server
from playground.settings import Settings
server = vllm_server(Settings.model_construct(home=Path(sys.argv[1]), max_context=1024))
server.start()
server.wait_ready()
print("ready", flush=True)
time.sleep(3600)
"""


def ask(server: Server, path: str, body: object = None, key: str | None = None) -> tuple[int, Any]:
    parts = urlsplit(server.base_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    connection.request(
        "POST" if body is not None else "GET", path, json.dumps(body) if body is not None else None, headers
    )
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, json.loads(text) if text.startswith(("{", "[")) else text


def processes_of(folder: Path) -> dict[int, str]:
    """Number and command line of what carries the name of that server's folder."""
    wanted = f"{SERVER_MARK}={folder.name}".encode()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it ended while we looked
            continue
    return found


def newest_folder(home: Path) -> Path:
    return max((home / "vllm" / "servers").glob("[0-9]*"))


def test_one_server_holds_the_base_and_both_shipped_adapters(real_server: Server):
    assert real_server.models == ("base", "general", "answercarefully-sample")
    asked = {"prompt": "### 指示:\nこんにちは\n\n### 応答:\n", "max_tokens": 12, "temperature": 0}
    texts = {}
    for model in real_server.models:
        status, document = ask(real_server, "/v1/completions", {**asked, "model": model}, real_server.api_key)
        assert status == 200 and document["model"] == model
        texts[model] = document["choices"][0]["text"]
    assert len(set(texts.values())) == 3, texts


@pytest.mark.parametrize("path", ["/v1/completions", "/invocations", "/adapters", "/v1/load_lora_adapter", "/tokenize"])
def test_nobody_without_the_key_is_served(real_server: Server, path: str):
    body = {"model": "base", "prompt": "a", "max_tokens": 1}
    assert ask(real_server, path, body)[0] == 401
    assert ask(real_server, path, body, "wrong")[0] == 401


def test_the_key_is_in_no_command_line_and_not_in_the_log(real_server: Server, own_server: VllmServer, vllm_home: Path):
    key = real_server.api_key
    assert key and "Starting vLLM" in (newest_folder(vllm_home) / "server.log").read_text()
    assert key not in (newest_folder(vllm_home) / "server.log").read_text()
    commands = processes_of(newest_folder(vllm_home))
    assert len(commands) >= 3 and not [words for words in commands.values() if key in words]


def test_an_engine_that_is_killed_comes_back_under_the_same_address(own_server: VllmServer, vllm_home: Path):
    before = own_server.wait_ready()
    restarts = own_server.state().restarts
    folder = newest_folder(vllm_home)
    [engine, *_] = [pid for pid, words in processes_of(folder).items() if "VLLM::Engine" in words]
    os.kill(engine, signal.SIGKILL)
    wait_until(lambda: own_server.state().restarts == restarts + 1, "a restart")
    after = own_server.wait_ready()
    assert (after.base_url, after.api_key, after.models) == (before.base_url, before.api_key, before.models)
    assert processes_of(folder) == {} and processes_of(newest_folder(vllm_home))
    body = {"model": "general", "prompt": "a", "max_tokens": 1}
    assert ask(after, "/v1/completions", body, after.api_key)[0] == 200


def test_no_process_outlives_an_app_that_is_killed(vllm_home: Path, tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to((vllm_home / "models").resolve())
    app = subprocess.Popen([sys.executable, "-c", APP, str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert app.stdout is not None and app.stdout.readline() == "ready\n"
        started = processes_of(newest_folder(home))
        assert any("VLLM::Worker" in words for words in started.values()) and len(started) >= 4
    finally:
        app.kill()
        app.wait()
    wait_until(lambda: not processes_of(newest_folder(home)), "the end of all of it", 60)
