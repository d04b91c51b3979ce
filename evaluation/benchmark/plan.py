"""From settings to requests: which Prompts, which Response each Model owes, and under which key."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from evaluation.benchmark.settings import BenchmarkSettings
from evaluation.benchmark.turns import next_messages, opening, turns_asked
from evaluation.errors import SettingsRejected
from evaluation.labels import spread
from evaluation.prompts.suites import Suite
from evaluation.types import Judgement, Message, ModelIdentity, Prompt, Response, Sampling, response_key

# Records that earlier runs made, found by key. Takes the keys that are wanted: of Responses, of Judgements.
Earlier = Callable[[Collection[str], Collection[str]], Iterable[Response | Judgement]]


@dataclass(frozen=True)
class Request:
    """One Response that is to be made. `sampling` has this attempt's own seed.

    `messages` is what is sent: in a conversation the turns before it and what this model replied to them.
    """

    key: str
    prompt: Prompt
    model: str
    identity: str  # digest that must answer
    sampling: Sampling
    attempt: int
    messages: tuple[Message, ...]
    turn: int  # from 1

    @property
    def last(self) -> bool:
        """Whether the conversation ends with it."""
        return self.turn > len(self.prompt.turns)


@dataclass(frozen=True)
class Chosen:
    """The Prompts of a benchmark. `notes` says, for people, what was left out."""

    prompts: tuple[Prompt, ...]
    notes: tuple[str, ...] = ()


def choose_prompts(suites: Sequence[Suite], limit: int | None) -> Chosen:
    """The Prompts that are asked: of a suite with a test split those, `limit` of each suite, no question twice.

    A Response is found by what was sent, so two Prompts that begin with one question would share it; the second is left
    out. Raises SettingsRejected when there is nothing to ask, or when two suites use one id for different questions.
    """
    found: dict[str, Prompt] = {}
    asked: set[tuple[Message, ...]] = set()
    notes = []
    for suite in suites:
        again = 0
        for prompt in spread(suite.split("test") or suite.prompts, limit):
            if (first := opening(prompt)) in asked:
                again += 1
                continue
            if prompt.id in found:
                raise SettingsRejected(
                    f"{found[prompt.id].suite} and {suite.name} both have a prompt {prompt.id[:80]!r}, with different "
                    "questions; benchmark them in separate runs."
                )
            asked.add(first)
            found[prompt.id] = prompt if prompt.suite == suite.name else replace(prompt, suite=suite.name)
        if again:
            notes.append(
                f"{suite.name}: {again} prompts repeat a question that is asked already, or begin with it; "
                "each is asked once."
            )
    if not found:
        raise SettingsRejected(
            f"There is no prompt in {', '.join(suite.name for suite in suites)}; choose another suite."
        )
    return Chosen(tuple(found.values()), tuple(notes))


def plan(
    settings: BenchmarkSettings, prompts: Sequence[Prompt], identities: Mapping[str, ModelIdentity]
) -> list[Request]:
    """The first Response that is owed of each attempt, the longest prompts first, all Models of a Prompt next to each other.

    So a batch of neighbours has little padding and holds both sides of a pair, and memory that does not suffice shows
    at once. Attempt n is drawn with seed + n. What comes after a first turn, `following` says.
    Raises SettingsRejected when two of the models are the same.
    """
    digests = {model: identities[model].digest for model in settings.models}
    for model, digest in digests.items():
        twin = next((other for other in digests if other != model and digests[other] == digest), None)
        if twin is not None:
            raise SettingsRejected(f"{model} and {twin} are the same weights ({digest}); choose one of them.")
    samplings = [replace(settings.sampling, seed=settings.sampling.seed + n) for n in range(settings.attempts)]
    first = [(prompt, opening(prompt), turns_asked(prompt)[0]) for prompt in prompts]
    return [
        Request(
            response_key(sent, digests[model], sampling, attempt),
            prompt,
            model,
            digests[model],
            sampling,
            attempt,
            sent,
            turn,
        )
        for prompt, sent, turn in sorted(first, key=lambda one: -sum(len(message.content) for message in one[1]))
        for attempt, sampling in enumerate(samplings)
        for model in settings.models
    ]


def following(request: Request, response: Response) -> Request | None:
    """The next turn after the Response to `request`; None at the last one, and where the reply failed or is empty."""
    sent = next_messages(request.prompt, response)
    if sent is None:
        return None
    key = response_key(sent, request.identity, request.sampling, request.attempt)
    return replace(request, key=key, messages=sent, turn=request.turn + 1)
