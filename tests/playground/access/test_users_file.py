"""Users: who may sign in, and what the file of them holds."""

from __future__ import annotations

import io
import json
import stat
from contextlib import nullcontext

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from evaluation.errors import SettingsRejected
from playground.pages import sign_in
from playground.pages.access import COOKIE, Access, Caller
from playground.pages.errors import Refused
from playground.profiles import profile
from playground.users import WAIT_S, WRONG_BEFORE_WAIT, Users, at_least, make_user, read_users, write_users
from tests.playground.access.serving import PASSWORD, REAL_COST, users_file


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return users_file(tmp_path_factory.mktemp("users") / "users.json")


def test_a_password_lets_in_its_user_and_nobody_else(path):
    users = Users(path)
    user = users.sign_in("owner", PASSWORD, "192.0.2.1")
    assert user is not None and user.role == "owner"
    assert users.sign_in("owner", f"{PASSWORD}!", "192.0.2.1") is None
    assert users.sign_in("stranger", PASSWORD, "192.0.2.1") is None
    assert users.sign_in("owner", "", "192.0.2.1") is None


def test_the_file_holds_no_password_and_is_its_owners_alone(path):
    assert PASSWORD not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    hashes = [(user.salt, user.hash) for user in read_users(path).values()]
    assert len({salt for salt, _ in hashes}) == len({made for _, made in hashes}) == 4, "one password, four salts"


def test_after_some_wrong_passwords_a_name_and_an_address_must_wait(path):
    users = Users(path)
    for second in range(WRONG_BEFORE_WAIT):
        assert users.sign_in("rater", "wrong password", "192.0.2.9", now=float(second)) is None
    with pytest.raises(SettingsRejected, match="try again in"):
        users.sign_in("rater", PASSWORD, "192.0.2.77", now=10.0)
    with pytest.raises(SettingsRejected, match="try again in"):
        users.sign_in("owner", PASSWORD, "192.0.2.9", now=10.0)
    assert users.sign_in("owner", PASSWORD, "192.0.2.77", now=10.0) is not None
    assert users.sign_in("rater", PASSWORD, "192.0.2.9", now=WAIT_S + WRONG_BEFORE_WAIT) is not None


def test_a_user_who_is_taken_out_of_the_file_has_no_role_from_then_on(tmp_path):
    path = users_file(tmp_path / "users.json")
    users = Users(path)
    assert users.role("operator") == "operator"
    left = read_users(path)
    del left["operator"]
    write_users(path, left)
    assert users.role("operator") is None
    assert users.role("owner") == "owner"


