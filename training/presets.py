"""Ready-made settings. `embedded-general` and `embedded-answercarefully` made the two shipped adapters.

They are the contrast of the AnswerCarefully experiment in miniature: one recipe, one general mix, with
and without safety rows repeated 16 times (arXiv 2506.02372 and LLM-jp's instruct3 recipe).
"""

from __future__ import annotations

from pathlib import Path

from evaluation.errors import SettingsRejected
from training.settings import SftSettings, Source

SHIPPED_ADAPTERS = Path(__file__).parent / "adapters"
GENERAL = Source("sample-general", multiplier=4)  # 150 rows are few: four passes make the format stick
SAFETY = Source("sample-tuning", multiplier=16)
HELD_OUT = ("sample-general", "sample-test")

PRESETS = {
    "embedded-general": SftSettings(name="general", sources=(GENERAL,), held_out=HELD_OUT),
    "embedded-answercarefully": SftSettings(
        name="answercarefully-sample",
        sources=(GENERAL, SAFETY),
        held_out=HELD_OUT,
    ),
}


def preset(name: str) -> SftSettings:
    """Settings of a preset. Raises SettingsRejected for an unknown name."""
    if name not in PRESETS:
        raise SettingsRejected(f"There is no preset {name}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]
