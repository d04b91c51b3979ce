"""How far a model's start is, for the page that waits for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from evaluation.errors import ModelUnavailable, UserFacingError

log = logging.getLogger(__name__)

UNLOADED = "unloaded"


@dataclass(frozen=True)
class LoadState:
    """How far the embedded model is. `error` is set when it will not come, and says why.

    `ready` means that it can be asked. With the stage `UNLOADED` it is loaded for the next question, if the device is
    free by then.
    """

    ready: bool = False
    stage: str = "starting"  # in words, as the loader reports it
    error: str | None = None


class Loading:
    """The state of one start, told from the thread that does it and read by any other."""

    def __init__(self, what: str) -> None:
        """`what`: for the log, and for an error that nobody has thought of."""
        self.what = what
        self.state = LoadState()

    def report(self, stage: str) -> None:
        """A new stage, in words."""
        log.info("%s: %s", self.what, stage)
        self.state = LoadState(stage=stage)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The block is the start: ready at its end, failed when it raises. A bug becomes ModelUnavailable."""
        try:
            yield
        except UserFacingError as error:
            self.state = LoadState(stage="failed", error=str(error))
            raise
        except Exception as error:  # shown on the page; the traceback goes to the log
            log.exception("%s: loading failed", self.what)
            words = f"The {self.what} did not load ({type(error).__name__}); see the log."
            self.state = LoadState(stage="failed", error=words)
            raise ModelUnavailable(words) from error
        self.ready()

    def ready(self, *, unloaded: bool = False) -> None:
        """It can be asked; `unloaded`: it comes back with the next question."""
        if not unloaded:
            log.info("%s: ready", self.what)
        self.state = LoadState(ready=True, stage=UNLOADED if unloaded else "ready")
