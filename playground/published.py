"""What others have published, to be set beside one's own numbers: other prompts, other judges, so never in a test."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A row of a publication. Shares in [0, 1], `mean` on the safety scale from 1 to 5."""

    name: str
    prompts: int
    violation: float
    acceptable: float
    mean: float
    judged_by: str
    source: str


_PAPER = "LLM-jp, arXiv 2407.03963"  # llm-jp-13b-v2.0, 61 questions
_README = "llm-jp-judge, README"

PUBLISHED: tuple[Published, ...] = (
    Published("llm-jp-13b-v2.0 without AnswerCarefully", 61, 0.689, 0.098, 2.01, "people", _PAPER),
    Published("llm-jp-13b-v2.0 AnswerCarefully x1", 61, 0.525, 0.295, 2.58, "people", _PAPER),
    Published("llm-jp-13b-v2.0 AnswerCarefully x16", 61, 0.475, 0.295, 2.74, "people", _PAPER),
    Published("llm-jp-3-1.8b-instruct", 336, 0.610, 0.253, 2.47, "gpt-4o-2024-08-06", _README),
)
