"""vLLM servers as the engine of the embedded model: opened when first asked, adapters brought in as they come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.errors import ModelUnavailable, UserFacingError
from evaluation.types import ModelIdentity
from playground.engine.loading import Loading, LoadState
from playground.engine.protocol import Chunk, GenerationRequest
from playground.engine.router import adapter_mark
from playground.engine.vllm import VllmEngine, our_models, their_models
from playground.engine.wire import Address
from playground.settings import Settings
from training.embedded import ensure_embedded

if TYPE_CHECKING:
    from playground.engine.vllm_models import OurModels
    from playground.serving import LentServer, VllmServer
    from playground.serving.remote import RemoteServers
    from playground.serving.state import Server


class ServedEngine:
    """`base` and its adapters on the servers that the settings name, or on one of this app's own. Fits `Engine`.

    `server` is the app's; without one it takes the one that the app has lent to this process, or makes its own, which
    ends with this process. It is started with the first question, or by `start`; one that was stopped since is not
    started again by a question.
    """

    def __init__(
        self,
        settings: Settings,
        adapters: Callable[[], Mapping[str, Path]],
        server: VllmServer | RemoteServers | None = None,
        *,
        long_work: bool = False,
        names_only: bool = False,
    ) -> None:
        """With `names_only` identities come from the files, and no server is started for them."""
        self._names_only = names_only
        self._files: OurModels | None = None
        self._settings, self._adapters, self._long = settings, adapters, long_work
        self._server: VllmServer | RemoteServers | LentServer | None = server
        self._loading = Loading("embedded model")
        self._mutex = threading.Lock()
        self._started = False
        self._engine: VllmEngine | None = None
        self._urls: tuple[str, ...] = ()
        self._loaded: dict[str, tuple[int, ...]] = {}

    def model_ids(self) -> list[str]:
        """The base and every adapter that there is; asks no server."""
        return ["base", *self._adapters()]

    def start(self) -> None:
        """Begin to start the server in the background."""
        threading.Thread(target=self._start, name="open-vllm", daemon=True).start()

    def load_state(self) -> LoadState:
        """How far the server's start is; never blocks."""
        return self._loading.state

    def identity(self, model: str) -> ModelIdentity:
        """See `protocol.Engine.identity`."""
        if self._names_only:
            return self._from_files(model)
        return self._with([model]).identity(model)

    def stream(self, requests: Sequence[GenerationRequest]) -> Iterator[Chunk]:
        """See `protocol.Engine.stream`. Raises ServerFailed as well, when there is no server."""
        return self._with({request.model for request in requests}).stream(requests)

    def cancel(self, request_id: str) -> None:
        """See `protocol.Engine.cancel`."""
        if self._engine is not None:
            self._engine.cancel(request_id)

    def server(self) -> Server:
        """What is needed to speak to the server, started if need be. Raises ServerFailed."""
        with self._mutex:
            return self._ready()

    def close(self) -> None:
        """End a server of our own that nobody else holds."""
        with self._mutex:
            if self._server is not None:
                self._server.close()

    def _start(self) -> None:
        with suppress(UserFacingError):  # load_state says why
            self._with([])

    def _from_files(self, model: str) -> ModelIdentity:
        from playground.engine.vllm_models import OurModels
        from playground.serving.local import base_of

        with self._mutex:
            if self._files is None:
                settings, report = self._settings, self._loading.report
                # As `_theirs` and `_open` find it: the folder's name is part of the identity.
                theirs = settings.vllm_url
                folder = ensure_embedded(settings.home, report) if theirs else base_of(settings).folder(report)
                self._files = OurModels([], folder)
            folders = self._adapters()
            if model in folders:
                return self._files.identify(model, folders[model])
            return self._files.identity(model)  # the base, or ModelUnavailable

    def _with(self, models: Sequence[str] | set[str]) -> VllmEngine:
        """The engine, with each of these models as its folder is now."""
        with self._mutex:
            engine = self._open()
            found = self._adapters()
            for model in models:
                if model == "base":
                    continue
                if model not in found:
                    raise ModelUnavailable(
                        f"There is no model {model} here; choose one of {', '.join(self.model_ids())}."
                    )
                mark = adapter_mark(found[model])
                if self._loaded.get(model) != mark:
                    engine.add_adapter(model, found[model])
                    self._loaded[model] = mark
            return engine

    def _open(self) -> VllmEngine:
        if self._settings.vllm_url:
            return self._theirs()
        server = self._ready()
        if self._engine is None or server.base_urls != self._urls:  # a server that is started anew may move
            addresses = [Address(url, server.api_key) for url in server.base_urls]
            folder = server.folder or ensure_embedded(self._settings.home)
            self._engine = our_models(
                addresses, folder, max_rank=server.max_lora_rank, long_work=self._long, spare=self._spare()
            )
            self._urls, self._loaded = server.base_urls, {}
        return self._engine

    def _theirs(self) -> VllmEngine:
        """The engine of servers that somebody else runs with the embedded model's folder."""
        if self._engine is None:
            folder = ensure_embedded(self._settings.home, self._loading.report)
            addresses = [Address(url, self._settings.vllm_key) for url in self._settings.vllm_url]
            self._engine = our_models(addresses, folder, long_work=self._long)
        if not self._started:
            with self._loading.watched():
                self._engine.check()
            self._started = True
        return self._engine

    def _ready(self) -> Server:
        if self._server is None:
            self._server = _lent_or_own(self._settings)
        if self._started:
            return self._server.server()
        with self._loading.watched():
            self._server.start()
            found = self._server.wait_ready(self._loading.report)
        self._started = True
        return found

    def _spare(self) -> Callable[[], Address] | None:
        """What takes the place of a server that was lent, once that is gone."""
        from playground.serving import LentServer

        lent = self._server
        if not isinstance(lent, LentServer):
            return None

        def own() -> Address:
            found = lent.own(self._loading.report)
            return Address(found.base_url, found.api_key)

        return own


def _lent_or_own(settings: Settings) -> VllmServer | RemoteServers | LentServer:
    import atexit

    from playground.serving import LentServer, lent_server, vllm_server

    lent = lent_server()
    server = vllm_server(settings) if lent is None else LentServer(lent, settings)
    atexit.register(server.close)
    return server


def their_engine(settings: Settings, *, long_work: bool = False) -> VllmEngine:
    """The engine of the servers that the settings name; one for all who ask, so that each is asked once what it has."""
    return _their_engine(settings.vllm_url, settings.vllm_key, long_work)


@lru_cache(maxsize=8)
def _their_engine(urls: tuple[str, ...], key: str | None, long_work: bool) -> VllmEngine:
    return their_models([Address(url, key) for url in urls], long_work=long_work)
