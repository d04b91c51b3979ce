"""What can be fetched from, sent to and made out of the running app by raw HTTP, without the page."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported

import gradio as gr

from playground.pages import build_app, launch_options
from playground.pages.headers import MOST_BODY, SafeHeaders
from playground.settings import LOOPBACK
from tests.fakes import fake_services

SECRET = "canary-of-a-file"


class Served:
    """The app, and a server beside it that notes who knocks."""

    def __init__(self, url: str, home: Path, app: gr.Blocks) -> None:
        self.url, self.home, self.app = url.rstrip("/"), home, app
        self.client = httpx2.Client(timeout=30, follow_redirects=False)

    def get(self, path: str) -> httpx2.Response:
        return self.client.get(f"{self.url}/{path}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("home")
    for name in (
        ".env",
        "runs/r1/run.json",
        "runs/r1/responses.jsonl",
        "suites/s/prompts.jsonl",
        "adapters/a/adapter_config.json",
    ):
        file = home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(SECRET)
    services = fake_services(home)
    app = build_app(services)
    _, url, _ = app.launch(
        **launch_options(hosts=LOOPBACK, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
    )
    yield Served(url, home, app)
    app.close(verbose=False)
    services.store.close()


@pytest.fixture
def knocked() -> Iterator[tuple[str, list[str]]]:
    """An address on this machine, and who came to it."""
    seen: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set():
                try:
                    connection, who = server.accept()
                except TimeoutError:
                    continue
                seen.append(str(who))
                connection.close()

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x", seen
        ended.set()
        thread.join()


def paths(home: Path) -> list[str]:
    """Files that are nobody's to fetch, named in many ways."""
    files = [
        home / ".env", home / "runs" / "r1" / "run.json", home / "runs" / "r1" / "responses.jsonl", home / "index.duckdb",
        home / "suites" / "s" / "prompts.jsonl", home / "adapters" / "a" / "adapter_config.json", Path("/etc/passwd"),
        Path("/proc/self/environ"), Path(__file__), Path(__file__).parents[3] / "app.py", Path(__file__).parents[3] / ".env",
    ]  # fmt: skip
    ways = []
    for file in files:
        ways += [
            f"file={file}",
            f"file/{file}",
            f"file=//{file}",
            f"file=/tmp/gradio/../..{file}",
            f"file=../../../..{file}",
        ]
        encoded = "".join(f"%{ord(letter):02x}" for letter in str(file))
        ways += [
            f"file={encoded}",
            f"file={str(file).replace('/', '%2f')}",
            f"file=/tmp/gradio/..%2f..{file}",
            f"file=%2e%2e%2f{file}",
        ]
        ways += [
            f"file={str(file).replace('/', '%252f')}",
            f"file=file://{file}",
            f"file=\\\\?{file}",
            f"file={file}%00.png",
        ]
    return ways


def test_no_file_of_the_home_of_the_program_or_of_the_machine_is_given_out(served: Served):
    for way in paths(served.home):
        answer = served.get(f"gradio_api/{way}")
        assert answer.status_code in (400, 403, 404, 405), (way, answer.status_code)
        assert SECRET not in answer.text and "root:" not in answer.text, way


def test_static_routes_do_not_lead_out_of_their_folder(served: Served):
    for root in (
        "static",
        "assets",
        "svelte",
        "custom_component/x/client/component",
        "gradio_api/custom_component/x/client/component",
        "pwa_icon",
    ):
        for to in (
            "../../../../../../etc/passwd",
            "..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
            "%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
            "/etc/passwd",
        ):
            answer = served.get(f"{root}/{to}")
            assert answer.status_code >= 400 and "root:" not in answer.text, (root, to)


def test_nothing_can_be_uploaded(served: Served):
    for path in ("upload", "upload/", "upload?upload_id=x", "process_recording", "component_server", "vibe-edit"):
        answer = served.client.post(
            f"{served.url}/gradio_api/{path}", files={"files": ("a.html", b"<script>1</script>", "text/html")}
        )
        assert answer.status_code in (404, 405, 422), path


def test_no_component_takes_a_file_so_nothing_needs_uploads(served: Served):
    """Who adds one must open the door in headers.py for it, with bounds."""
    takes = [block for block in served.app.blocks.values() if isinstance(block, gr.File | gr.UploadButton | gr.Image | gr.Audio | gr.Video | gr.MultimodalTextbox) and getattr(block, "interactive", None) is not False]  # fmt: skip
    assert takes == []
    assert not served.app.allowed_paths


