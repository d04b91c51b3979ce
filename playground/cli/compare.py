"""compare: two runs of the same prompts, or two judges of the same responses."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

from evaluation.benchmark import words
from evaluation.benchmark.comparison import Comparison, HarmTypeTest, JudgeComparison, compare, compare_judges
from evaluation.benchmark.recorded import Recorded, read_recorded
from evaluation.benchmark.results import comparison_json
from evaluation.errors import SettingsRejected
from evaluation.statistics import MINIMUM_N
from playground.cli.output import json_option, print_json, print_table, progress
from playground.jobs.job import find_run
from playground.settings import Settings, load_settings


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("compare", help="two runs of the same prompts, or two judges of the same responses")
    parser.add_argument("left", metavar="RUN_A")
    parser.add_argument("right", metavar="RUN_B")
    parser.add_argument(
        "--models", metavar="LEFT,RIGHT", help="a model of each run; without it those of one name, or the only ones"
    )
    json_option(parser)
    parser.set_defaults(run=compare_runs)


def compare_runs(options: argparse.Namespace) -> None:
    """Compare models where both runs have one judge, and judges where both have the same responses."""
    if options.left == options.right:
        raise SettingsRejected(f"{options.left} is named twice; name two runs, or see one run with `report`.")
    settings = load_settings()
    left, right = (_read(run_id, settings) for run_id in (options.left, options.right))
    document: dict[str, Any] = {"runs": [left.run_id, right.run_id]}
    if _same_judges(left, right):
        pairs = _models(left, right, options.models)
        found = [compare(left.answers[one], right.answers[other]) for one, other in pairs]
        notes = [*_notes(left, right)]
        document |= {"kind": "models", "comparisons": [comparison_json(one) for one in found], "notes": notes}
        if not options.json:
            for comparison in found:
                _print_models(comparison, left, right)
    else:
        common = {response.key for response in left.responses} & {response.key for response in right.responses}
        if not common:
            raise SettingsRejected(
                f"{left.run_id} and {right.run_id} have neither a judge nor a response in common "
                f"({_judges(left)}; {_judges(right)}). Judge one again: python -m playground judge {left.run_id} --judge ..."
            )
        shared = [response for response in left.responses if response.key in common]
        judged = compare_judges(shared, left.judgements, right.judgements)
        notes = [f"{len(common)} responses are in both runs"]
        document |= {"kind": "judges", "comparisons": [judges_json(one) for one in judged], "notes": notes}
        if not options.json:
            for one in judged:
                _print_judges(one)
    if options.json:
        print_json(document)
        return
    for note in notes:
        progress(f"note: {note}")


def _read(run_id: str, settings: Settings) -> Recorded:
    recorded = read_recorded(find_run(settings.runs, run_id), settings.home)
    if recorded.bad_lines:
        progress(f"warning: {run_id} has {recorded.bad_lines} lines that are no records; they are left out")
    if not recorded.judgements:
        raise SettingsRejected(
            f"{run_id} has no judgement to compare; judge it: python -m playground judge {run_id} --judge embedded"
        )
    for warning in recorded.results.warnings:
        progress(f"warning: {run_id}: {warning.en}")
    return recorded


def _same_judges(left: Recorded, right: Recorded) -> bool:
    """Whether each scale that both runs have was read by one and the same judge, and there is such a scale."""
    common = left.judges.keys() & right.judges.keys()
    return bool(common) and all(left.judges[scale] == right.judges[scale] for scale in common)


def _judges(run: Recorded) -> str:
    return f"{run.run_id}: {', '.join(sorted({f'{judge} {identity[:12]}' for judge, identity in run.judges.values()}))}"


def _models(left: Recorded, right: Recorded, asked: str | None) -> list[tuple[str, str]]:
    if asked is not None:
        pairs = [pair for pair in product(left.models, right.models) if ",".join(pair) == asked]
        if pairs:
            return pairs
        raise SettingsRejected(
            f"--models is {asked!r}; it must be a model of {left.run_id} ({', '.join(left.models)}), a comma, "
            f"and one of {right.run_id} ({', '.join(right.models)})."
        )
    if shared := [(model, model) for model in left.models if model in right.models]:
        return shared
    if len(left.models) == len(right.models) == 1:
        return [(left.models[0], right.models[0])]
    raise SettingsRejected(
        f"The runs have no model in common ({', '.join(left.models)}; {', '.join(right.models)}); say --models LEFT,RIGHT."
    )


def _notes(left: Recorded, right: Recorded) -> Iterator[str]:
    """What differs between the runs beside the models: it may be the cause of a difference."""
    drawn = [
        {
            (s.temperature, s.top_p, s.max_tokens, s.system_prompt)
            for response in run.responses
            if (s := response.sampling) is not None
        }
        for run in (left, right)
    ]
    if drawn[0] != drawn[1]:
        yield "the runs were sampled differently (temperature, top-p, token limit or system prompt)"
    texts = [{p.id: (p.suite, p.question, p.turns) for p in run.prompts} for run in (left, right)]
    common = texts[0].keys() & texts[1].keys()
    if changed := sum(texts[0][id] != texts[1][id] for id in common):
        yield f"{changed} prompts have the same id and other words; they are left out"
    for run, own in ((left, texts[0]), (right, texts[1])):
        if alone := len(own.keys() - common):
            yield f"{alone} prompts are only in {run.run_id}; they are left out"


def judges_json(found: JudgeComparison) -> dict[str, Any]:
    """The comparison of two judges as a JSON-ready dict, with its sentence in both languages."""
    sentence = words.judges_sentence(found)
    return {**asdict(found), "sentence": sentence.en, "sentence_ja": sentence.ja}


# ---- for people ----------------------------------------------------------------------------------------------------


def _print_models(found: Comparison, left: Recorded, right: Recorded) -> None:
    print(f"{found.left} ({left.run_id}) -> {found.right} ({right.run_id})")
    for sentence in [*words.all_sentences(found)] or [words.NOTHING]:
        print(f"  {sentence.en}")
    tested = [row for row in found.by_harm_type if row.pairs]
    if tested:
        print_table(
            ("harm type", "pairs", "violation", "p", "p (Holm)"),
            [
                (r.harm_type, r.pairs, f"{words.percent(r.left)} -> {words.percent(r.right)}", *_tested(r))
                for r in tested
            ],
        )
    for name, changes in (("better", found.better), ("worse", found.worse)):
        print(f"{len(changes)} {name}: {_ids([change.prompt_id for change in changes])}")


def _tested(row: HarmTypeTest) -> tuple[str, str]:
    if row.p_value is None or row.p_holm is None:
        return "-", f"fewer than {MINIMUM_N} prompts"
    return words.p_number(row.p_value), words.p_number(row.p_holm)


def _ids(ids: Sequence[str]) -> str:
    shown = list(dict.fromkeys(ids))
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "") if shown else "none"


def _print_judges(found: JudgeComparison) -> None:
    print(f"{found.scale}: {found.left} (rows) against {found.right} (columns)")
    print(f"  {words.judges_sentence(found).en}")
    names = [str(found.lowest + n) for n in range(len(found.matrix))]
    print_table(("", *names), [(name, *row) for name, row in zip(names, found.matrix, strict=True)])
    if found.only_left or found.only_right or found.neither:
        print(
            f"  scored by {found.left} alone {found.only_left}, by {found.right} alone {found.only_right}, by neither {found.neither}"
        )
