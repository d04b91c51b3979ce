"""A local server shaped like the Hugging Face hub: what huggingface_hub asks when a model is pushed and fetched again.

    with HubServer(token="hf_write") as hub:
        hub.stands_in(monkeypatch)  # for huggingface_hub.HfApi and snapshot_download without an endpoint of their own
        ...push, fetch...
    assert hub.repositories["org/name"].private

Weights go the way of git-lfs (batch, PUT, verify), everything else inside the commit; Xet, which the client prefers
where the hub offers it, is switched off. Fetching needs the token too, as from a private repository.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import pytest


@dataclass
class Repository:
    """What the hub keeps of one model."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)  # titles

    @property
    def sha(self) -> str:
        """The newest commit."""
        return hashlib.sha1(repr((self.commits, sorted(self.files))).encode()).hexdigest()


class HubServer:
    """The server. `writes` is False for a token that may only read."""

    def __init__(self, token: str, *, writes: bool = True) -> None:
        self.token, self.writes = token, writes
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}  # by sha256, as git-lfs has them
        self.asked: list[tuple[str, str]] = []  # (method, path)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stands_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let huggingface_hub take this for the hub."""
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: Any) -> None:
        """Nothing on the screen."""

    def do_HEAD(self) -> None:
        self._fetch()

    def do_GET(self) -> None:
        self._fetch()

    def do_PUT(self) -> None:  # its address is the permission, as with a signed one
        body, oid = self._body(), self._path().rpartition("/")[2]
        whole = hashlib.sha256(body).hexdigest() == oid
        if whole:
            self.hub.stored[oid] = body
        self._answer({}, 200 if whole else 400)

    def do_POST(self) -> None:
        body, path = self._body(), self._path()
        if not self._may(writing=True):
            return
        match path.strip("/").split("/"):
            case ["api", "repos", "create"]:
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                there = name in self.hub.repositories
                self.hub.repositories.setdefault(name, Repository(asked.get("visibility") == "private"))
                self._answer({"url": f"{self.hub.url}/{name}"}, 409 if there else 200)
            case ["api", "validate-yaml"]:
                said = json.loads(body)["content"].startswith("---\n")
                self._answer({"errors": [], "warnings": [] if said else [{"message": "no metadata"}]})
            case ["api", "models", *name, "preupload", "main"] if self._repository(name):
                files = [self._planned(file["path"]) for file in json.loads(body)["files"]]
                self._answer({"files": files})
            case [_, _, "info", "lfs", "objects", "batch"]:
                self._answer({"transfer": "basic", "objects": [self._upload(o) for o in json.loads(body)["objects"]]})
            case ["lfs", "verify"]:
                asked = json.loads(body)
                self._answer({}, 200 if len(self.hub.stored.get(asked["oid"], b"")) == asked["size"] else 404)
            case ["api", "models", *name, "commit", "main"] if repository := self._repository(name):
                for line in body.decode().splitlines():
                    self._commit(repository, json.loads(line))
                self._answer({"commitUrl": f"{self.hub.url}/{'/'.join(name)}", "commitOid": repository.sha})
            case _:
                self._answer({"error": "Repository not found"}, 404, **{"X-Error-Code": "RepoNotFound"})

    @staticmethod
    def _planned(path: str) -> dict[str, Any]:
        mode = "lfs" if path.endswith(".safetensors") else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False}

    def _upload(self, wanted: dict[str, Any]) -> dict[str, Any]:
        put, verify = f"{self.hub.url}/lfs/objects/{wanted['oid']}", f"{self.hub.url}/lfs/verify"
        return {**wanted, "actions": {"upload": {"href": put}, "verify": {"href": verify}}}

    def _commit(self, repository: Repository, line: dict[str, Any]) -> None:
        value = line["value"]
        if line["key"] == "header":
            repository.commits.append(value["summary"])
        elif line["key"] == "file":
            repository.files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            repository.files[value["path"]] = self.hub.stored[value["oid"]]

    def _fetch(self) -> None:
        path = self._path()
        if not self._may(writing=False):
            return
        match path.strip("/").split("/"):
            case ["api", "models", organization, name, "tree", _] if found := self._repository([organization, name]):
                self._answer([{"type": "file", **self._file(*one)} for one in found.files.items()])
            case ["api", "models", organization, name, *_] if found := self._repository([organization, name]):
                files = [{"rfilename": path, "size": len(content)} for path, content in found.files.items()]
                said = {"id": f"{organization}/{name}", "private": found.private, "tags": [], "downloads": 0}
                self._answer({**said, "sha": found.sha, "siblings": files})
            case [organization, name, "resolve", _, file] if (
                found := self._repository([organization, name])
            ) and file in found.files:
                content = found.files[file]
                etag = f'"{hashlib.sha256(content).hexdigest()}"'
                self._answer(content, **{"ETag": etag, "X-Repo-Commit": found.sha})
            case _:
                self._answer({"error": "Repository not found"}, 404, **{"X-Error-Code": "RepoNotFound"})

    @staticmethod
    def _file(path: str, content: bytes) -> dict[str, Any]:
        return {"path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def _repository(self, name: list[str]) -> Repository | None:
        return self.hub.repositories.get("/".join(name))

    def _may(self, *, writing: bool) -> bool:
        """Whether the token is ours and may do this; if not, that is answered."""
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._answer({"error": "Invalid username or password."}, 401)
            return False
        if writing and not self.hub.writes:
            self._answer({"error": "Forbidden: this token may not write."}, 403)
            return False
        return True

    def _path(self) -> str:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        return path

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, content: Any, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
