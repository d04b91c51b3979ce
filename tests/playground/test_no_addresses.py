"""No visitor names an address that the server then goes to: endpoints are the owner's settings, hub ids are no hosts."""

from __future__ import annotations

import ast
import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from evaluation.errors import UserFacingError
from playground import adapters
from playground.adapter_imports import import_adapter
from playground.settings import Settings

PAGES = Path(adapters.__file__).parent / "pages"
CLIENTS = {
    "httpx",
    "httpx2",
    "requests",
    "urllib.request",
    "openai",
    "aiohttp",
    "socket",
    "huggingface_hub",
    "http.client",
}
ADDRESSES = (
    "http://127.0.0.1:9/x", "http://[::1]/x", "http://169.254.169.254/latest/meta-data", "https://user@10.0.0.1/x", "http://2130706433/x",
    "http://0x7f.1/x", "http://[::ffff:127.0.0.1]/x", "file:///etc/passwd", "ftp://127.0.0.1/x", "//127.0.0.1/x", "\\\\127.0.0.1\\x",
    "hub:http://127.0.0.1/x", "hub:../../x", "hub:a/b/c", "hub:a/..", "hub:@127.0.0.1/x", "a b/c", "hub:org/name?x=1", "hub:org/name#x",
)  # fmt: skip


def imported(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_no_page_holds_a_client_of_the_network():
    """A handler that fetched something would import one; what the pages reach is built by app.py from settings."""
    found = {(file.name, name) for file in PAGES.rglob("*.py") for name in imported(file) & CLIENTS}
    assert found == set()


@pytest.fixture
def nobody_called(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Hosts that somebody looked up or connected to."""
    called: list[str] = []

    def lookup(host: Any, *rest: Any, **more: Any) -> Any:
        called.append(str(host))
        raise OSError("there is no network in this test")

    def connect(self: socket.socket, address: Any) -> None:
        called.append(str(address))
        raise OSError("there is no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr(socket.socket, "connect", connect)
    return called


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_in_place_of_a_hub_id_is_refused_and_not_visited(
    address: str, tmp_path: Path, nobody_called: list[str]
):
    settings = Settings.model_construct(home=tmp_path, hf_token=SecretStr("t"))
    with pytest.raises(UserFacingError):
        import_adapter(settings, address, "mine")
    with pytest.raises(UserFacingError):
        adapters.push(settings, "general", address)
    assert nobody_called == []
