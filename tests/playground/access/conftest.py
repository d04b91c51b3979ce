from __future__ import annotations

import pytest

from playground import users


@pytest.fixture(autouse=True, scope="session")
def quick_hashes():
    """scrypt takes a quarter of a second for a reason; a test that signs in has none."""
    patched = pytest.MonkeyPatch()
    patched.setattr(users, "_COST", {"n": 1 << 10, "r": 8, "p": 1})
    yield
    patched.undo()
