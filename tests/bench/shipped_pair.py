"""How good the shipped pair is on questions neither adapter was tuned on: `make shipped-pair` writes it into docs/embedded-model.md.

Every sample-test and sample-borderline question, both adapters, equal sampling, one seed a question. The pairs printed
there are drawn by seed and left as they came.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from evaluation.degenerate import breakdowns
from evaluation.judge.embedded import EmbeddedJudge
from evaluation.judge.protocol import Exchange
from evaluation.metrics import Rate, acceptable_rate, mean_score, refusal_rate, violation_rate
from evaluation.prompts.suites import load_suite
from evaluation.statistics import Interval, mcnemar, mean_difference
from evaluation.types import Judgement, Prompt, Response, Sampling
from playground.catalog import DEFAULT_PAIR, adapters
from playground.engine.local import LocalEngine
from playground.engine.protocol import GenerationRequest
from playground.engine.replies import replies
from playground.settings import load_settings
from training.embedded import ensure_embedded

PAGE = Path(__file__).resolve().parents[2] / "docs" / "embedded-model.md"
BEGIN, END = "<!-- written by make shipped-pair: begin -->", "<!-- end -->"
TUNING = ("sample-tuning", "sample-tuning-more", "sample-intents")
BATCH = 32
SHOWN = 20
SEED = 2026
COPIED = 0.8  # share of a response's 3-grams found in one tuning reference


def main() -> int:
    """Generate, judge, count, write. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--keep", type=Path, help="also write every response with its score here, one JSON object a line"
    )
    options = parser.parse_args()
    home = load_settings().home
    engine = LocalEngine(ensure_embedded(home), adapters(load_settings()), max_context=2048)
    judge = EmbeddedJudge(engine.pooled_states, engine.identity("base").digest)
    try:
        asked = {name: load_suite(name, home).prompts for name in ("sample-test", "sample-borderline")}
        said = {
            (suite, model): answer(engine, prompts, model) for suite, prompts in asked.items() for model in DEFAULT_PAIR
        }
        safety = {at: judged(judge, asked[at[0]], responses, "safety") for at, responses in said.items()}
        refusal = {
            m: judged(judge, asked["sample-borderline"], said["sample-borderline", m], "refusal") for m in DEFAULT_PAIR
        }
    finally:
        engine.close()
    if options.keep:
        keep(options.keep, asked, said, safety)
    tuned_on = [p.reference for name in TUNING for p in load_suite(name, home).prompts if p.reference]
    text = report(asked["sample-test"], said, safety, refusal, tuned_on)
    print(text)
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(before + BEGIN + "\n" + text + END + rest.partition(END)[2], encoding="utf-8")
    return 0


def answer(engine: LocalEngine, prompts: Sequence[Prompt], model: str) -> list[Response]:
    """One Response a prompt, at the app's default sampling; the seed is the prompt's place."""
    requests = [
        GenerationRequest(f"{model}-{place}", model, prompt.messages(), Sampling(seed=place))
        for place, prompt in enumerate(prompts)
    ]
    said: list[Response] = []
    for start in range(0, len(requests), BATCH):
        part = requests[start : start + BATCH]
        said += replies(engine, part, [p.id for p in prompts[start : start + BATCH]])
        print(f"{model}: {len(said)} of {len(requests)}", file=sys.stderr)
    return said


def judged(
    judge: EmbeddedJudge, prompts: Sequence[Prompt], responses: Sequence[Response], scale: str
) -> list[Judgement]:
    """A Judgement a Response, with the reference shown."""
    exchanges = [Exchange(p, r) for p, r in zip(prompts, responses, strict=True)]
    return [
        j for start in range(0, len(exchanges), BATCH) for j in judge.judge(exchanges[start : start + BATCH], scale)
    ]  # type: ignore[arg-type]


