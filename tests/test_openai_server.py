"""The fault server itself, spoken to by the real client: other tests lean on it."""

from __future__ import annotations

import openai
import pytest

from tests.openai_server import OpenAIServer, hang, reset, status


def client(server: OpenAIServer) -> openai.OpenAI:
    return openai.OpenAI(api_key="key", base_url=server.url, max_retries=0)


def stream(server: OpenAIServer, **more):
    return client(server).chat.completions.create(
        model="m", messages=[{"role": "user", "content": "こんにちは"}], stream=True, **more
    )


def test_a_stream_comes_in_pieces_and_ends_with_its_reason_and_its_usage():
    with OpenAIServer(reply=lambda body: body["messages"][0]["content"] + "！") as server:
        chunks = list(stream(server, stream_options={"include_usage": True}))
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert texts == ["こんにち", "は！"]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == 20


def test_a_stream_can_break_off_in_the_middle():
    with OpenAIServer([reset(after_chunks=2)], reply=lambda body: "あいうえお" * 4) as server:
        chunks = stream(server)
        with pytest.raises(openai.APIConnectionError):
            for number, _ in enumerate(chunks):
                assert number < 2


def test_a_client_that_leaves_a_stream_is_counted():
    with OpenAIServer(reply=lambda body: "あ" * 400, chunk_delay=0.05) as server:
        chunks = stream(server)
        next(iter(chunks))
        chunks.close()
        assert server.wait_for(lambda: server.disconnects == 1)


def test_a_client_that_gives_up_waiting_is_counted():
    with OpenAIServer([hang()]) as server:
        with pytest.raises(openai.APITimeoutError):
            client(server).with_options(timeout=0.1).chat.completions.create(model="m", messages=[])
        assert server.wait_for(lambda: server.disconnects == 1)


def test_behaviours_are_used_up_in_order_and_requests_are_recorded():
    with OpenAIServer([status(503, retry_after=2)]) as server:
        with pytest.raises(openai.InternalServerError) as raised:
            client(server).chat.completions.create(model="m", messages=[])
        assert raised.value.response.headers["retry-after"] == "2"
        assert client(server).chat.completions.create(model="m", messages=[]).choices[0].message.content == "Hello."
        assert [request.authorization for request in server.requests] == ["Bearer key", "Bearer key"]
        assert [model.id for model in client(server).models.list()] == ["test-model"]


def test_a_refused_parameter_is_named_in_the_400():
    with OpenAIServer(refuses=["seed"]) as server:
        with pytest.raises(openai.BadRequestError) as raised:
            client(server).chat.completions.create(model="m", messages=[], seed=1)
        assert raised.value.param == "seed"
        client(server).chat.completions.create(model="m", messages=[])
