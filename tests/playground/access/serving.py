"""A served app with fakes behind it, and people who call it over plain HTTP, as a program would that ignores the page."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported
os.environ["FORWARDED_ALLOW_IPS"] = ""  # as app.py does

import httpx

from playground import users
from playground.pages import Services, assembly, build_app, launch_options
from playground.pages.access import handler_name
from playground.settings import Settings
from playground.users import ROLES, User, make_user, write_users
from tests.fakes import FakeEngine, FakeJudge, fake_services

REAL_COST = dict(users._COST)  # before conftest.py makes it quick
PASSWORD = "correct horse battery"
_MADE: dict[str, User] = {}


def users_file(path: Path) -> Path:
    """A file with one user for each role, of the role's name; hashing takes a while, so it is done once."""
    for role in ROLES:
        _MADE.setdefault(role, make_user(role, role, PASSWORD))
    write_users(path, {user.name: user for user in _MADE.values()})
    return path


def settings_for(home: Path, **more: Any) -> Settings:
    """Settings under `home` with nothing of the environment."""
    return Settings(home=home, _env_file=None, **more)


def services_for(settings: Settings, **fakes: Any) -> Services:
    """Fakes as app.py would wire them for these settings."""
    own = replace(fake_services(settings.home, **fakes), settings=settings, access=assembly.access_of(settings))
    return assembly.with_visitors(own, settings) if own.access.profile.public else own


@dataclass
class Answer:
    """What came of one call: `data` of the last message, or the error in words."""

    data: Any = None
    error: str | None = None
    status: int = 200


@dataclass
class Person:
    """Somebody with cookies and one open page."""

    served: Served
    client: httpx.Client
    session: str = field(default_factory=lambda: secrets.token_hex(6))

    def sign_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        return self.client.post("/sign-in", data={"name": name, "password": password})

    def call(self, index: int, values: list[Any], event: Any = None, **headers: str) -> Answer:
        """Call one function by its index, as the page does: into the queue, then read what comes."""
        self.client.headers.update(headers)
        return self.call_all({index: values}, event)[index]

    def call_all(self, calls: dict[int, list[Any]], event: Any = None) -> dict[int, Answer]:
        """Call several functions at once, each with its values, and read one stream of what comes, as a page does."""
        answers: dict[int, Answer] = {}
        waiting: dict[str, int] = {}
        for index, values in calls.items():
            body = {
                "data": values,
                "fn_index": index,
                "session_hash": self.session,
                "event_data": event,
                "trigger_id": None,
            }
            joined = self.client.post("/gradio_api/queue/join", json=body)
            if joined.status_code == 200:
                waiting[joined.json()["event_id"]] = index
            else:
                answers[index] = Answer(error=joined.text, status=joined.status_code)
        if not waiting:
            return answers
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as lines:
            for line in lines.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    output, index = message["output"], waiting.pop(message["event_id"])
                    answers[index] = Answer(
                        output.get("data"), None if message["success"] else str(output.get("error"))
                    )
                    if not waiting:
                        break
        return answers

    def press(self, handler: str, *values: Any, event: Any = None, nth: int = 0, **headers: str) -> Answer:
        """Call the nth function of that name; values that are left out are those the page begins with."""
        index = self.served.indices(handler)[nth]
        given = self.served.first_values(index)
        given[len(given) - len(values) :] = values
        return self.call(index, given, event, **headers)


@dataclass
class Served:
    """One running app."""

    url: str
    app: Any
    services: Services
    handlers: dict[int, str]

    @contextmanager
    def person(self) -> Iterator[Person]:
        with httpx.Client(base_url=self.url, timeout=60, follow_redirects=False) as client:
            yield Person(self, client)

    def indices(self, handler: str) -> list[int]:
        return [index for index, name in self.handlers.items() if name == handler]

    def first_values(self, index: int) -> list[Any]:
        """What the page holds in the inputs of that function when it is opened. States are the server's own."""
        return [None if part.stateful else part.get_config().get("value") for part in self.app.fns[index].inputs]


@contextmanager
def served(settings: Settings, prepare: Callable[[Any], None] = lambda app: None, **fakes: Any) -> Iterator[Served]:
    """Serve the app on a free port; `prepare` may change it before it is launched."""
    fakes = {"engine": FakeEngine(), "judges": [FakeJudge()], **fakes}
    services = services_for(settings, **fakes)
    app = build_app(services)
    handlers = {index: handler_name(event.fn.__wrapped__) for index, event in app.fns.items() if event.fn is not None}
    prepare(app)
    try:
        options = launch_options(services.access, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
        _, url, _ = app.launch(**options)
        yield Served(url, app, services, handlers)
    finally:
        app.close(verbose=False)
        assembly.close(services)
