"""Talking to vLLM servers: tokens in, thoughts apart, adapters loaded while it runs, and servers that go and come."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from evaluation.benchmark.run import DOES_NOT_FIT
from evaluation.errors import ModelUnavailable, PromptTooLong
from evaluation.types import Message
from playground.engine import vllm
from playground.engine.local import LocalEngine
from playground.engine.protocol import GenerationRequest
from playground.engine.thinking import parts
from playground.engine.vllm import VllmEngine, our_models, their_models
from playground.engine.wire import Address
from tests.openai_server import Behaviour, malformed, ok, redirect, reset, status
from tests.playground.engine.serving import finishes, request, wait_until, whole, within
from tests.tiny import TEMPLATE, edit_config, tiny_adapter, tiny_folder
from tests.vllm_server import KEY, VllmServer


@contextmanager
def engine_of(*servers: VllmServer, folder: Path, long_work: bool = False) -> Iterator[VllmEngine]:
    with ExitStack() as stack:
        for server in servers:
            stack.enter_context(server)
        yield our_models([Address(server.url, KEY) for server in servers], folder, long_work=long_work)


def ask(engine: VllmEngine, *requests: GenerationRequest, seconds: float = 60.0):
    return within(lambda: list(engine.stream(requests)), seconds)


def ending(chunks):
    return next(chunk.finish for chunk in chunks if chunk.finish is not None)


# ---- what is sent, and what is told of it ----


def test_the_prompt_goes_out_as_tokens_with_every_setting_said(tiny):
    server = VllmServer(tiny)
    with engine_of(server, folder=tiny) as engine:
        ask(engine, request("r", "base", tokens=9, temperature=0.5, top_p=0.8, seed=7))
        [sent] = server.completions
    assert all(isinstance(token, int) for token in sent.body["prompt"])
    said = {name: sent.body[name] for name in ("temperature", "top_p", "seed", "max_tokens", "top_k", "min_p")}
    assert said == {"temperature": 0.5, "top_p": 0.8, "seed": 7, "max_tokens": 9, "top_k": 0, "min_p": 0.0}
    assert sent.body["stop_token_ids"] == [2] and sent.body["stop"], "what ends a reply is not left to the server"
    assert sent.authorization == f"Bearer {KEY}"


def test_the_tokens_are_those_that_the_engine_in_this_process_reads(tiny):
    server = VllmServer(tiny)
    messages = (Message("user", "</s>こんにちは"), Message("assistant", "はい"), Message("user", "では"))
    local = LocalEngine(tiny, {})
    try:
        with engine_of(server, folder=tiny) as engine:
            ask(engine, GenerationRequest("r", "base", messages, request("r", "base").sampling))
            assert server.completions[0].body["prompt"] == local._chat.prompt_ids(messages, None)
            ours, theirs = engine.identity("base"), local.identity("base")
    finally:
        within(local.close)
    assert (ours.weights_sha256, ours.template_sha256) == (theirs.weights_sha256, theirs.template_sha256)
    assert ours.digest != theirs.digest, "responses of one engine must not be taken for the other's"


def test_a_prompt_that_does_not_fit_the_server_is_refused_before_it_is_asked(tiny):
    server = VllmServer(tiny, max_model_len=64)
    with engine_of(server, folder=tiny) as engine:
        with pytest.raises(PromptTooLong, match="takes 64"):
            engine.stream([request("r", "base", "長い" * 40)])
        assert not server.completions


def test_tokens_are_counted_by_the_server_also_where_pieces_hold_several(tiny):
    server = VllmServer(tiny)
    with engine_of(server, folder=tiny, long_work=True) as engine:
        chunks = ask(engine, request("r", "base", tokens=100))
        assert ending(chunks).tokens == 100 and ending(chunks).ttft_s is not None
        assert server.completions[0].body["stream_interval"] == vllm.EVERY_TOKENS
        assert len(chunks) < 10, "a benchmark's reply does not come token by token"


def test_the_templates_own_open_tag_belongs_to_the_thoughts(tmp_path):
    folder = tiny_folder(tmp_path / "m", template=TEMPLATE + "<think>\n")
    with engine_of(VllmServer(folder, [ok("迷う</think>答え")]), folder=folder) as engine:
        text = whole(ask(engine, request("r", "base")), "r")
    assert parts(text, whole=True).thinking == "迷う"
    assert parts(text, whole=True).text == "答え"


# ---- adapters ----


def test_an_adapter_is_loaded_under_a_name_with_its_hash_and_the_base_answers_beside_it(tiny, tiny_adapters):
    server = VllmServer(tiny)
    with engine_of(server, folder=tiny) as engine:
        engine.add_adapter("first", tiny_adapters["first"])
        chunks = ask(engine, request("l", "first"), request("r", "base"))
        sha = engine.identity("first").adapter_sha256
        assert sha is not None
        assert whole(chunks, "l").startswith(f"first@{sha[:16]}:") and whole(chunks, "r").startswith("base:")
        assert server.adapters == {f"first@{sha[:16]}": str(tiny_adapters["first"].resolve())}


def test_an_adapter_replaced_under_its_name_is_another_model_and_the_old_one_goes(tiny, tiny_adapters, tmp_path):
    folder = shutil.copytree(tiny_adapters["first"], tmp_path / "mine")
    server = VllmServer(tiny)
    with engine_of(server, folder=tiny) as engine:
        engine.add_adapter("mine", folder)
        before = engine.identity("mine").digest
        shutil.rmtree(folder)
        shutil.copytree(tiny_adapters["second"], folder)
        engine.add_adapter("mine", folder)
        assert engine.identity("mine").digest != before
        assert len(server.adapters) == 1
        sha = engine.identity("mine").adapter_sha256
        assert sha is not None
        assert whole(ask(engine, request("r", "mine")), "r").startswith(f"mine@{sha[:16]}:")


def test_a_server_that_was_started_anew_is_given_its_adapters_again(tiny, tiny_adapters):
    server = VllmServer(tiny)
    with engine_of(server, folder=tiny) as engine:
        engine.add_adapter("first", tiny_adapters["first"])
        server.forget()
        assert finishes(ask(engine, request("r", "first"))) == {"r": "length"}
        assert len(server.loads) == 2


def test_an_adapter_loaded_by_another_process_of_ours_is_used(tiny, tiny_adapters):
    server = VllmServer(tiny)
    with engine_of(server, folder=tiny) as engine:
        engine.add_adapter("first", tiny_adapters["first"])
        other = our_models([Address(server.url, KEY)], tiny)
        other.add_adapter("first", tiny_adapters["first"])
        assert finishes(ask(other, request("r", "first"))) == {"r": "length"}


def test_an_adapter_that_changes_nothing_is_refused_and_taken_out_again(tiny, tiny_adapters):
    server = VllmServer(tiny, inert=("first",))
    with engine_of(server, folder=tiny) as engine:
        with pytest.raises(ModelUnavailable, match="changes nothing"):
            engine.add_adapter("first", tiny_adapters["first"])
        assert engine.model_ids() == ["base"] and not server.adapters


def test_an_adapter_of_too_large_a_rank_says_which_rank_the_server_needs(tiny, tmp_path):
    large = tiny_adapter(tmp_path / "large", tiny, rank=12)
    with (
        engine_of(VllmServer(tiny, max_rank=8), folder=tiny) as engine,
        pytest.raises(ModelUnavailable, match=r"rank 12.*--max-lora-rank 12"),
    ):
        engine.add_adapter("large", large)


def test_a_server_that_loads_nothing_while_it_runs_says_how_to_start_it(tiny, tiny_adapters):
    with (
        engine_of(VllmServer(tiny, loads_at_run_time=False), folder=tiny) as engine,
        pytest.raises(ModelUnavailable, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"),
    ):
        engine.add_adapter("first", tiny_adapters["first"])


def test_an_adapter_that_the_engine_in_this_process_would_refuse_is_refused_here(tiny, tiny_adapters, tmp_path):
    folder = shutil.copytree(tiny_adapters["first"], tmp_path / "odd")
    edit_config(folder, use_dora=True)
    server = VllmServer(tiny)
    with engine_of(server, folder=tiny) as engine, pytest.raises(ModelUnavailable, match="use_dora"):
        engine.add_adapter("odd", folder)
    assert not server.loads


def test_an_adapter_of_another_shape_is_refused_here_because_vllm_would_take_it(tiny, tiny_adapters, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_adapters["first"], tmp_path / "alien")
    weights = folder / "adapter_model.safetensors"
    narrow = {key: t[:, :16].contiguous() if "lora_A" in key else t for key, t in load_file(weights).items()}
    save_file(narrow, weights)
    server = VllmServer(tiny)
    with engine_of(server, folder=tiny) as engine, pytest.raises(ModelUnavailable, match="wrong base"):
        engine.add_adapter("alien", folder)
    assert not server.loads


def test_a_server_with_other_weights_never_answers_for_ours(tiny, tmp_path):
    with (
        engine_of(VllmServer(tmp_path / "other"), folder=tiny) as engine,
        pytest.raises(ModelUnavailable, match="name its models as vllm:NAME"),
    ):
        engine.stream([request("r", "base")])


# ---- what goes wrong ----

BROKEN: dict[str, tuple[list[Behaviour], str]] = {
    "wrong-request": ([status(400, message="maximum context\nlength")], "refused the request (400): maximum context"),
    "words-with-keys": (
        [status(400, message=f"got Bearer {KEY}, hf_AnotherOne0123")],
        "refused the request (400): got [key] [key]",
    ),
    "redirect": ([redirect("http://127.0.0.1:9/v1/completions")], "redirect"),
    "always-failing": ([status(500)] * vllm.ATTEMPTS, "(500)"),
    "cut-in-the-middle": ([reset(after_chunks=2)], "broke off"),
    "no-stream-at-all": ([malformed(b"<html>hello</html>", "text/html")] * vllm.ATTEMPTS, "broke off"),
    "a-torn-event": ([malformed(b"data: {\n\n", "text/event-stream")] * vllm.ATTEMPTS, "broke off"),
    "an-error-event": ([malformed(b'data: {"error": {"message": "dead"}}\n\n', "text/event-stream")] * 3, "broke off"),
    "an-end-without-a-reason": ([malformed(b"data: [DONE]\n\n", "text/event-stream")] * vllm.ATTEMPTS, "broke off"),
}


@pytest.mark.parametrize(("behaviours", "told"), BROKEN.values(), ids=BROKEN)
def test_what_breaks_is_told_in_one_line_without_the_key(behaviours, told, tiny, caplog, monkeypatch):
    monkeypatch.setattr("playground.engine.balance.REST_S", 0.01)
    with engine_of(VllmServer(tiny, behaviours), folder=tiny) as engine, caplog.at_level(logging.DEBUG):
        chunks = ask(engine, request("r", "base"))
    error = ending(chunks).error
    assert ending(chunks).reason == "error"
    assert error is not None and told in error and "\n" not in error
    assert KEY not in error and KEY not in caplog.text


def test_a_prompt_that_only_the_server_finds_too_long_is_told_apart_from_a_server_that_is_gone(tiny):
    server = VllmServer(tiny, [status(400, message="This model's maximum context length is 8 tokens.")])
    with engine_of(server, folder=tiny) as engine:
        error = ending(ask(engine, request("r", "base"))).error
    assert error is not None and error.startswith(DOES_NOT_FIT)


def test_the_wrong_key_is_told_with_the_settings_name(tiny):
    with VllmServer(tiny) as server:
        engine = our_models([Address(server.url, "wrong")], tiny)
        with pytest.raises(ModelUnavailable, match="its key") as refused:
            engine.stream([request("r", "base")])
    assert "wrong" not in str(refused.value) and "wrong" not in repr(engine)


def test_no_server_at_all_is_told_before_anything_is_asked(tiny):
    with VllmServer(tiny) as server:
        url = server.url
    with pytest.raises(ModelUnavailable, match=r"No vLLM server answers at http://127\.0\.0\.1"):
        our_models([Address(url, KEY)], tiny).stream([request("r", "base")])


def test_what_may_pass_is_tried_again(tiny, monkeypatch):
    monkeypatch.setattr("playground.engine.balance.REST_S", 0.01)
    server = VllmServer(tiny, [status(503, retry_after=0), status(500), reset()])
    with engine_of(server, folder=tiny) as engine:
        assert finishes(ask(engine, request("r", "base"))) == {"r": "length"}
        assert len(server.completions) == 4


# ---- several servers ----


def test_requests_are_spread_over_the_servers_and_none_is_lost_or_doubled(tiny):
    servers = [VllmServer(tiny, chunk_delay=0.01) for _ in range(3)]
    with engine_of(*servers, folder=tiny, long_work=True) as engine:
        chunks = ask(engine, *(request(f"r{n}", "base", f"質問{n}") for n in range(30)))
        assert len(finishes(chunks)) == 30
        assert sum(len(server.completions) for server in servers) == 30
        assert all(len(server.completions) >= 5 for server in servers)


def test_long_work_makes_a_reply_that_broke_off_anew_at_another_server(tiny):
    broken, good = VllmServer(tiny, [reset(after_chunks=1)] * 40, chunk_delay=0.001), VllmServer(tiny)
    with engine_of(broken, good, folder=tiny, long_work=True) as engine:
        requests = [request(f"r{n}", "base", f"質問{n}", 40) for n in range(12)]
        chunks = ask(engine, *requests)
        alone = our_models([Address(good.url, KEY)], tiny)
        for one in requests:
            assert whole(chunks, one.id) == whole(ask(alone, one), one.id), "nothing of the torn reply is left in it"
    assert set(finishes(chunks).values()) == {"length"}
    assert broken.completions, "the broken server was asked too, or this shows nothing"


def test_a_server_that_is_gone_costs_no_response(tiny):
    with VllmServer(tiny) as gone:
        url = gone.url
    with VllmServer(tiny) as good:
        engine = our_models([Address(url, KEY), Address(good.url, KEY)], tiny)
        chunks = ask(engine, *(request(f"r{n}", "base", f"質問{n}") for n in range(8)))
    assert set(finishes(chunks).values()) == {"length"} and len(finishes(chunks)) == 8


def test_long_work_waits_for_a_server_that_is_started_anew(tiny, monkeypatch):
    with VllmServer(tiny) as server:
        engine = our_models([Address(server.url, KEY)], tiny, long_work=True)
        ask(engine, request("before", "base"))
        port = int(server.url.rsplit(":", 1)[1].partition("/")[0])
    got: list = []
    thread = threading.Thread(target=lambda: got.extend(engine.stream([request("r", "base")])), daemon=True)
    thread.start()
    wait_until(lambda: engine._balancer.servers[0].failures > 0)
    with VllmServer(tiny, port=port):
        thread.join(30)
    assert finishes(got) == {"r": "length"}


def test_when_no_server_works_any_more_one_spare_takes_all_requests(tiny, tiny_adapters, monkeypatch):
    monkeypatch.setattr(vllm, "LONG_PATIENCE_S", 0.3)
    first, second, asked = VllmServer(tiny), VllmServer(tiny), []
    with second:

        def spare() -> Address:
            asked.append("spare")
            return Address(second.url, KEY)

        with first:
            engine = our_models([Address(first.url, KEY)], tiny, long_work=True, spare=spare)
            engine.add_adapter("first", tiny_adapters["first"])
        chunks = ask(engine, *(request(f"r{n}", "first" if n % 2 else "base", f"問い{n}") for n in range(6)))
    assert set(finishes(chunks).values()) == {"length"} and len(finishes(chunks)) == 6
    assert asked == ["spare"] and len(second.completions) == 6
    assert whole(chunks, "r1").startswith("first@") and whole(chunks, "r2").startswith("base:")


def test_a_spare_that_does_not_start_is_told_and_asked_for_once(tiny, monkeypatch):
    monkeypatch.setattr(vllm, "LONG_PATIENCE_S", 0.2)
    asked = []

    def spare() -> Address:
        asked.append("spare")
        raise ModelUnavailable("There is no memory for another server.")

    with VllmServer(tiny) as gone:
        engine = our_models([Address(gone.url, KEY)], tiny, long_work=True, spare=spare)
        engine.check()
    chunks = ask(engine, request("a", "base"), request("b", "base"))
    told = [chunk.finish.error for chunk in chunks if chunk.finish is not None]
    assert asked == ["spare"] and "no memory" in " ".join(told) and set(finishes(chunks).values()) == {"error"}


def test_a_server_that_never_answers_can_be_left(tiny):
    server = VllmServer(tiny, chunk_delay=30.0)
    with engine_of(server, folder=tiny) as engine:
        stream = engine.stream([request("silent", "base")])
        chunks = [next(stream)]
        threading.Timer(0.1, engine.cancel, ["silent"]).start()
        chunks += within(lambda: list(stream), 20)
        assert finishes(chunks) == {"silent": "cancelled"}
        assert server.wait_for(lambda: server.disconnects == 1)


# ---- somebody else's servers ----


def test_their_models_are_known_by_address_and_name_and_get_the_conversation_as_it_is(tiny):
    with VllmServer("org/model", name="org/model", template=True) as server:
        engine = their_models([Address(server.url, KEY)])
        assert engine.model_ids() == ["vllm:org/model"]
        chunks = ask(engine, request("r", "vllm:org/model", "質問", system_prompt="短く"))
        [sent] = server.completions
        identity = engine.identity("vllm:org/model")
    assert finishes(chunks) == {"r": "length"}
    assert sent.path == "/v1/chat/completions"
    assert [message["role"] for message in sent.body["messages"]] == ["system", "user"]
    assert server.url.removesuffix("/v1") in identity.base and "org/model" in identity.base


def test_their_base_model_without_a_chat_template_gets_the_llm_jp_format(tiny):
    with VllmServer("org/base", name="org/base") as server:
        ask(their_models([Address(server.url, KEY)]), request("r", "vllm:org/base", "質問"))
        [sent] = server.completions
    assert sent.path == "/v1/completions" and sent.body["prompt"].endswith("### 指示:\n質問\n\n### 応答:\n")


def test_a_request_goes_only_to_a_server_that_has_the_model():
    with VllmServer("a", name="a") as left, VllmServer("b", name="b") as right:
        engine = their_models([Address(left.url, KEY), Address(right.url, KEY)])
        assert engine.model_ids() == ["vllm:a", "vllm:b"]
        ask(engine, *(request(f"r{n}", "vllm:b") for n in range(4)))
        assert (len(left.completions), len(right.completions)) == (0, 4)


def test_their_servers_that_are_silent_offer_nothing_and_say_so(tiny, tiny_adapters):
    with VllmServer("a") as server:
        url = server.url
    engine = their_models([Address(url, KEY)])
    assert engine.model_ids() == []
    with pytest.raises(ModelUnavailable, match="No vLLM server answers"):
        engine.stream([request("r", "vllm:a")])
    with pytest.raises(ModelUnavailable, match="somebody else"):
        engine.add_adapter("first", tiny_adapters["first"])


def test_a_model_of_two_servers_is_asked_of_the_one_that_is_left():
    with VllmServer("m", name="m", template=True) as stays:
        with VllmServer("m", name="m", template=True) as goes:
            engine = their_models([Address(goes.url, KEY), Address(stays.url, KEY)])
            assert engine.model_ids() == ["vllm:m"]
        assert finishes(ask(engine, request("r", "vllm:m"))) == {"r": "length"}
