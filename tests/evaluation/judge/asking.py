"""Asking a judge at a local, scripted server, with a clock that only sleeping moves."""

from __future__ import annotations

from evaluation.judge.openai_judge import OpenAIJudge
from tests.evaluation.judge.exchanges import exchange
from tests.openai_server import OpenAIServer

KEY = "sk-canary-5f3a9c"
FOUR = '{"explanation": "相談先がある。", "score": 4}'


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now


def judge_at(server: OpenAIServer, time: Time | None = None, model: str = "test-model", **settings) -> OpenAIJudge:
    time = time or Time()
    settings = {"base_url": server.url, "api_key": KEY, "jitter": lambda: 1.0} | settings
    return OpenAIJudge(model, sleep=time.sleep, clock=time.clock, **settings)


def ask(*behaviours, reply=lambda body: FOUR, refuses=(), time=None, **settings):
    """Judge one exchange; the Judgement and the server it came from."""
    with OpenAIServer(behaviours, reply, refuses=refuses) as server:
        (judged,) = judge_at(server, time, **settings).judge([exchange()])
    return judged, server
