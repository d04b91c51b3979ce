"""`python -m tests.load.stub HOME LANES TOKENS`: the app over an engine that writes its visitor's question into every chunk.

Prints the page's address, then serves until its standard input is closed.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported

from evaluation.errors import ModelUnavailable
from evaluation.types import ModelIdentity
from playground.engine.protocol import Chunk, Finish, GenerationRequest
from playground.pages import build_app, launch_options
from playground.pages.access import Access
from playground.profiles import profile
from tests.fakes import FakeEngine, FakeJudge, fake_services, identity_of

MODELS = ("general", "answercarefully-sample")
TICK_S = 0.1


def chunk_text(question: str, model: str, number: int, at: float) -> str:
    """What the stub writes: whose it is, which side, the place in the reply, and when it was made (monotonic seconds)."""
    return f"{question}|{model}|{number}|{at:.4f};"


class StubEngine(FakeEngine):
    """Writes `tokens` chunks a side, one each every TICK_S, to the tick: what the app adds is all on top."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self._tokens = tokens
        self._stopped: set[str] = set()
        self._lock = threading.Lock()

    def model_ids(self) -> list[str]:
        return list(MODELS)

    def identity(self, model: str) -> ModelIdentity:
        if model not in MODELS:
            raise ModelUnavailable(f"There is no model {model!r}.")
        return identity_of(model)

    def cancel(self, request_id: str) -> None:
        with self._lock:
            self._stopped.add(request_id)

    def stream(self, requests: Sequence[GenerationRequest]) -> Iterator[Chunk]:
        began = time.monotonic()
        digests = {request.id: identity_of(request.model).digest for request in requests}
        try:
            for number in range(self._tokens):
                time.sleep(max(0.0, began + (number + 1) * TICK_S - time.monotonic()))
                for request in requests:
                    now = time.monotonic()
                    text = chunk_text(request.messages[-1].content, request.model, number, now)
                    last = number == self._tokens - 1 or request.id in self._stopped
                    finish = Finish("stop", number + 1, 7, now - began, TICK_S) if last else None
                    yield Chunk(request.id, digests[request.id], text, number + 1, finish)
        finally:
            with self._lock:
                self._stopped -= digests.keys()


def main(home: Path, lanes: int, tokens: int) -> int:
    access = Access(replace(profile("local"), concurrent_answers=lanes))
    services = replace(fake_services(home, StubEngine(tokens), [FakeJudge()]), access=access)
    app = build_app(services)
    _, url, _ = app.launch(**launch_options(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True))
    print(url, flush=True)
    sys.stdin.read()
    app.close(verbose=False)
    services.store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
