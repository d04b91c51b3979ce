"""The embedded model on a ZeroGPU Space: each batch borrows a GPU for some seconds through `spaces.GPU`.

The process that serves the page never has the GPU. `spaces` runs a decorated function in a process of its own that does,
so the model is loaded there, at the first call, and kept for as long as that process lives. Not run on a real ZeroGPU
Space yet: what `spaces` promises is in its documentation, and the tests have a stand-in for it.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.errors import ModelUnavailable, UserFacingError
from evaluation.types import ModelIdentity
from playground.engine.loading import Loading, LoadState
from playground.engine.protocol import Chunk, Engine, Finish, GenerationRequest

if TYPE_CHECKING:
    from evaluation.judge.features import Features
    from evaluation.judge.low_rank import Terms

_here: dict[str, Any] = {}  # in the process that has the GPU: the engine, once it is loaded


class BorrowedGpu:
    """An Engine whose every batch is one call of a function that `spaces` runs where the GPU is."""

    def __init__(
        self,
        prepare: Callable[[Callable[[str], None]], Path],
        adapters: Callable[[], Mapping[str, Path]],
        load: Callable[[Path, Mapping[str, Path]], Engine],
        seconds: int,
    ) -> None:
        """`prepare` makes the model's folder, here; `load` opens it, there. `seconds` of GPU for a call at most.

        Raises ModelUnavailable where `spaces` is not installed. `spaces` wants to know its functions before the app is
        served, so make this first.
        """
        try:
            spaces = importlib.import_module("spaces")
        except ImportError as error:
            raise ModelUnavailable(
                "The profile zerogpu needs the package spaces, which a ZeroGPU Space has by itself; elsewhere use another profile."
            ) from error
        self._prepare, self._adapters = prepare, adapters
        self._folder: Path | None = None
        self._loading = Loading("embedded model")
        self._settled = threading.Event()
        self._started = threading.Lock()
        self._cancelled: set[str] = set()
        self._identities: dict[str, ModelIdentity] = {}

        def there(folder: Path, known: Mapping[str, Path]) -> Any:
            if _here.get("of") != (folder, dict(known)):
                _here.update(engine=load(folder, known), of=(folder, dict(known)))
            return _here["engine"]

        def answer(folder: Path, known: Mapping[str, Path], requests: Sequence[GenerationRequest]) -> Iterator[Chunk]:
            yield from there(folder, known).stream(requests)

        def identify(folder: Path, known: Mapping[str, Path], model: str) -> ModelIdentity:
            return there(folder, known).identity(model)

        def pool(folder: Path, known: Mapping[str, Path], *what: Any) -> Any:
            return there(folder, known).pooled_states(*what)

        lent = spaces.GPU(duration=seconds)
        self._answer, self._identify, self._pool = lent(answer), lent(identify), lent(pool)

    def start(self) -> None:
        """Begin preparing the model's folder in the background. Calling it again does nothing."""
        if self._started.acquire(blocking=False):
            threading.Thread(target=self._get_ready, name="prepare-embedded", daemon=True).start()

    def load_state(self) -> LoadState:
        """How far the folder is; never blocks."""
        return self._loading.state

    def model_ids(self) -> list[str]:
        """The base and its adapters."""
        return ["base", *self._adapters()]

    def identity(self, model: str) -> ModelIdentity:
        """See `protocol.Engine.identity`. The first time it borrows the GPU: its precision is part of the identity."""
        if model not in self.model_ids():
            raise ModelUnavailable(f"There is no model {model[:60]} here; choose one of {', '.join(self.model_ids())}.")
        if model not in self._identities:
            self._identities[model] = self._identify(self._ready(), dict(self._adapters()), model)
        return self._identities[model]

    def stream(self, requests: Sequence[GenerationRequest]) -> Iterator[Chunk]:
        """See `protocol.Engine.stream`. A cancelled request ends here at once, and the GPU's call with the last one."""
        open_ = {request.id: Chunk(request.id, self.identity(request.model).digest, "", 0) for request in requests}
        chunks = self._answer(self._ready(), dict(self._adapters()), list(requests))
        try:
            for chunk in chunks:
                for gone in self._cancelled & open_.keys():
                    last = open_.pop(gone)
                    yield Chunk(gone, last.identity, "", last.tokens, Finish("cancelled", last.tokens, 0, 0.0))
                if chunk.request_id in open_:
                    open_[chunk.request_id] = chunk
                    if chunk.finish is not None:
                        del open_[chunk.request_id]
                    yield chunk
                if not open_:
                    return
        finally:
            self._cancelled -= {request.id for request in requests}
            chunks.close()

    def cancel(self, request_id: str) -> None:
        """See `protocol.Engine.cancel`."""
        self._cancelled.add(request_id)
        if len(self._cancelled) > 10_000:  # of requests that had ended before
            self._cancelled.pop()

    def pooled_states(
        self, contexts: Sequence[str], texts: Sequence[str], layer: int, terms: Terms | None = None
    ) -> Features:
        """What the embedded judge reads; see `evaluation.judge.features.pooled_states`."""
        return self._pool(self._ready(), dict(self._adapters()), list(contexts), list(texts), layer, terms)

    def _ready(self) -> Path:
        self.start()
        self._settled.wait()
        if self._folder is None:
            raise ModelUnavailable(
                self._loading.state.error or "The embedded model did not load; the log has the details."
            )
        return self._folder

    def _get_ready(self) -> None:
        try:
            with suppress(UserFacingError), self._loading.watched():  # load_state says why
                self._folder = self._prepare(self._loading.report)
        finally:
            self._settled.set()
