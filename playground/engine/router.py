"""One engine in front of several: the embedded model, other checkpoints, endpoints, told apart by model id.

The embedded model loads on a thread of its own, so that the page is there before the model is. Where another process
may want the device, the models in this process leave it when it is asked for, and come again with the next question.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from evaluation.errors import ModelUnavailable, UserFacingError
from evaluation.types import ModelIdentity
from playground.engine.loading import Loading, LoadState
from playground.engine.merge import merged
from playground.engine.protocol import Chunk, Engine, GenerationRequest
from playground.engine.tenancy import Claim, Tenancy

if TYPE_CHECKING:  # torch takes seconds to import; the page must not wait for it
    from evaluation.judge.features import Features
    from evaluation.judge.low_rank import Terms
    from playground.engine.local import LocalEngine

log = logging.getLogger(__name__)


class ServedElsewhere(Engine, Protocol):
    """An engine that answers for the embedded model in place of this process, and how far its start is."""

    def start(self) -> None: ...

    def load_state(self) -> LoadState: ...


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
        served: ServedElsewhere | None = None,
        claim: Callable[[], Claim | None] = lambda: None,
        identify: Callable[[str], ModelIdentity] | None = None,
    ) -> None:
        """`embedded_ids` must be cheap: it is asked before the model is loaded. `load_other` opens a checkpoint by id.

        `other_ids` are offered before they are opened; any other `hub:` or `path:` id can still be named. `adapters`
        says which folder each adapter of the embedded model has now: one that is new or was replaced since it was
        loaded is loaded when it is next asked for. `claim` says what others want of the device that the models in this
        process are on, see `Tenancy`; `served` answers for the embedded model in place of this process, which then only
        reads its states, on the CPU. A process that holds the device for its whole life needs none. With a claim,
        `identify` says what a model in this process is without putting it there.
        """
        self._embedded_ids = embedded_ids
        self._adapters = adapters
        self._adapters_lock = threading.Lock()
        self._loaded: dict[str, tuple[int, ...]] = {}  # adapter -> its folder's mark when it was loaded
        self._load_embedded = load_embedded
        self._engines = [*([] if served is None else [served]), *endpoints]
        self.served = served
        self._load_other = load_other
        self._other_ids = list(other_ids)
        self._others: dict[str, LocalEngine] = {}
        self._opened: list[str] = []  # ids of others that were opened, also when they are unloaded by now
        self._others_lock = threading.Lock()
        self._embedded: LocalEngine | None = None
        self._start = Loading("embedded model")
        self._loading = threading.Lock()
        self._started = threading.Lock()
        self._tenancy = Tenancy(claim, self._unload)
        self._identified = identify or (lambda model: self._engine_of(model).identity(model))
        # What models are, with the mark of their adapter then; kept where they may go.
        self._identities: dict[str, tuple[tuple[int, ...], ModelIdentity]] = {}

    @property
    def _endpoints(self) -> dict[str, Engine]:
        """By model id, the engines that compute elsewhere. What they offer may change."""
        return {model: engine for engine in self._engines for model in engine.model_ids()}

    def start(self) -> None:
        """Begin loading the embedded model in the background. Calling it again does nothing."""
        if self._started.acquire(blocking=False):
            if self.served is not None:
                self.served.start()
                return
            threading.Thread(target=self._load_first, name="load-embedded", daemon=True).start()

    def load_state(self) -> LoadState:
        """How far the embedded model is; never blocks."""
        return self._start.state if self.served is None else self.served.load_state()

    def embedded(self) -> LocalEngine:
        """The embedded engine, loaded if need be. Raises ModelUnavailable when it cannot be.

        For a process that keeps its device; elsewhere the engine may be closed as soon as it is returned.
        """
        with self._loading:
            if self._embedded is None and self._start.state.error is None:
                self._load()
            if self._embedded is None:
                raise ModelUnavailable(
                    self._start.state.error or "The embedded model did not load; the log has the details."
                )
            return self._embedded

    def model_ids(self) -> list[str]:
        """The embedded base and adapters, then other checkpoints, then the endpoints' models."""
        first = self._embedded_ids() if self.served is None else self.served.model_ids()
        return list(dict.fromkeys([*first, *self._other_ids, *self._opened, *self._endpoints]))

    def identity(self, model: str) -> ModelIdentity:
        """See `protocol.Engine.identity`. Waits for a model that is still loading; where models may go, loads none."""
        if model in self._endpoints:
            return self._endpoints[model].identity(model)
        if not self._tenancy.may_end():
            return self._engine_of(model).identity(model)
        folder = self._adapters().get(model)
        mark = () if folder is None else adapter_mark(folder)
        known = self._identities.get(model)
        if known is not None and known[0] == mark:
            return known[1]
        # From the files: a name is not worth a device, which may be another's, or somebody may wait for it.
        found = self._identified(model)
        self._identities[model] = (mark, found)
        return found

    def pooled_states(
        self, contexts: Sequence[str], texts: Sequence[str], layer: int, terms: Terms | None = None
    ) -> Features:
        """Mean hidden states of texts on the embedded base; see `evaluation.judge.features.pooled_states`."""
        with nullcontext() if self.served is not None else self._tenancy.use():
            return self.embedded().pooled_states(contexts, texts, layer, terms)

    def stream(self, requests: Sequence[GenerationRequest]) -> Iterator[Chunk]:
        """See `protocol.Engine.stream`. Requests for one engine go to it together, in one batch.

        Raises also what `Claim.take` does, when a model in this process is asked and its device is another's.
        """
        if all(request.model in self._endpoints for request in requests):
            return self._stream(requests)
        leave = self._tenancy.enter()
        try:
            return self._tenancy.streaming(self._stream(requests), leave)
        except BaseException:
            leave()
            raise

    def _stream(self, requests: Sequence[GenerationRequest]) -> Generator[Chunk]:
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
        engines: list[Engine] = [*self._others.values(), *self._engines]
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
                    self._remember(model, self._others[model])
                    self._opened = list(dict.fromkeys([*self._opened, model]))
                return self._others[model]
        raise ModelUnavailable(f"There is no model {model} here; choose one of {', '.join(self.model_ids())}.")

    def _bring_in(self, engine: LocalEngine, model: str) -> None:
        """Load the adapter unless the engine has it as its folder is now: which weights answer must be no question."""
        folder = self._adapters().get(model)
        if folder is None:  # the base itself
            return
        with self._adapters_lock:
            mark = adapter_mark(folder)
            if self._loaded.get(model) != mark:
                engine.add_adapter(model, folder)
                self._loaded[model] = mark
                self._remember(model, engine)

    def _remember(self, model: str, engine: LocalEngine) -> None:
        self._identities[model] = (self._loaded.get(model, ()), engine.identity(model))

    def _load_first(self) -> None:
        """Load the embedded model unless somebody else has its device; then it comes with a question."""
        try:
            with self._tenancy.use():
                self.embedded()
        except ModelUnavailable:  # load_state says why
            return
        except UserFacingError as error:
            log.info("embedded model: not loaded yet. %s", error)
            with self._loading:
                if self._embedded is None and self._start.state.error is None:
                    self._start.ready(unloaded=True)

    def _unload(self) -> None:
        """Take every model of this process off its device."""
        from playground.engine.local import release_memory

        with self._loading, self._others_lock:
            engines = [*self._others.values()]
            self._others.clear()
            if self._embedded is not None and self.served is None:
                engines.append(self._embedded)
                self._embedded = None
                self._loaded = {}
            if self._embedded is None and self._start.state.error is None:
                self._start.ready(unloaded=True)
        for engine in engines:
            engine.close()
        release_memory()
        log.info("models in this process: unloaded")

    def _load(self) -> None:
        """Load the embedded model. `_loading` is held."""
        with self._start.watched():
            marks = {name: adapter_mark(folder) for name, folder in self._adapters().items()}
            self._embedded = self._load_embedded(self._start.report)
            self._loaded = {name: marks[name] for name in self._embedded.model_ids() if name in marks}
            self._identities.clear()  # files may have changed while nothing was loaded
            for model in self._embedded.model_ids():
                self._remember(model, self._embedded)


def adapter_mark(folder: Path) -> tuple[int, ...]:
    """What changes when an adapter's files do."""
    files = [folder / name for name in ("adapter_config.json", "adapter_model.safetensors")]
    stats = [file.stat() for file in files if file.is_file()]
    return tuple(number for found in stats for number in (found.st_ino, found.st_mtime_ns, found.st_size))
