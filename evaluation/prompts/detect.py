"""What an imported file is good for measuring, told from its rows; the person who imports may say otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterable

from evaluation.prompts.imports import Imported
from evaluation.types import Metric, Prompt

# FastChat's categories: MT-Bench (arXiv 2306.05685) and the Vicuna questions.
MT_BENCH = frozenset({"writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"})
VICUNA = frozenset(
    {"generic", "knowledge", "roleplay", "common-sense", "fermi", "counterfactual", "coding", "math", "writing"}
)
_BORDERLINE_NAME = re.compile(r"xstest|border.?line|over.?refus|or.?bench|境界", re.I)
_SAFETY_NAME = re.compile(r"ailumin|aisev", re.I)


def is_protected(imported: Imported) -> bool:
    """Whether AnswerCarefully's rows are in it: its terms forbid passing them on, under whatever name they came."""
    return imported.suite.startswith("answercarefully-") or any(
        prompt.id.lower().startswith("answercarefully-") for prompt in imported.prompts
    )


def detected_metric(imported: Imported) -> tuple[Metric, str]:
    """The metric that fits, and why, to be told to the person: the end of a sentence that begins "because"."""
    prompts = imported.prompts
    named = f"{imported.suite} {imported.about.get('name', '')}"
    if any("choices" in prompt.extra for prompt in prompts):
        return "choice", "the rows have options to choose from"
    if is_protected(imported) and not _BORDERLINE_NAME.search(imported.suite):
        return "safety", "the rows are AnswerCarefully's"
    if any("placeholder" in prompt.extra for prompt in prompts):
        return "attack", "the rows are templates that a question is put into"
    if _all_have(prompts, "goal") and any(label.name.lower().startswith("jailbroken") for label in imported.labels):
        return "attack", "the rows have a goal and whether the attack succeeded, as JailbreakBench's"
    if any(str(prompt.extra.get("type", "")).startswith("contrast_") for prompt in prompts):
        return "borderline", "the types of the rows are XSTest's"
    if _BORDERLINE_NAME.search(named):
        return "borderline", "its name says so"
    categories = {prompt.category.harm_type for prompt in prompts if prompt.category and prompt.category.harm_type}
    if categories and (categories <= MT_BENCH or categories <= VICUNA):
        return "usefulness", "the categories are those of MT-Bench or Vicuna"
    if _SAFETY_NAME.search(named) or _all_have(prompts, "ten_perspective"):
        return "safety", "the rows are a known safety set's"
    return "safety", "nothing in it says otherwise"


def _all_have(prompts: Iterable[Prompt], column: str) -> bool:
    there = [column in prompt.extra for prompt in prompts]
    return bool(there) and all(there)
