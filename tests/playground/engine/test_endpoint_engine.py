"""An OpenAI-compatible endpoint as an engine, beyond the contract: the key, the connection, what people are told."""

from __future__ import annotations

import logging
import threading

import pytest

from evaluation.benchmark.pacing import Pacer
from evaluation.errors import AccessMissing, SettingsRejected
from playground.engine import endpoint as engine_module
from playground.engine.endpoint import EndpointEngine
from playground.engine.protocol import Chunk, Finish
from tests.openai_server import Behaviour, OpenAIServer, hang, malformed, ok, redirect, reset, status, without_usage
from tests.playground.engine.serving import KEY, echo, finishes, request, wait_until, whole, within


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(engine_module, "BACKOFF_S", 0.01)


def ask(server: OpenAIServer, **changes) -> list[Chunk]:
    engine = EndpointEngine(server.url, KEY, ["alpha"])
    return within(lambda: list(engine.stream([request("r", "openai:alpha", **changes)])))


def finish(chunks: list[Chunk]) -> Finish:
    assert chunks[-1].finish is not None
    return chunks[-1].finish


def test_the_sampling_and_the_system_prompt_are_sent_as_they_are():
    with OpenAIServer() as server:
        ask(server, temperature=0.3, top_p=0.8, tokens=77, seed=5, system_prompt="短く。")
        [sent] = server.requests
    assert sent.body["messages"] == [
        {"role": "system", "content": "短く。"},
        {"role": "user", "content": "こんにちは"},
    ]
    assert {name: sent.body[name] for name in ("model", "temperature", "top_p", "max_tokens", "seed")} == {
        "model": "alpha", "temperature": 0.3, "top_p": 0.8, "max_tokens": 77, "seed": 5,
    }  # fmt: skip
    assert sent.authorization == f"Bearer {KEY}"


def test_tokens_are_the_endpoints_count_where_it_counts():
    with OpenAIServer([ok("あいうえお"), without_usage("あいうえお")]) as server:
        assert (finish(ask(server)).tokens, finish(ask(server)).tokens) == (20, 2)


def test_a_model_that_knows_the_longest_reply_by_another_name_is_told_it_by_that_and_its_own_sampling_left_out():
    with OpenAIServer(refuses=("max_tokens", "top_p")) as server:
        engine = EndpointEngine(server.url, KEY, ["o3"])
        for name in ("first", "second"):
            asked = request(name, "openai:o3", temperature=1.0, top_p=1.0, tokens=77)
            assert finish(within(lambda asked=asked: list(engine.stream([asked])))).reason == "stop"
    assert len(server.requests) == 4, "what was refused once is not sent again"
    sent = server.requests[-1].body
    assert (sent["max_completion_tokens"], sent["temperature"]) == (77, 1.0)


def test_sampling_that_a_model_refuses_is_told_and_never_left_out_silently():
    with OpenAIServer(reply=echo, refuses=("temperature",)) as server:
        error = finish(ask(server, temperature=0.3)).error
    assert error is not None and "(HTTP 400): Unsupported parameter: 'temperature'" in error


@pytest.mark.parametrize(("said", "reason"), [("stop", "stop"), ("length", "length"), ("content_filter", "stop")])
def test_finish_reasons_are_translated(said, reason):
    with OpenAIServer([ok("はい", finish_reason=said)]) as server:
        assert finish(ask(server)).reason == reason


def test_an_identity_is_the_origin_and_the_name():
    there, elsewhere = (EndpointEngine(f"http://{host}/v1", KEY, ["a", "b"]) for host in ("one", "two"))
    assert there.model_ids() == ["openai:a", "openai:b"]
    digests = {e.identity(model).digest for e in (there, elsewhere) for model in e.model_ids()}
    assert len(digests) == 4


BROKEN: dict[str, tuple[list[Behaviour], str]] = {
    "a-wrong-key": ([status(401, message=f"bad key {KEY}")], "refused the key"),
    "a-forbidden-model": ([status(403, message=f"bad key {KEY}")], "refused the key"),
    "no-such-model": ([status(404)], "no model alpha"),
    "over-the-limit": ([status(429)] * 3, "rate limit"),
    "a-bad-request": ([status(400, message=f"too\nlong {KEY}")], "HTTP 400): too long [key]; "),
    "a-broken-server": ([status(500)] * 3, "HTTP 500"),
    "cut-before-the-first-chunk": ([reset()] * 3, "cannot be reached"),
    "cut-in-the-middle": ([reset(after_chunks=2)], "broke off"),
    "cut-at-the-end": ([reset(after_chunks=1_000)], "broke off"),
    "no-stream-at-all": ([malformed(b"<html>hello</html>", "text/html")], "without a finish reason"),
    "a-torn-event": ([malformed(b'data: {"choices": [\n\n', "text/event-stream")], "broke off"),
    "an-end-without-a-reason": ([malformed(b"data: [DONE]\n\n", "text/event-stream")], "without a finish reason"),
    "an-empty-reply": ([malformed(b"", "text/event-stream")], "without a finish reason"),
}


