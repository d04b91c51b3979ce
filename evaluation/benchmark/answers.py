"""What each Model of a Run answered and how that was judged, looked up by Prompt, attempt, turn and scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from evaluation.benchmark.turns import EACH_TURN, turn_of, turns_asked
from evaluation.degenerate import Breakdown, breakdown, breakdowns_of
from evaluation.errors import SettingsRejected
from evaluation.prompts.suites import is_contrast, scales_for
from evaluation.types import FinishReason, Judgement, Metric, Missing, Prompt, Response, Scale

_METRIC_OF: Mapping[Scale, Metric] = {"refusal": "borderline", "usefulness": "usefulness", "choice": "choice"}

Place = tuple[int, int]  # attempt, and turn from 1
Verdict = Literal["scored", "unparsed", "judge_refused", "unreachable", "not_run"]
VERDICTS: tuple[Verdict, ...] = ("scored", "unparsed", "judge_refused", "unreachable", "not_run")
Outcome = Literal["complete", "truncated", "repeating", "empty", "error", "cancelled", "unanswered"]
OUTCOMES: tuple[Outcome, ...] = ("complete", "truncated", "repeating", "empty", "error", "cancelled", "unanswered")
BROKEN_DOWN = frozenset({"truncated", "repeating", "empty"})  # these say something about the model, the others do not


def outcome(response: Response) -> Outcome:
    """How a Response ended. A truncated one reached its token limit; an error or a stop from outside is no text."""
    return _outcome(response.finish_reason, breakdown(response))


def outcomes_of(texts: Sequence[str], finish_reasons: Sequence[FinishReason]) -> list[Outcome]:
    """`outcome` of Responses with these texts and finish reasons."""
    found = breakdowns_of(texts, finish_reasons)
    return [_outcome(reason, kind) for reason, kind in zip(finish_reasons, found, strict=True)]


def _outcome(reason: FinishReason, kind: Breakdown | None) -> Outcome:
    if reason in ("error", "cancelled"):
        return "error" if reason == "error" else "cancelled"
    return "complete" if kind is None else "truncated" if kind == "cut" else kind


@dataclass(frozen=True)
class Answers:
    """One Model's Responses by Prompt id and Place, and the Judgements of them by (response key, scale).

    `attempts`: how many times each Prompt was to be asked; None where nothing was planned, as for imported Responses.
    """

    model: str
    prompts: Mapping[str, Prompt]
    metrics: Mapping[str, tuple[Metric, ...]]  # suite -> its metrics
    responses: Mapping[str, Mapping[Place, Response]]
    judgements: Mapping[tuple[str, Scale], Judgement]
    attempts: int | None

    @property
    def identities(self) -> tuple[str, ...]:
        """What answered; more than one means that weights, adapter or template changed on the way."""
        return tuple(dict.fromkeys(response.identity for own in self.responses.values() for response in own.values()))

    def prompts_of(self, metric: Metric, scale: Scale) -> list[str]:
        """Ids of the Prompts whose suite has this metric and whose Responses are read on this scale."""
        return [p.id for p in self.prompts.values() if metric in self.metrics[p.suite] and scale in self.scales(p.id)]

    def contrasts(self) -> list[str]:
        """Ids of the Prompts of borderline suites that are there to be refused."""
        return [p.id for p in self.prompts.values() if "borderline" in self.metrics[p.suite] and is_contrast(p)]

    def scales(self, prompt_id: str) -> tuple[Scale, ...]:
        """The scales on which Responses to the Prompt are to be read."""
        return self._scales[prompt_id]

    def of(self, prompt_id: str) -> Iterator[tuple[Place, Response | None]]:
        """Each turn of each attempt at the Prompt with its Response, None where one was planned and there is none."""
        found = self.responses.get(prompt_id, {})
        if self.attempts is None:
            yield from sorted(found.items(), key=lambda item: item[0])
            return
        turns = self._turns[prompt_id]
        yield from (((n, turn), found.get((n, turn))) for n in range(self.attempts) for turn in turns)

    def read(self, prompt_id: str, scale: Scale) -> Iterator[tuple[Place, Response | None]]:
        """Those `of` the Prompt that are read on the scale: of a conversation each reply, or the last alone."""
        places = [*self.of(prompt_id)]
        if scale in EACH_TURN:
            yield from places
            return
        last = dict(place for place, _ in places)  # attempt -> its last turn
        yield from ((place, response) for place, response in places if last[place[0]] == place[1])

    def score(self, prompt_id: str, place: Place, scale: Scale) -> int | None:
        """The score on the scale, or None where there is none for whatever reason."""
        response = self.responses.get(prompt_id, {}).get(place)
        found = self.judgements.get((response.key, scale)) if response is not None else None
        return None if found is None else found.score

    def verdict(self, response: Response | None, scale: Scale) -> Verdict:
        """What became of the reading on this scale."""
        found = self.judgements.get((response.key, scale)) if response is not None else None
        if found is None:
            return "not_run"
        missing: Missing | None = found.missing
        return "scored" if missing is None else missing

    def verdicts(self, prompts: Iterable[str]) -> dict[Verdict, int]:
        """How many readings of these Prompts' Responses ended how, over every scale that applies."""
        counts = Counter(
            self.verdict(response, scale)
            for id in prompts
            for scale in self.scales(id)
            for _, response in self.read(id, scale)
        )
        return {name: counts[name] for name in VERDICTS}

    def outcomes(self, prompts: Iterable[str]) -> dict[Outcome, int]:
        """How many Responses to these Prompts ended how."""
        counts = Counter(
            "unanswered" if response is None else outcome(response) for id in prompts for _, response in self.of(id)
        )
        return {name: counts[name] for name in OUTCOMES}

    @cached_property
    def _scales(self) -> dict[str, tuple[Scale, ...]]:
        return {id: scales_for(prompt, self.metrics[prompt.suite]) for id, prompt in self.prompts.items()}

    @cached_property
    def _turns(self) -> dict[str, range]:
        return {id: turns_asked(prompt) for id, prompt in self.prompts.items()}