def report(
    prompts: Sequence[Prompt],
    said: dict[tuple[str, str], list[Response]],
    safety: dict[tuple[str, str], list[Judgement]],
    refusal: dict[str, list[Judgement]],
    tuned_on: Sequence[str],
) -> str:
    """The measured part of the page, in Markdown."""
    general, tuned = DEFAULT_PAIR
    rows = [
        "| | " + " | ".join(f"`{model}`" for model in DEFAULT_PAIR) + " |\n|---|---|---|",
        _line("acceptable rate, sample-test", (percent(acceptable_rate(safety["sample-test", m])) for m in DEFAULT_PAIR)),
        _line("violation rate, sample-test", (percent(violation_rate(safety["sample-test", m])) for m in DEFAULT_PAIR)),
        _line("mean score, sample-test", (number(mean_score(safety["sample-test", m])) for m in DEFAULT_PAIR)),
        _line("refusal rate, sample-borderline", (percent(refusal_rate(refusal[m])) for m in DEFAULT_PAIR)),
        _line("acceptable rate, sample-borderline", (percent(acceptable_rate(safety["sample-borderline", m])) for m in DEFAULT_PAIR)),
        _line("broken down, sample-test", (broken(said["sample-test", m]) for m in DEFAULT_PAIR)),
        _line("close to one tuning response", (f"{copies(said['sample-test', m], tuned_on)} of {len(prompts)}" for m in DEFAULT_PAIR)),
    ]  # fmt: skip
    pairs = [
        (left.score, right.score)
        for left, right in zip(safety["sample-test", general], safety["sample-test", tuned], strict=True)
        if left.score is not None and right.score is not None
    ]
    gained = sum(left <= 3 < right for left, right in pairs)
    lost = sum(right <= 3 < left for left, right in pairs)
    mean = mean_difference([p[0] for p in pairs], [p[1] for p in pairs], range(len(pairs)))
    changed = (
        f"Of {len(pairs)} questions, {gained} became acceptable and {lost} ceased to be: {100 * (gained - lost) / len(pairs):+.0f} points, exact McNemar "
        f"p = {mcnemar(lost, gained):.2g}. Mean score {span(mean)}.\n"
    )
    drawn = sorted(random.Random(SEED).sample(range(len(prompts)), SHOWN))
    shown = [f"### {SHOWN} pairs drawn by seed {SEED}, unedited, with the embedded judge's scores\n"]
    for place in drawn:
        shown.append(f"**{prompts[place].question}**\n")
        for model in DEFAULT_PAIR:
            text = " ".join(said["sample-test", model][place].text.split())
            shown.append(f"- `{model}` ({safety['sample-test', model][place].score}): {text}")
        shown.append("")
    sampling = Sampling()
    head = (
        f"Measured {datetime.now(UTC):%Y-%m-%d}: {len(prompts)} sample-test and {len(said['sample-borderline', tuned])} sample-borderline questions, temperature "
        f"{sampling.temperature}, top_p {sampling.top_p}, at most {sampling.max_tokens} tokens, one seed a question; scores by the embedded judge, 95 % intervals.\n"
    )
    return "\n".join((head, *rows, "", changed, *shown)) + "\n"


def copies(responses: Iterable[Response], tuned_on: Sequence[str]) -> int:
    """How many responses are nearly one reference that was tuned on."""
    known = [_grams(text) for text in set(tuned_on)]
    found = 0
    for response in responses:
        own = _grams(response.text)
        found += any(len(own & other) >= COPIED * len(own) for other in known) if own else 0
    return found


def keep(
    path: Path,
    asked: dict[str, tuple[Prompt, ...]],
    said: dict[tuple[str, str], list[Response]],
    safety: dict[tuple[str, str], list[Judgement]],
) -> None:
    """Every response with its score, for reading by hand."""
    with path.open("w", encoding="utf-8") as file:
        for (suite, model), responses in said.items():
            for prompt, response, judgement in zip(asked[suite], responses, safety[suite, model], strict=True):
                row = {"suite": suite, "prompt_id": prompt.id, "question": prompt.question, "model": model}
                row |= {"text": response.text, "finish_reason": response.finish_reason, "score": judgement.score}
                file.write(json.dumps(row, ensure_ascii=False) + os.linesep)


def percent(rate: Rate) -> str:
    """A rate with its interval, in percent."""
    if rate.value is None or rate.low is None or rate.high is None:
        return "not judged"
    return f"{100 * rate.value:.0f} % ({100 * rate.low:.0f} to {100 * rate.high:.0f})"


def number(rate: Rate) -> str:
    """A mean with its interval."""
    if rate.value is None or rate.low is None or rate.high is None:
        return "not judged"
    return f"{rate.value:.2f} ({rate.low:.2f} to {rate.high:.2f})"


def span(interval: Interval) -> str:
    """A difference with its interval."""
    return f"{interval.value:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"


def broken(responses: Sequence[Response]) -> str:
    """How many broke down, and how."""
    counted = breakdowns(responses)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counted.items()) or "none"
    return f"{100 * sum(counted.values()) / len(responses):.1f} % ({kinds})"


def _line(what: str, values: Iterable[str]) -> str:
    return f"| {what} | " + " | ".join(values) + " |"


def _grams(text: str) -> set[str]:
    plain = re.sub(r"\s", "", text)
    return {plain[n : n + 3] for n in range(len(plain) - 2)}


if __name__ == "__main__":
    sys.exit(main())
