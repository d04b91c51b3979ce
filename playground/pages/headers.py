"""The HTTP headers of every answer, and the doors of Gradio that are shut because no page uses them: uploads, and addresses.

What a model or a visitor wrote is escaped before it reaches the page (markup.py). The policy here is the second line:
should some text become an element all the same, the browser runs no script of it and asks no other host for it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Where a Space is shown in a frame.
SPACE_FRAMES = ("https://huggingface.co", "https://*.hf.space")

# Gradio serves these to anybody. No page takes a file, a recording or another server's answer, so an upload could only
# fill the disk and a proxy could only reach further than its caller. A deep link keeps a session's fields on the disk and fills in another's. `file=` may name a file that was made for a download;
# with an address in its place Gradio would fetch that. run/, api/ and call/ lead to a handler past the queue that the page uses.
_SHUT = re.compile(
    r"/gradio_api/(upload|deep_link|proxy=|process_recording|stream/|vibe-|component_server|dev/|run-history|run/|api/|call/|file/|file=(?!/(?!/)))"
)
MOST_BODY = 1 << 20  # bytes of a request: the longest question, and all else that a page sends, is a fraction of it
_INLINE_SCRIPT = re.compile(rb"<script(?P<attributes>[^>]*)>(?P<body>.*?)</script>", re.DOTALL | re.IGNORECASE)


def safe_headers(
    head_paths: Iterable[Path], *, space: bool | None = None, hosts: Iterable[str] = ()
) -> list[Middleware]:
    """The middleware, for `launch(app_kwargs={"middleware": ...})`.

    `head_paths`: what the page adds to its head; the scripts in it may run. `space`: whether Hugging Face shows the
    page in a frame; None looks for SPACE_ID. `hosts`: the names by which the app may be asked; none of them: any.
    """
    own = [script for path in head_paths for script in _inline_scripts(path.read_bytes())]
    on_space = "SPACE_ID" in os.environ if space is None else space
    return [Middleware(SafeHeaders, scripts=own, frames=SPACE_FRAMES if on_space else (), hosts=hosts)]


class SafeHeaders:
    """ASGI middleware: adds the headers, and answers 404 where a door is shut."""

    def __init__(
        self, app: ASGIApp, scripts: Iterable[bytes] = (), frames: Iterable[str] = (), hosts: Iterable[str] = ()
    ) -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._scripts = [_hashed(script) for script in scripts]
        self._frames = tuple(frames)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._hosts and _host(scope) not in self._hosts:
            # The browser takes a page elsewhere whose name was pointed at this machine for a page of ours.
            await self._refuse(
                send, 403, "This app is for this machine alone; docs/deploy.md says how to serve others."
            )
            return
        if _SHUT.search(scope["path"]):
            await self._refuse(send, 404, "There is nothing here.")
            return
        if scope["method"] in ("POST", "PUT", "PATCH"):
            body = await _whole_body(receive)
            if body is None:
                await self._refuse(send, 413, f"The request is longer than {MOST_BODY >> 10} KiB.")
                return
            if _names_a_file(body):
                await self._refuse(send, 400, "No page takes a file.")
                return
            receive = _again(body, receive)
        begun: Message | None = None
        page = b""

        async def with_headers(message: Message) -> None:
            nonlocal begun, page
            if message["type"] == "http.response.start":
                if _is_html(message):
                    begun = message  # its headers name the scripts in the body, so they wait for it
                else:
                    await send({**message, "headers": [*_others(message), *self._headers([])]})
            elif begun is None:
                await send(message)
            else:
                page += message.get("body", b"")
                if not message.get("more_body"):
                    scripts = [_hashed(script) for script in _inline_scripts(page)]
                    await send({**begun, "headers": [*_others(begun), *self._headers(scripts)]})
                    await send({**message, "body": page})

        await self._app(scope, receive, with_headers)

    async def _refuse(self, send: Send, status: int, words: str) -> None:
        headers = [(b"content-type", b"text/plain; charset=utf-8"), *self._headers([])]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": words.encode()})

    def _headers(self, scripts: list[str]) -> list[tuple[bytes, bytes]]:
        headers = {
            "content-security-policy": self.policy(scripts),
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
            "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
        }
        if not self._frames:
            headers["x-frame-options"] = "SAMEORIGIN"  # for browsers that do not know frame-ancestors
        return [(name.encode(), value.encode()) for name, value in headers.items()]

    def policy(self, scripts: Iterable[str] = ()) -> str:
        """The Content-Security-Policy of a page in which the scripts with these hashes stand.

        Two concessions to Gradio 6: it makes functions out of text ('unsafe-eval': our own `js=` handlers and templates)
        and writes style elements ('unsafe-inline' for styles). Scripts in the text of the page run only by their hash,
        and handlers in attributes, such as onerror, never.
        """
        rules = {
            "default-src": ["'self'"],
            "script-src": ["'self'", "'unsafe-eval'", *dict.fromkeys([*self._scripts, *scripts])],
            "style-src": ["'self'", "'unsafe-inline'"],
            "img-src": ["'self'", "data:", "blob:"],
            "font-src": ["'self'", "data:"],
            "connect-src": ["'self'"],
            "media-src": ["'self'", "blob:"],
            "worker-src": ["'self'", "blob:"],
            "frame-src": ["'none'"],
            "object-src": ["'none'"],
            "base-uri": ["'self'"],
            "form-action": ["'self'"],
            "frame-ancestors": ["'self'", *self._frames],
        }
        return "; ".join(f"{name} {' '.join(sources)}" for name, sources in rules.items())


def _host(scope: Scope) -> str | None:
    """The name that the request asks for, without the port; None where it is not told once."""
    told = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    try:
        return urlsplit(f"//{told[0]}").hostname if len(told) == 1 else None
    except ValueError:
        return None


async def _whole_body(receive: Receive) -> bytes | None:
    """The request's body, or None where it is longer than MOST_BODY."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MOST_BODY:
            return None
        if not message.get("more_body"):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """What has been received, to be received once more; then what comes after it."""
    given = False

    async def first_the_body() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return first_the_body


def _names_a_file(body: bytes) -> bool:
    """Whether a file is described in it. Gradio takes one in any field of any event, and fetches it where it is an address."""
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):  # a form, or what Gradio will refuse
        return False
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "path" in value and "meta" in value:
                return True
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False


def _is_html(message: Message) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in message["headers"])


def _others(message: Message) -> list[tuple[bytes, bytes]]:
    """The answer's own headers without those that are set here. The length stays: the body is not changed."""
    ours = (b"content-security-policy", b"x-content-type-options", b"referrer-policy", b"x-frame-options")
    return [(name, value) for name, value in message["headers"] if name.lower() not in ours]


def _inline_scripts(page: bytes) -> list[bytes]:
    """The text of each script that stands in the page itself."""
    found = _INLINE_SCRIPT.finditer(page)
    return [match["body"] for match in found if b"src=" not in match["attributes"].lower()]


def _hashed(script: bytes) -> str:
    """A script as a policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'"
