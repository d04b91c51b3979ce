"""The guard against training on the test: no tuning question may be, or nearly be, a test question.

Nearly: character 3-grams of the two texts (NFKC, lower case, letters and digits only) overlap by more than 0.6 of
their union (Jaccard). Rewording an ending or a politeness level stays above that; another question on the same subject
stays far below (no two of the sample set's tuning and test questions reach 0.2).
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.errors import SettingsRejected
from evaluation.prompts.answercarefully import LEAKED_IDS
from evaluation.prompts.suites import list_suites, load_suite, sample_suites
from evaluation.types import Prompt

NEAR = 0.6
NAMED = 5  # rows named in the refusal; the rest are counted
V1_TEST = "answercarefully-v1-test"  # what the two leaked rows are allowed by
# An installed suite is taken for a test unless it says, in its rows or its name, that it is for tuning. These two
# shipped ones do not say it.
FOR_TUNING = frozenset({"sample-daily", "sample-intents"})
TUNING_SPLITS = frozenset({"tuning", "train", "dev", "validation"})
_TUNING_NAME = re.compile(r"(^|[._-])(tuning|train|training|dev|validation|sft)($|[._-])")


@dataclass(frozen=True)
class TestPrompt:
    """A question that is for testing, and where it stands."""

    __test__ = False  # not a test of pytest's

    suite: str
    prompt_id: str
    question: str


def installed_tests(home: Path, sources: Sequence[str]) -> list[TestPrompt]:
    """The test questions of every installed suite. Of a suite that is trained on, only its rows marked as test.

    Raises ImportRejected for a damaged suite: what is in it cannot be guarded.
    """
    found: list[TestPrompt] = []
    for name in list_suites(home):
        for prompt in load_suite(name, home).prompts:
            if "wrapper" in prompt.extra and name in sample_suites():
                continue  # a question of sample-test in disguise, and that stands here by itself
            split = prompt.extra.get("split")
            for_tuning = name in sources or name in FOR_TUNING or split in TUNING_SPLITS or _TUNING_NAME.search(name)
            if split == "test" or not for_tuning:
                found += [TestPrompt(name, prompt.id, turn) for turn in (prompt.question, *prompt.turns)]
    return found


def refuse_leaks(
    trained: Mapping[str, Sequence[Prompt]], tests: Sequence[TestPrompt], allowed: Sequence[str] = ()
) -> None:
    """Raise SettingsRejected when a row of `trained` (by suite) is nearly a test question of a suite not `allowed`.

    Also for the two rows of AnswerCarefully's v1 test set that are known to be in its v2 tuning set. The message
    gives ids, never texts.
    """
    index = _Index([test for test in tests if test.suite not in allowed])
    for suite, prompts in trained.items():
        if V1_TEST not in allowed and (known := [p.id for p in prompts if p.id in LEAKED_IDS]):
            raise SettingsRejected(_refusal(suite, V1_TEST, [(row, row) for row in known]))
        hits: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for prompt in prompts:
            turns = (prompt.question, *prompt.turns)
            if "unwrapped" in prompt.extra:
                turns = (*turns, str(prompt.extra["unwrapped"]))  # the wrapper's words would hide the question
            for test in _distinct(index.near(turn) for turn in turns):
                hits[test.suite].append((prompt.id, test.prompt_id))
        for tested, pairs in hits.items():
            raise SettingsRejected(_refusal(suite, tested, pairs))


def _distinct(found: Iterable[Sequence[TestPrompt]]) -> list[TestPrompt]:
    return list(dict.fromkeys(test for some in found for test in some))


def _refusal(suite: str, tested: str, pairs: Sequence[tuple[str, str]]) -> str:
    named = ", ".join(f"{row} (like {test})" if row != test else row for row, test in pairs[:NAMED])
    more = f" and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
    return (
        f"Rows of {suite} are test questions of {tested}, or nearly: {named}{more}; remove them from {suite}, "
        f'or train on them knowingly with "allow_overlap": ["{tested}"].'
    )


def plain_text(text: str) -> str:
    """The text as it is compared: NFKC, lower case, letters and digits only."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())


def _grams(text: str) -> frozenset[str]:
    """Character 3-grams; of a shorter text, itself."""
    return frozenset(text[n : n + 3] for n in range(max(1, len(text) - 2)))


class _Index:
    """Test questions by their rarest 3-grams.

    Two sets that share more than `NEAR` of their union share one of the rarest `1 - NEAR` of either's grams, so only
    those are filed and looked up ("prefix filtering", Chaudhuri et al. 2006): 15,000 x 2,000 questions take seconds.
    """

    def __init__(self, tests: Sequence[TestPrompt]) -> None:
        sets = [(test, _grams(plain_text(test.question))) for test in tests]
        # By size, so that a lookup can stop at sets too large to be near.
        self._tests = sorted(((t, grams) for t, grams in sets if grams != {""}), key=lambda entry: len(entry[1]))
        self._sizes = [len(grams) for _, grams in self._tests]
        self._known = Counter(gram for _, grams in self._tests for gram in grams)
        self._filed: dict[str, list[int]] = defaultdict(list)
        for number, (_, grams) in enumerate(self._tests):
            for gram in self._rarest(grams):
                self._filed[gram].append(number)

    def _rarest(self, grams: frozenset[str]) -> list[str]:
        # The order must be one for all sets: by count, then by the gram itself.
        ordered = sorted(grams, key=lambda gram: (self._known[gram], gram))
        return ordered[: len(ordered) - int(NEAR * len(ordered))]

    def near(self, text: str) -> list[TestPrompt]:
        """The test questions that the text equals, or nearly."""
        grams = _grams(plain_text(text))
        first = bisect_left(self._sizes, NEAR * len(grams))
        last = bisect_right(self._sizes, len(grams) / NEAR)
        if first == last:
            return []
        candidates: set[int] = set()
        for gram in self._rarest(grams):
            filed = self._filed.get(gram, ())
            candidates.update(filed[bisect_left(filed, first) : bisect_left(filed, last)])
        found = []
        for number in sorted(candidates):
            test, other = self._tests[number]
            shared = len(grams & other)
            if shared > NEAR * (len(grams) + len(other) - shared):
                found.append(test)
        return found
