"""The loss of a row: over its response tokens alone, the same as torch's, whoever stands beside it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from evaluation.types import Message, Prompt
from tests.tiny import FAMILIES, TEMPLATE, tiny_model, tiny_tokenizer
from training.chat import ChatFormat
from training.held_out import held_out_losses, mean_loss
from training.mix import Example, examples
from training.model import summed_loss, trained_tokens, with_response_loss
from training.plan import collate

CPU = torch.device("cpu")
TURNS = [
    Message("user", "質問"),
    Message("assistant", "答え"),
    Message("user", "次"),
    Message("assistant", "はい"),
]
SHORT, LONG = Prompt("a", "短い", "はい。"), Prompt("b", "とても長い質問" * 4, "とても長い答え" * 3)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request):
    return with_response_loss(tiny_model(request.param)).requires_grad_(False)


def row(prompt: Prompt, template: str | None = None) -> Example:
    return examples([prompt], "s", ChatFormat(tiny_tokenizer(template)))[0]


def by_hand(model, example: Example) -> torch.Tensor:
    """The loss with every logit made, then picked token by token."""
    logits = model(input_ids=torch.tensor([example.ids])).logits[0]
    losses = functional.cross_entropy(logits[:-1].float(), torch.tensor(example.ids[1:]), reduction="none")
    return losses[torch.tensor(example.trained_on[1:])].sum()


@pytest.mark.parametrize("template", [None, TEMPLATE], ids=["llm-jp format", "the tokenizer's own template"])
@pytest.mark.parametrize("turns", [2, 4], ids=["one turn", "two turns"])
def test_loss_is_taken_on_every_reply_and_its_end_marker_and_on_nothing_else(model, template, turns):
    tokenizer = tiny_tokenizer(template)
    tokens = ChatFormat(tokenizer).training_tokens(TURNS[:turns])
    trained = tokenizer.decode([i for i, on in zip(tokens.ids, tokens.trained_on, strict=True) if on])
    end = tokenizer.eos_token + ("\n" if template else "")  # this template breaks the line after each turn
    assert trained == "".join(f"{turn.content}{end}" for turn in TURNS[1:turns:2])
    # And the gradient agrees: a token that carries loss pulls at its own row of the head, any other not at all.
    whole = Example("x", "s", tuple(tokens.ids), tuple(tokens.trained_on))
    head = model.get_output_embeddings().weight
    batch = collate([whole])
    assert trained_tokens(batch) == sum(tokens.trained_on)
    torch.testing.assert_close(summed_loss(model, batch), by_hand(model, whole), rtol=1e-4, atol=1e-4)
    assert not head.requires_grad


def test_a_token_that_carries_no_loss_does_not_change_it(model):
    """Were the last token of the question learned too, another target there would be another loss."""
    whole = row(SHORT)
    batch = collate([whole])
    carried = batch["labels"] != -100
    assert carried.sum() == sum(whole.trained_on) < len(whole.ids)
    labels = torch.where(carried, batch["labels"], -100)
    torch.testing.assert_close(summed_loss(model, batch), model(input_ids=batch["input_ids"], labels=labels))


def test_a_rows_loss_does_not_depend_on_its_neighbours(model):
    alone = [summed_loss(model, collate([row(p)])) for p in (SHORT, LONG)]
    together = summed_loss(model, collate([row(SHORT), row(LONG)]))
    torch.testing.assert_close(together, sum(alone), rtol=1e-5, atol=1e-4)


def test_the_gradient_of_a_row_does_not_depend_on_its_neighbours():
    def gradient(rows: list[Example]) -> torch.Tensor:
        model = with_response_loss(tiny_model("gemma3"))
        summed_loss(model, collate(rows)).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    alone = [gradient([row(p)]) for p in (SHORT, LONG)]
    torch.testing.assert_close(gradient([row(SHORT), row(LONG)]), sum(alone), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_gets_the_gradient_that_transformers_own_loss_gives_it(family):
    ours, theirs = with_response_loss(tiny_model(family)), tiny_model(family)
    batch = collate([row(LONG)])
    summed_loss(ours, batch).backward()
    expected = theirs(input_ids=batch["input_ids"], labels=batch["labels"]).loss * trained_tokens(batch)
    expected.backward()
    for (name, mine), (_, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_without_labels_the_model_is_what_it_was(model):
    ids = torch.tensor([row(SHORT).ids])
    assert model(input_ids=ids).logits.shape == (1, ids.shape[1], model.config.vocab_size)


@pytest.mark.parametrize("rows", [1, 5])
def test_the_mean_loss_does_not_depend_on_how_many_rows_are_computed_at_once(model, rows):
    examples = [row(p) for p in (SHORT, LONG, Prompt("c", "三つ目", "そう。"))]
    total = sum(float(by_hand(model, e)) for e in examples)
    tokens = sum(sum(e.trained_on) for e in examples)
    assert mean_loss(model, examples, rows, CPU) == pytest.approx(total / tokens, rel=1e-4)


def test_measuring_stops_when_asked_and_gives_no_half_number(model):
    answers = iter([False, True])
    assert held_out_losses(model, {"a": [row(SHORT)], "b": [row(LONG)]}, 1, CPU, lambda: next(answers)) is None


def test_measuring_leaves_dropout_as_it_found_it(model):
    for training in (True, False):
        model.train(training)
        mean_loss(model, [row(SHORT)], 1, CPU)
        assert model.training is training
