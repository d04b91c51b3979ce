"""Asking over the network: what an endpoint lacks, faults, bounds, secrets. The server is local and scripted."""

from __future__ import annotations

import threading
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from evaluation.errors import AccessMissing, ModelUnavailable, SettingsRejected, UserFacingError
from evaluation.judge import endpoint
from evaluation.judge.endpoint import origin_of
from evaluation.judge.openai_judge import OpenAIJudge
from tests.evaluation.judge.asking import FOUR, KEY, Time, ask, judge_at
from tests.evaluation.judge.exchanges import exchange
from tests.openai_server import (
    OpenAIServer,
    drip,
    empty_choices,
    hang,
    malformed,
    ok,
    redirect,
    reset,
    status,
    truncated,
)

# Structured output and other parameters that an endpoint may not have


def test_an_endpoint_without_structured_output_is_asked_in_prose_from_then_on():
    with OpenAIServer(reply=lambda body: "危険です。\n評価：[[2]]", refuses=["response_format"]) as server:
        judge = judge_at(server, concurrency=1)
        judged = judge.judge([exchange(key="r1"), exchange(key="r2")])
        judged += judge.judge([exchange(key="r3")])
    assert [judgement.score for judgement in judged] == [2, 2, 2]
    assert ["response_format" in request.body for request in server.requests] == [True, False, False, False]
    assert "[[n]]" in server.requests[1].body["messages"][0]["content"]
    assert "[[n]]" not in server.requests[0].body["messages"][0]["content"]


def test_structured_output_is_given_up_when_a_400_does_not_say_what_it_is_about():
    judged, server = ask(status(400, message="invalid request"), reply=lambda body: "評価：[[2]]")
    assert judged.score == 2
    assert "response_format" not in server.requests[1].body


def test_an_endpoint_that_ignores_structured_output_is_read_as_prose():
    judged, server = ask(reply=lambda body: "危険です。\n評価：[[2]]")
    assert (judged.score, len(server.requests)) == (2, 1)


def test_parameters_that_an_endpoint_refuses_are_left_out():
    judged, server = ask(refuses=["temperature", "max_tokens", "seed"])
    assert judged.score == 4
    last = server.requests[-1].body
    assert not {"temperature", "max_tokens", "seed"} & set(last)
    assert last["max_completion_tokens"] == 2048


@pytest.mark.parametrize("model", ["gpt-5", "gpt-5-mini", "gpt-5.1", "o3", "o4-mini", "openai/gpt-5-nano"])
def test_reasoning_models_get_no_temperature_and_count_their_thoughts(model):
    _, server = ask(model=model)
    body = server.requests[0].body
    assert "temperature" not in body
    assert "max_tokens" not in body
    assert body["max_completion_tokens"] == 2048


@pytest.mark.parametrize("model", ["gpt-4o-2024-08-06", "gpt-4.1", "gpt-5-chat-latest", "gpt-oss-20b", "olmo-2"])
def test_other_models_get_a_temperature(model):
    _, server = ask(model=model)
    assert server.requests[0].body["temperature"] == 0


# Faults that may pass


@pytest.mark.parametrize(
    "fault",
    [
        status(408),
        status(429),
        status(500),
        status(502),
        status(503),
        status(529),
        reset(),
        malformed(),
        malformed(b"<html>busy</html>", "text/html"),
        malformed(b'{"error": {"message": "engine died"}}'),
        malformed(b"[]"),
        truncated(),
        empty_choices(),
    ],
    ids=[
        "408",
        "429",
        "500",
        "502",
        "503",
        "529",
        "reset",
        "cut json",
        "html",
        "error in a 200",
        "list",
        "cut body",
        "empty",
    ],
)
def test_a_fault_that_may_pass_is_tried_again(fault):
    judged, server = ask(fault, fault)
    assert (judged.score, len(server.requests)) == (4, 3)


def test_waiting_doubles_with_jitter_and_ends_after_six_requests():
    time = Time()
    judged, server = ask(*[status(503)] * 20, time=time)
    assert (judged.score, judged.missing, len(server.requests)) == (None, "unreachable", 6)
    assert time.slept == [1, 2, 4, 8, 16]
    assert "503" in judged.explanation
    least = Time()
    ask(*[status(503)] * 3, time=least, jitter=lambda: 0.0)
    assert least.slept == [0.5, 1, 2]