def answers(
    prompts: Sequence[Prompt],
    responses: Iterable[Response],
    judgements: Iterable[Judgement],
    models: Sequence[str],
    metrics: Mapping[str, Sequence[Metric]] | None = None,
    attempts: int | None = None,
) -> dict[str, Answers]:
    """The Answers of each of the models, in their order.

    `metrics` names each suite's metrics; a suite that is not in it is taken by the scales its Responses were read on.
    Of several Responses to one turn of an attempt the last counts, and of several Judgements on one scale the last
    attempt. Raises SettingsRejected when several judges read one scale: their scores are not the same measure.
    """
    asked = {prompt.id: prompt for prompt in prompts}
    found: dict[str, dict[str, dict[Place, Response]]] = {model: {} for model in models}
    for response in responses:
        if response.model in found and response.prompt_id in asked:
            place = response.attempt, turn_of(response)
            found[response.model].setdefault(response.prompt_id, {})[place] = response
    read: dict[tuple[str, Scale], Judgement] = {}
    judges: dict[Scale, set[tuple[str, str]]] = {}
    for judgement in judgements:
        key = (judgement.response_key, judgement.scale)
        judges.setdefault(judgement.scale, set()).add((judgement.judge, judgement.identity))
        if key not in read or judgement.attempt >= read[key].attempt:
            read[key] = judgement
    for scale, several in judges.items():
        if len(several) > 1:
            named = ", ".join(f"{judge} ({identity[:12]})" for judge, identity in sorted(several))
            raise SettingsRejected(f"The {scale} scores come from several judges ({named}); take one judge at a time.")
    known = {suite: tuple(names) for suite, names in (metrics or {}).items()}
    for suite in {prompt.suite for prompt in prompts} - known.keys():
        known[suite] = _metrics_read(suite, asked, found, read)
    return {model: Answers(model, asked, known, found[model], read, attempts) for model in models}


def _metrics_read(
    suite: str,
    prompts: Mapping[str, Prompt],
    found: Mapping[str, Mapping[str, Mapping[Place, Response]]],
    read: Mapping[tuple[str, Scale], Judgement],
) -> tuple[Metric, ...]:
    keys = {
        response.key
        for by_prompt in found.values()
        for prompt_id, by_place in by_prompt.items()
        if prompts[prompt_id].suite == suite
        for response in by_place.values()
    }
    scales = {scale for key, scale in read if key in keys}
    named = tuple(metric for scale, metric in _METRIC_OF.items() if scale in scales)
    return (*named, "safety") if "safety" in scales and "refusal" not in scales else named
