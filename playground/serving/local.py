"""Which server there is here, by the settings: one of the app's own, or those that somebody else runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evaluation.errors import UserFacingError
from playground.serving.remote import RemoteServers
from playground.serving.server import Adapters, Base, VllmServer
from playground.serving.state import Server
from playground.serving.watched import Report
from playground.settings import Settings

EMBEDDED = "embedded"


def vllm_server(settings: Settings) -> VllmServer | RemoteServers:
    """The server by these settings. Nothing is started or asked yet."""
    if settings.vllm_url:
        return RemoteServers(settings)
    return VllmServer(settings, base_of(settings))


@contextmanager
def running_server(settings: Settings, report: Report = lambda words: None) -> Iterator[Server]:
    """A server that answers, for the length of the block; one of our own is ended after it.

    `report` gets the progress of the start in words. Raises ServerFailed when there is none.
    """
    server = vllm_server(settings)
    server.start()
    try:
        yield server.wait_ready(report)
    finally:
        server.close()


def base_of(settings: Settings) -> Base:
    """What the app's own server holds: the embedded model under the id `base`, others under their own id."""
    if settings.vllm_model == EMBEDDED:
        return Base("base", lambda report: _embedded(settings, report), lambda: adapters_of(settings))
    return Base(settings.vllm_model, lambda report: _checkpoint(settings))


def adapters_of(settings: Settings) -> Adapters:
    """The adapters of the embedded model, each read as strictly as the transformers engine reads it.

    One that cannot be used is left out with its reason: vLLM would not start at all.
    """
    from playground import catalog
    from playground.engine.adapters import read_adapter

    folders: dict[str, Path] = {}
    ranks: dict[str, int] = {}
    left_out: list[str] = []
    for name, folder in catalog.adapters(settings).items():
        try:
            ranks[name] = read_adapter(folder, name).rank
            folders[name] = folder.resolve()
        except UserFacingError as error:
            left_out.append(str(error))
    return Adapters(folders, ranks, tuple(left_out))


def _embedded(settings: Settings, report: Report) -> Path:
    from training.embedded import ensure_embedded

    return ensure_embedded(settings.home, report).resolve()


def _checkpoint(settings: Settings) -> Path:
    from training.hub import fetch_model

    kind, _, name = settings.vllm_model.partition(":")
    if kind == "path":
        return Path(name).expanduser().resolve()
    return fetch_model(name, settings.hf_token.get_secret_value() if settings.hf_token else None)
