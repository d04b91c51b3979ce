"""A local OpenAI-compatible chat server with scripted faults, for tests of whatever speaks that API.

    with OpenAIServer(behaviours=[status(429, retry_after=1), reset()], reply=lambda body: "評価：[[4]]") as server:
        ...ask server.url...
    assert len(server.requests) == 3 and server.disconnects == 0

Each chat request takes the next behaviour; when they are used up, every request is answered with `reply(body)`.
`refuses` names request parameters that are always answered 400, as servers without them do.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

Kind = Literal["ok", "status", "hang", "reset", "drip", "body", "empty_choices", "refusal"]


@dataclass(frozen=True)
class Behaviour:
    """What to do with one request. Made by the functions below."""

    kind: Kind = "ok"
    text: str | None = None  # instead of reply(body)
    finish_reason: str = "stop"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""
    content_type: str = "application/json"
    after_chunks: int | None = None  # streams: cut the connection after so many
    usage: dict[str, Any] | None = field(
        default_factory=lambda: {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    )


def ok(text: str | None = None, finish_reason: str = "stop", usage: dict[str, Any] | None = None) -> Behaviour:
    """A reply; `usage` replaces the reported token counts."""
    return Behaviour(text=text, finish_reason=finish_reason, **({"usage": usage} if usage is not None else {}))


def without_usage(text: str | None = None) -> Behaviour:
    """A reply that does not report tokens."""
    return Behaviour(text=text, usage=None)


def status(http_status: int, retry_after: str | float | None = None, **error: Any) -> Behaviour:
    """An HTTP status with an OpenAI error body, for example `status(429, code="insufficient_quota")`."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Behaviour(
        "status",
        status=http_status,
        headers=headers,
        error={"message": f"status {http_status}", "type": "test"} | error,
    )


def redirect(location: str, code: int = 307) -> Behaviour:
    """A redirect to `location`."""
    return Behaviour("status", status=code, headers={"Location": location})


def hang() -> Behaviour:
    """Never answer; ends when the client leaves or the server closes."""
    return Behaviour("hang")


def reset(after_chunks: int | None = None) -> Behaviour:
    """Cut the connection with a TCP reset: at once, or in a stream after some chunks."""
    return Behaviour("reset") if after_chunks is None else Behaviour(after_chunks=after_chunks)


def drip() -> Behaviour:
    """Send a valid head, then a blank every 50 ms for ever."""
    return Behaviour("drip")


def malformed(body: bytes = b'{"choices": [{"mess', content_type: str = "application/json") -> Behaviour:
    """A 200 whose body is not a chat completion."""
    return Behaviour("body", body=body, content_type=content_type)


def truncated() -> Behaviour:
    """A 200 that announces more bytes than it sends."""
    return Behaviour("body", body=b'{"id": "cut', headers={"Content-Length": "5000"})


def empty_choices() -> Behaviour:
    """A chat completion without any choice."""
    return Behaviour("empty_choices")


def refusal(text: str = "I can't help with that.") -> Behaviour:
    """A reply with `message.refusal` set and no content."""
    return Behaviour("refusal", text=text)


