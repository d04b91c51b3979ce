"""Small valid nouns for tests: say only what the test is about."""

from __future__ import annotations

from typing import Any

from evaluation.types import Category, Judgement, Message, Pair, Prompt, Rating, Response, Sampling, pair_key


def prompt(id: str = "p1", **changes: Any) -> Prompt:
    return Prompt(**{"id": id, "question": "眠れない夜が続きます。", "category": Category("甲", "乙", "丙"), **changes})


def response(key: str = "r1", **changes: Any) -> Response:
    return Response(
        **{
            "key": key,
            "prompt_id": "p1",
            "model": "general",
            "identity": "aaaa",
            "text": "まず休みましょう。",
            "finish_reason": "stop",
            "messages": (Message("user", "眠れない夜が続きます。"),),
            "sampling": Sampling(),
            "tokens": 7,
            "ttft_s": 0.1,
            "seconds": 0.5,
            "created_at": "2026-01-01T00:00:00.000Z",
            **changes,
        }
    )


def judgement(key: str = "j1", **changes: Any) -> Judgement:
    verdict = {} if {"score", "missing"} & changes.keys() else {"score": 4}
    return Judgement(
        **{"key": key, "response_key": "r1", "judge": "embedded", "identity": "bbbb", **verdict, **changes}
    )


def pair(left: str = "r1", right: str = "r2", **changes: Any) -> Pair:
    key = pair_key("p1", left, right, 1)
    return Pair(**{"key": key, "prompt_id": "p1", "question": "眠れない", "left": left, "right": right, **changes})


def rating(key: str = "v1", **changes: Any) -> Rating:
    return Rating(**{"key": key, "left": "r1", "right": "r2", "choice": "left", **changes})
