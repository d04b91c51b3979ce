"""When the stream of a turn shows what has come, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import pytest

from evaluation.types import Sampling
from playground.engine.protocol import Chunk, Finish, GenerationRequest
from playground.pages import conversation
from playground.pages.conversation import SIDES, Conversation, Running, start_turn, stream_turn, typed_prompt

MODELS = {"left": "general", "right": "answercarefully-sample"}
MOMENT = 0.001  # between the two sides of one step


class Clocked:
    """An engine whose chunks come at given times. A chunk's text is "x"; `at` has (seconds, which request)."""

    def __init__(self, clock: SimpleNamespace, at: Sequence[tuple[float, int]]) -> None:
        self._clock, self._at = clock, at

    def stream(self, requests: Sequence[GenerationRequest]) -> Iterator[Chunk]:
        ends = {which: max(at for at, of in self._at if of == which) for _, which in self._at}
        for seconds, which in self._at:
            self._clock.seconds = max(self._clock.seconds, seconds)
            finish = Finish("stop", 1, 1, 1.0, None) if seconds == ends[which] else None
            yield Chunk(requests[which].id, "identity", "x", 1, finish)

    def cancel(self, request_id: str) -> None:
        raise AssertionError("nobody stops here")


def lateness(monkeypatch: pytest.MonkeyPatch, at: Sequence[tuple[float, int]], rate: float = 12.0) -> list[float]:
    """How many seconds each chunk waited until it was shown; the number of updates is the last item."""
    clock = SimpleNamespace(seconds=0.0)
    clock.monotonic = lambda: clock.seconds
    monkeypatch.setattr(conversation, "time", clock)
    sampling = dict.fromkeys(SIDES, Sampling())
    turn = start_turn(Conversation(), typed_prompt("眠れません"), MODELS, sampling).turns[0]
    shown, late, updates = [0, 0], [], 0
    engine: object = Clocked(clock, at)
    for live in stream_turn(engine, turn, Running(), rate):  # type: ignore[arg-type]
        updates += 1
        for which, side in enumerate(SIDES):
            made = [seconds for seconds, of in at if of == which]
            written = len(live[side].text)
            late += [clock.seconds - seconds for seconds in made[shown[which] : written]]
            shown[which] = written
    assert sum(shown) == len(at), "something was never shown"
    return [*late, updates]


def steps(times: Sequence[float]) -> list[tuple[float, int]]:
    return [(seconds + which * MOMENT, which) for seconds in times for which in (0, 1)]


def test_steps_that_come_a_little_slower_than_updates_are_each_shown_whole_and_at_once(monkeypatch: pytest.MonkeyPatch):
    *late, updates = lateness(monkeypatch, steps([0.1 * n for n in range(1, 60)]))
    assert max(late) <= 1.01 * MOMENT
    assert updates <= 59 + 2  # the first and the last chunk of each side are shown by themselves


def test_a_step_that_comes_too_early_does_not_leave_one_side_behind_for_good(monkeypatch: pytest.MonkeyPatch):
    early = [0.1 * n + (-0.06 if n in (10, 11, 30) else 0.0) for n in range(1, 60)]
    *late, _ = lateness(monkeypatch, steps(early))
    waited = [seconds for seconds in late if seconds > 1.01 * MOMENT]
    assert len(waited) <= 2 * 3
    assert max(late) < 0.17


def test_fast_steps_are_coalesced_and_none_waits_longer_than_an_update(monkeypatch: pytest.MonkeyPatch):
    *late, updates = lateness(monkeypatch, steps([0.01 * n for n in range(1, 300)]))
    assert updates <= 12 * 3 + 4
    assert max(late) <= 1 / 12 + 0.01 + 2 * MOMENT


def test_sides_that_write_in_their_own_time_wait_for_each_other_for_a_moment_only(monkeypatch: pytest.MonkeyPatch):
    apart = sorted([(0.1 * n, 0) for n in range(1, 60)] + [(0.1 * n + 0.05, 1) for n in range(1, 60)])
    *late, _ = lateness(monkeypatch, apart)
    assert max(late) < 0.17


def test_a_side_that_has_fallen_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    silent = [(0.1, 0), (0.101, 1), *((0.1 * n, 1) for n in range(5, 60)), (9.0, 0)]
    *late, _ = lateness(monkeypatch, silent)
    assert max(late) <= 0.1
    assert sum(seconds > 1e-9 for seconds in late) <= 1
