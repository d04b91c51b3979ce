"""The in-process engine beyond the contract: limits, failures, adapters, hidden states, shutting down."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from evaluation.errors import ModelUnavailable, PromptTooLong
from evaluation.judge.features import OPENING, pooled_states
from evaluation.types import Message, Sampling
from playground.engine import local
from playground.engine.local import LocalEngine
from playground.engine.protocol import Chunk, GenerationRequest
from playground.engine.replies import replies
from tests.playground.engine.serving import exact_local, finishes, request, wait_until, whole, within
from tests.tiny import CONTEXT, TEMPLATE, edit_config, tiny_adapter, tiny_folder, tiny_tokenizer

WEIGHTS = "adapter_model.safetensors"
LONG = 600  # tokens


@pytest.fixture(scope="module")
def engine(tiny, tiny_adapters) -> Iterator[LocalEngine]:
    with exact_local(tiny, tiny_adapters) as opened:
        yield opened


def said(engine: LocalEngine, model: str, text: str = "こんにちは", tokens: int = 12) -> str:
    chunks = within(lambda: list(engine.stream([request("said", model, text, tokens)])))
    return whole(chunks, "said")


def test_ids_are_the_base_and_the_adapters_in_order(engine):
    assert engine.model_ids() == ["base", "first", "second"]


def test_identities_differ_by_adapter_and_share_the_base(engine):
    base, first, second = (engine.identity(model) for model in engine.model_ids())
    assert base.adapter_sha256 is None
    assert len({base.digest, first.digest, second.digest}) == 3
    assert base.weights_sha256 == first.weights_sha256
    assert "float32" in base.base, "the precision is a part of what answers"


def test_the_shipped_precision_answers_too(tiny, tiny_adapters):
    """As in the app: the hardware's dtype, and int8 weights on a CPU."""
    engine = LocalEngine(tiny, tiny_adapters)
    try:
        chunks = within(lambda: list(engine.stream([request("l", "first"), request("r", "second")])))
        assert set(finishes(chunks)) == {"l", "r"}
        assert engine.precision in engine.identity("base").base
    finally:
        within(engine.close)


def test_a_prompt_that_does_not_fit_is_refused_with_its_numbers(engine):
    with pytest.raises(PromptTooLong) as refused:
        engine.stream([request("long", "first", "あ" * CONTEXT, tokens=50)])
    message = str(refused.value)
    ids = len(engine._chat.prompt_ids([Message("user", "あ" * CONTEXT)]))
    for number in (ids, 50, ids + 50, CONTEXT, ids + 50 - CONTEXT):
        assert str(number) in message
    assert "\n" not in message


def test_a_prompt_that_just_fits_is_answered_and_one_token_more_is_refused(engine):
    room = CONTEXT - len(engine._chat.prompt_ids([Message("user", "")])) - 12
    assert said(engine, "base", "a" * room)
    with pytest.raises(PromptTooLong, match="by 1 tokens"):
        said(engine, "base", "a" * (room + 1))


def test_an_operators_limit_lowers_the_models_own_and_never_raises_it(tiny):
    for limit, context in ((100, 100), (10 * CONTEXT, CONTEXT), (None, CONTEXT)):
        with exact_local(tiny, {}, max_context=limit) as opened:
            assert opened.context == context


def test_a_reply_ends_at_every_token_that_the_generation_config_names(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "stopping")
    with exact_local(folder, {}) as opened:
        stream = opened.stream([request("first", "base", tokens=12)])
        next(stream)
        [row] = opened._decoder.rows
        within(lambda: list(stream))
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": [2, row.ids[-1]]}))
    with exact_local(folder, {}) as opened:
        [*_, last] = within(lambda: list(opened.stream([request("ends", "base", tokens=200)])))
    assert last.finish is not None
    assert last.finish.reason == "stop"
    assert last.finish.tokens <= 12


def test_a_base_model_that_writes_the_next_question_is_stopped_before_it(engine, monkeypatch):
    """Draws are replaced by a script: an answer, then the marker of the next turn."""
    script = list(tiny_tokenizer()("はい。\n\n### 指示:\nまた", add_special_tokens=False).input_ids)
    rows_made: dict[int, int] = {}

    def scripted(logits, samplings, generators):
        made = [rows_made.setdefault(id(g), 0) for g in generators]
        rows_made.update({id(g): n + 1 for g, n in zip(generators, made, strict=True)})
        return [script[n] for n in made]

    monkeypatch.setattr("playground.engine.decoder.sample", scripted)
    chunks = within(lambda: list(engine.stream([request("s", "base", tokens=200)])))
    assert whole(chunks, "s") == "はい。\n"
    assert finishes(chunks)["s"] == "stop"


