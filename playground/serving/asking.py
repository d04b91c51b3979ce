"""The few questions that the supervision asks a server itself, over plain HTTP."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, Literal
from urllib.parse import urlsplit

from playground.serving.reasons import Reason, ServerFailed

TIMEOUT_S = 5.0
MODELS_TIMEOUT_S = 30.0  # the first answer of a server on a full CPU
_MOST_BYTES = 4 << 20


def free_port(wanted: int = 0) -> int:
    """A port of 127.0.0.1 that nobody listens on: `wanted`, if it is free, so that a restart keeps its address."""
    for port in dict.fromkeys((wanted, 0)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerFailed(Reason("port", "No port of 127.0.0.1 is free; end other programs."))


def health(port: int) -> Literal["ok", "dead", "silent"]:
    """Whether the server answers. `dead`: it answers that its engine has ended."""
    try:
        status, _ = _get(f"http://127.0.0.1:{port}/health", None, TIMEOUT_S)
    except (OSError, http.client.HTTPException):
        return "silent"
    return "ok" if status == 200 else "dead"


def models(base_url: str, key: str | None) -> tuple[str, ...]:
    """What is served there, the base first. Raises ServerFailed when the server does not say."""
    try:
        status, body = _get(f"{base_url}/models", key, MODELS_TIMEOUT_S)
        if status == 401:
            raise ServerFailed(Reason("unreachable", f"{base_url} refuses the key; set PLAYGROUND_VLLM_API_KEY."))
        document: Any = json.loads(body) if status == 200 else {}
        found = tuple(str(model["id"]) for model in document["data"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise ServerFailed(
            Reason("unreachable", f"{base_url} does not answer as a vLLM server does ({type(error).__name__}).")
        ) from error
    if not found:
        raise ServerFailed(Reason("unreachable", f"{base_url} serves no model."))
    return found


def _get(url: str, key: str | None, timeout_s: float) -> tuple[int, bytes]:
    """Status and body. http.client follows no redirect and asks no proxy: the key goes to this server alone."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path, headers={"Authorization": f"Bearer {key}"} if key else {})
        answer = connection.getresponse()
        return answer.status, answer.read(_MOST_BYTES)
    finally:
        connection.close()
