"""A public profile over plain HTTP: strangers try the models, and reach nothing of anybody else's."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from gradio.context import LocalContext

from evaluation.types import Message
from playground import examples
from playground.pages import Services, assembly, sign_in
from playground.pages.access import Access
from playground.pages.text import TEXT
from playground.profiles import profile
from playground.store import ChatLog, Store, runs
from playground.visits import VisitorsLog, Visits
from tests.fakes import FakeEngine, FakeJudge, imported_suite
from tests.nouns import prompt, response
from tests.playground.access.serving import PASSWORD, Person, Served, served, settings_for, users_file

SECRET = "だれにも見せない問い-7f3a"
OWNERS = "所有者だけの会話-91bc"
VOTED = "票を残す問い-4c2e"


def talk_of_the_owner(own: Services) -> None:
    """A conversation that no visitor may see."""
    run = own.chat.start_conversation({}, {})
    said = [response(side, messages=(Message("user", OWNERS),)) for side in ("l", "r")]
    own.chat.add_turn(run, prompt("p", question=OWNERS), *said)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    home = tmp_path_factory.mktemp("public")
    settings = settings_for(home, profile="gpu", users=users_file(home / "users.json"), openai_api_key="sk-x")
    judges = [FakeJudge(), FakeJudge("openai:gpt-4o-2024-08-06")]
    with served(
        settings, engine=FakeEngine(replies={**FakeEngine().replies, "openai:gpt-4o": "x"}), judges=judges
    ) as one:
        talk_of_the_owner(one.services.own)  # type: ignore[attr-defined]
        one.services.access._budget._clock = lambda: datetime(2026, 5, 1, 12, tzinfo=UTC)  # a new day would count anew
        one.services.access.profile = replace(
            one.services.access.profile, requests_per_minute=None, requests_per_minute_address=None
        )
        yield one


@pytest.fixture
def visitor(app: Served):
    with app.person() as person:
        yield person


def ask(person: Person, question: str, **changes: object) -> str | None:
    """Press Compare and wait for the answers; the refusal, if there was one."""
    index = person.served.indices("compare.begin")[0]
    values = person.served.first_values(index)
    parts = [getattr(part, "elem_id", "") for part in person.served.app.fns[index].inputs]
    values[parts.index("question")] = question
    for name, value in changes.items():
        at = parts.index(name) if name in parts else 8  # the left side's max tokens have no id
        values[at] = value
    begun = person.call(index, values)
    if begun.error is None:
        person.press("compare.stream")
        person.press("compare.settle")
    return begun.error


def history(person: Person) -> str:
    answer = person.press("history.show")
    assert answer.error is None, answer
    return json.dumps(answer.data, ensure_ascii=False)


def test_a_visitor_sees_their_own_conversation_and_nobody_elses(app: Served, visitor: Person):
    assert ask(visitor, SECRET) is None
    mine = history(visitor)
    assert SECRET in mine and OWNERS not in mine
    with app.person() as other:
        assert SECRET not in history(other)
        run = next(iter(app.services.access.visits.of(visitor.session)))
        opened = other.press("history.build.on_pick", event={"id": run})
        assert opened.error == TEXT["error.gone"].ja


def test_what_a_visitor_typed_is_in_no_run_folder_and_in_no_index_of_the_owner(app: Served, visitor: Person):
    ask(visitor, SECRET)
    home = app.services.own.settings.home  # type: ignore[attr-defined]
    found = [path for path in home.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert found and all(home / "visitors" in path.parents for path in found)


def test_the_owner_signs_in_beside_the_visitors_and_has_everything(app: Served):
    with app.person() as owner:
        assert owner.sign_in("owner", "not the password").status_code == 401
        assert OWNERS not in history(owner)
        assert owner.sign_in("owner", PASSWORD).status_code == 303
        assert OWNERS in history(owner)
        assert owner.client.post("/sign-out").status_code == 303
        assert OWNERS not in history(owner)


def test_a_vote_is_kept_only_after_consent_and_then_with_its_turn(app: Served, visitor: Person):
    kept = app.services.own.settings.runs  # type: ignore[attr-defined]
    before = set(kept.iterdir())
    ask(visitor, VOTED)
    refused = visitor.press("compare.vote")
    assert refused.error == TEXT["error.consent"].ja
    assert set(kept.iterdir()) == before
    assert visitor.press("consent.agree", True).error is None
    assert visitor.press("compare.vote").error is None
    (run,) = {path for path in kept.iterdir() if path.is_dir()} - before
    rating = json.loads((run / "ratings.jsonl").read_text())
    assert rating["rater"] == "visitor" and VOTED in (run / "pairs.jsonl").read_text()


def test_delete_all_deletes_the_visitors_own_and_really(app: Served, visitor: Person):
    ask(visitor, SECRET)
    (run,) = app.services.access.visits.of(visitor.session)
    folder = app.services.visitors.settings.runs / run  # type: ignore[attr-defined]
    assert folder.is_dir()
    assert visitor.press("privacy.purge").error is None
    assert not folder.exists() and SECRET not in history(visitor)
    owners = app.services.own  # type: ignore[attr-defined]
    assert owners.chat.page().total > 0, "the owner's conversations are still there"


def test_an_imported_suite_is_in_no_answer_of_the_page(app: Served, visitor: Person):
    with app.person() as owner:
        owner.sign_in("owner")
        for person, seen in ((visitor, False), (owner, True)):
            offered = person.press("browse.build.<lambda>", "ja")  # the tab was opened
            assert ("imported" in json.dumps(offered.data)) is seen
            answer = person.press("browse.choose_suite", "imported", "", "ja")
            shown = f"{json.dumps(answer.data, ensure_ascii=False)} {answer.error}"
            assert (imported_suite().prompts[0].question in shown) is seen
    page = visitor.client.get("/").text + visitor.client.get("/config").text
    question = imported_suite().prompts[0].question
    assert question not in page and json.dumps(question)[1:-1] not in page


def test_models_and_judges_that_cost_money_are_not_for_visitors_without_a_budget(app: Served, visitor: Person):
    assert "openai:gpt-4o" in (ask(visitor, "問い", **{"model-left": "openai:gpt-4o"}) or "")
    ask(visitor, "問い")
    answer = visitor.press("compare.judge_now", "openai:gpt-4o-2024-08-06")
    assert 'class=\\"verdict' not in json.dumps(answer.data)


def test_a_question_or_an_answer_that_is_too_long_is_refused_by_the_server(app: Served, visitor: Person):
    limit = app.services.access.profile.longest_question
    assert f"{limit:,}" in (ask(visitor, "あ" * (limit + 1)) or "")
    assert str(app.services.access.profile.max_new_tokens) in (ask(visitor, "問い", max_tokens=2_000) or "")


def test_a_visitor_who_asks_too_often_is_told_when_to_come_back_whatever_address_they_claim(app: Served):
    access = app.services.access
    was = access.profile
    access.profile = replace(was, requests_per_minute=50, requests_per_minute_address=2)
    access._rates._times.clear()
    try:
        errors = []
        for number in range(3):
            with app.person() as person:
                person.client.headers["X-Forwarded-For"] = f"192.0.2.{number}"
                errors.append(ask(person, "問い"))
        assert errors[:2] == [None, None]
        assert errors[2] is not None and "1 分に 2 回" in errors[2]
        with app.person() as owner:
            owner.sign_in("owner")
            assert ask(owner, "問い") is None, "who operates the app is not bounded"
    finally:
        access.profile = was
        access._rates._times.clear()


def test_the_days_tokens_are_counted_and_refused_when_they_are_gone(app: Served, visitor: Person):
    budget = app.services.access._budget
    before = budget.used.tokens
    ask(visitor, "問い")
    assert budget.used.tokens > before
    was, budget._tokens_per_day = budget._tokens_per_day, budget.used.tokens
    try:
        ask(visitor, "もう一つの問い")
        visitor.press("compare.settle")
        redrawn = visitor.press("compare.redraw")
        used_up = TEXT["limit.tokens.day"].ja.partition("{")[0]
        assert used_up in json.dumps(redrawn.data, ensure_ascii=False)
    finally:
        budget._tokens_per_day = was


def test_an_address_is_what_the_connection_says_unless_a_proxy_of_ours_wrote_it():
    class Asked:
        class client:
            host = "10.0.0.1"

        headers = {"x-forwarded-for": "203.0.113.9, 198.51.100.7"}  # noqa: RUF012

    assert Access(profile("gpu")).address(Asked) == "10.0.0.1"
    assert Access(profile("gpu"), proxies=1).address(Asked) == "198.51.100.7"
    assert Access(profile("gpu"), proxies=2).address(Asked) == "203.0.113.9"
    assert Access(profile("gpu"), proxies=3).address(Asked) == "10.0.0.1"


def test_somebody_from_the_hub_has_the_role_of_their_name_until_their_sign_in_ends():
    class Asked:
        client = None
        headers: dict[str, str] = {}  # noqa: RUF012
        session_hash = "s"
        scope: dict[str, object] = {}  # noqa: RUF012

    access = Access(profile("gpu"), hub_users={"mika": "owner"})
    assert access.caller(Asked).role == "visitor"
    for name, role in (("mika", "owner"), ("stranger", "visitor")):
        Asked.scope = {"session": {"oauth_info": {"userinfo": {"preferred_username": name}, "expires_at": None}}}
        assert access.caller(Asked).role == role
    Asked.scope = {"session": {"oauth_info": {"userinfo": {"preferred_username": "mika"}, "expires_at": 1}}}
    assert access.caller(Asked).role == "visitor"


def test_conversations_go_some_time_after_their_page_and_at_once_when_nobody_came_back():
    now = [0.0]
    visits = Visits(600, 3600, lambda: now[0])
    visits.keep("a", "run-a")
    visits.keep("b", "run-b")
    visits.close("a")
    now[0] = 599.0
    assert visits.over() == set()
    visits.touch("b")
    now[0] = 601.0
    assert visits.over() == {"run-a"} and visits.of("a") == frozenset()
    visits.close("b")
    visits.touch("b")  # the connection was back in time
    now[0] = 601.0 + 3000
    assert visits.over() == set()
    now[0] = 601.0 + 3601
    assert visits.over() == {"run-b"}


def test_a_sweep_removes_what_an_ended_visit_has_left_and_nothing_else(tmp_path: Path):
    now, asking = [0.0], ["a"]
    visits = Visits(600, 3600, lambda: now[0])
    with Store(tmp_path / "index.duckdb", tmp_path / "runs") as store:
        log = VisitorsLog(store, tmp_path / "runs", visits, lambda: asking[0], ChatLog(store, tmp_path / "runs"))
        ended = {log.start_conversation({}, {}) for _ in range(2)}
        asking[0] = "b"
        open_ = log.start_conversation({}, {})
        visits.close("a")
        now[0] = 601.0
        visits.sweep(log.sweep)
        assert {path.name for path in (tmp_path / "runs").iterdir()} == {open_} == store.read(runs.run_ids)
        assert not ended & log.own()


def test_the_shipped_example_holds_nothing_but_the_sample_set(tmp_path: Path):
    from evaluation.prompts.suites import sample_suites

    names = examples.unpack(tmp_path)
    assert names
    known = {prompt.question for prompt in sample_suites()["sample-test"].prompts}
    for name in names:
        asked = [json.loads(line) for line in (tmp_path / name / "prompts.jsonl").read_text().splitlines()]
        assert {row["suite"] for row in asked} == {"sample-test"}
        assert {row["question"] for row in asked} <= known
        assert "/tmp" not in (tmp_path / name / "run.json").read_text() + (tmp_path / name / "events.jsonl").read_text()


def test_an_operator_is_offered_every_judge_and_a_visitor_those_that_are_free(app: Served, visitor: Person):
    def judges(person: Person) -> str:
        return json.dumps(person.press("screen.choices_now", "ja").data[-1])

    assert "embedded" in judges(visitor) and "openai:" not in judges(visitor)
    with app.person() as operator:
        operator.sign_in("operator")
        assert "openai:gpt-4o-2024-08-06" in judges(operator)
        again = operator.press("bench_form.choices_now", "ja").data
        assert again[2] == again[3] and "openai:" in json.dumps(again[3])


def test_what_a_role_cannot_use_is_not_on_its_page(app: Served, visitor: Person):
    def hidden(person: Person) -> str:
        return str(person.press("frame.greet", "ja").data[0])

    mine = hidden(visitor)
    assert all(f"#{part}" in mine for part in ("bench-start", "bench-form", "train-start", "bench-sql", "adapter-push"))
    assert not any(f"#{part}," in mine for part in ("send", "stop", "purge", "vote-left"))
    assert "/sign-in" in mine
    with app.person() as owner:
        owner.sign_in("owner")
        assert "display:none" not in hidden(owner) and "/sign-out" in hidden(owner)


@pytest.mark.parametrize("role", [None, "owner"])
def test_no_field_stays_without_the_button_that_it_is_for(tmp_path: Path, role: str | None):
    settings = settings_for(tmp_path, profile="replay", users=users_file(tmp_path / "users.json"))
    with served(settings) as app, app.person() as person:
        if role is not None:
            person.sign_in(role)
        rule = str(person.press("frame.greet", "ja").data[0])
        hidden = {part.removeprefix("#") for part in rule.partition("<style>")[2].partition("{")[0].split(",")}
        drawn = {block.elem_id for block in app.app.blocks.values()}
        for button, part in (("bench-start", "bench-form"), ("bench-again", "bench-again-part")):
            assert {button, part} <= hidden & drawn


def test_housekeeping_deletes_what_is_too_old_and_nothing_without_being_told_to(app: Served):
    own = app.services.own  # type: ignore[attr-defined]
    before = own.chat.page().total
    assembly.Housekeeping(app.services, None).tidy()
    assert own.chat.page().total == before > 0
    assembly.Housekeeping(app.services, 1e-9).tidy()
    assert own.chat.page().total == 0
    talk_of_the_owner(own)  # the other tests look for it


@pytest.mark.parametrize(
    ("language", "way_in", "name", "way_out"),
    [
        ("ja", "Hugging Face でログイン", "mika（管理者）", "ログアウト"),
        ("en", "Sign in with Hugging Face", "mika (owner)", "Sign out"),
    ],
)
def test_a_space_says_who_is_signed_in_and_how_to_come_and_go(language: str, way_in: str, name: str, way_out: str):
    access = Access(profile("gpu"), hub_users={"mika": "owner"})
    services = SimpleNamespace(access=access)
    asked = SimpleNamespace(client=None, headers={}, session_hash="s", scope={})
    token = LocalContext.request.set(asked)
    try:
        shown = sign_in.who(services, {}, language)  # type: ignore[arg-type]
        assert f'<a href="/login/huggingface?_target_url=/">{way_in}</a>' in shown
        asked.scope = {"session": {"oauth_info": {"userinfo": {"preferred_username": "mika"}, "expires_at": None}}}
        shown = sign_in.who(services, {}, language)  # type: ignore[arg-type]
        assert name in shown and f'<a href="/logout?_target_url=/">{way_out}</a>' in shown
    finally:
        LocalContext.request.reset(token)


def test_housekeeping_finishes_a_deletion_that_was_cut_off(app: Served):
    runs = app.services.own.settings.runs  # type: ignore[attr-defined]
    left = runs / ".removed-20260101T000000000-aaaaaa"
    left.mkdir()
    (left / "responses.jsonl").write_text("秘密")
    assembly.Housekeeping(app.services, None).tidy()
    assert not left.exists()