def test_requests_wait_while_the_batch_is_full_and_then_are_answered(engine, monkeypatch):
    expected = [said(engine, model, tokens=20) for model in ("base", "first", "second")]
    monkeypatch.setattr(local, "MAX_ROWS", 1)
    requests = [request(model, model, tokens=20) for model in ("base", "first", "second")]
    chunks = within(lambda: list(engine.stream(requests)))
    assert [whole(chunks, model) for model in ("base", "first", "second")] == expected


def test_a_request_that_waits_is_cancelled_without_waiting_for_room(engine, monkeypatch):
    monkeypatch.setattr(local, "MAX_ROWS", 1)
    running = engine.stream([request("running", "base", tokens=LONG)])
    next(running)
    waiting = engine.stream([request("waiting", "first")])
    chunks: list[Chunk] = []

    def listen() -> None:
        chunks.extend(waiting)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    wait_until(lambda: any(active.request.id == "waiting" for active in engine._waiting))
    engine.cancel("waiting")
    thread.join(30)
    assert finishes(chunks) == {"waiting": "cancelled"}
    assert engine._decoder.rows, "the other is still being answered"
    running.close()


def test_closing_a_stream_computes_at_most_the_step_under_way(engine):
    stream = engine.stream([request("closed", "first", tokens=LONG)])
    next(stream)
    [row] = engine._decoder.rows
    stream.close()
    made = len(row.ids)
    wait_until(lambda: not engine._decoder.rows)
    assert len(row.ids) <= made + 1


def test_a_step_that_fails_ends_the_running_requests_and_the_next_one_works(engine, caplog):
    expected = said(engine, "first")
    step = engine._decoder.step

    def fail() -> None:
        engine._decoder.step = step
        raise RuntimeError("boom\nwith a second line")

    stream = engine.stream([request("l", "first", tokens=50), request("r", "base", tokens=50)])
    chunks = [next(stream)]
    engine._decoder.step = fail
    with caplog.at_level(logging.ERROR):
        chunks += within(lambda: list(stream))
    assert finishes(chunks) == {"l": "error", "r": "error"}
    [told, _] = [chunk.finish.error for chunk in chunks if chunk.finish]
    assert "RuntimeError" in told and "\n" not in told
    assert "boom" in caplog.text, "the reason is for the log"
    assert not engine._decoder.rows
    assert said(engine, "first") == expected


def test_a_decoding_of_text_that_fails_finishes_nobody_twice(engine, monkeypatch):
    push, calls = local.TextStream.push, []

    def fail_second(self, token):
        calls.append(token)
        if len(calls) == 2:
            raise UnicodeError("torn")
        return push(self, token)

    monkeypatch.setattr(local.TextStream, "push", fail_second)
    chunks = within(lambda: list(engine.stream([request("l", "first", tokens=1), request("r", "base", tokens=1)])))
    assert finishes(chunks) == {"l": "length", "r": "error"}


def test_replies_are_responses_in_the_order_of_their_requests(engine):
    requests = [request("l", "second"), request("r", "base")]
    left, right = within(lambda: replies(engine, requests, ["p1", "p2"]))
    assert (left.model, left.prompt_id, left.identity) == ("second", "p1", engine.identity("second").digest)
    assert (right.model, right.prompt_id, right.text) == ("base", "p2", said(engine, "base"))


