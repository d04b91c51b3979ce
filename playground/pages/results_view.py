"""What the Benchmark page shows of one run: every number a query over the index, put through the statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from gradio.components.plot import PlotData

from evaluation import statistics
from evaluation.benchmark import words
from evaluation.benchmark.comparison import PairedMean
from evaluation.benchmark.people import People, labelled_suites, people_of
from evaluation.benchmark.settings import MOST_ATTEMPTS
from evaluation.benchmark.words import Words
from evaluation.prompts.suites import METRICS, sample_suites
from evaluation.types import SCORES, Metric, Scale
from playground.jobs import Job
from playground.pages import markup, results_charts, results_markup
from playground.pages.memory import Memory
from playground.pages.services import Services
from playground.pages.text import say
from playground.published import PUBLISHED
from playground.scoreboard import ALL, MEANS, Board, Figure, Paired, Point, board, paired, trade_off
from playground.store import judgements, pairs, progress, responses, runs, tallies
from playground.store.pairs import Cell, Change, Judging, Opened, PairTally, Question
from playground.store.progress import Progress

MOST_CHANGES = 30  # of each kind in the list
KINDS: tuple[Literal["better", "worse"], ...] = ("better", "worse")
# What pairs can be compared by, with its scale; the first that the run measures.
COMPARED: tuple[tuple[Figure, Scale], ...] = (
    ("violation", "safety"), ("attack", "safety"), ("refusal", "refusal"), ("usefulness", "usefulness"),
)  # fmt: skip
CHARTS = ("score", "heat", "dumbbell", "distribution", "trade", "matrix", "pace")


@dataclass
class Desk(Memory):
    """Where one visitor is on the Benchmark page, in one gr.State."""

    suite: str = ALL
    left: str | None = None
    right: str | None = None
    other: str | None = None  # run and identity of the judging beside this one
    published: bool = False
    show_text: bool = False  # of suites that people brought
    prompt_id: str | None = None  # the pair that is open
    charts: set[str] = field(default_factory=set)  # those that there is something to draw of
    charted: float = 0.0  # monotonic seconds
    charted_as: object = None  # what the charts were drawn from
    people: tuple[People, ...] = ()  # as of then


@dataclass(frozen=True)
class View:
    """Everything that is drawn of a run. `figure` is what the pairs are compared by."""

    run_id: str
    board: Board
    told: tuple[Progress, ...]
    suites: tuple[str, ...]  # those of the safety figures
    left: str | None
    right: str | None
    paired: Paired | None
    changes: Mapping[Literal["better", "worse"], tuple[Sequence[Change], int]]
    opened: Opened | None
    points: tuple[Point, ...]
    others: tuple[Judging, ...]
    cells: tuple[Cell, ...] = ()
    compared: Judging | None = None
    hidden: frozenset[str] = frozenset()  # suites whose texts nobody sees before they ask, as in Browse
    people: tuple[People, ...] = ()
    figure: Figure | None = None

    @property
    def sentences(self) -> tuple[Words, ...]:
        """What the comparison comes to, the leading sentence first."""
        found = self.paired
        if found is None or self.figure is None or not found.violation.pairs:
            return ()
        name = Words(say("ja", f"bench.figure.{self.figure}"), say("en", f"bench.figure.{self.figure}"))
        if self.figure in MEANS:
            mean = PairedMean(found.left_mean, found.right_mean, found.mean, found.violation.pairs)
            return (words.mean_sentence(name, mean),)
        lead = words.share_sentence(name, found.violation)
        if self.figure == "refusal":
            return (lead,)
        return lead, words.share_sentence(Words("許容回答率", "Acceptable"), found.acceptable)


def compared_by(found: Board, chosen: str) -> tuple[Figure | None, Scale, tuple[str, ...]]:
    """The figure that pairs are compared by, its scale and its suites: safety first, of a single suite what it is for."""
    order = COMPARED if chosen == ALL else (*COMPARED[1:], COMPARED[0])
    for figure, scale in order:
        if scale in found.judges and (suites := found.suites(figure, chosen)):
            return figure, scale, suites
    return None, "safety", ()


def metrics_of(services: Services, settings: Mapping[str, Any]) -> dict[str, tuple[Metric, ...]]:
    """What each suite measures: as the run says, else as the suite that is here says."""
    known: dict[str, tuple[Metric, ...]] = {suite.name: tuple(suite.metrics) for suite in services.suites()}
    said = settings.get("metrics")
    if isinstance(said, dict):
        known |= {suite: tuple(metric for metric in METRICS if metric in own) for suite, own in said.items()}
    return known


def view(services: Services, desk: Desk, job: Job, *, drawing: bool = True) -> View | None:
    """The chosen run as the index has it now; None before anything of it is there. The desk keeps what still exists.

    What no row of the index has changed since is not asked for again, whoever asked. With `drawing` false the charts
    stay as they are, so what only they show is left out.
    """
    store, run_id = services.store, job.run_id
    info = store.once(("run", run_id), [run_id], partial(store.read, runs.find_run, run_id))
    if info is None:
        return None
    metrics = metrics_of(services, info.settings)
    measured = tuple(sorted(metrics.items()))
    asked = [str(model) for model in info.settings.get("models") or ()]
    attempts = info.settings.get("attempts", 1)
    # What an ended benchmark never asked, or never got, is missing; before its end it is only not there yet.
    known = isinstance(attempts, int) and 0 < attempts <= MOST_ATTEMPTS
    planned = attempts if info.kind == "benchmark" and job.ended and known else 0

    def count() -> Board:
        replies = store.read(tallies.replies, run_id) + store.read(tallies.unanswered, run_id, asked, planned)
        return board(store.read(tallies.of_run, run_id), replies, asked, metrics)

    found = store.once(("board", run_id, measured, planned), [run_id], count)
    told = store.once(("told", run_id), [run_id], lambda: tuple(store.read(progress.progress, run_id)))
    if desk.suite != ALL and desk.suite not in found.metrics:
        desk.suite = ALL
    desk.left = desk.left if desk.left in found.models else next(iter(found.models), None)
    if desk.right not in found.models or desk.right == desk.left:
        desk.right = next((model for model in found.models if model != desk.left), None)
    suites = found.suites("violation", desk.suite) or found.suites("attack", desk.suite)
    question = None
    figure, scale, asked_about = compared_by(found, desk.suite)
    if desk.left and desk.right and figure is not None:
        question = Question(run_id, found.judges[scale][1], scale, asked_about, desk.left, desk.right)
    changes: dict[Literal["better", "worse"], tuple[Sequence[Change], int]] = {}
    if question is not None:
        for kind in KINDS:
            changes[kind] = store.once(
                ("changes", question, kind),
                [run_id],
                partial(store.read, pairs.changes, question, kind, limit=MOST_CHANGES),
            )
    opened = None
    if desk.prompt_id is not None and desk.left and desk.right:
        sides = (run_id, desk.prompt_id, desk.left, desk.right)
        opened = store.once(("opened", *sides), [run_id], partial(store.read, pairs.opened, *sides))
    mine = (run_id, found.judges["safety"][1]) if "safety" in found.judges else None
    judgings = store.once(("judgings", run_id), None, partial(store.read, pairs.judgings_of_the_same, run_id))
    others = tuple(j for j in judgings if (j.run_id, j.identity) != mine)
    compared = next((j for j in others if key_of(j) == desk.other), next(iter(others), None))
    cells: Sequence[Cell] = ()
    if mine is not None and compared is not None:
        judging = (compared.run_id, compared.identity)
        readings: tuple[Any, Any, Scale, Any] = (mine, judging, "safety", tuple(found.metrics))
        cells = store.once(
            ("matrix", *readings), [run_id, compared.run_id], partial(store.read, pairs.judge_matrix, *readings)
        )
    points: tuple[Point, ...] = ()
    if drawing:
        points = store.once(
            ("trade", measured), None, lambda: tuple(trade_off(store.read(tallies.balances, [*metrics]), metrics))
        )
    return View(
        run_id=run_id,
        board=found,
        told=told,
        suites=suites,
        left=desk.left,
        right=desk.right,
        paired=store.once(("paired", question), [run_id], lambda: _paired(store.read(pairs.tallies, question), scale))
        if question is not None
        else None,
        changes=changes,
        opened=opened,
        points=points,
        others=others,
        cells=tuple(cells),
        compared=compared,
        figure=figure,
        # As in Browse, all but the sample set. A suite that was deleted since has left its texts in the run.
        hidden=frozenset(found.metrics).difference(sample_suites()),
        people=store.once(("people", run_id, measured), [run_id], partial(_people, services, run_id, found))
        if drawing
        else (),
    )


def _paired(rows: Sequence[PairTally], scale: Scale) -> Paired:
    """Harm types are those of the safety scale, as in `compare`."""
    found = paired(rows)
    return found if scale == "safety" else replace(found, by_harm_type=())


def _people(services: Services, run_id: str, found: Board) -> tuple[People, ...]:
    """What people said of the run's imported Responses. The Labels are the suite's, the readings those of the index."""
    labelled = labelled_suites(found.metrics, services.settings.home)
    keys = [
        row.exchange.response.key for labels in labelled.values() if not isinstance(labels, str) for row in labels.rows
    ]
    if not labelled:
        return ()
    own = services.store.read(responses.by_keys, run_id, keys)
    read = services.store.read(judgements.of_responses, run_id, keys)
    return people_of(labelled, [*own.values()], read, found.judges)


def key_of(judging: Judging) -> str:
    """The value of a judging in the list of others."""
    return f"{judging.run_id} {judging.identity}"


# ---- charts --------------------------------------------------------------------------------------------------------


def charts(found: View, desk: Desk, language: str) -> dict[str, PlotData | None]:
    """Every chart by name; None where there is nothing to draw."""
    shown, few = found.board, results_markup.warning(found.board, language)

    def texts(*keys: str) -> dict[str, str]:
        return {key: say(language, f"bench.axis.{key}") for key in keys}

    shown_as = ("violation", "acceptable", "refusal", "usefulness")
    figures = {name: say(language, f"bench.figure.{name}") for name in shown_as}
    rows = []
    shares: list[Figure] = [figure for figure in results_charts.SHARES if figure not in MEANS]
    for figure in shares:
        suites = shown.suites(figure, desk.suite)
        what = say(language, f"bench.figure.{figure}")
        rows += [(what, model, shown.rate(model, figure, suites)) for model in shown.models] if suites else []
    harms = shown.harm_types(found.suites)
    names = {harm: results_markup.harm_name(harm, language) for harm in harms}
    cells = {
        (names[harm], model): (
            shown.rate(model, "violation", found.suites, harm),
            shown.judged_prompts(model, found.suites, harm) < statistics.MINIMUM_N,
        )
        for harm in harms
        for model in shown.models
    }
    published = PUBLISHED if desk.published else ()
    judge = shown.judges.get("safety")
    return {
        "score": results_charts.scoreboard(
            rows, published, {**texts("share"), **figures, "published": say(language, "bench.published.mark")}, few
        ),
        "heat": results_charts.heat_map([*names.values()], shown.models, cells, {}, few),
        "dumbbell": results_charts.dumbbell(
            found.paired.by_harm_type, names, (found.left or "", found.right or ""), figures, few
        )
        if found.paired
        else None,
        "distribution": results_charts.distribution(
            {model: shown.scores(model, "safety", found.suites) for model in shown.models}, texts("score", "share"), few
        ),
        "trade": results_charts.trade_off(found.points, found.run_id, figures, few),
        "matrix": results_charts.judge_matrix(
            found.cells, (judge_label(judge[0], judge[1], language), judge_label(found.compared.judge, found.compared.identity, language)),
            "safety", texts("unscored"), few,
        )
        if judge and found.compared
        else None,
        "pace": results_charts.pace(
            found.told,
            {**texts("seconds", "done"), "answered": say(language, "bench.answered"), "judged": say(language, "bench.judged")},
            few,
        ),
    }  # fmt: skip


def judge_label(judge: str, identity: str, language: str) -> str:
    return f"{markup.judge_name(judge, language)} ({identity[:8]})"


def matrix_note(found: View, language: str) -> str:
    """How often both judges gave the same score, and their kappa."""
    both = [cell for cell in found.cells if cell.first is not None and cell.second is not None]
    if not both:
        return ""
    levels = SCORES["safety"][1]
    one = [cell.first for cell in both for _ in range(cell.count)]
    other = [cell.second for cell in both for _ in range(cell.count)]
    agreed = sum(cell.count for cell in both if cell.first == cell.second)
    kappa = statistics.kappa(one, other, levels)  # type: ignore[arg-type]
    return results_markup.matrix_note(agreed, len(one), kappa, language)


# ---- controls ------------------------------------------------------------------------------------------------------


def controls(found: View | None, desk: Desk, language: str) -> dict[str, dict[str, Any]]:
    """The lists above the charts: what can be chosen, and what is."""
    if found is None:
        return {name: {"choices": [], "value": None} for name in ("suite", "left", "right", "other")}
    shown = found.board
    suites = [(say(language, "bench.suite.all"), ALL), *((suite, suite) for suite in shown.metrics)]
    models = [(model, model) for model in shown.models]
    others = [(f"{judge_label(j.judge, j.identity, language)} · {j.run_id}", key_of(j)) for j in found.others]
    chosen = key_of(found.compared) if found.compared else None
    return {
        "suite": {"choices": suites, "value": desk.suite},
        "left": {"choices": models, "value": found.left},
        "right": {"choices": models, "value": found.right},
        "other": {"choices": others, "value": chosen, "visible": bool(others)},
    }


def listing(found: View, desk: Desk, language: str) -> str:
    """Which prompts got better and which worse."""
    hidden = set() if desk.show_text else set(found.hidden)
    return results_markup.changes(found.changes, hidden, desk.prompt_id, language) if found.changes else ""


def pair(found: View, desk: Desk, language: str) -> str:
    """The pair that is open."""
    if not found.changes:
        return ""
    veiled = found.opened is not None and found.opened.prompt.suite in found.hidden and not desk.show_text
    return results_markup.pair(found.opened, found.board, veiled, language)


def any_hidden(found: View) -> bool:
    """Whether some of the texts stay hidden until somebody asks."""
    return bool(found.hidden)
