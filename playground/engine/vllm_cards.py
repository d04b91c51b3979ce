"""What a vLLM server says of itself: which models it has, and how long a conversation it takes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.errors import ModelUnavailable
from playground.engine.balance import Server
from playground.engine.wire import BROKEN, QUICK_S, Address, Call, Refused, Unreachable

log = logging.getLogger(__name__)

CANNOT_ANSWER = (Refused, Unreachable, *BROKEN)


def cards_of(server: Server) -> list[Mapping[str, Any]]:
    """What the server says of its models. Raises CANNOT_ANSWER."""
    document = Call(server.address, QUICK_S).json("models")
    cards = document.get("data") if isinstance(document, dict) else None
    if not isinstance(cards, list) or not all(isinstance(card, dict) and "id" in card for card in cards):
        raise ValueError("its list of models is none")
    return cards


def names_of(address: Address) -> list[str]:
    """The models of a server; none when it does not answer."""
    try:
        return [str(card["id"]) for card in cards_of(Server(address))]
    except CANNOT_ANSWER as problem:
        log.warning("%s does not say what it serves: %s", address.origin, problem)
        return []


def longest_context(address: Address) -> int | None:
    """Tokens of prompt plus reply that a server's base takes, None where it does not say. Raises ModelUnavailable."""
    server = Server(address)
    try:
        lengths = [card.get("max_model_len") for card in cards_of(server)]
    except Refused as refused:
        if refused.status in (401, 403):
            raise ModelUnavailable(f"{address.origin} refused the key; check it in .env.") from refused
        raise none_answers([server]) from refused
    except (Unreachable, *BROKEN) as problem:
        raise none_answers([server]) from problem
    return next((length for length in lengths if isinstance(length, int)), None)


def none_answers(servers: Sequence[Server]) -> ModelUnavailable:
    """That no server answers, for the person at the screen."""
    where = ", ".join(server.address.origin for server in servers)
    return ModelUnavailable(f"No vLLM server answers at {where}; start it, or check PLAYGROUND_VLLM_URL and its key.")