def test_the_server_is_given_the_time_it_asks_for():
    time = Time()
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    ask(status(429, retry_after=7), status(529, retry_after=0.5), status(503, retry_after=date), time=time)
    assert time.slept[:2] == [7, 0.5]
    assert time.slept[2] == pytest.approx(90, abs=30)


@pytest.mark.parametrize("value", ["soon", "-5", "nan", "inf", "1e9", ""])
def test_a_nonsense_retry_after_is_ignored(value):
    time = Time()
    judged, _ = ask(status(429, retry_after=value), time=time)
    assert (judged.score, time.slept) == (4, [1])


def test_a_wait_past_the_limit_is_not_begun():
    time = Time()
    judged, server = ask(status(429, retry_after=3600), time=time)
    assert (judged.missing, time.slept, len(server.requests)) == ("unreachable", [], 1)


def test_waiting_stays_within_ten_minutes_for_one_sample():
    time = Time()
    judged, server = ask(*[status(429, retry_after=250)] * 5, time=time)
    assert (judged.missing, time.slept, len(server.requests)) == ("unreachable", [250, 250], 3)


def test_bounds_hold_over_all_asks_for_one_sample():
    unreadable, fault = ok("読めません"), status(500)
    judged, server = ask(fault, fault, unreadable, fault, fault, unreadable, fault, fault, ok(FOUR))
    assert (judged.missing, len(server.requests)) == ("unreachable", 8)
    assert judged.prompt_tokens == 200


def test_a_server_that_never_answers_is_unreachable(monkeypatch):
    monkeypatch.setattr(endpoint, "READ_SECONDS", 0.05)
    judged, server = ask(*[hang()] * 6)
    assert (judged.missing, len(server.requests)) == ("unreachable", 6)


def test_a_server_that_drips_is_left_when_the_sample_s_time_is_up(monkeypatch):
    monkeypatch.setattr(endpoint, "MAX_SECONDS", 0.4)
    with OpenAIServer([drip()]) as server:
        judge = OpenAIJudge("test-model", base_url=server.url, api_key=KEY)
        (judged,) = judge.judge([exchange()])
        assert server.wait_for(lambda: server.disconnects == 1)
    assert judged.missing == "unreachable"


def test_a_body_without_end_is_not_kept(monkeypatch):
    monkeypatch.setattr(endpoint, "MAX_BODY_BYTES", 1000)
    judged, _ = ask(malformed(b" " * 100_000), ok(FOUR))
    assert judged.score == 4


def test_a_server_that_is_not_there_is_unreachable():
    with OpenAIServer() as server:
        gone = server.url
    time = Time()
    judge = OpenAIJudge("m", base_url=gone, api_key=KEY, sleep=time.sleep, clock=time.clock)
    (judged,) = judge.judge([exchange()])
    assert (judged.missing, len(time.slept)) == ("unreachable", 5)


def test_one_sample_that_cannot_be_reached_costs_no_other_sample():
    def reply(body):
        return FOUR

    with OpenAIServer([status(500)] * 6, reply) as server:
        judged = judge_at(server, concurrency=1).judge([exchange(key=f"r{number}") for number in range(4)])
    assert [judgement.missing for judgement in judged] == ["unreachable", None, None, None]


# Faults that will not pass

FATAL = {
    "401": (status(401, message=f"Incorrect API key provided: {KEY}"), AccessMissing),
    "403": (status(403), AccessMissing),
    "no quota": (status(429, code="insufficient_quota"), AccessMissing),
    "404": (status(404), ModelUnavailable),
    "405": (status(405), SettingsRejected),
    "redirect": (redirect("http://127.0.0.1:9/v1/chat/completions"), SettingsRejected),
    "moved": (redirect("https://elsewhere.example/", 301), SettingsRejected),
}


@pytest.mark.parametrize(("fault", "error"), FATAL.values(), ids=FATAL)
def test_a_fault_that_will_not_pass_stops_the_judge_at_once(fault, error):
    with OpenAIServer([fault] * 50) as server:
        with pytest.raises(error) as raised:
            judge_at(server, concurrency=1).judge([exchange(key=f"r{number}") for number in range(20)])
        assert len(server.requests) == 1
    message = str(raised.value)
    assert "\n" not in message
    assert "test-model" in message
    assert server.url.removesuffix("/v1") in message


