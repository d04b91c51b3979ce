"""agreement: a judge, or scores that it gave elsewhere, against people's labels."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from evaluation.agreement import Agreement, Group, to_document
from evaluation.disk import told_to_people, write_json
from evaluation.errors import SettingsRejected, UserFacingError
from evaluation.journal import RunFolder, create_run, read_records, read_run
from evaluation.judge.imported_scores import read_scores
from evaluation.judge.protocol import Exchange, Judge
from evaluation.labels import GRADED_LEVELS, Labelled, LabelSet, Reading, labels_of, parse_values, spread
from evaluation.measuring import measure
from evaluation.prompts.graded import GRADED_SET, held_out_graded
from evaluation.prompts.imports import parse_mapping, read_prompts
from evaluation.prompts.suites import is_protected, load_imported, sample_suites
from evaluation.statistics import Interval
from evaluation.types import Judgement, Scale, as_attempt
from playground import catalog
from playground.cli.output import json_option, print_json, print_table, progress
from playground.cli.work import gpu_for
from playground.jobs.control import forget_last_process
from playground.jobs.process import identify, write_process
from playground.settings import Settings, load_settings

AT_ONCE = 32  # responses handed to a judge together; what is judged is on disk before the next ones
REPEATS = {catalog.DEFAULT_JUDGE: 48}  # judged twice without being asked: it costs seconds; other judges cost calls


class NothingJudged(UserFacingError):
    """Every verdict is missing, so there is nothing to compare."""


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("agreement", help="compare a judge with people's labels")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--judge", metavar="JUDGE", help="embedded, openai:MODEL or vllm:NAME")
    who.add_argument(
        "--scores", type=Path, metavar="FILE", help="scores that a judge gave elsewhere, in place of a judge"
    )
    parser.add_argument(
        "--labels",
        required=True,
        metavar="SUITE_OR_FILE",
        help=f"a suite or file with responses and labels, or {GRADED_SET} (its held-out part)",
    )
    parser.add_argument("--label", metavar="COLUMN", help="the label column, where a file has several")
    parser.add_argument(
        "--values", default="", metavar="VALUE=MEANING,...", help="1 to 5, violation, safe, refusal, answer"
    )
    parser.add_argument("--scale", choices=tuple(GRADED_LEVELS), help="1-5 safety or 1-3 refusal; told from the labels")
    parser.add_argument("--map", default="", metavar="FIELD=COL,...", help="of the labels' file, as in data import")
    parser.add_argument("--encoding", help="of the labels' file, when the guess is wrong")
    parser.add_argument("--score-column", metavar="COLUMN", help="of the --scores file")
    parser.add_argument("--limit", type=int, metavar="N", help="responses (or pairs) at most, spread evenly")
    parser.add_argument("--without-reference", action="store_true", help="do not show the judge the reference response")
    parser.add_argument(
        "--repeat", type=int, metavar="N", help="judge N of them again in reverse order (embedded: 48, others: 0)"
    )
    parser.add_argument("--resume", metavar="RUN", help="go on with a run that broke off; give the same options")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the JSON document there too")
    json_option(parser)
    parser.set_defaults(run=agreement)


def agreement(options: argparse.Namespace) -> None:
    """Compare, with the GPU to itself where the judge computes there."""
    settings = load_settings()
    # Beside a vLLM server, which has the GPU, the embedded judge computes on the CPU.
    here = not options.scores and options.judge == catalog.DEFAULT_JUDGE and settings.engine == "transformers"
    with gpu_for(settings, "judging") if here else nullcontext():
        _agreement(options)


def _agreement(options: argparse.Namespace) -> None:
    """Read the labels, judge what they are about, keep it as a judging run, print how far the two agree."""
    for name, least in (("limit", 1), ("repeat", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise SettingsRejected(f"--{name} is {value}; it must be {least} or more.")
    settings = load_settings()
    labels = read_labels(options, settings).limited(options.limit)
    if options.without_reference:
        labels = labels.without_references()
    exchanges = labels.exchanges()
    if not exchanges:
        raise SettingsRejected(
            f"{labels.name} has no labelled response; its labels were read as {_told(labels.reading)}."
        )
    scale = labels.reading.scale
    judge: Judge
    if options.scores:
        imported = read_scores(options.scores, scale, options.score_column)
        progress(f"{imported.covers(exchanges)} of {len(exchanges)} labelled responses have a score in the file")
        judge = imported
    else:
        judge = catalog.judge(options.judge, settings, catalog.build_router(settings))
    repeat = 0 if options.scores else options.repeat if options.repeat is not None else REPEATS.get(options.judge, 0)
    asked = {
        "labels": labels.name,
        "labels_digest": labels.digest,
        "scale": scale,
        "judge": judge.id,
        "judge_identity": judge.identity,
        "without_reference": options.without_reference,
        "repeat": repeat,
    }
    with _open(settings, asked, judge, options.resume) as folder:
        # `runs cancel` and the page find this process here; what is judged is on disk, so a signal may end it.
        forget_last_process(folder.path)
        process = identify(os.getpid())
        assert process is not None
        write_process(folder.path, process)
        folder.event("started", command="python -m playground agreement")
        try:
            for exchange in exchanges:
                folder.record_prompt(exchange.prompt)
                folder.record_response(exchange.response)
            judgements = _judge(judge, exchanges, scale, folder)
            again = spread(exchanges, repeat) if repeat else ()
            if again:
                progress(f"judging {len(again)} again, in reverse order")
            second = judge.judge(again[::-1], scale) if again else []
            found = measure(labels, judgements, second, judge=judge.id, identity=judge.identity)
        except KeyboardInterrupt:
            folder.event("cancelled", reason="interrupted")
            raise
        except Exception as error:
            folder.event("failed", reason=str(error) or type(error).__name__)
            raise
        document = {**to_document(found), "run_id": folder.path.name}
        folder.event("finished", agreement=document)
    if options.json:
        print_json(document)
    else:
        _print(found)
    if options.save:  # after it was shown: a disk that refuses must not cost what was judged
        with told_to_people(options.save):
            write_json(options.save, document)
    if found.n == 0:
        reasons = ", ".join(f"{count} {reason}" for reason, count in found.missing.items())
        raise NothingJudged(
            f"{judge.id} gave no verdict that could be compared ({reasons}); see the run {folder.path.name}."
        )


# ---- labels --------------------------------------------------------------------------------------------------------


def read_labels(options: argparse.Namespace, settings: Settings) -> LabelSet:
    """What `--labels` names. Raises ImportRejected or SettingsRejected."""
    what: str = options.labels
    if what == GRADED_SET:
        return graded_labels(options.scale or "safety")
    values = parse_values(options.values) if options.values else None
    folder = settings.home / "suites" / what
    if what in sample_suites():
        raise SettingsRejected(f"{what} has no labels; use {GRADED_SET}, or import responses with labels.")
    if not folder.is_dir() and (Path(what).is_file() or "/" in what or Path(what).suffix):
        name = re.sub(r"[^a-z0-9_-]+", "-", Path(what).name.split(".")[0].lower()).strip("-")[:60] or "labels"
        name = f"{name}-file" if name == GRADED_SET else name  # that name stands for our own rows
        mapping = parse_mapping(options.map) if options.map else None
        imported = read_prompts(Path(what), name, mapping, options.encoding)
        for warning in imported.warnings:
            progress(f"warning: {warning}")
    else:
        imported = load_imported(what, settings.home)
    return labels_of(imported, is_protected(imported), options.scale, options.label, values)


def graded_labels(scale: Scale) -> LabelSet:
    """The held-out graded responses of the sample set; their writers gave the grades."""
    levels = GRADED_LEVELS[scale]
    rows = tuple(Labelled(graded.exchange(), graded.score) for graded in held_out_graded(scale))
    reading = Reading(scale, levels, ("score",), {str(level): level for level in range(1, levels + 1)})
    return LabelSet(GRADED_SET, reading, rows)


# ---- judging -------------------------------------------------------------------------------------------------------


def _open(settings: Settings, asked: dict[str, Any], judge: Judge, resume: str | None) -> RunFolder:
    """A new judging run, or the one to go on with. Raises SettingsRejected when that one was asked something else."""
    if resume is None:
        return create_run(settings.runs, "judging", asked, {judge.id: {"identity": judge.identity}})
    path = settings.runs / resume
    if path.parent != settings.runs or not (path / "run.json").is_file():
        raise SettingsRejected(f"There is no run {resume}; `runs list` shows them.")
    info = read_run(path)
    differs = [name for name, value in asked.items() if info.settings.get(name) != value]
    if info.kind != "judging" or differs:
        what = ", ".join(differs) or "kind"
        raise SettingsRejected(f"{resume} was asked for something else ({what}); leave --resume out to begin anew.")
    return RunFolder.open(path)


def _judge(judge: Judge, exchanges: Sequence[Exchange], scale: Scale, folder: RunFolder) -> list[Judgement]:
    """Every Judgement, those of an earlier sitting of the run included; each is recorded before the next is paid for.

    What was unreachable in an earlier sitting is asked again, as another attempt: its key is taken.
    """
    earlier = [record for record, _ in read_records(folder.path / "judgements.jsonl") if isinstance(record, Judgement)]
    newest = {judgement.response_key: judgement for judgement in earlier}
    again = {key: found.attempt + 1 for key, found in newest.items() if found.missing == "unreachable"}
    waiting = [e for e in exchanges if e.response.key not in newest or e.response.key in again]
    judgements = list(earlier)

    def numbered(judgement: Judgement) -> Judgement:
        attempt = again.get(judgement.response_key)
        return judgement if attempt is None else as_attempt(judgement, attempt)

    def keep(judgement: Judgement) -> None:
        folder.record_judgement(numbered(judgement))

    for start in range(0, len(waiting), AT_ONCE):
        part = waiting[start : start + AT_ONCE]
        judgements += map(numbered, judge.judge(part, scale, keep))
        count = len(exchanges) - len(waiting) + start + len(part)
        folder.event("progress", done=count, total=len(exchanges))
        progress(f"judged {count} of {len(exchanges)}")
    return judgements


# ---- for people ----------------------------------------------------------------------------------------------------


def _told(reading: Reading) -> str:
    values = ", ".join(f"{value}={level}" for value, level in list(reading.values.items())[:12])
    kind = f"1-{reading.levels}" if reading.levels > 2 else "1 yes, 2 no"
    return f"{reading.scale} {kind} from {', '.join(reading.columns)}" + (f" ({values})" if values else "")


def _figure(found: Interval) -> str:
    if found.value is None:
        return "undefined"
    if found.low is None or found.high is None:
        return f"{found.value:.2f} (no interval)"
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _print(found: Agreement) -> None:
    missing = ", ".join(f"{count} {reason}" for reason, count in found.missing.items()) or "none"
    print(f"{found.judge} ({found.identity[:12]}) against {found.labels}: {_told(found.reading)}")
    print(f"compared {found.n}, without a verdict: {missing}, without a label: {found.unlabelled}")
    if found.preference:
        _print_preference(found)
        return
    sought = "refusals" if found.reading.scale == "refusal" else "violations"
    print_table(
        ("", "value and 95 % interval"),
        [
            ("weighted kappa", _figure(found.qwk)),
            ("Spearman", _figure(found.spearman)),
            ("Pearson", _figure(found.pearson)),
            ("Krippendorff's alpha", _figure(found.alpha)),
            (
                f"sensitivity ({sought} seen)",
                f"{_figure(found.sensitivity)}, missed {found.missed} of {found.positives}",
            ),
            ("specificity", f"{_figure(found.specificity)}, {found.false_alarms} false of {found.negatives}"),
            ("accuracy", _figure(found.accuracy)),
            ("same score", _figure(found.exact)),
            ("within one", _figure(found.within_one)),
            ("judge minus label", _figure(found.mean_difference)),
            ("longer is scored higher", _figure(found.length_bias)),
        ],
    )
    print("\nlabels (rows) by scores 1, 2, ...")
    for level, counts in enumerate(found.confusion, 1):
        print(f"  {level}: " + " ".join(f"{count:5}" for count in counts))
    for title, groups in (("harm type", found.by_harm_type), ("characters", found.by_length)):
        if groups:
            print()
            print_table((title, "n", "kappa", "sensitivity", "specificity"), [_group(group) for group in groups])
    if found.raters:
        print(f"\npeople among themselves: alpha {_figure(found.raters.alpha)} on {found.raters.responses} responses")
        for pair in (*found.raters.pairs, *found.raters.judge):
            print(f"  {pair.first}, {pair.second}: kappa {_figure(pair.qwk)} on {pair.n}")
    _print_repeat(found)
    if found.worst:
        print("\nlargest disagreements (prompt, label, score)")
        for row in found.worst[:10]:
            print(f"  {row.prompt_id}: {row.human}, {row.judge}")


def _group(group: Group) -> tuple[object, ...]:
    name = group.key or "(none)"
    few = "" if group.enough else " (few)"
    return name, f"{group.n}{few}", _figure(group.qwk), _figure(group.sensitivity), _figure(group.specificity)


def _print_preference(found: Agreement) -> None:
    pairs = found.preference
    assert pairs is not None
    print(
        f"pairs {pairs.pairs}, judged {pairs.judged}: chosen higher {pairs.higher}, tie {pairs.ties}, lower {pairs.lower}"
    )
    rows = [
        ("chosen scored higher, of all", pairs.chosen_higher),
        ("of those without a tie", pairs.decided),
        ("people chose the longer", pairs.longer_by_people),
        ("the judge preferred the longer", pairs.longer_by_judge),
    ]
    print_table(("", "share and 95 % interval"), [(name, _figure(share)) for name, share in rows])
    _print_repeat(found)


def _print_repeat(found: Agreement) -> None:
    if found.repeat:
        again = found.repeat
        print(f"\njudged again in reverse order: {again.changed} of {again.n} scores changed (largest {again.largest})")
