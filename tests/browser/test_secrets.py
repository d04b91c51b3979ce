"""Planted keys: an endpoint echoes them in every error, and nowhere that is written, sent or logged are they found."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evaluation.judge.openai_judge import OpenAIJudge
from playground.engine.endpoint import EndpointEngine
from playground.pages import build_app, launch_options
from playground.pages.text import say
from playground.settings import load_settings
from tests.browser.conftest import Person, Served
from tests.fakes import fake_services
from tests.openai_server import Behaviour, OpenAIServer, malformed, redirect, status

ROOT = Path(__file__).parents[2]
Visit = Callable[..., Person]
# Of no form that is known, so that only our own care hides them, and of the usual form.
CANARIES = {
    "PLAYGROUND_OPENAI_API_KEY": "canary-openai-7f3a91c2d4",
    "HF_TOKEN": "hf_CanaryTokenOfTheHub0123456789",
    "PLAYGROUND_VLLM_API_KEY": "canary-vllm-55aa0c1b2e",
    "PLAYGROUND_JUDGE_API_KEY": "sk-canaryOfTheJudge0123456789abcd",
}
KEY = CANARIES["PLAYGROUND_OPENAI_API_KEY"]


def echoes() -> list[Behaviour]:
    """Errors that repeat the header they were sent, and keys of the usual form that a server may know of itself."""
    others = f"{CANARIES['HF_TOKEN']} / {CANARIES['PLAYGROUND_JUDGE_API_KEY']}"
    said = f"Incorrect API key provided: {KEY}. You sent 'Authorization: Bearer {KEY}' ({others})."
    return [
        *(
            status(code, message=said, type=said, code=said, param=said)
            for code in (400, 401, 403, 404, 413, 422, 429, 500, 503)
        ),
        redirect(f"https://elsewhere.example/?key={KEY}"),
        malformed(said.encode()),
    ]


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """The keys in the environment, and the endpoint that echoes them."""
    with OpenAIServer(echoes() * 20, models=("echo",)) as server:
        for name, value in CANARIES.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PLAYGROUND_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("PLAYGROUND_OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("PLAYGROUND_OPENAI_MODELS", "echo")
        monkeypatch.setenv("PLAYGROUND_JUDGE_MODEL", "echo")
        monkeypatch.chdir(tmp_path)  # no .env of this machine
        yield server


def found_in(place: str, content: str) -> list[str]:
    return [f"{name} in {place}" for name, value in CANARIES.items() if value in content]


def found_under(folder: Path) -> list[str]:
    """Canaries in the names and contents of all files."""
    found = []
    for file in folder.rglob("*"):
        found += found_in(str(file), str(file))
        if file.is_file():
            found += found_in(str(file), file.read_bytes().decode("utf-8", "ignore"))
    return found


def test_no_key_reaches_a_file_a_log_the_page_or_the_browser(
    planted: OpenAIServer,
    visit: Visit,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
):
    caplog.set_level(logging.INFO)  # as app.py sets it; below that the libraries log whole requests
    settings = load_settings()
    assert settings.openai_key == KEY
    engine = EndpointEngine(planted.url, settings.openai_key, ["echo"], attempts=1)
    services = fake_services(settings.home, engine, [])  # type: ignore[arg-type]
    services.judges["openai:echo"] = lambda: OpenAIJudge(
        "echo", base_url=planted.url, api_key=KEY, sleep=lambda _: None
    )  # type: ignore[index]
    object.__setattr__(services, "settings", settings)
    app = build_app(services)
    _, url, _ = app.launch(**launch_options(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True))
    seen: list[str] = []
    try:
        person = visit(Served(url, services, engine))  # type: ignore[arg-type]
        page = person.page

        def keep(answer: Any) -> None:
            seen.append(f"{answer.url} {answer.headers}")
            kind = answer.headers.get("content-type", "")
            if "event-stream" not in kind and any(part in kind for part in ("json", "html", "text")):
                seen.append(answer.text())

        page.on("requestfinished", lambda request: keep(request.response()))
        person.open()
        for _ in range(len(echoes())):
            person.ask("鍵を見せてください")
            page.wait_for_selector("#send", state="visible")
            seen.append(page.content())
        for tab in ("tab.browse", "tab.history", "tab.quality", "tab.train", "tab.bench"):
            person.tab(say("ja", tab))
            page.wait_for_timeout(500)
            seen.append(page.content())
        for path in ("config", "gradio_api/info", "gradio_api/startup-events", ""):
            seen.append(page.request.get(f"{url}{path}").text())
        seen.append(json.dumps(page.evaluate("({...localStorage, ...sessionStorage})")))
        assert person.page.context.cookies() is not None
    finally:
        app.close(verbose=False)
        services.store.close()
    assert len(planted.requests) > 5 and planted.requests[0].authorization == f"Bearer {KEY}"
    out, err = capfd.readouterr()
    found = found_under(tmp_path) + found_in("the log", caplog.text) + found_in("stdout", out) + found_in("stderr", err)
    for number, content in enumerate(seen):
        found += found_in(f"what the browser was sent ({number})", content)
    assert found == []


def call(*arguments: str) -> str:
    """A command of the program with this environment; returns all that it said."""
    done = subprocess.run(
        [sys.executable, "-m", "playground", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return f"{done.returncode}\n{done.stdout}\n{done.stderr}"


def test_no_key_reaches_what_the_commands_say_and_write(planted: OpenAIServer, tmp_path: Path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "a", "reference": "b"}\n{"question": "c", "reference": "d"}\n')
    said = [call("data", "import", str(rows), "--as", "mine"), call("doctor")]
    said.append(call("bench", "--suite", "mine", "--models", "openai:echo", "--judge", "openai:echo", "--json"))
    planted.behaviours = []
    said.append(call("bench", "--suite", "mine", "--models", "openai:echo", "--judge", "openai:echo"))
    planted.behaviours = echoes() * 5
    runs = sorted(path.name for path in (tmp_path / "home" / "runs").iterdir() if path.name[0] != ".")
    said += [
        call("judge", runs[-1], "--judge", "openai:echo"),
        call("report", *runs, "--html", str(tmp_path / "report.html")),
    ]
    said += [
        call("export", *runs, "--format", "csv", "--out", str(tmp_path / "exported")),
        call("runs", "list"),
        call("ask", "a", "--left", "openai:echo", "--right", "openai:echo"),
    ]
    assert planted.requests and len(runs) == 2
    assert found_under(tmp_path) + [where for text in said for where in found_in("what a command said", text)] == []
