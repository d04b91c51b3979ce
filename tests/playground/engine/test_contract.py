"""What every Engine promises, whether it computes here, asks an endpoint or vLLM servers, or routes to several."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from evaluation.errors import ModelUnavailable
from playground.engine.protocol import Chunk
from tests.playground.engine.serving import Served, finishes, request, serve, wait_until, whole, within

LONG = 400  # tokens; longer than any test listens


@pytest.fixture(scope="module", params=["local", "endpoint", "router", "vllm", "vllm-pair"])
def served(request, tiny, tiny_adapters) -> Iterator[Served]:
    with serve(request.param, tiny, tiny_adapters) as found:
        yield found


def collected(served: Served, *requests) -> list[Chunk]:
    return within(lambda: list(served.engine.stream(requests)))


class TestEveryEngine:
    def test_every_request_finishes_exactly_once_and_with_its_reason(self, served):
        chunks = collected(served, *(request(f"once-{n}", (served.left, served.right)[n % 2]) for n in range(4)))
        reasons = finishes(chunks)
        assert set(reasons) == {f"once-{n}" for n in range(4)}
        assert set(reasons.values()) <= {"stop", "length"}

    def test_chunks_name_the_identity_of_the_model_that_was_asked(self, served):
        assert served.engine.identity(served.left).digest != served.engine.identity(served.right).digest
        chunks = collected(served, request("l", served.left), request("r", served.right))
        for id, model in (("l", served.left), ("r", served.right)):
            assert {c.identity for c in chunks if c.request_id == id} == {served.engine.identity(model).digest}

    def test_a_finish_counts_tokens_and_seconds_from_the_request(self, served):
        [*_, last] = collected(served, request("counted", served.left, tokens=9))
        finish = last.finish
        assert finish is not None
        assert finish.tokens > 0 and finish.prompt_tokens > 0
        assert finish.ttft_s is not None and 0 < finish.ttft_s <= finish.seconds
        assert finish.error is None

    def test_both_sides_stream_interleaved(self, served):
        chunks = collected(served, request("l", served.left, tokens=80), request("r", served.right, tokens=80))
        texts = [chunk.request_id for chunk in chunks if chunk.text]
        ends = {id: max(n for n, other in enumerate(texts) if other == id) for id in ("l", "r")}
        starts = {id: texts.index(id) for id in ("l", "r")}
        assert max(starts.values()) < min(ends.values()), "one side waited for the other to end"

    def test_cancelling_one_leaves_the_other(self, served):
        left, right = request("going", served.left, tokens=60), request("stopped", served.right, tokens=LONG)
        expected = whole(collected(served, left), "going")
        chunks: list[Chunk] = []

        def listen() -> None:
            for chunk in served.engine.stream([left, right]):
                chunks.append(chunk)
                if sum(c.request_id == "stopped" for c in chunks) == 2:
                    served.engine.cancel("stopped")

        within(listen)
        assert finishes(chunks)["stopped"] == "cancelled"
        assert finishes(chunks)["going"] in ("stop", "length")
        assert whole(chunks, "going") == expected

    def test_a_cancelled_request_says_that_it_is_no_error(self, served):
        chunks = []
        for chunk in served.engine.stream([request("c", served.left, tokens=LONG)]):
            chunks.append(chunk)
            served.engine.cancel("c")
        assert chunks[-1].finish is not None
        assert (chunks[-1].finish.reason, chunks[-1].finish.error) == ("cancelled", None)
        assert chunks[-1].finish.tokens < LONG

    def test_cancelling_an_id_that_is_not_in_flight_is_not_remembered(self, served):
        served.engine.cancel("later")
        assert finishes(collected(served, request("later", served.right)))["later"] in ("stop", "length")
        served.engine.cancel("later")
        assert finishes(collected(served, request("later", served.left)))["later"] in ("stop", "length")

    def test_closing_the_iterator_stops_the_computing(self, served):
        stream = served.engine.stream([request("l", served.left, tokens=LONG), request("r", served.right, tokens=LONG)])
        seen = {next(stream).request_id for _ in range(6)}
        assert seen
        within(stream.close)
        wait_until(served.idle)

    def test_a_stream_that_nobody_reads_computes_nothing(self, served):
        stream = served.engine.stream([request("unread", served.left), request("unread-too", served.right)])
        assert served.idle()
        within(stream.close)
        assert served.idle()

    def test_an_unknown_model_is_refused_before_the_first_chunk(self, served):
        with pytest.raises(ModelUnavailable) as refused:
            served.engine.stream([request("l", served.left), request("r", "nobody")])
        assert "nobody" in str(refused.value) and served.left in str(refused.value)
        assert "\n" not in str(refused.value)
        with pytest.raises(ModelUnavailable):
            served.engine.identity("nobody")
        assert served.idle()

    def test_an_error_ends_only_its_own_request_with_one_line(self, served):
        healthy = request("healthy", served.left, tokens=60)
        expected = whole(collected(served, healthy), "healthy")
        going = served.engine.stream([healthy])
        chunks = [next(going)]
        served.break_next()
        [*_, last] = collected(served, request("broken", served.right))
        assert last.finish is not None
        assert last.finish.reason == "error"
        assert last.finish.error and "\n" not in last.finish.error
        chunks += within(lambda: list(going))
        assert finishes(chunks)["healthy"] in ("stop", "length")
        assert whole(chunks, "healthy") == expected
        assert finishes(collected(served, request("next", served.right)))["next"] in ("stop", "length")

    def test_sides_are_never_swapped_however_many_ask_at_once(self, served):
        """Each request's text must be its own: the one it gets when nobody else asks."""
        asked = {}
        for number in range(8):
            for side, model in (("l", served.left), ("r", served.right)):
                asked[f"{side}{number}"] = request(
                    f"{side}{number}", model, chr(0x4E00 + 97 * number) * (2 + 3 * number), 24
                )
        expected = {id: whole(collected(served, one), id) for id, one in asked.items()}
        assert len(set(expected.values())) == len(expected), "equal texts would hide a swap"
        pairs = [(asked[f"l{n}"], asked[f"r{n}"]) for n in range(8)]
        got: dict[str, str] = {}

        def visitor(number: int) -> None:
            for left, right in pairs[number::4]:
                chunks = list(served.engine.stream([left, right]))
                got.update({one.id: whole(chunks, one.id) for one in (left, right)})

        threads = [threading.Thread(target=visitor, args=(n,), daemon=True) for n in range(4)]
        within(lambda: [thread.start() for thread in threads] and [thread.join() for thread in threads])
        assert got == expected