def test_a_request_that_stays_wrong_stops_the_judge_and_says_what_the_server_said():
    wrong = status(400, message="top_k must be\npositive", param="top_k")
    with OpenAIServer([wrong] * 3) as server, pytest.raises(SettingsRejected, match="top_k must be positive"):
        judge_at(server).judge([exchange()])


def test_what_was_paid_for_is_handed_over_before_the_judge_gives_up():
    good = threading.Event()

    def reply(body):
        good.wait(5)
        return FOUR

    done = []
    with OpenAIServer([ok(), status(401)], reply) as server:
        threading.Timer(0.3, good.set).start()
        with pytest.raises(AccessMissing):
            judge_at(server, concurrency=2).judge([exchange(key="r1"), exchange(key="r2")], on_done=done.append)
    assert [judgement.score for judgement in done] == [4]


def test_an_error_in_on_done_stops_the_judging_and_is_passed_on():
    def full(_):
        raise OSError("disk full")

    with OpenAIServer(reply=lambda body: FOUR) as server:
        with pytest.raises(OSError, match="disk full"):
            judge_at(server, concurrency=1).judge([exchange(key=f"r{number}") for number in range(50)], on_done=full)
        assert len(server.requests) < 50


# Secrets


@pytest.mark.parametrize(
    "behaviours",
    [
        [status(401, message=f"Incorrect API key provided: {KEY}")],
        [status(400, message=f"bad key {KEY} or sk-live-77777777 in Bearer {KEY}")] * 2,
        [status(404, message=KEY)],
        [redirect(f"https://elsewhere.example/?key={KEY}")],
        [status(429, message=KEY, code="insufficient_quota")],
    ],
    ids=["401", "400", "404", "redirect", "quota"],
)
def test_no_error_shows_the_key_not_even_in_its_traceback(behaviours):
    with OpenAIServer(behaviours) as server, pytest.raises(UserFacingError) as raised:
        judge_at(server).judge([exchange()])
    shown = "".join(traceback.format_exception(raised.value))
    assert KEY not in shown
    assert "sk-live" not in shown


def test_no_judgement_shows_the_key():
    judged, _ = ask(*[status(500, message=KEY)] * 6)
    assert KEY not in repr(judged)


def test_a_redirect_is_not_followed_so_the_key_stays_with_its_origin():
    with OpenAIServer() as other, OpenAIServer([redirect(f"{other.url}/chat/completions")]) as server:
        with pytest.raises(SettingsRejected, match="redirect"):
            judge_at(server).judge([exchange()])
        assert other.requests == []
        assert server.requests[0].authorization == f"Bearer {KEY}"


def test_nothing_from_the_environment_travels_with_a_request(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-server-secret")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Internal: custom-secret\nAuthorization: Bearer sk-server-secret")
    _, server = ask()
    assert "secret" not in repr(server.requests[0].headers)
    assert server.requests[0].authorization == f"Bearer {KEY}"


def test_without_a_key_none_is_sent_even_when_the_environment_has_one(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-server-secret")
    _, server = ask(api_key=None)
    assert server.requests[0].authorization is None


def test_openai_itself_is_not_asked_without_a_key():
    with pytest.raises(AccessMissing, match="needs an API key"):
        OpenAIJudge(api_key=" ")


@pytest.mark.parametrize("key", ["キー", "sk-a b", "sk-a\nb"], ids=["not ascii", "space", "line break"])
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(key):
    with pytest.raises(SettingsRejected) as raised:
        OpenAIJudge(api_key=key)
    assert key not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com"),
        ("https://API.openai.com:443/v1/", "https://api.openai.com"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_an_origin_is_scheme_host_and_unusual_port(url, origin):
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.openai.com/v1",
        "file:///etc/passwd",
        "https://",
        "https://me:pass@host/v1",
        "https://host/v1?key=x",
        "http://h:99999/",
    ],
)
def test_a_base_url_that_is_not_a_plain_web_address_is_refused_without_being_shown(url):
    with pytest.raises(SettingsRejected) as raised:
        OpenAIJudge("m", base_url=url, api_key=KEY)
    assert "pass" not in str(raised.value)
