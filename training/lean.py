"""Importing transformers for a training without what it would import only because it is installed.

It looks for these libraries and imports those it finds, for data sets, object detection and metrics that a training
here never has: 900 of 3,800 modules.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNUSED = ("datasets", "pandas", "scipy", "sklearn")


@contextmanager
def without_unused() -> Iterator[None]:
    """Let the libraries look absent to what is imported meanwhile; those that are imported already stay.

    For a process that is there to train: transformers remembers what it did not find.
    """
    hidden = [name for name in UNUSED if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # how Python marks a module that is not to be found
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