@pytest.mark.parametrize(("behaviours", "told"), BROKEN.values(), ids=BROKEN)
def test_what_breaks_is_told_in_one_line_without_the_key(behaviours, told, caplog):
    with OpenAIServer(behaviours, reply=echo) as server, caplog.at_level(logging.DEBUG):
        chunks = ask(server)
    assert finish(chunks).reason == "error"
    error = finish(chunks).error
    assert error is not None
    assert told in error
    assert "\n" not in error
    ours = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith(("playground", "root")))
    assert KEY not in error and KEY not in ours


@pytest.mark.parametrize("passing", [status(429), status(503), reset()], ids=["busy", "restarting", "cut"])
def test_what_may_pass_is_tried_again(passing):
    with OpenAIServer([passing, passing], reply=echo) as server:
        chunks = ask(server)
        assert finish(chunks).reason == "stop"
        assert len(server.requests) == 3


@pytest.mark.parametrize("refusal", [status(400), status(401), status(404)], ids=["request", "key", "model"])
def test_a_request_that_is_refused_costs_nothing_of_the_spend_cap(refusal, monkeypatch):
    monkeypatch.setattr(engine_module, "most_usd", lambda *_: 0.6)
    with OpenAIServer([refusal], reply=echo) as server:
        engine = EndpointEngine(server.url, KEY, ["alpha"], pacer=Pacer(cap_usd=1.0))
        ends = [
            finish(within(lambda name=name: list(engine.stream([request(name, "openai:alpha")]))))
            for name in ("a", "b")
        ]
    assert [end.reason for end in ends] == ["error", "stop"]


def test_a_reply_that_began_is_never_asked_for_again():
    with OpenAIServer([reset(after_chunks=2)], reply=echo) as server:
        chunks = ask(server)
        assert whole(chunks, "r"), "what came is kept"
        assert len(server.requests) == 1


def test_an_endpoint_that_is_down_is_told_in_one_line():
    with OpenAIServer() as server:
        url = server.url
    chunks = within(lambda: list(EndpointEngine(url, KEY, ["a"]).stream([request("r", "openai:a")])))
    error = finish(chunks).error
    assert error is not None and "cannot be reached" in error and "\n" not in error


def test_a_redirect_is_refused_and_the_key_stays_here():
    with OpenAIServer() as elsewhere, OpenAIServer([redirect(f"{elsewhere.url}/chat/completions")]) as server:
        error = finish(ask(server)).error
        assert elsewhere.requests == []
    assert error is not None and "redirect" in error and "PLAYGROUND_OPENAI_BASE_URL" in error


def test_a_server_that_never_answers_can_be_left():
    with OpenAIServer([hang()]) as server:
        engine = EndpointEngine(server.url, KEY, ["alpha"])
        chunks: list[Chunk] = []
        listener = threading.Thread(
            target=lambda: chunks.extend(engine.stream([request("stuck", "openai:alpha")])), daemon=True
        )
        listener.start()
        wait_until(lambda: len(server.requests) == 1)
        engine.cancel("stuck")
        listener.join(20)
        assert finishes(chunks) == {"stuck": "cancelled"}
        assert server.wait_for(lambda: server.disconnects == 1)
        assert len(server.requests) == 1, "a cancelled request is not tried again"


def test_a_server_that_falls_silent_midway_can_be_left():
    with OpenAIServer(reply=echo, chunk_delay=30.0) as server:
        engine = EndpointEngine(server.url, KEY, ["alpha"])
        stream = engine.stream([request("silent", "openai:alpha")])
        chunks = [next(stream)]
        timer = threading.Timer(0.2, engine.cancel, ["silent"])
        timer.start()
        chunks += within(lambda: list(stream), 20)
        assert finishes(chunks) == {"silent": "cancelled"}
        assert server.wait_for(lambda: server.disconnects == 1)


def test_closing_the_stream_hangs_up():
    with OpenAIServer(reply=echo, chunk_delay=0.02) as server:
        engine = EndpointEngine(server.url, KEY, ["alpha"])
        stream = engine.stream([request("l", "openai:alpha", tokens=500), request("r", "openai:alpha", tokens=500)])
        for _ in range(4):
            next(stream)
        wait_until(lambda: len(server.requests) == 2)
        within(stream.close)
        assert server.wait_for(lambda: server.disconnects == 2, 20)
        wait_until(lambda: not engine._flights)


def test_the_key_is_in_no_repr():
    engine = EndpointEngine("http://one/v1", KEY, ["a"])
    assert KEY not in repr(engine) and KEY not in str(engine.identity("openai:a"))


def test_without_a_key_the_way_to_give_one_is_told():
    for key in (None, ""):
        with pytest.raises(AccessMissing, match="PLAYGROUND_OPENAI_API_KEY"):
            EndpointEngine("http://one/v1", key, ["a"])


def test_a_base_url_with_a_secret_in_it_is_refused_without_repeating_it():
    with pytest.raises(SettingsRejected) as refused:
        EndpointEngine("https://me:hunter2@one/v1", KEY, ["a"])
    assert "hunter2" not in str(refused.value)
