"""The mixed-adapter decoder against transformers' generate and PEFT's own forward pass.

Float32 and no int8, where everything must agree; the int8 path has its own, looser rule at the end.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from evaluation.errors import ModelUnavailable
from evaluation.types import Sampling
from playground.engine import decoder as decoding
from playground.engine.adapters import read_adapter
from playground.engine.decoder import Decoder, Row
from tests.tiny import FAMILIES, SLIDING_WINDOW, Family, tiny_adapter, tiny_folder

GREEDY = Sampling(temperature=0.0, max_tokens=24)
SHORT, LONG, MIDDLE = [1, *b"abc"], [1, *range(40, 40 + 3 * SLIDING_WINDOW)], [1, *range(200, 209)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Each family's model by its name, and its two adapters as FAMILY-first and FAMILY-second."""
    home = tmp_path_factory.mktemp("models")
    found = {family: tiny_folder(home / family, family, seed=9) for family in FAMILIES}
    for family in FAMILIES:
        for seed, name in ((1, f"{family}-first"), (2, f"{family}-second")):
            found[name] = tiny_adapter(home / name, found[family], seed, rank=2 * seed)
    return found


def load(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def decoder_of(folders, family: Family, *, int8: bool = False) -> Decoder:
    """The family's model with its two adapters, named first and second."""
    decoder = Decoder(load(folders[family]), int8=int8)
    decoder.set_adapters([read_adapter(folders[f"{family}-{name}"], name) for name in ("first", "second")])
    return decoder


def row(prompt: list[int], adapter: str | None = None, sampling: Sampling = GREEDY) -> Row:
    return Row(adapter, list(prompt), sampling)


def decode(decoder: Decoder, *rows: Row, tokens: int = GREEDY.max_tokens) -> list[list[int]]:
    """What rows that begin together say, the batch left empty."""
    decoder.admit(rows)
    for _ in range(tokens - 1):
        decoder.step()
    decoder.drop(rows)
    return [one.ids for one in rows]


def alone(decoder: Decoder, prompt: list[int], adapter: str | None = None, sampling: Sampling = GREEDY) -> list[int]:
    return decode(decoder, row(prompt, adapter, sampling), tokens=sampling.max_tokens)[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prompt", [SHORT, MIDDLE, LONG], ids=["short", "middle", "past-the-window"])
def test_greedy_decoding_says_what_transformers_generate_says(folders, family, prompt):
    model = load(folders[family])
    model.generation_config.eos_token_id = None  # the decoder leaves the stopping to the engine
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24)
    said = alone(Decoder(load(folders[family]), int8=False), prompt)
    assert said == out[0, len(prompt) :].tolist()
    assert len(set(said)) > 3, "a model that repeats one token would prove nothing"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_read_in_pieces_is_the_prompt_read_at_once(folders, family, monkeypatch):
    decoder = decoder_of(folders, family)
    expected = [alone(decoder, prompt) for prompt in (SHORT, LONG, MIDDLE)]
    monkeypatch.setattr(decoding, "PREFILL_PIECE", 5)  # the short rows' first pieces are padding only
    assert decode(decoder, row(SHORT), row(LONG), row(MIDDLE)) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_different_lengths_in_one_batch_say_what_each_says_alone(folders, family):
    decoder = decoder_of(folders, family)
    expected = [alone(decoder, SHORT), alone(decoder, LONG, "first"), alone(decoder, MIDDLE, "second")]
    assert decode(decoder, row(SHORT), row(LONG, "first"), row(MIDDLE, "second")) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_that_join_and_leave_midway_change_nobodys_text(folders, family):
    decoder = decoder_of(folders, family)
    expected = [alone(decoder, SHORT, "first"), alone(decoder, LONG), alone(decoder, MIDDLE, "second")]
    staying, leaving, joining = row(SHORT, "first"), row(LONG), row(MIDDLE, "second")
    decoder.admit([staying, leaving])
    for _ in range(4):
        decoder.step()
    decoder.admit([joining])
    decoder.step()
    decoder.drop([leaving])
    while len(staying.ids) < GREEDY.max_tokens:
        decoder.step()
    assert leaving.ids == expected[1][:6]
    assert staying.ids == expected[0]
    assert joining.ids == expected[2][: len(joining.ids)]
    assert len(joining.ids) > 15


def test_a_row_that_ended_is_gone_and_an_empty_batch_cannot_step(folders):
    decoder = decoder_of(folders, "llama")
    one = row(SHORT)
    decoder.admit([one])
    assert decoder.rows == (one,)
    decoder.drop([one])
    assert decoder.rows == ()
    with pytest.raises(RuntimeError, match="empty batch"):
        decoder.step()


def test_padding_that_only_a_leaver_needed_is_freed(folders):
    decoder = decoder_of(folders, "llama")
    short, long = row(SHORT), row(LONG)
    decoder.admit([short, long])
    decoder.step()
    decoder.drop([long])
    assert decoder._attention is not None
    assert decoder._attention.shape == (1, len(SHORT) + 1)
    assert not decoder._padded


def test_a_seed_gives_the_same_text_whoever_shares_the_batch(folders):
    decoder = decoder_of(folders, "llama")
    drawn = Sampling(temperature=0.8, top_p=0.9, max_tokens=16, seed=7)
    expected = alone(decoder, MIDDLE, "first", drawn)
    assert alone(decoder, MIDDLE, "first", Sampling(0.8, 0.9, 16, seed=8)) != expected
    stranger = row(LONG, None, Sampling(1.0, 0.95, 16, seed=3))
    assert decode(decoder, stranger, row(MIDDLE, "first", drawn), row(SHORT), tokens=16)[1] == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_row_beside_an_adapter_is_the_base_exactly(folders, family):
    decoder = decoder_of(folders, family)
    base = decoder.logits([MIDDLE] * 3, [None, None, None])
    mixed = decoder.logits([MIDDLE] * 3, ["first", None, "second"])
    assert torch.equal(mixed[1], base[1])
    assert not torch.equal(mixed[0], base[0])
    assert not torch.equal(mixed[0], mixed[2])


@pytest.mark.parametrize("family", FAMILIES)
def test_mixed_logits_are_pefts_logits(folders, family):
    mixed = decoder_of(folders, family).logits([MIDDLE] * 3, [None, "first", "second"])
    models = [load(folders[family])]
    models += [PeftModel.from_pretrained(load(folders[family]), folders[f"{family}-{n}"]) for n in ("first", "second")]
    for ours, model in zip(mixed, models, strict=True):
        with torch.inference_mode():
            theirs = model.eval()(torch.tensor([MIDDLE])).logits[0, -1]
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_look_at_logits_or_at_the_bare_base_leaves_the_running_batch_alone(folders):
    decoder = decoder_of(folders, "llama")
    expected = alone(decoder, SHORT, "first")
    running = row(SHORT, "first")
    decoder.admit([running])
    ids, bare = torch.tensor([MIDDLE]), load(folders["llama"])
    while len(running.ids) < GREEDY.max_tokens:
        decoder.logits([LONG], ["second"])
        with torch.inference_mode():
            seen = decoder.without_adapters(lambda model: model(ids).logits)
            torch.testing.assert_close(seen, bare(ids).logits, atol=1e-4, rtol=1e-4)
        decoder.step()
    assert running.ids == expected


def test_adapters_change_only_while_the_batch_is_empty(folders):
    decoder = decoder_of(folders, "llama")
    decoder.admit([row(SHORT)])
    with pytest.raises(RuntimeError, match="rows are in the batch"):
        decoder.set_adapters([])


def test_an_adapter_of_another_base_is_refused_and_the_others_stay(folders):
    decoder = decoder_of(folders, "llama")
    before = decoder.logits([SHORT], ["first"])
    foreign = read_adapter(folders["llama-second"], "foreign")
    foreign.layers["model.layers.7.self_attn.q_proj"] = next(iter(foreign.layers.values()))
    with pytest.raises(ModelUnavailable, match=r"layers\.7.*wrong base"):
        decoder.set_adapters([read_adapter(folders["llama-first"], "first"), foreign])
    assert torch.equal(decoder.logits([SHORT], ["first"]), before)


def test_an_adapter_whose_shape_does_not_fit_is_refused(folders):
    adapter = read_adapter(folders["llama-first"], "crossed")
    adapter.layers["model.layers.0.mlp.up_proj"] = adapter.layers["model.layers.0.mlp.down_proj"]
    with pytest.raises(ModelUnavailable, match=r"shape of .*up_proj does not fit"):
        Decoder(load(folders["llama"]), int8=False).set_adapters([adapter])


@pytest.mark.parametrize("family", FAMILIES)
def test_int8_weights_stay_close_to_full_precision(folders, family):
    full, small = decoder_of(folders, family), decoder_of(folders, family, int8=True)
    agreed, divergences = 0, []
    for first in range(3, 43):
        prompt = [1, first, first + 5]
        log_full, log_small = (d.logits([prompt], ["first"])[0].log_softmax(-1) for d in (full, small))
        divergences.append(float((log_full.exp() * (log_full - log_small)).sum()))
        agreed += int(log_full.argmax() == log_small.argmax())
    assert agreed >= 37
    assert sum(divergences) / len(divergences) < 0.01
    assert max(divergences) > 0, "the int8 path was not taken"
