"""Benchmark records with scores as a test says them; every sentence is our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evaluation.benchmark.results import BenchResults, results
from evaluation.journal import RunFolder, create_run
from evaluation.types import (
    Category,
    Judgement,
    Message,
    Missing,
    ModelIdentity,
    Prompt,
    Response,
    Sampling,
    Scale,
    judgement_key,
    response_key,
)

HARMS = ("アダルト", "ヘイトスピーチ", "メンタルヘルス")
IDENTITIES = {
    name: ModelIdentity(name, "base", "w" * 8, name, "t" * 8) for name in ("general", "answercarefully-sample", "third")
}
Verdict = int | Missing | None  # None: there is no Judgement at all


@dataclass
class Made:
    """Records of a run, added one by one."""

    prompts: list[Prompt] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)

    def suite(self, name: str, count: int, harms: Sequence[str] = HARMS) -> list[Prompt]:
        """Prompts of a suite, their harm types in turn."""
        made = [
            Prompt(
                f"{name}-{n}",
                f"{name}の質問{n}です。",
                f"参照回答{n}",
                Category("甲", harms[n % len(harms)], "丙"),
                suite=name,
            )
            for n in range(count)
        ]
        self.prompts += made
        return made

    def answer(
        self,
        prompt: Prompt,
        model: str = "general",
        verdicts: Mapping[Scale, Verdict] | None = None,
        attempt: int = 0,
        judge: str = "embedded",
        **changes: Any,
    ) -> Response:
        """A Response and what the judge made of it, by scale."""
        messages = (Message("user", prompt.question),)
        identity, sampling = IDENTITIES[model].digest, Sampling()
        key = response_key(messages, identity, sampling, attempt)
        response = Response(
            **{
                "key": key, "prompt_id": prompt.id, "model": model, "identity": identity, "text": f"{model}の回答です。",
                "finish_reason": "stop", "messages": messages, "sampling": sampling, "attempt": attempt, "tokens": 9,
                "seconds": 0.5,
            } | changes
        )  # fmt: skip
        self.responses.append(response)
        for scale, verdict in (verdicts or {}).items():
            self.judge(response, verdict, scale, judge)
        return response

    def judge(self, response: Response, verdict: Verdict, scale: Scale = "safety", judge: str = "embedded") -> None:
        """One Judgement; none for None."""
        if verdict is None:
            return
        told = {"score": verdict} if isinstance(verdict, int) else {"missing": verdict}
        key = judgement_key(response.key, f"identity of {judge}", scale, 0)
        self.judgements.append(
            Judgement(key, response.key, judge, f"identity of {judge}", scale, **told, explanation="理由です。")  # type: ignore[arg-type]
        )

    def scored(self, suite: str, scores: Mapping[str, Sequence[Verdict]], scale: Scale = "safety") -> list[Prompt]:
        """A suite in which each model's Response to Prompt n has the n-th verdict."""
        prompts = self.suite(suite, len(next(iter(scores.values()))))
        for model, verdicts in scores.items():
            for prompt, verdict in zip(prompts, verdicts, strict=True):
                self.answer(prompt, model, {scale: verdict})
        return prompts

    def results(self, metrics: Mapping[str, Sequence[str]], attempts: int | None = 1) -> BenchResults:
        """The numbers of what was added, models in the order they came."""
        models = [*dict.fromkeys(response.model for response in self.responses)]
        return results(self.prompts, self.responses, self.judgements, models, metrics, attempts)

    def write(self, runs: Path, kind: Any = "benchmark", models: Sequence[str] | None = None, **settings: Any) -> str:
        """A finished run folder of the records of these models, or of all; returns the run's id."""
        kept = [*(models or dict.fromkeys(response.model for response in self.responses))]
        asked = {"models": kept, "suites": [*dict.fromkeys(p.suite for p in self.prompts)], "attempts": 1, **settings}
        identities: dict[str, Mapping[str, Any]] = {model: asdict(IDENTITIES[model]) for model in kept}
        folder: RunFolder
        with create_run(runs, kind, asked, identities | {"judge": {"id": "embedded", "identity": "made"}}) as folder:
            folder.event("started")
            for prompt in self.prompts:
                folder.record_prompt(prompt)
            responses = [response for response in self.responses if response.model in kept]
            for response in responses:
                folder.record_response(response)
            keys = {response.key for response in responses}
            for judgement in self.judgements:
                if judgement.response_key in keys:
                    folder.record_judgement(judgement)
            folder.event("finished")
        return folder.path.name


def two_models(count: int = 90) -> Made:
    """A base that violates on every third Prompt and a tuned model that does on every ninth."""
    made = Made()
    base = [2 if n % 3 == 0 else 4 for n in range(count)]
    tuned = [1 if n % 9 == 0 else 5 for n in range(count)]
    made.scored("sample-test", {"general": base, "answercarefully-sample": tuned})
    return made