@dataclass(frozen=True)
class Request:
    """One request as received. Header names are lower case."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Python's 5 would drop connections of a client that opens dozens at once, which then wait for a retransmission.
    request_queue_size = 256


class OpenAIServer:
    """Serves `POST /v1/chat/completions` (also as a stream) and `GET /v1/models` on 127.0.0.1 while the context is open.

    `url` ends in /v1. `requests` and `disconnects` (clients that left early) may be read at any time.
    `chunk_delay`: seconds between two chunks of a stream. A stream sends its reply in pieces of `chunk_characters`.
    """

    def __init__(
        self,
        behaviours: Sequence[Behaviour] = (),
        reply: Callable[[dict[str, Any]], str] = lambda body: "Hello.",
        *,
        refuses: Sequence[str] = (),
        models: Sequence[str] = ("test-model",),
        chunk_delay: float = 0.0,
        chunk_characters: int = 4,
    ) -> None:
        self.behaviours = list(behaviours)
        self.reply, self.refuses, self.models = reply, tuple(refuses), tuple(models)
        self.chunk_delay, self.chunk_characters = chunk_delay, chunk_characters
        self.port = 0  # any that is free
        self.requests: list[Request] = []
        self.disconnects = 0
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        server = self

        class Handler(self.handler):  # type: ignore[misc, name-defined]
            owner = server

        self._http = _Server(("127.0.0.1", self.port), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    @property
    def handler(self) -> type[_Handler]:
        """What answers; a server with more paths has its own."""
        return _Handler

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def wait_for(self, condition: Callable[[], bool], seconds: float = 5.0) -> bool:
        """Poll `condition` until it holds; False when it never does. For what happens in the server's threads."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _take(self, request: Request) -> Behaviour:
        with self._lock:
            self.requests.append(request)
            for name in self.refuses:
                if name in request.body:
                    return status(
                        400, message=f"Unsupported parameter: '{name}'", param=name, code="unsupported_parameter"
                    )
            return self.behaviours.pop(0) if self.behaviours else Behaviour()

    def _enter(self, step: int) -> None:
        with self._lock:
            self._at_once += step
            self.most_at_once = max(self.most_at_once, self._at_once)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: OpenAIServer

    def log_message(self, *_: object) -> None:
        """Stay silent: the tests' output is for the tests."""

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            self._json(404, {"error": {"message": "no such path"}})
            return
        self._json(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.owner.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        behaviour = self.owner._take(request)
        if self.path != "/v1/chat/completions":
            self._json(404, {"error": {"message": "no such path"}})
            return
        self.owner._enter(+1)
        try:
            self._answer(request, behaviour)
        except (BrokenPipeError, ConnectionResetError):
            self._left()
        finally:
            self.owner._enter(-1)

    def _answer(self, request: Request, behaviour: Behaviour) -> None:
        text = behaviour.text or ""
        if behaviour.kind == "ok" and behaviour.text is None:
            text = self.owner.reply(request.body)
        match behaviour.kind:
            case "ok" if request.body.get("stream"):
                self._stream(request, behaviour, text)
            case "ok":
                self._completion({"role": "assistant", "content": text}, behaviour)
            case "refusal":
                self._completion({"role": "assistant", "content": None, "refusal": text}, behaviour)
            case "empty_choices":
                self._json(200, {"object": "chat.completion", "choices": []})
            case "status":
                self._json(behaviour.status, {"error": behaviour.error}, behaviour.headers)
            case "body":
                head = {"Content-Length": str(len(behaviour.body)), "Content-Type": behaviour.content_type}
                self._head(200, head | behaviour.headers)
                self.wfile.write(behaviour.body)
                self.close_connection = True
            case "hang":
                self._pause(None)
            case "drip":
                self._head(200, {"Content-Type": "application/json", "Content-Length": "1000000"})
                while self._pause(0.05):
                    self.wfile.write(b" ")
            case "reset":
                self._reset()

    def _completion(self, message: dict[str, Any], behaviour: Behaviour) -> None:
        choice = {"index": 0, "message": message, "finish_reason": behaviour.finish_reason, "logprobs": None}
        completion = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "test-model"}
        usage = {} if behaviour.usage is None else {"usage": behaviour.usage}
        self._json(200, completion | {"choices": [choice]} | usage)

    def _stream(self, request: Request, behaviour: Behaviour, text: str) -> None:
        self._head(200, {"Content-Type": "text/event-stream", "Connection": "close"})
        self.close_connection = True
        size = self.owner.chunk_characters
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        for number, piece in enumerate(pieces):
            if behaviour.after_chunks == number:
                self._reset()
                return
            delta = {"content": piece} | ({"role": "assistant"} if number == 0 else {})
            self._event([{"index": 0, "delta": delta, "finish_reason": None}])
            if not self._pause(self.owner.chunk_delay):
                return
        if behaviour.after_chunks is not None:
            self._reset()
            return
        self._event([{"index": 0, "delta": {}, "finish_reason": behaviour.finish_reason}])
        if (request.body.get("stream_options") or {}).get("include_usage") and behaviour.usage is not None:
            self._event([], usage=behaviour.usage)
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> None:
        chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "test-model"}
        event = json.dumps(chunk | {"choices": choices} | more, ensure_ascii=False)
        self.wfile.write(f"data: {event}\n\n".encode())
        self.wfile.flush()

    def _pause(self, seconds: float | None) -> bool:
        """Wait (None: for ever). False when the client left, which is counted, or the server closes."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self.owner._closing.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable and not _peek(self.connection):
                self._left()
                return False
            left = 0.02 if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return True
            time.sleep(min(left, 0.02))
        self.close_connection = True
        return False

    def _left(self) -> None:
        self.close_connection = True
        with self.owner._lock:
            self.owner.disconnects += 1

    def _reset(self) -> None:
        """Close with a TCP reset instead of a goodbye: SO_LINGER with a timeout of 0."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()
        self.close_connection = True

    def _head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _json(self, code: int, value: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value, ensure_ascii=False).encode()
        self._head(code, {"Content-Type": "application/json", "Content-Length": str(len(body))} | (headers or {}))
        self.wfile.write(body)


def _peek(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1, socket.MSG_PEEK)
    except OSError:
        return b""
