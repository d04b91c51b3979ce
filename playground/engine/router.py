"""One engine in front of several: the embedded model, other checkpoints, endpoints, told apart by model id.

The embedded model loads on a thread of its own, so that the page is there before the model is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.errors import ModelUnavailable, UserFacingError
from evaluation.types import ModelIdentity
from playground.engine.merge import merged
from playground.engine.protocol import Chunk, Engine, GenerationRequest

if TYPE_CHECKING:  # torch takes seconds to import; the page must not wait for it
    from playground.engine.local import LocalEngine

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadState:
    """How far the embedded model is. `error` is set when it will not come, and says why."""

    ready: bool = False
    stage: str = "starting"  # in words, as the loader reports it
    error: str | None = None


class Router:
    """Routes each request to the engine that knows its model."""

    def __init__(
        self,
        embedded_ids: Callable[[], Sequence[str]],
        load_embedded: Callable[[Callable[[str], None]], LocalEngine],
        endpoints: Sequence[Engine] = (),
        load_other: Callable[[str], LocalEngine] | None = None,
        other_ids: Sequence[str] = (),
        adapters: Callable[[], Mapping[str, Path]] = dict,
    ) -> None:
        """`embedded_ids` must be cheap: it is asked before the model is loaded. `load_other` opens a checkpoint by id.

        `other_ids` are offered before they are opened; any other `hub:` or `path:` id can still be named. `adapters`
        says which folder each adapter of the embedded model has now: one that is new or was replaced since it was
        loaded is loaded when it is next asked for.
        """
        self._embedded_ids = embedded_ids
        self._adapters = adapters
        self._adapters_lock = threading.Lock()
        self._loaded: dict[str, tuple[int, ...]] = {}  # adapter -> its folder's mark when it was loaded
        self._load_embedded = load_embedded
        self._endpoints = {model: engine for engine in endpoints for model in engine.model_ids()}
        self._load_other = load_other
        self._other_ids = list(other_ids)
        self._others: dict[str, LocalEngine] = {}
        self._others_lock = threading.Lock()
        self._embedded: LocalEngine | None = None
        self._state = LoadState()
        self._settled = threading.Event()
        self._started = threading.Lock()

    def start(self) -> None:
        """Begin loading the embedded model in the background. Calling it again does nothing."""
        if self._started.acquire(blocking=False):
            threading.Thread(target=self._load, name="load-embedded", daemon=True).start()

    def load_state(self) -> LoadState:
        """How far the embedded model is; never blocks."""
        return self._state

    def embedded(self) -> LocalEngine:
        """The embedded engine, waiting for it if need be. Raises ModelUnavailable when it cannot be loaded."""
        self.start()
        self._settled.wait()
        if self._embedded is None:
            raise ModelUnavailable(self._state.error or "The embedded model did not load; the log has the details.")
        return self._embedded

    def model_ids(self) -> list[str]:
        """The embedded base and adapters, then other checkpoints, then the endpoints' models."""
        return [*self._embedded_ids(), *dict.fromkeys([*self._other_ids, *self._others]), *self._endpoints]

    def identity(self, model: str) -> ModelIdentity:
        """See `protocol.Engine.identity`. Waits for a model that is still loading."""
        return self._engine_of(model).identity(model)

    def stream(self, requests: Sequence[GenerationRequest]) -> Iterator[Chunk]:
        """See `protocol.Engine.stream`. Requests for one engine go to it together, in one batch."""
        groups: dict[int, tuple[Engine, list[GenerationRequest]]] = {}
        for request in requests:
            engine = self._engine_of(request.model)
            groups.setdefault(id(engine), (engine, []))[1].append(request)

        def stop() -> None:
            for engine, group in groups.values():
                for request in group:
                    engine.cancel(request.id)

        return merged([engine.stream(group) for engine, group in groups.values()], stop)

    def cancel(self, request_id: str) -> None:
        """See `protocol.Engine.cancel`."""
        engines: list[Engine] = [*self._others.values(), *set(self._endpoints.values())]
        if self._embedded is not None:
            engines.append(self._embedded)
        for engine in engines:
            engine.cancel(request_id)

    def _engine_of(self, model: str) -> Engine:
        if model in self._endpoints:
            return self._endpoints[model]
        if model in self._embedded_ids():
            engine = self.embedded()
            self._bring_in(engine, model)
            return engine
        if self._load_other is not None and model.partition(":")[0] in {"hub", "path"}:
            # One at a time: two checkpoints loading together could exceed memory that either fits in.
            with self._others_lock:
                if model not in self._others:
                    self._others[model] = self._load_other(model)
                return self._others[model]
        raise ModelUnavailable(f"There is no model {model} here; choose one of {', '.join(self.model_ids())}.")

    def _bring_in(self, engine: LocalEngine, model: str) -> None:
        """Load the adapter unless the engine has it as its folder is now: which weights answer must be no question."""
        folder = self._adapters().get(model)
        if folder is None:  # the base itself
            return
        with self._adapters_lock:
            mark = _mark(folder)
            if self._loaded.get(model) != mark:
                engine.add_adapter(model, folder)
                self._loaded[model] = mark

    def _load(self) -> None:
        try:
            marks = {name: _mark(folder) for name, folder in self._adapters().items()}
            self._embedded = self._load_embedded(self._report)
            self._loaded = {name: marks[name] for name in self._embedded.model_ids() if name in marks}
            log.info("embedded model: ready")
            self._state = LoadState(ready=True, stage="ready")
        except UserFacingError as error:
            self._state = LoadState(stage="failed", error=str(error))
        except Exception as error:  # shown on the page; the traceback goes to the log
            log.exception("loading the embedded model failed")
            self._state = LoadState(
                stage="failed", error=f"The embedded model did not load ({type(error).__name__}); see the log."
            )
        finally:
            self._settled.set()

    def _report(self, stage: str) -> None:
        log.info("embedded model: %s", stage)
        self._state = LoadState(stage=stage)


def _mark(folder: Path) -> tuple[int, ...]:
    """What changes when an adapter's files do."""
    files = [folder / name for name in ("adapter_config.json", "adapter_model.safetensors")]
    stats = [file.stat() for file in files if file.is_file()]
    return tuple(number for found in stats for number in (found.st_ino, found.st_mtime_ns, found.st_size))
