"""`make space` hands a hub every committed file and nothing else; the hub is a stand-in that keeps what it is given."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GONE = "of-an-earlier-upload.txt"
COMMIT = "1" * 40


class Hub(ThreadingHTTPServer):
    """What the hub's client asks of a Space when files are uploaded; all of them go into the commit itself."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.kept: dict[str, bytes] = {}
        self.deleted: list[str] = []
        self.tokens: set[str | None] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        if "/tree/" in self.path:
            self._say([{"type": "file", "path": GONE, "size": 1, "oid": "0" * 40}])
        else:
            self._say({"id": "me/space", "sha": "0" * 40, "private": False, "sdk": "gradio", "siblings": []})

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.tokens.add(self.headers.get("Authorization"))
        if "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(sent)["files"]]
            self._say({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
        elif "/commit/" in self.path:
            for line in map(json.loads, sent.splitlines()):
                if line["key"] == "file":
                    self.server.kept[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    self.server.deleted.append(line["value"]["path"])
            where = f"{self.server.url}/spaces/me/space/commit/{COMMIT}"
            self._say({"commitUrl": where, "commitOid": COMMIT, "pullRequestUrl": None, "success": True})
        elif "/repos/create" in self.path:
            self._say(
                {"error": "You already created this space repo", "url": f"{self.server.url}/spaces/me/space"}, 409
            )
        else:
            self._say({"warnings": [], "errors": []})

    def _say(self, answer: object, status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *values: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def make_space(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    venv = Path(sys.prefix)
    return subprocess.run(
        ["make", "space", f"VENV={venv}", *arguments],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_every_committed_file_is_uploaded_and_what_is_gone_is_deleted(hub: Hub):
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("this is no git checkout, or not this user's")
    done = make_space("SPACE=me/space", HF_ENDPOINT=hub.url, HF_TOKEN="hf_planted", HF_HUB_DISABLE_XET="1")
    assert done.returncode == 0, done.stdout + done.stderr
    committed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "-z", "HEAD"], cwd=ROOT, capture_output=True, check=True
    )
    assert set(hub.kept) == {name.decode() for name in committed.stdout.split(b"\0") if name}
    assert hub.deleted == [GONE] and hub.tokens == {"Bearer hf_planted"}
    assert hub.kept["README.md"].startswith(b"---\ntitle:")
    assert not (Path(sys.prefix) / "space").exists()


def test_a_space_has_to_be_named():
    done = make_space()
    assert done.returncode != 0 and "make space SPACE=you/its-name" in done.stdout