@pytest.mark.parametrize("harm", ["damaged", "gone"])
def test_a_file_that_is_harmed_while_the_app_runs_lets_nobody_in_until_it_is_whole_again(tmp_path, caplog, harm: str):
    path = users_file(tmp_path / "users.json")
    users, whole = Users(path), path.read_bytes()
    path.write_bytes(whole[:-20]) if harm == "damaged" else path.unlink()
    assert users.role("owner") is None and users.sign_in("owner", PASSWORD, "192.0.2.1") is None
    assert caplog.text.count("nobody can sign in") == 1
    path.write_bytes(whole)
    assert users.role("owner") == "owner" and users.sign_in("owner", PASSWORD, "192.0.2.1") is not None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"users": {"a": {}}}', '{"users": []}', "not json", '{"users": {"a": {"role": "king"}}}'],
)
def test_what_is_no_file_of_users_is_refused_in_one_line(tmp_path, text: str):
    path = tmp_path / "users.json"
    path.write_text(text)
    with pytest.raises(SettingsRejected) as refused:
        read_users(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_a_file_that_would_make_each_sign_in_take_minutes_is_refused(tmp_path):
    path = users_file(tmp_path / "users.json")
    document = json.loads(path.read_text())
    document["users"]["owner"]["cost"]["n"] = 1 << 24
    path.write_text(json.dumps(document))
    with pytest.raises(SettingsRejected, match="owner"):
        read_users(path)


def test_an_app_with_a_file_that_is_missing_or_names_nobody_does_not_start(tmp_path):
    with pytest.raises(SettingsRejected, match="users add"):
        Users(tmp_path / "none.json")
    (tmp_path / "empty.json").write_text('{"users": {}}')
    with pytest.raises(SettingsRejected, match="names nobody"):
        Users(tmp_path / "empty.json")


@pytest.mark.parametrize(
    ("name", "role", "password"),
    [
        ("", "owner", PASSWORD),
        ("a b", "owner", PASSWORD),
        ("../x", "owner", PASSWORD),
        ("a", "king", PASSWORD),
        ("a", "owner", "short"),
    ],
)
def test_a_user_that_cannot_be_is_refused(name: str, role: str, password: str):
    with pytest.raises(SettingsRejected):
        make_user(name, role, password)


def test_a_guess_costs_what_is_recommended():
    # OWASP's password storage cheat sheet: N = 2^16, r = 8, p = 2, which is 64 MiB.
    assert REAL_COST == {"n": 1 << 16, "r": 8, "p": 2}


def test_each_role_may_do_what_those_below_it_may_and_nobody_may_nothing():
    assert at_least("owner", "visitor") and at_least("rater", "rater") and not at_least("rater", "operator")
    assert not at_least(None, "visitor")


def test_users_are_added_listed_and_removed_on_the_command_line(home, call, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
    said = call("users", "add", "mika", "--role", "operator", "--json")
    assert said.document["role"] == "operator"
    assert "PLAYGROUND_USERS=" in said.err and PASSWORD not in said.out + said.err
    assert call("users", "list", "--json").document == [{"name": "mika", "role": "operator"}]
    assert call("users", "remove", "nobody").status == 2
    assert call("users", "remove", "mika", "--json").document["removed"] == "mika"
    assert call("users", "list", "--json").document == []


def test_who_guessed_too_often_is_told_in_both_languages(path):
    access = Access(users=Users(path))
    app = TestClient(Starlette(routes=sign_in.routes(access)))
    sent = {"name": "owner", "password": "not the password"}
    assert [app.post("/sign-in", data=sent).status_code for _ in range(WRONG_BEFORE_WAIT)] == [401] * WRONG_BEFORE_WAIT
    refused = app.post("/sign-in", data=sent)
    assert refused.status_code == 429
    assert "秒後に、もう一度" in refused.text and "try again in" in refused.text


def test_a_short_password_adds_nobody(home, call, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    said = call("users", "add", "mika", "--role", "owner")
    assert said.status == 2 and "5 characters" in said.err
    assert call("users", "list", "--json").document == []


class Asked:
    """A request as Access looks at it."""

    class client:
        host = "2001:db8:1:2:3::1"

    def __init__(self, token: str = "", *forwarded: bytes) -> None:
        self.cookies = {COOKIE: token}
        self.headers = Headers(raw=[(b"x-forwarded-for", line) for line in forwarded])


def test_a_new_password_ends_the_sign_ins_of_the_old_one(tmp_path):
    path = tmp_path / "users.json"
    write_users(path, {"mika": make_user("mika", "owner", "the first password")})
    access = Access(profile("gpu"), Users(path))
    asked = Asked(access.let_in("mika"))
    assert access.caller(asked).role == "owner"
    write_users(path, {"mika": make_user("mika", "owner", "the second password")})
    assert access.caller(asked).role == "visitor"
    assert access.caller(Asked(access.let_in("mika"))).role == "owner"


def test_an_address_is_what_our_proxy_wrote_and_an_ipv6_network_is_one():
    told = Asked("", b"6.6.6.6", b"203.0.113.9")
    assert Access(profile("gpu"), proxies=1).address(told) == "203.0.113.9"
    assert Access(profile("gpu"), proxies=2).address(told) == "6.6.6.6"
    assert Access(profile("gpu"), proxies=1).address(Asked("", b"6.6.6.6, ::ffff:203.0.113.9")) == "203.0.113.9"
    for asked, proxies in ((told, 0), (Asked(), 1), (Asked("", b"2001:db8:1:2::7"), 1)):
        assert Access(profile("gpu"), proxies=proxies).address(asked) == "2001:db8:1:2::/64"


@pytest.mark.parametrize("role", ["visitor", "operator", "owner"])
def test_a_checkpoint_that_is_not_offered_is_the_owners_to_name(monkeypatch, role):
    access = Access(profile("gpu"))
    monkeypatch.setattr(access, "caller", lambda: Caller(role))
    access.check_checkpoints(["general", "hub:a/b"], ["general", "hub:a/b"], "en")
    for model in ("hub:owner/private", "path:/home"):
        with nullcontext() if role == "owner" else pytest.raises(Refused, match="no model"):
            access.check_checkpoints(["general", model], ["general", "hub:a/b"], "en")
