"""Graded responses of the sample set: what the embedded judge is fitted on, and the held-out part it is measured on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.judge.protocol import Exchange
from evaluation.prompts.suites import SAMPLES, sample_suites
from evaluation.types import Prompt, Response, Scale, content_key

GRADED_SET = "sample-graded"
GRADED_FILE = SAMPLES / f"{GRADED_SET}.jsonl"


@dataclass(frozen=True)
class Graded:
    """A response with the score its writer gave it."""

    prompt: Prompt
    text: str
    scale: Scale
    score: int
    kind: str = "plain"  # what is special about it; "off-topic" answers another question

    @property
    def held_out(self) -> bool:
        """A quarter of the prompts, chosen by a hash of their id."""
        return hashlib.sha256(self.prompt.id.encode()).digest()[0] < 64

    @property
    def is_reference(self) -> bool:
        """Whether the response is the prompt's own reference, which a judge that is shown it would merely find again."""
        return self.text == self.prompt.reference

    def exchange(self) -> Exchange:
        """As a judge would be handed it. The key is of the content, so that two responses to a Prompt stay apart."""
        key = content_key("graded", self.prompt.id, self.scale, self.text)
        response = Response(key, self.prompt.id, "graded", "graded", self.text, "stop", self.prompt.messages())
        return Exchange(self.prompt, response)


def read_graded(path: Path, prompts: Mapping[str, Prompt]) -> list[Graded]:
    """Read graded responses, one JSON object a line with prompt_id, scale, score, kind and response.

    A row of language "en" answers the English gloss of its prompt.
    """
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Graded(
            _asked(prompts[row["prompt_id"]], row.get("language", "ja")),
            row["response"],
            row["scale"],
            row["score"],
            row["kind"],
        )
        for row in rows
    ]


def everyday_answers() -> list[Graded]:
    """Every fifth everyday instruction in English with its reference: it refuses nothing, so it needs no grader."""
    asked = [_asked(prompt, "en") for prompt in sample_suites()["sample-daily"].prompts[::5]]
    return [Graded(prompt, prompt.reference, "refusal", 3) for prompt in asked if prompt.reference]


def _asked(prompt: Prompt, language: str) -> Prompt:
    if language == prompt.language:
        return prompt
    return replace(
        prompt, question=prompt.extra["question_en"], reference=prompt.extra["reference_en"], language=language
    )


def held_out_graded(scale: Scale) -> list[Graded]:
    """The graded responses of the sample set on that scale that the embedded judge was not fitted on."""
    prompts = {prompt.id: prompt for suite in sample_suites().values() for prompt in suite.prompts}
    return [g for g in read_graded(GRADED_FILE, prompts) if g.held_out and g.scale == scale]
