"""Who may do what: roles, and the file of users with their salted scrypt hashes.

The file is JSON, one entry a user, written whole and readable by its owner alone. A password is never in it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from evaluation.disk import told_to_people, write_json
from evaluation.errors import SettingsRejected

log = logging.getLogger(__name__)

Role = Literal["visitor", "rater", "operator", "owner"]
ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may

SHORTEST_PASSWORD = 10  # characters
LONGEST_PASSWORD = 1_024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# 64 MiB and about 0.2 s for each try: OWASP's recommendation for scrypt is N = 2^17, or 2^16 with p = 2.
_COST: Mapping[str, int] = {"n": 1 << 16, "r": 8, "p": 2}
_MOST_MEMORY = 256 << 20

WRONG_BEFORE_WAIT = 5  # wrong passwords for one name or from one address
WAIT_S = 60.0


def at_least(role: Role | None, least: Role) -> bool:
    """Whether `role` may do what `least` may. Nobody (None) may do nothing."""
    return role is not None and ROLES.index(role) >= ROLES.index(least)


@dataclass(frozen=True)
class User:
    """One entry of the file. `salt` and `hash` are base64; `cost` are scrypt's parameters when it was made."""

    name: str
    role: Role
    salt: str
    hash: str
    cost: Mapping[str, int]

    def has_password(self, password: str) -> bool:
        """Whether this is the user's password; takes as long for a wrong one."""
        made = _hash(password, base64.b64decode(self.salt), self.cost)
        return secrets.compare_digest(made, base64.b64decode(self.hash))


def _hash(password: str, salt: bytes, cost: Mapping[str, int]) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, maxmem=_MOST_MEMORY, **cost)


def make_user(name: str, role: str, password: str) -> User:
    """A User with a fresh salt. Raises SettingsRejected."""
    if not _NAME.fullmatch(name):
        raise SettingsRejected(
            f"User name {name[:40]!r} is not usable: letters, digits, dot, dash and underscore, at most 64."
        )
    if role not in ROLES:
        raise SettingsRejected(f"There is no role {role[:40]!r}; use one of {', '.join(ROLES)}.")
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise SettingsRejected(
            f"The password has {len(password)} characters; use {SHORTEST_PASSWORD} to {LONGEST_PASSWORD}."
        )
    salt = secrets.token_bytes(16)
    return User(name, role, _text(salt), _text(_hash(password, salt, _COST)), dict(_COST))


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def read_users(path: Path) -> dict[str, User]:
    """The users of the file by name. Raises SettingsRejected when it is missing or not such a file."""
    try:
        document = json.loads(path.read_bytes())
        return {name: _user(name, entry) for name, entry in document["users"].items()}
    except FileNotFoundError:
        raise SettingsRejected(
            f"PLAYGROUND_USERS names {path}, which is not there; make it with `python -m playground users add NAME --role owner`."
        ) from None
    except OSError as error:
        raise SettingsRejected(f"{path} cannot be read ({error.strerror}); check its rights.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsRejected(
            f"{path} is not a file of users ({type(error).__name__}: {error}); make it anew."
        ) from error


def _user(name: str, entry: Mapping[str, Any]) -> User:
    cost = {key: int(entry["cost"][key]) for key in _COST}
    # A file with absurd costs would make each sign-in take minutes.
    if entry["role"] not in ROLES or not _NAME.fullmatch(name) or cost["n"] * cost["r"] * 128 > _MOST_MEMORY // 2:
        raise ValueError(f"the entry of {name[:40]!r}")
    for key in ("salt", "hash"):
        base64.b64decode(entry[key], validate=True)
    return User(name, entry["role"], entry["salt"], entry["hash"], cost)


def write_users(path: Path, users: Mapping[str, User]) -> None:
    """Replace the file. Raises DiskRefused."""
    document = {
        "users": {
            user.name: {"role": user.role, "salt": user.salt, "hash": user.hash, "cost": dict(user.cost)}
            for user in users.values()
        }
    }
    with told_to_people(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = os.umask(0o077)
        try:
            write_json(path, document)
        finally:
            os.umask(mask)


class Users:
    """The file as it is now, read again when it changes, and how often somebody has guessed wrongly."""

    def __init__(self, path: Path) -> None:
        """Raises SettingsRejected when the file cannot be used, or names nobody."""
        self._path = path
        self._mutex = threading.Lock()
        self._mark: tuple[int, int] | None = (0, 0)  # of the file as it was read last; None: it was not there
        self._users = read_users(path)
        self._wrong: dict[str, list[float]] = {}
        self._hashing = threading.Lock()  # one at a time: each takes 64 MiB
        self._nobody = make_user("nobody", "visitor", secrets.token_urlsafe(16))
        if not self._users:
            raise SettingsRejected(
                f"{path} names nobody; add a user with `python -m playground users add NAME --role owner`."
            )

    def role(self, name: str | None) -> Role | None:
        """The role of that user now; None for a name that is no longer in the file."""
        user = self._now().get(name or "")
        return user.role if user else None

    def password_mark(self, name: str) -> str | None:
        """What changes with that user's password; None for a name that is not in the file."""
        user = self._now().get(name)
        return user.salt if user else None

    def sign_in(self, name: str, password: str, address: str, now: float | None = None) -> User | None:
        """The user, or None when name or password is wrong. `now` is monotonic seconds.

        Raises SettingsRejected after WRONG_BEFORE_WAIT wrong ones in WAIT_S seconds, for that name or from that address.
        """
        at = time.monotonic() if now is None else now
        keys = (f"name {name}", f"address {address}")
        with self._mutex:
            for key in keys:
                recent = [when for when in self._wrong.get(key, []) if at - when < WAIT_S]
                if len(recent) >= WRONG_BEFORE_WAIT:
                    raise SettingsRejected(
                        f"Too many wrong passwords; try again in {int(WAIT_S - (at - recent[0])) + 1} s."
                    )
            if len(self._wrong) > 10_000:  # of names that somebody made up
                self._wrong = {key: times for key, times in self._wrong.items() if at - times[-1] < WAIT_S}
            # Counted before the password is looked at, or many tries at once would all get through.
            for key in keys:
                self._wrong[key] = [*[when for when in self._wrong.get(key, []) if at - when < WAIT_S], at]
        user = self._now().get(name)
        # A name that is not there takes as long as one that is.
        with self._hashing:
            right = (user or self._nobody).has_password(password[: LONGEST_PASSWORD + 1])
        if user is None or not right:
            return None
        with self._mutex:
            for key in keys:
                self._wrong.pop(key, None)
        return user

    def _now(self) -> dict[str, User]:
        with self._mutex:
            try:
                found = self._path.stat()
                mark = (found.st_mtime_ns, found.st_ino)
            except OSError:
                mark = None
            if mark != self._mark:
                try:
                    self._users, self._mark = read_users(self._path), mark
                except SettingsRejected as error:  # it lets nobody in; every page of those who were would fail instead
                    if self._users:
                        log.warning("nobody can sign in: %s", error)
                    self._users, self._mark = {}, None  # looked at again: its rights may come back by themselves
            return self._users
