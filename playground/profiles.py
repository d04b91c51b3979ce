"""Where the app runs and what is therefore allowed: `local`, `replay`, `zerogpu` or `gpu`, one frozen record each.

`local` is a person's own machine or server. The other three are for strangers: nobody has to sign in to try the models,
what they type is gone with their session, and whatever costs somebody something has a bound.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from evaluation.errors import SettingsRejected

ProfileName = Literal["local", "replay", "zerogpu", "gpu"]
PROFILES: tuple[ProfileName, ...] = get_args(ProfileName)
_SIGNS_OF_A_GPU = ("/dev/nvidiactl", "/dev/kfd")


@dataclass(frozen=True)
class Profile:
    """What is allowed. The bounds hold for visitors and raters; None is no bound."""

    name: ProfileName
    public: bool  # strangers come without signing in, and their prompts are kept for their session only
    training: bool = True
    benchmark: bool = True  # starting one; results can always be read
    sql: bool = True  # the SQL box, for the owner
    own_adapters: bool = True  # importing, renaming, exporting, publishing and deleting adapters
    examples: bool = False  # runs of the embedded model that are shipped, to look at
    max_new_tokens: int = 2_048  # of each answer
    longest_question: int = 8_000  # characters
    concurrent_answers: int = 8  # pairs that are written at once; the others wait
    requests_per_minute: int | None = None  # of one user, answers and verdicts counted apart
    requests_per_minute_address: int | None = None  # of all users of one address
    tokens_per_day: int | None = None  # written for all visitors together
    spend_usd_per_day: float | None = None  # on models and judges that cost money, for all visitors together
    upload_bytes: int = 50 << 20
    grace_s: float = 600.0  # how long a visitor's conversation outlives a page that was closed or lost its connection
    idle_s: float = 6 * 3600.0  # and how long one that nobody has touched, when the page never said goodbye
    gpu_seconds: int = 60  # of one borrowed turn on a ZeroGPU device


_VISITORS = Profile(
    "replay",
    public=True,
    training=False,
    benchmark=False,
    sql=False,
    own_adapters=False,
    examples=True,
    max_new_tokens=256,
    longest_question=1_000,
    concurrent_answers=2,
    requests_per_minute=6,
    requests_per_minute_address=20,
    tokens_per_day=300_000,
    spend_usd_per_day=0.0,
    upload_bytes=1 << 20,
)
# 300,000 tokens are a little over half an hour of two CPU cores at the embedded model's pace.
_BY_NAME: Mapping[ProfileName, Profile] = {
    "local": Profile("local", public=False),
    "replay": _VISITORS,
    "zerogpu": replace(_VISITORS, name="zerogpu", max_new_tokens=512, concurrent_answers=4, tokens_per_day=2_000_000),
    "gpu": replace(
        _VISITORS,
        name="gpu",
        training=True,
        benchmark=True,
        sql=True,
        own_adapters=True,
        max_new_tokens=1_024,
        longest_question=4_000,
        concurrent_answers=16,
        requests_per_minute=12,
        requests_per_minute_address=60,
        tokens_per_day=10_000_000,
        upload_bytes=50 << 20,
    ),
}


def detected(environment: Mapping[str, str] | None = None, *, has_gpu: bool | None = None) -> ProfileName:
    """The profile that fits: `local` unless this is a Hugging Face Space, whose variables and devices decide."""
    told = os.environ if environment is None else environment
    if not told.get("SPACE_ID"):
        return "local"
    if told.get("SPACES_ZERO_GPU", "").lower() not in ("", "0", "false"):
        return "zerogpu"
    gpu = any(Path(sign).exists() for sign in _SIGNS_OF_A_GPU) if has_gpu is None else has_gpu
    return "gpu" if gpu else "replay"


def profile(
    name: ProfileName,
    *,
    tokens_per_day: int | None = None,
    spend_usd_per_day: float | None = None,
) -> Profile:
    """The profile of that name; the budgets replace those of a public one. Raises SettingsRejected for an unknown name."""
    found = _BY_NAME.get(name)
    if found is None:
        raise SettingsRejected(f"PLAYGROUND_PROFILE is {name}; use one of {', '.join(PROFILES)}.")
    if not found.public and (tokens_per_day is not None or spend_usd_per_day is not None):
        raise SettingsRejected(
            "PLAYGROUND_TOKENS_PER_DAY and PLAYGROUND_SPEND_USD_PER_DAY bound strangers; the profile local has none. "
            "Remove them, or set PLAYGROUND_PROFILE."
        )
    if tokens_per_day is not None:
        found = replace(found, tokens_per_day=tokens_per_day)
    return replace(found, spend_usd_per_day=spend_usd_per_day) if spend_usd_per_day is not None else found