class TestAdapters:
    @pytest.fixture
    def own(self, tiny, tiny_adapters, tmp_path) -> Iterator[LocalEngine]:
        with exact_local(tiny, {"first": tiny_adapters["first"]}) as opened:
            yield opened

    def test_one_is_added_while_requests_run_and_changes_nobodys_text(self, own, tiny_adapters):
        expected = said(own, "first", tokens=80)
        stream = own.stream([request("running", "first", tokens=80)])
        chunks = [next(stream)]
        adding = threading.Thread(target=own.add_adapter, args=("second", tiny_adapters["second"]), daemon=True)
        adding.start()
        chunks += within(lambda: list(stream))
        adding.join(30)
        assert whole(chunks, "running") == expected
        assert own.model_ids() == ["base", "first", "second"]
        assert said(own, "first", tokens=80) == expected
        assert said(own, "second") != said(own, "base")

    def test_one_is_added_however_busy_the_engine_is(self, own, tiny_adapters):
        busy = threading.Event()

        def visitor(tokens: int) -> None:
            while not busy.is_set():
                list(own.stream([request(str(tokens), "first", tokens=tokens)]))

        # Lengths that never end together: there is no moment without a reply under way.
        visitors = [threading.Thread(target=visitor, args=(n,), daemon=True) for n in (97, 151, 211)]
        for thread in visitors:
            thread.start()
        try:
            wait_until(lambda: len(own._decoder.rows) > 1)
            within(lambda: own.add_adapter("second", tiny_adapters["second"]))
        finally:
            busy.set()
        for thread in visitors:
            thread.join(30)
        assert "second" in own.model_ids()

    def test_a_request_made_before_a_replacement_names_the_version_that_answered(self, own, tiny, tmp_path):
        old = own.identity("first").digest
        stream = own.stream([request("r", "first")])
        own.add_adapter("first", tiny_adapter(tmp_path / "newer", tiny, seed=9))
        chunks = within(lambda: list(stream))
        new = own.identity("first").digest
        assert new != old
        assert {chunk.identity for chunk in chunks} == {new}

    @pytest.mark.parametrize("at_start", [True, False], ids=["at-start", "while-running"])
    def test_one_that_does_nothing_is_refused(self, own, tiny, tmp_path, at_start):
        idle = tiny_adapter(tmp_path / "idle", tiny, scale=0.0)
        expected = said(own, "first")
        with pytest.raises(ModelUnavailable, match="idle changes nothing"):
            if at_start:
                with exact_local(tiny, {"idle": idle}):
                    pass
            else:
                own.add_adapter("idle", idle)
        assert own.model_ids() == ["base", "first"]
        assert said(own, "first") == expected

    def test_one_of_another_base_is_refused_and_the_others_stay(self, own, tiny, tmp_path):
        foreign = tiny_adapter(tmp_path / "foreign", tiny)
        deeper = {k.replace("layers.1", "layers.7"): t for k, t in load_file(foreign / WEIGHTS).items()}
        save_file(deeper, foreign / WEIGHTS)
        expected = said(own, "first")
        with pytest.raises(ModelUnavailable, match="foreign"):
            own.add_adapter("foreign", foreign)
        assert own.model_ids() == ["base", "first"]
        assert said(own, "first") == expected

    def test_one_cannot_take_the_bases_name(self, own, tiny_adapters):
        with pytest.raises(ModelUnavailable, match="cannot be named base"):
            own.add_adapter("base", tiny_adapters["second"])

    def test_one_that_leaks_into_other_rows_is_found_by_the_self_test(self, own, monkeypatch):
        honest = own._decoder._mask

        def leaking(adapters):
            return honest([next((name for name in adapters if name), None)] * len(adapters))

        monkeypatch.setattr(own._decoder, "_mask", leaking)
        with pytest.raises(ModelUnavailable, match="does not name it"):
            own._self_test()


class TestHiddenStates:
    CONTEXTS = ("質問：眠れません。\n回答：", "質問：\n回答：", "質問：" + "長い話" * 30 + "\n回答：")
    TEXTS = ("休みましょう。", "医師に相談しましょう。" * 5, "はい")

    def test_they_are_transformers_own_whatever_the_padding(self, engine, tiny):
        model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()
        for layer in (1,):  # above the last layer transformers applies the final norm as well
            ours = engine.pooled_states(self.CONTEXTS, self.TEXTS, layer)
            for number, (context, text) in enumerate(zip(self.CONTEXTS, self.TEXTS, strict=True)):
                before = [1, *tiny_tokenizer()(context, add_special_tokens=False).input_ids]
                ids = before + tiny_tokenizer()(text, add_special_tokens=False).input_ids
                with torch.inference_mode():
                    states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer][0]
                response = states[len(before) :]
                parts = [response.mean(0), response[-1], response[:OPENING].mean(0), states[1 : len(before)].mean(0)]
                expected = torch.cat(parts)
                np.testing.assert_allclose(ours[number], expected, atol=1e-4)

    def test_they_are_the_bases_while_an_adapter_answers(self, engine):
        alone = engine.pooled_states(self.CONTEXTS, self.TEXTS, 1)
        expected = said(engine, "first", tokens=60)
        stream = engine.stream([request("running", "first", tokens=60)])
        chunks = [next(stream)]
        np.testing.assert_allclose(engine.pooled_states(self.CONTEXTS, self.TEXTS, 1), alone, atol=1e-6)
        chunks += within(lambda: list(stream))
        assert whole(chunks, "running") == expected

    def test_a_failure_is_raised_to_the_caller_and_the_engine_goes_on(self, engine):
        with pytest.raises(ValueError):
            engine.pooled_states(self.CONTEXTS, self.TEXTS[:1], 1)
        assert said(engine, "base")

    def test_they_are_what_the_fitting_reads(self, engine, tiny):
        model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()
        fitted = pooled_states(model, tiny_tokenizer(), self.CONTEXTS, self.TEXTS, 1)
        np.testing.assert_allclose(engine.pooled_states(self.CONTEXTS, self.TEXTS, 1), fitted, atol=1e-4)