def test_the_server_fetches_no_address_that_a_visitor_names(served: Served, knocked: tuple[str, list[str]]):
    address, seen = knocked
    ways = [
        f"gradio_api/file={address}",
        f"gradio_api/file/{address}",
        f"gradio_api/proxy={address}",
        f"gradio_api/file={address.replace('http', 'HTTP')}",
    ]
    ways += [
        "gradio_api/file=https%3A%2F%2Fexample.org%2Fx",
        "gradio_api/file=%20http://example.org/x",
        "gradio_api/file=http:/example.org",
    ]
    for way in ways:
        assert served.get(way).status_code in (400, 403, 404), way
    described = {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}, "orig_name": "x"}
    for number in range(len(served.app.fns)):
        body = {"data": [{"deep": [described]}], "fn_index": number, "session_hash": "s"}
        answer = served.client.post(f"{served.url}/gradio_api/queue/join", json=body)
        assert answer.status_code == 400, answer.text
    spelled = json.dumps(described).replace("FileData", "File\\u0044ata").replace("meta", "\\u006deta")
    raw = f'{{"data": [{spelled}], "fn_index": 0, "session_hash": "s"}}'
    headers = {"content-type": "application/json"}
    assert served.client.post(f"{served.url}/gradio_api/queue/join", content=raw, headers=headers).status_code == 400
    assert seen == []


def test_a_request_without_end_is_refused(served: Served):
    body = b'{"data": ["' + b"x" * MOST_BODY + b'"]}'
    answer = served.client.post(f"{served.url}/gradio_api/queue/join", content=body)
    assert answer.status_code == 413 and "longer than" in answer.text


def test_gradios_other_ways_to_a_handler_are_closed(served: Served):
    for path in ("run/predict", "api/predict", "call/predict", "run/0"):
        answer = served.client.post(f"{served.url}/gradio_api/{path}", json={"data": [], "fn_index": 0})
        assert answer.status_code in (404, 405, 422), path
    for path in ("monitoring", "monitoring/summary", "docs", "redoc", "gradio_api/dev/reload"):
        assert served.get(path).status_code in (403, 404), path


def test_every_answer_has_the_headers(served: Served):
    for path in ("", "config", "theme.css", "gradio_api/info", "nothing-here", "gradio_api/upload", "static/x"):
        headers = served.get(path).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer", path
        assert headers["content-security-policy"].startswith("default-src 'self'; script-src 'self'"), path
        assert (
            headers["x-frame-options"] == "SAMEORIGIN" and "unsafe-inline'; img" in headers["content-security-policy"]
        ), path


def test_scripts_run_by_their_hash_and_a_space_may_frame_the_page():
    policy = SafeHeaders(None, [b"own()"], ["https://huggingface.co"]).policy(["'sha256-abc'"])  # type: ignore[arg-type]
    scripts = next(rule for rule in policy.split("; ") if rule.startswith("script-src"))
    assert "'unsafe-inline'" not in scripts and scripts.endswith("'sha256-abc'") and scripts.count("sha256-") == 2
    assert policy.endswith("frame-ancestors 'self' https://huggingface.co")
    assert SafeHeaders(None).policy().endswith("frame-ancestors 'self'")  # type: ignore[arg-type]


def test_a_name_that_was_pointed_at_this_machine_reaches_nothing(served: Served):
    for host in ("elsewhere.example", "elsewhere.example:7860", "127.0.0.1.elsewhere.example", "[", ""):
        for path in ("", "config", "gradio_api/info"):
            answer = served.client.get(f"{served.url}/{path}", headers={"host": host})
            assert answer.status_code in (400, 403), (host, path)
    port = served.url.rstrip("/").rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "LOCALHOST", f"[::1]:{port}"):
        assert served.client.get(f"{served.url}/config", headers={"host": host}).status_code == 200, host


def test_no_page_is_kept_for_a_deep_link(served: Served):
    index = next(number for number, event in served.app.fns.items() if event.fn is not None)
    body = {"data": [None] * len(served.app.fns[index].inputs), "fn_index": index, "session_hash": "s"}
    served.client.post(f"{served.url}/gradio_api/queue/join", json=body)
    assert served.get("gradio_api/deep_link?session_hash=s").status_code == 404
