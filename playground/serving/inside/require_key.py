"""An ASGI middleware that a vLLM server loads (`--middleware require_key.RequireKey`), in vLLM's own environment.

vLLM asks for its key below /v1 only: in 0.32, POST /invocations generates and POST /adapters loads an adapter from any
folder for everybody who can reach the port. Here everything needs the key but what says whether the server lives.
Standard library only; nothing of this project is imported there.
"""

from __future__ import annotations

import hmac
import os
from typing import Any

OPEN = ("/health", "/metrics", "/ping", "/version")  # none of them tells a prompt or a reply


class RequireKey:
    """Answers 401 unless the request carries `Authorization: Bearer` with VLLM_API_KEY."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._wanted = f"Bearer {os.environ['VLLM_API_KEY']}".encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" or scope["path"] in OPEN or self._has_key(scope):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        body = b'{"error": "Unauthorized"}'
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _has_key(self, scope: Any) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._wanted)