class TestClosing:
    def test_what_runs_and_what_waits_finishes_as_cancelled(self, tiny, monkeypatch):
        monkeypatch.setattr(local, "MAX_ROWS", 1)
        with exact_local(tiny, {}) as opened:
            stream = opened.stream([request("running", "base", tokens=LONG), request("waiting", "base", tokens=LONG)])
            chunks = [next(stream)]
            within(opened.close)
            chunks += within(lambda: list(stream))
        assert finishes(chunks) == {"running": "cancelled", "waiting": "cancelled"}

    def test_afterwards_nothing_hangs(self, tiny, tiny_adapters):
        with exact_local(tiny, {}) as opened:
            begun = opened.stream([request("begun", "base")])
            within(opened.close)
            assert finishes(within(lambda: list(begun))) == {"begun": "cancelled"}
            for call in (
                lambda: opened.stream([request("late", "base")]),
                lambda: opened.pooled_states(["a"], ["b"], 1),
                lambda: opened.add_adapter("first", tiny_adapters["first"]),
            ):
                with pytest.raises(ModelUnavailable, match="shut down"):
                    within(call)
            within(opened.close)


class TestOpening:
    def test_a_folder_without_a_model_is_refused(self, tmp_path):
        with pytest.raises(ModelUnavailable, match=r"config\.json"):
            LocalEngine(tmp_path, {})

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda f: (f / "model.safetensors").write_bytes(b"torn"), id="torn-weights"),
            pytest.param(lambda f: (f / "model.safetensors").unlink(), id="no-weights"),
            pytest.param(lambda f: (f / "config.json").write_text("{"), id="torn-config"),
            pytest.param(lambda f: (f / "config.json").write_text('{"model_type": "new"}'), id="unknown-family"),
            pytest.param(lambda f: (f / "tokenizer.json").write_text("{"), id="torn-tokenizer"),
        ],
    )
    def test_a_broken_model_is_refused_in_one_line(self, tiny, tmp_path, change):
        folder = shutil.copytree(tiny, tmp_path / "broken")
        change(folder)
        with pytest.raises(ModelUnavailable) as refused:
            LocalEngine(folder, {})
        assert "\n" not in str(refused.value)

    def test_a_model_that_wants_to_run_its_own_code_is_not_given_the_chance(self, tiny, tmp_path):
        folder: Path = shutil.copytree(tiny, tmp_path / "scripted")
        config = json.loads((folder / "config.json").read_text())
        config["auto_map"] = {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"}
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "evil"}))
        (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
        with pytest.raises(ModelUnavailable):
            LocalEngine(folder, {})
        assert not (tmp_path / "ran").exists()

    def test_a_broken_adapter_is_named(self, tiny, tiny_adapters, tmp_path):
        broken = shutil.copytree(tiny_adapters["first"], tmp_path / "broken")
        edit_config(broken, r=0)
        with pytest.raises(ModelUnavailable, match="Adapter broken"):
            LocalEngine(tiny, {"broken": broken})


def test_a_tuned_model_is_asked_in_its_own_chat_format(tmp_path):
    folder = tiny_folder(tmp_path / "tuned", template=TEMPLATE)
    with exact_local(folder, {}) as opened:
        [*_, last] = within(lambda: list(opened.stream([request("t", "base", "abc")])))
        messages = (Message("user", "abc"),)
        system = GenerationRequest("s", "base", messages, Sampling(0.0, max_tokens=2, system_prompt="xy"))
        [*_, with_system] = within(lambda: list(opened.stream([system])))
    assert last.finish is not None and with_system.finish is not None
    assert last.finish.prompt_tokens == len("[user]abc\n[assistant]") + 1
    assert with_system.finish.prompt_tokens == len("[system]xy\n[user]abc\n[assistant]") + 1
