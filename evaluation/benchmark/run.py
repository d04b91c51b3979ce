"""The benchmark itself: answering and judging overlap, every record is on its way to disk before it counts.

`run_benchmark` answers and judges, `judge_responses` judges Responses that are there. Both can be stopped and called
again on the same folder: what is owed is what was planned minus the keys that the folder holds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

from evaluation.benchmark.judging import JudgeLine, Panel
from evaluation.benchmark.pacing import NOT_ASKED, Pacer
from evaluation.benchmark.plan import Earlier, Request, following, plan
from evaluation.benchmark.settings import BenchmarkSettings
from evaluation.benchmark.turns import ends_of, turns_asked
from evaluation.errors import UserFacingError
from evaluation.journal import RunFolder, read_records
from evaluation.judge.protocol import Exchange
from evaluation.types import Judgement, ModelIdentity, Prompt, Response, as_attempt, judgement_key

# Answers requests in any order as they are done, one Response each. Closing it stops what is still being made.
Generate = Callable[[Sequence[Request]], Generator[Response]]
Report = Callable[[str, dict[str, Any]], None]
ShouldStop = Callable[[], bool]

PROGRESS_S = 1.0
FAILURES = 10  # Responses of one model that fail in a row before the run ends: its server is gone, not its words
# How the error of a Response begins that failed for its prompt's sake: the model answers others.
DOES_NOT_FIT, FILTERED = "The prompt does not fit: ", "The prompt was filtered: "
ENOUGH_JUDGED = 0.9  # share of the verdicts that are scores; below it every figure of the run is doubtful


class ModelFailing(UserFacingError):
    """A model gives errors instead of Responses. They were not recorded: a resume asks again."""


class WrongModelAnswered(UserFacingError):
    """A Response came from other weights than those the run was made for."""


@dataclass(frozen=True)
class Totals:
    """How far a run is. `judged` counts verdicts with a score, `missing` those without; both of `verdicts` planned."""

    answered: int
    total: int  # Responses
    judged: int
    missing: int
    verdicts: int
    reused: int  # records taken over from earlier runs
    seconds: float  # of this sitting
    tokens_per_s: float | None  # generated, over all models, in this sitting
    cost_usd: float
    eta_s: float | None


@dataclass(frozen=True)
class Ended:
    """How `run_benchmark` ended. `stopped`: it was asked to, and can go on from there."""

    totals: Totals
    stopped: bool


def run_benchmark(
    settings: BenchmarkSettings,
    prompts: Sequence[Prompt],
    identities: Mapping[str, ModelIdentity],
    generate: Generate,
    panel: Panel,
    folder: RunFolder,
    report: Report,
    should_stop: ShouldStop,
    *,
    earlier: Earlier | None = None,
    pacer: Pacer | None = None,
) -> Ended:
    """Make and judge every Response that the folder lacks. `pacer` is the one that judges and models ask through.

    Raises SettingsRejected before anything is asked, ModelFailing, WrongModelAnswered, DiskRefused, and what a judge
    raises when it cannot work at all.
    """
    requests = plan(settings, prompts, identities)
    for prompt in prompts:
        folder.record_prompt(prompt)
    sitting = _Sitting(folder, panel, report, should_stop, pacer, {p.id: p for p in prompts})
    sitting.expect(requests)
    if settings.reuse and earlier is not None:
        sitting.take_over(earlier)
    return sitting.run(generate)


def judge_responses(
    exchanges: Sequence[Exchange],
    panel: Panel,
    folder: RunFolder,
    report: Report,
    should_stop: ShouldStop,
    *,
    earlier: Earlier | None = None,
    pacer: Pacer | None = None,
) -> Ended:
    """Judge Responses that exist, and record them with their Prompts too, so that the folder stands by itself."""
    for exchange in exchanges:
        folder.record_prompt(exchange.prompt)
        folder.record_response(exchange.response)
    sitting = _Sitting(folder, panel, report, should_stop, pacer, {e.prompt.id: e.prompt for e in exchanges})
    sitting.expect_exchanges(exchanges)
    if earlier is not None:
        sitting.take_over(earlier)
    return sitting.run(None)


class _Sitting:
    """One process's work on a run. Responses come on the caller's thread, Judgements on the judges' threads."""

    def __init__(
        self,
        folder: RunFolder,
        panel: Panel,
        report: Report,
        should_stop: ShouldStop,
        pacer: Pacer | None,
        prompts: Mapping[str, Prompt],
    ) -> None:
        self._folder, self._panel, self._report, self._should_stop = folder, panel, report, should_stop
        self._pacer, self._prompts = pacer, prompts
        self._mutex = threading.Lock()  # around the counts
        self._began = time.monotonic()
        self._told_at = float("-inf")
        self._responses: dict[str, Response] = {}
        self._requests: dict[str, Request] = {}  # by key; the next turn of a conversation joins them after its reply
        self._owed: set[str] = set()  # Response keys
        self._ends: set[str] = set()  # those of them that end their conversation
        self._verdict_keys: set[str] = set()
        self._planned = self._planned_verdicts = 0
        self._verdicts: dict[str, bool] = {}  # Judgement key -> whether it has a score
        self._again: dict[str, int] = {}  # key of a verdict that an earlier sitting did not reach -> its next attempt
        self._judgement_usd = 0.0
        self._reused = self._new = self._new_verdicts = self._tokens = 0
        self._answering_since: float | None = None
        self._answered_s = 0.0  # of answering, in this sitting
        self._failing: dict[str, list[Response]] = {}  # model -> errors since its last good Response
        self._spend_cap = ""  # what the engine said when the cap left no room

    def expect(self, requests: Sequence[Request]) -> None:
        """Fix what is owed, later turns included, and take in what the folder holds of it."""
        for request in requests:
            self._owe(request)
            for turn in turns_asked(request.prompt):
                self._planned += 1
                last = turn > len(request.prompt.turns)
                self._planned_verdicts += len(self._panel.scales(request.prompt, last=last))
        held = self._read_responses()
        for request in requests:
            due: Request | None = request
            while due is not None and (response := held.get(due.key)) is not None:
                due = self._hold(response)
        self._read_judgements()

    def expect_exchanges(self, exchanges: Sequence[Exchange]) -> None:
        """The same for Responses that exist; the longest of an attempt ends its conversation."""
        self._owed = {exchange.response.key for exchange in exchanges}
        self._ends = ends_of([exchange.response for exchange in exchanges])
        for exchange in exchanges:
            key = exchange.response.key
            self._verdict_keys.update(self._panel.keys(key, exchange.prompt, last=key in self._ends).values())
        self._planned, self._planned_verdicts = len(self._owed), len(self._verdict_keys)
        self._responses = {key: response for key, response in self._read_responses().items() if key in self._owed}
        self._read_judgements()

    def _read_responses(self) -> dict[str, Response]:
        found = (record for record, _ in read_records(self._folder.path / "responses.jsonl"))
        return {record.key: record for record in found if isinstance(record, Response)}

    def _read_judgements(self) -> None:
        """What was unreachable in an earlier sitting is asked again, as another attempt: its key is taken."""
        newest: dict[str, Judgement] = {}
        for record, _ in read_records(self._folder.path / "judgements.jsonl"):
            if isinstance(record, Judgement) and (key := _planned_key(record)) in self._verdict_keys:
                newest[key] = record
        for key, record in newest.items():
            if record.missing == "unreachable":
                self._again[key] = record.attempt + 1
            else:
                self._count(record)

    def _numbered(self, judgement: Judgement) -> Judgement:
        attempt = self._again.get(_planned_key(judgement))
        return judgement if attempt is None else as_attempt(judgement, attempt)

    def _owe(self, request: Request) -> None:
        self._requests[request.key] = request
        self._owed.add(request.key)
        self._verdict_keys.update(self._panel.keys(request.key, request.prompt, last=request.last).values())

    def _hold(self, response: Response) -> Request | None:
        """The Response is on disk. Returns the turn that it makes due, None where the conversation ends."""
        request = self._requests[response.key]
        after = following(request, response)
        with self._mutex:
            self._responses[response.key] = response
            if after is not None:
                self._owe(after)
            else:
                self._ends.add(response.key)
                self._verdict_keys.update(self._panel.keys(response.key, request.prompt).values())
        return after

    def take_over(self, earlier: Earlier) -> None:
        """Record what earlier runs made under the same keys: whole Responses and Judgements with a score."""
        scored: dict[str, Judgement] = {}
        wanted = {key: request for key, request in self._requests.items() if key not in self._responses}
        while True:
            due: dict[str, Request] = {}
            for record in earlier(wanted.keys(), self._verdict_keys - self._verdicts.keys() - scored.keys()):
                if isinstance(record, Judgement):
                    if record.score is not None:
                        scored.setdefault(record.key, record)
                elif record.key in wanted and record.finish_reason in ("stop", "length"):
                    request = wanted[record.key]
                    # The key covers what was sent and who answered, not by which names.
                    own = replace(record, prompt_id=request.prompt.id, model=request.model)
                    if self._folder.record_response(own):
                        self._reused += 1
                        if (after := self._hold(own)) is not None:
                            due[after.key] = after
            if not due:
                break
            wanted = due
        for judgement in map(self._numbered, scored.values()):
            if judgement.response_key in self._responses and self._folder.record_judgement(judgement):
                self._count(judgement)
                self._reused += 1

    def run(self, generate: Generate | None) -> Ended:
        """Answer what is missing and judge everything that is not judged."""
        self._tell("answering" if self._requests else "judging", now=True)
        line = JudgeLine(self._panel, self._keep_judgement, self._verdicts.keys(), self._stop_calls)
        try:
            for response in list(self._responses.values()):
                if self._should_stop():
                    break
                self._judge(response, line)
            if generate is not None:
                self._answer_all(generate, line)
            self._tell("judging", now=True)
            line.finish(self._watched)
        except BaseException as error:
            line.stop()
            if isinstance(error, Exception):
                line.wait()  # what was asked is paid for, and the folder is closed as soon as we are gone
            raise
        stopped = self._should_stop() and not self._complete()
        if not stopped:
            self._warn_at_the_end()
        self._tell("stopped" if stopped else "done", now=True)
        return Ended(self.totals(), stopped)

    def _answer_all(self, generate: Generate, line: JudgeLine) -> None:
        """Turn by turn: what one round's replies make due is asked in the next, in the order of the plan."""
        order: dict[tuple[str, str, int], int] = {}
        for request in self._requests.values():
            order.setdefault(_attempt(request), len(order))
        asked: set[str] = set()
        while not self._should_stop():
            missing = [r for key, r in self._requests.items() if key not in self._responses and key not in asked]
            if not missing:
                return
            asked.update(request.key for request in missing)
            self._answer(sorted(missing, key=lambda request: order[_attempt(request)]), generate, line)

    def _answer(self, missing: Sequence[Request], generate: Generate, line: JudgeLine) -> None:
        expected = {request.key: request for request in missing}
        self._answering_since = self._answering_since or time.monotonic()
        with closing(generate(missing)) as responses:
            for response in responses:
                line.check()  # first: a judge that cannot work makes calls of models fail too
                if response.finish_reason != "cancelled":
                    for kept in self._kept(response, expected):
                        self._answered_s = time.monotonic() - self._answering_since
                        self._judge(kept, line)
                self._tell("answering")
                if self._should_stop():
                    return
        for model, failed in self._failing.items():
            if not any(r.model == model and r.finish_reason != "error" for r in self._responses.values()):
                raise self._failure(model, failed)
            for response in failed:
                self._judge(self._record(response), line)
        self._failing.clear()

    def _judge(self, response: Response, line: JudgeLine) -> None:
        exchange = Exchange(self._prompts[response.prompt_id], response)
        line.add(exchange, self._should_stop, last=response.key in self._ends)

    def _kept(self, response: Response, expected: Mapping[str, Request]) -> list[Response]:
        """Record the Response, and those before it that failed, now that its model is seen to work."""
        if response.key not in expected:
            raise WrongModelAnswered(
                f"{response.model} answered as {response.identity}, which is not what this run was made for; the adapter "
                "or the checkpoint was replaced meanwhile. Start a new run."
            )
        error = response.error or ""
        if response.finish_reason != "error" or error.startswith((DOES_NOT_FIT, FILTERED)):
            works = response.finish_reason != "error"
            return [self._record(r) for r in (*(self._failing.pop(response.model, ()) if works else ()), response)]
        if error.startswith(NOT_ASKED):
            self._spend_cap = error
            return []
        failed = self._failing.setdefault(response.model, [])
        failed.append(response)
        if len(failed) >= FAILURES:
            raise self._failure(response.model, failed)
        return []

    def _failure(self, model: str, failed: Sequence[Response]) -> ModelFailing:
        return ModelFailing(
            f"{model} failed {len(failed)} times in a row: {failed[-1].error or 'no reason was given'} "
            "What was answered is kept; resume the run when this is mended."
        )

    def _record(self, response: Response) -> Response:
        self._folder.record_response(response)
        self._hold(response)
        self._new += 1
        self._tokens += response.tokens or 0
        return response

    def _keep_judgement(self, judgement: Judgement) -> None:
        judgement = self._numbered(judgement)
        self._folder.record_judgement(judgement)
        with self._mutex:
            self._count(judgement)
            self._new_verdicts += 1

    def _count(self, judgement: Judgement) -> None:
        self._verdicts[_planned_key(judgement)] = judgement.score is not None
        self._judgement_usd += judgement.cost_usd or 0.0

    def _stop_calls(self) -> None:
        if self._pacer is not None:
            self._pacer.stop()

    def _watched(self) -> bool:
        """Whether to stop, asked while the judges finish; keeps telling how far they are."""
        self._tell("judging")
        return self._should_stop()

    def _complete(self) -> bool:
        return self._responses.keys() >= self._owed and self._verdicts.keys() >= self._verdict_keys

    def totals(self) -> Totals:
        """How far it is now."""
        with self._mutex:
            scored = sum(self._verdicts.values())
            seconds = time.monotonic() - self._began
            left, verdicts_left = self._planned - len(self._responses), self._planned_verdicts - len(self._verdicts)
            return Totals(
                answered=len(self._responses),
                total=self._planned,
                judged=scored,
                missing=len(self._verdicts) - scored,
                verdicts=self._planned_verdicts,
                reused=self._reused,
                seconds=seconds,
                tokens_per_s=self._tokens / self._answered_s if self._answered_s else None,
                cost_usd=self._judgement_usd if self._pacer is None else self._pacer.spent_usd,
                eta_s=_longest(
                    _time_for(left, self._new, seconds), _time_for(verdicts_left, self._new_verdicts, seconds)
                ),
            )

    def _tell(self, stage: str, *, now: bool = False) -> None:
        if now or time.monotonic() - self._told_at >= PROGRESS_S:
            self._told_at = time.monotonic()
            self._report("progress", {"stage": stage, **asdict(self.totals())})

    def _warn_at_the_end(self) -> None:
        totals = self.totals()
        if self._spend_cap:
            words = f"{totals.total - totals.answered} responses were not asked for: {self._spend_cap}"
            self._report("warning", {"message": words})
        # Verdicts on a Response that never came are missing as well.
        if totals.verdicts and totals.judged < ENOUGH_JUDGED * totals.verdicts:
            words = f"Only {totals.judged} of {totals.verdicts} verdicts are scores; read every figure of this run with care."
            self._report("warning", {"message": words})


def _planned_key(judgement: Judgement) -> str:
    """The key under which the verdict was planned, whichever attempt this one is."""
    return judgement_key(judgement.response_key, judgement.identity, judgement.scale, 0)


def _attempt(of: Request) -> tuple[str, str, int]:
    return of.prompt.id, of.model, of.attempt


def _time_for(left: int, done: int, seconds: float) -> float | None:
    """Seconds that the rest will take at the pace so far; None while there is no pace."""
    if left <= 0:
        return 0.0
    return left * seconds / done if done else None


def _longest(*times: float | None) -> float | None:
    known = [seconds for seconds in times if seconds is not None]
    return max(known) if len(known) == len(times) else None
