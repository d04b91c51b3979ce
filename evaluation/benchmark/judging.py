"""Judges Responses on threads of its own while others are still being made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from evaluation.benchmark.turns import scales_at
from evaluation.judge.protocol import Exchange, Judge, without_reference, without_verdict
from evaluation.prompts.suites import scales_for
from evaluation.types import Judgement, Metric, Prompt, Scale, content_key, judgement_key

AT_ONCE = 64  # Responses handed to a judge together: as many as an endpoint is asked at once
WAITING = 256  # Responses that wait to be judged before answering waits too
THREADS = 3  # so that a few slow verdicts of one batch do not hold up the next
_POLL_S = 0.2


class WithoutReference:
    """A judge that is not shown reference answers. Its verdicts have keys of their own."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.id = judge.id
        self.scales = judge.scales
        self.identity = content_key("without-reference", judge.identity)

    def judge(
        self,
        exchanges: Sequence[Exchange],
        scale: Scale = "safety",
        on_done: Callable[[Judgement], None] | None = None,
    ) -> list[Judgement]:
        """See `protocol.Judge`."""
        blind = [without_reference(exchange) for exchange in exchanges]
        tell = (lambda judgement: on_done(self._own(judgement))) if on_done else None
        return [self._own(judgement) for judgement in self._judge.judge(blind, scale, tell)]

    def _own(self, judgement: Judgement) -> Judgement:
        key = judgement_key(judgement.response_key, self.identity, judgement.scale, judgement.attempt)
        return replace(judgement, key=key, identity=self.identity)


class Panel:
    """The judges of a run: which one reads which scale, and which verdicts a Prompt's Responses are owed."""

    def __init__(self, judges: Sequence[Judge], metrics: Mapping[str, Sequence[Metric]]) -> None:
        """The first judge that can read a scale does. `metrics` are those of each suite."""
        self._judges, self._metrics = tuple(judges), metrics

    def judge(self, scale: Scale) -> Judge:
        """The judge of a scale; where none can read it, the first, which then has to say so."""
        return next((judge for judge in self._judges if scale in judge.scales), self._judges[0])

    def scales(self, prompt: Prompt, *, last: bool) -> tuple[Scale, ...]:
        """The scales that a reply to the Prompt is read on; `last`: its conversation ends with it."""
        return scales_at(scales_for(prompt, self._metrics[prompt.suite]), last=last) if self._judges else ()

    def keys(self, response: str, prompt: Prompt, *, last: bool = True) -> dict[Scale, str]:
        """By scale, the keys of the Judgements that the Response to the Prompt is owed; `last` as in `scales`."""
        scales = self.scales(prompt, last=last)
        return {scale: judgement_key(response, self.judge(scale).identity, scale, 0) for scale in scales}


class JudgeLine:
    """Takes exchanges in and hands each Judgement to `keep`, which may be called from several threads.

    Judgements whose keys are in `done` are not made again. An exception of a judge, or of `keep`, ends the line and is
    raised by the next `add` or by `finish`.
    """

    def __init__(
        self, panel: Panel, keep: Callable[[Judgement], None], done: Collection[str], stop_calls: Callable[[], None]
    ) -> None:
        """`stop_calls` makes judges under way end after the calls they have made."""
        self._panel, self._keep, self._done, self._stop_calls = panel, keep, done, stop_calls
        self._waiting: list[tuple[Scale, Exchange]] = []
        self._changed = threading.Condition()
        self._closed = False  # nothing will be added
        self._stopping = False  # what waits is given up
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._work, name=f"judging-{n}", daemon=True) for n in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def add(self, exchange: Exchange, should_stop: Callable[[], bool], *, last: bool = True) -> None:
        """Have it judged on every scale that is still owed; waits while too many wait. Raises what a judge raised.

        `last`: its conversation ends with it.
        """
        owed = self._panel.keys(exchange.response.key, exchange.prompt, last=last)
        tasks = [(scale, exchange) for scale, key in owed.items() if key not in self._done]
        with self._changed:
            while len(self._waiting) >= WAITING and not self._over() and not should_stop():
                self._changed.wait(_POLL_S)
            self._raise()
            self._waiting += tasks
            self._changed.notify_all()

    def check(self) -> None:
        """Raise what a judge has raised."""
        with self._changed:
            self._raise()

    def finish(self, should_stop: Callable[[], bool]) -> None:
        """Wait until everything is judged, or until what is under way has ended once `should_stop` says so."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_POLL_S)
                if should_stop():
                    self.stop()
        with self._changed:
            self._raise()

    def stop(self) -> None:
        """Give up what waits; what is under way ends by itself."""
        with self._changed:
            first, self._stopping = not self._stopping, True
            self._changed.notify_all()
        if first:
            self._stop_calls()

    def wait(self) -> None:
        """After `stop`: wait until what is under way has been handed to `keep`."""
        for thread in self._threads:
            thread.join()

    def _over(self) -> bool:
        return self._stopping or self._failure is not None

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            while batch := self._take():
                by_scale: dict[Scale, list[Exchange]] = {}
                for scale, exchange in batch:
                    by_scale.setdefault(scale, []).append(exchange)
                for scale, exchanges in by_scale.items():
                    self._judge(scale, exchanges)
        except BaseException as error:  # of any kind: nobody else would hear of it on this thread
            with self._changed:
                self._failure = self._failure or error
                self._changed.notify_all()
            self._stop_calls()

    def _take(self) -> list[tuple[Scale, Exchange]]:
        """Up to AT_ONCE tasks, waiting for the first; empty when there is nothing more to do."""
        with self._changed:
            while not (self._waiting or self._closed or self._over()):
                self._changed.wait()
            if self._over():
                return []
            batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            self._changed.notify_all()
            return batch

    def _judge(self, scale: Scale, exchanges: Sequence[Exchange]) -> None:
        if self._over():
            return
        judge = self._panel.judge(scale)
        if scale in judge.scales:
            judge.judge(exchanges, scale, self._keep)
            return
        can = ", ".join(sorted(judge.scales))
        words = f"Not judged: {judge.id} scores {can}, not {scale}; judge the run again with openai:MODEL."
        for exchange in exchanges:
            self._keep(without_verdict(exchange.response, judge.id, judge.identity, scale, "not_run", words))
