"""users add, list, remove: who may sign in to the app, and as what."""

from __future__ import annotations

import argparse
import getpass
import sys
from pathlib import Path
from typing import Any

from evaluation.errors import SettingsRejected
from playground.cli.output import json_option, print_json, print_table, progress
from playground.settings import Settings, load_settings
from playground.users import ROLES, User, make_user, read_users, write_users


def add(commands: Any) -> None:
    """Declare the commands."""
    family = commands.add_parser("users", help="who may sign in to the app, and as what").add_subparsers(
        required=True, metavar="COMMAND"
    )
    added = family.add_parser(
        "add",
        help="add a user, or give one another role and password; asks for the password, or reads a line of it from standard input",
    )
    added.add_argument("name")
    added.add_argument("--role", choices=ROLES, required=True, help="each may do what those before it may")
    added.set_defaults(run=add_user)
    removed = family.add_parser("remove", help="remove a user; a page that is open stops working for them")
    removed.add_argument("name")
    removed.set_defaults(run=remove_user)
    listed = family.add_parser("list", help="names and roles")
    listed.set_defaults(run=list_users)
    for parser in (added, removed, listed):
        json_option(parser)


def file_of(settings: Settings) -> Path:
    """The file of users: PLAYGROUND_USERS, or users.json in the home."""
    return settings.users or settings.home / "users.json"


def _known(path: Path) -> dict[str, User]:
    return read_users(path) if path.exists() else {}


def add_user(options: argparse.Namespace) -> None:
    """Write the user with a hash of the password, which is read where nobody sees it: not from the command line."""
    settings = load_settings()
    path = file_of(settings)
    users = _known(path)
    password = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    if sys.stdin.isatty() and getpass.getpass("Again: ") != password:
        raise SettingsRejected("The two passwords differ; nothing was changed.")
    user = make_user(options.name, options.role, password)
    write_users(path, {**users, user.name: user})
    if options.json:
        print_json({"name": user.name, "role": user.role, "file": str(path)})
    else:
        print(f"{user.name} may sign in as {user.role} ({path})")
    if settings.users is None:
        progress(f"Set PLAYGROUND_USERS={path} so that the app asks who comes.")


def remove_user(options: argparse.Namespace) -> None:
    """Take the user out of the file."""
    path = file_of(load_settings())
    users = _known(path)
    if users.pop(options.name, None) is None:
        raise SettingsRejected(
            f"There is no user {options.name[:40]!r} in {path}; see `python -m playground users list`."
        )
    write_users(path, users)
    if options.json:
        print_json({"removed": options.name, "file": str(path)})
    else:
        print(f"{options.name} can no longer sign in ({path})")


def list_users(options: argparse.Namespace) -> None:
    """Names and roles."""
    rows = [{"name": user.name, "role": user.role} for user in _known(file_of(load_settings())).values()]
    if options.json:
        print_json(rows)
    else:
        print_table(("name", "role"), [(row["name"], row["role"]) for row in rows])
