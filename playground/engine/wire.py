"""One HTTP call to a server of one's own: streamed, cheap enough for hundreds at once, hung up on at any moment.

The OpenAI client builds objects for each streamed token, which costs several times the reading of its line; where many
servers stream to one process that is what limits it. Redirects are not followed, so the key stays with its server.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx2

from evaluation.judge.endpoint import origin_of, redacted, retry_after_s

CONNECT_S = 10.0
READ_S = 300.0  # between two pieces; the first may wait for a long queue
QUICK_S = 3.0  # for questions about the server itself, also to connect
_LONGEST_LINE = 1 << 22
_LONGEST_BODY = 1 << 24


class Refused(Exception):
    """The server answered with another status than 200. `told` is its own reason, on one line."""

    def __init__(self, status: int, told: str, retry_after: float | None = None) -> None:
        super().__init__(f"HTTP {status}: {told}")
        self.status, self.told, self.retry_after = status, told, retry_after


class Unreachable(Exception):
    """There is no connection to the server; nothing was asked."""


class HungUp(Exception):
    """We ended the call ourselves."""


# What a broken connection, or a server that is none, raises while a call is made.
BROKEN = (OSError, http.client.HTTPException, ValueError)


@dataclass(frozen=True)
class Address:
    """Where a server is. `base_url` ends in /v1; `key` goes to its origin and nowhere else."""

    base_url: str
    key: str | None = field(default=None, repr=False)

    @property
    def origin(self) -> str:
        """`scheme://host:port`. Raises SettingsRejected for anything but a plain http(s) address."""
        return origin_of(self.base_url)


@cache
def _certificates() -> ssl.SSLContext:
    return ssl.create_default_context()


class Call:
    """One call, made once. `hang_up` ends it from any other thread, which makes a vLLM server drop the request."""

    def __init__(self, address: Address, timeout_s: float = READ_S) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._socket: socket.socket | None = None
        self._gone = threading.Event()

    def hang_up(self) -> None:
        """End the call. Calling it again, or before the call is made, is fine."""
        self._gone.set()
        found = self._socket
        if found is not None:
            with suppress(OSError):  # it is closed already
                found.shutdown(socket.SHUT_RDWR)  # closing would not wake the thread that reads

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Post `body` and yield each event of the streamed answer. Raises Refused, Unreachable, HungUp, BROKEN."""
        with self._answer("POST", path, body) as answer:
            while line := answer.readline(_LONGEST_LINE):
                if not line.startswith(b"data:"):
                    continue  # blank lines between events, comments that keep the connection
                data = line[5:].strip()
                if data == b"[DONE]":
                    return
                event = json.loads(data)
                if not isinstance(event, dict):
                    raise ValueError("an event is no object")
                yield event

    def json(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Post `body`, or get where there is none; the JSON that comes back. Raises as `events` does."""
        return json.loads(self.text(path, body))

    def text(self, path: str, body: Mapping[str, Any] | None = None) -> str:
        """`json` without reading it as JSON."""
        with self._answer("GET" if body is None else "POST", path, body) as answer:
            return answer.read(_LONGEST_BODY).decode("utf-8")

    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None) -> http.client.HTTPResponse:
        """`path` follows base_url where it begins with no slash, and the server's root where it does."""
        parts = urlsplit(self._address.base_url)
        connect_s = min(CONNECT_S, self._timeout_s)
        # Not named by scheme only: the class for TLS is the other's child.
        connection = (
            http.client.HTTPSConnection(parts.netloc, timeout=connect_s, context=_certificates())
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.netloc, timeout=connect_s)
        )
        try:
            connection.connect()
        except BROKEN as problem:
            raise Unreachable(type(problem).__name__) from problem
        self._socket = connection.sock
        try:
            if self._gone.is_set():
                raise HungUp
            connection.sock.settimeout(self._timeout_s)
            headers = {"Accept": "application/json", "Connection": "close"}
            if self._address.key:
                headers["Authorization"] = f"Bearer {self._address.key}"
            data = None
            if body is not None:
                headers["Content-Type"] = "application/json"
                data = json.dumps(body, ensure_ascii=False).encode()
            prefix = "" if path.startswith("/") else f"{parts.path.rstrip('/')}/"
            connection.request(method, prefix + path, data, headers)
            answer = connection.getresponse()  # which keeps the connection's socket from now on
            if answer.status != 200:
                with answer:
                    raise Refused(
                        answer.status,
                        _told(answer.read(_LONGEST_LINE), self._address.key),
                        retry_after_s(httpx2.Headers(answer.getheaders())),
                    )
        except BaseException:
            connection.close()
            raise
        return answer


def _told(body: bytes, key: str | None) -> str:
    """The reason in an error's body, on one line of at most 300 characters, without the key or anything like one."""
    try:
        document = json.loads(body)
        error = document.get("error", document)
        message = error.get("message", "") if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        message = ""
    return redacted(str(message), key)[:300]
