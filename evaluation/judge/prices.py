"""What a judge's tokens cost. A model that is not listed costs an unknown amount, never nothing."""

from __future__ import annotations

from dataclasses import dataclass

OPENAI_ORIGIN = "https://api.openai.com"
PRICES_AS_OF = "2026-03"  # list prices of the standard tier; check platform.openai.com/docs/pricing before a large run


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens: prompt, prompt read from the provider's cache, completion."""

    prompt: float
    cached_prompt: float
    completion: float


_GPT_4O, _GPT_4O_MINI = Price(2.50, 1.25, 10.00), Price(0.15, 0.075, 0.60)
_GPT_41, _GPT_41_MINI = Price(2.00, 0.50, 8.00), Price(0.40, 0.10, 1.60)
_GPT_5, _GPT_5_MINI, _GPT_5_NANO = Price(1.25, 0.125, 10.00), Price(0.25, 0.025, 2.00), Price(0.05, 0.005, 0.40)

# Full names only: snapshots of one model have had different prices (gpt-4o-2024-05-13 costs twice gpt-4o-2024-08-06).
PRICES = {
    "gpt-4o": _GPT_4O,
    "gpt-4o-2024-08-06": _GPT_4O,
    "gpt-4o-2024-11-20": _GPT_4O,
    "gpt-4o-mini": _GPT_4O_MINI,
    "gpt-4o-mini-2024-07-18": _GPT_4O_MINI,
    "gpt-4.1": _GPT_41,
    "gpt-4.1-2025-04-14": _GPT_41,
    "gpt-4.1-mini": _GPT_41_MINI,
    "gpt-4.1-mini-2025-04-14": _GPT_41_MINI,
    "gpt-5": _GPT_5,
    "gpt-5-2025-08-07": _GPT_5,
    "gpt-5-mini": _GPT_5_MINI,
    "gpt-5-mini-2025-08-07": _GPT_5_MINI,
    "gpt-5-nano": _GPT_5_NANO,
    "gpt-5-nano-2025-08-07": _GPT_5_NANO,
}


def cost_usd(
    model: str, origin: str, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0
) -> float | None:
    """Dollars for one call, or None when the price is not known.

    `cached_tokens` is the part of `prompt_tokens` that the provider read from its cache. Prices hold at OpenAI only:
    another origin may serve a model of the same name at any price.
    """
    price = PRICES.get(model)
    if price is None or origin != OPENAI_ORIGIN:
        return None
    fresh = prompt_tokens - cached_tokens
    total = fresh * price.prompt + cached_tokens * price.cached_prompt + completion_tokens * price.completion
    return total / 1_000_000


def most_usd(model: str, origin: str, characters: int, max_tokens: int) -> float | None:
    """Dollars that one call can cost at most, or None when the price is not known.

    A character of Japanese is at most about 1.5 tokens of the tokenizers in use; formatting adds some.
    """
    return cost_usd(model, origin, int(characters * 1.5) + 200, max_tokens)
