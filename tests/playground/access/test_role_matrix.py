"""Every function of the app, called over HTTP as every role: what the table says is what the server does."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest

from playground import profiles
from playground.pages.access import _AMBIENT, LEAST, OWN_SESSION, Access, Caller, _plain
from playground.pages.text import TEXT
from playground.users import ROLES, Role, at_least
from tests.playground.access.serving import served, settings_for, users_file

REFUSALS = {TEXT[key].ja for key in ("access.denied", "access.absent")}


@pytest.fixture(scope="module")
def apps(tmp_path_factory):
    """A private app and a public one, whose functions only note that they were reached."""
    reached: set[int] = set()

    def instead(app) -> None:
        # Below the check: what `guard` has put around stays, what it protects is exchanged.
        for index, event in app.fns.items():
            if event.fn is not None:
                guarded = event.fn
                cell = next(
                    c for c, n in zip(guarded.__closure__, guarded.__code__.co_freevars, strict=True) if n == "fn"
                )
                cell.cell_contents = _noting(guarded.__wrapped__, index, reached, len(event.outputs))

    home = tmp_path_factory.mktemp("matrix")
    users = users_file(home / "users.json")
    private = settings_for(home / "private", users=users, profile="local")
    public = settings_for(home / "public", users=users, profile="gpu")
    with served(private, instead) as one, served(public, instead) as other:
        # Everything is called within a second; how often one may is another test's matter.
        other.services.access.profile = replace(
            other.services.access.profile, requests_per_minute=None, requests_per_minute_address=None
        )
        yield {"local": one, "gpu": other}, reached


def _noting(fn, index: int, reached: set[int], outputs: int):
    nothing = None if outputs == 0 else {"__type__": "update"} if outputs == 1 else [{"__type__": "update"}] * outputs
    if inspect.isgeneratorfunction(_plain(fn)):

        def noting(*values):
            reached.add(index)
            yield nothing

    else:

        def noting(*values):
            reached.add(index)
            return nothing

    return noting


def test_the_table_has_every_function_of_the_pages_and_no_other(apps):
    both, _ = apps
    names = {name for served_app in both.values() for name in served_app.handlers.values()}
    sql = {"results_sql.ask"}  # drawn where the settings say so
    assert sorted(names - LEAST.keys()) == []
    assert sorted(LEAST.keys() - names - sql) == []


@pytest.mark.parametrize("role", [None, *ROLES])
@pytest.mark.parametrize("profile", ["local", "gpu"])
def test_each_role_reaches_what_the_table_gives_it_and_nothing_else(apps, profile: str, role: str | None):
    both, reached = apps
    app = both[profile]
    with app.person() as person:
        if role is not None:
            assert person.sign_in(role).status_code == 303
        reached.clear()
        answers = person.call_all({index: app.first_values(index) for index in app.handlers}, {"id": "x"})
        assert answers.keys() == app.handlers.keys()
        if role is None and profile == "local":
            assert {answer.status for answer in answers.values()} == {401}
            assert not reached
            return
        for index, handler in app.handlers.items():
            answer = answers[index]
            expected = at_least(role or "visitor", LEAST[handler])
            if profile == "gpu" and handler in OWN_SESSION and not at_least(role, "operator"):
                expected = True  # of the caller's own session
            assert (index in reached) is expected, (handler, role, answer)
            quiet = {str(kind) for _, kind in app.app.fns[index].targets} <= _AMBIENT
            if expected or quiet:
                assert answer.error is None, (handler, role, answer)
            else:
                assert answer.error in REFUSALS, (handler, role, answer)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("profile", ["local", "gpu"])
@pytest.mark.parametrize(
    ("asks", "does"),
    [
        ("history.ask_to_delete", "history.delete"),
        ("privacy.ask_to_purge", "privacy.purge"),
        ("adapters.ask_to_delete", "adapters.delete"),
    ],
)
def test_nobody_is_asked_whether_to_delete_what_they_may_not_delete(asks: str, does: str, profile: str, role: Role):
    access, caller = Access(profiles.profile(profile)), Caller(role)
    assert access.allows(asks, caller) is access.allows(does, caller)
