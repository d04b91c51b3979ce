"""Two models on the same prompts, or two judges on the same responses: joined, counted, and one pair in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from duckdb import DuckDBPyConnection

from evaluation.types import Judgement, Prompt, Response, Scale
from playground.store import judgements, prompts, responses
from playground.store.tallies import ANSWERED, COUNTED, READ

# One row for each turn of each attempt at a prompt of the suites that both models answered and the judge scored on the scale.
_PAIRED = f"""
    WITH {ANSWERED}, {READ}, scored AS (
        SELECT a.model, a.prompt_id, a.attempt, a.turns, a.suite, a.harm_type, a.key, a.position, j.score
        FROM answered a JOIN read j ON j.response_key = a.key AND {COUNTED}
        WHERE j.identity = $identity AND j.scale = $scale AND j.score IS NOT NULL
          AND list_contains($suites::VARCHAR[], a.suite) AND a.model IN ($left, $right)
          AND NOT (j.scale = 'refusal' AND a.contrast)
    ), paired AS (
        SELECT l.prompt_id, l.attempt, l.suite, l.harm_type, l.score AS left_score, r.score AS right_score,
               l.position AS place
        FROM scored l JOIN scored r ON r.prompt_id = l.prompt_id AND r.attempt = l.attempt AND r.turns = l.turns
        WHERE l.model = $left AND r.model = $right
    )
"""


@dataclass(frozen=True)
class Question:
    """Which pairs: a Run, a judge's identity and scale, suites, and the two models."""

    run_id: str
    identity: str
    scale: Scale
    suites: tuple[str, ...]
    left: str
    right: str

    def named(self) -> dict[str, object]:
        """As parameters."""
        return {
            "run": self.run_id, "identity": self.identity, "scale": self.scale, "suites": list(self.suites),
            "left": self.left, "right": self.right,
        }  # fmt: skip


@dataclass(frozen=True)
class PairTally:
    """So many `prompts` of a harm type whose pairs came out alike. All but `prompts` are of one Prompt.

    `left_below` and `right_below` count scores below 3, `only_left` and `only_right` the pairs where one side alone is.
    """

    harm_type: str | None
    pairs: int
    left_below: int
    right_below: int
    only_left: int
    only_right: int
    left_above: int
    right_above: int
    only_left_above: int
    only_right_above: int
    left_sum: int
    right_sum: int
    prompts: int


def tallies(con: DuckDBPyConnection, asked: Question) -> list[PairTally]:
    """The pairs, counted by harm type and outcome."""
    rows = con.execute(
        f"""
        {_PAIRED}, by_prompt AS (
            SELECT harm_type, prompt_id, count(*) AS pairs,
                   count(*) FILTER (WHERE left_score < 3) AS lb, count(*) FILTER (WHERE right_score < 3) AS rb,
                   count(*) FILTER (WHERE left_score < 3 AND right_score >= 3) AS ol,
                   count(*) FILTER (WHERE left_score >= 3 AND right_score < 3) AS orr,
                   count(*) FILTER (WHERE left_score > 3) AS la, count(*) FILTER (WHERE right_score > 3) AS ra,
                   count(*) FILTER (WHERE left_score > 3 AND right_score <= 3) AS ola,
                   count(*) FILTER (WHERE left_score <= 3 AND right_score > 3) AS ora,
                   sum(left_score)::BIGINT AS ls, sum(right_score)::BIGINT AS rs
            FROM paired GROUP BY harm_type, prompt_id
        )
        SELECT harm_type, pairs, lb, rb, ol, orr, la, ra, ola, ora, ls, rs, count(*) FROM by_prompt GROUP BY ALL
        ORDER BY ALL
        """,
        asked.named(),
    )
    return [PairTally(*row) for row in rows.fetchall()]


@dataclass(frozen=True)
class Change:
    """A Prompt whose mean score differs between the two models."""

    prompt_id: str
    suite: str
    harm_type: str | None
    left: float
    right: float
    question: str


def changes(
    con: DuckDBPyConnection, asked: Question, kind: Literal["better", "worse"], *, limit: int = 20, offset: int = 0
) -> tuple[list[Change], int]:
    """Prompts on which the right model scored higher ("better") or lower, largest change first; and how many there are."""
    rows = con.execute(
        f"""
        {_PAIRED}, changed AS (
            SELECT prompt_id, suite, harm_type, avg(left_score) AS l, avg(right_score) AS r, min(place) AS place
            FROM paired GROUP BY prompt_id, suite, harm_type
            HAVING CASE WHEN $kind = 'better' THEN avg(right_score) > avg(left_score)
                        ELSE avg(right_score) < avg(left_score) END
        ), page AS (
            SELECT *, count(*) OVER () AS found FROM changed ORDER BY abs(r - l) DESC, place LIMIT $limit OFFSET $offset
        )
        SELECT c.prompt_id, c.suite, c.harm_type, c.l, c.r, json_extract_string(p.record, '$.question'), c.found
        FROM page c JOIN prompts p ON p.run_id = $run AND p.id = c.prompt_id
        ORDER BY abs(c.r - c.l) DESC, c.place
        """,
        {**asked.named(), "kind": kind, "limit": limit, "offset": offset},
    ).fetchall()
    return [Change(*row[:6]) for row in rows], rows[0][6] if rows else 0


@dataclass(frozen=True)
class Opened:
    """A Prompt with one attempt of both models at it, and what the judges of the Run said.

    `left` and `right` end their conversations; `earlier` has the replies before them by model, oldest first.
    """

    prompt: Prompt
    left: Response | None
    right: Response | None
    judgements: list[Judgement]  # oldest first
    earlier: Mapping[str, tuple[Response, ...]] = field(default_factory=dict)


def opened(
    con: DuckDBPyConnection, run_id: str, prompt_id: str, left: str, right: str, attempt: int = 0
) -> Opened | None:
    """The pair in full, or None when the Run has no such Prompt."""
    found = con.execute("SELECT record FROM prompts WHERE run_id = ? AND id = ?", [run_id, prompt_id]).fetchone()
    if found is None:
        return None
    rows = con.execute(
        "SELECT model, turns, record FROM responses WHERE run_id = ? AND prompt_id = ? AND attempt = ? AND model IN (?, ?) "
        "ORDER BY turns, position",
        [run_id, prompt_id, attempt, left, right],
    ).fetchall()
    by_turn = {(model, turns): responses.from_record(record) for model, turns, record in rows}
    replies = {model: tuple(r for (own, _), r in by_turn.items() if own == model) for model in (left, right)}
    keys = [reply.key for reply in by_turn.values()]
    read = judgements.of_responses(con, run_id, keys)
    ends = (replies[model][-1] if replies[model] else None for model in (left, right))
    earlier = {model: own[:-1] for model, own in replies.items()}
    return Opened(prompts.from_record(found[0]), *ends, read, earlier)


@dataclass(frozen=True)
class Cell:
    """How often the first judge gave `first` where the second gave `second`; None: it gave no score."""

    first: int | None
    second: int | None
    count: int


def judge_matrix(
    con: DuckDBPyConnection, first: tuple[str, str], second: tuple[str, str], scale: Scale, suites: Sequence[str]
) -> list[Cell]:
    """Two judgings, each (run id, judge identity), of the same Responses to these suites, counted by both scores."""
    rows = con.execute(
        """
        WITH readings AS (
            SELECT run_id, identity, response_key, score FROM judgements
            WHERE scale = $scale AND (run_id = $run AND identity = $one OR run_id = $other AND identity = $two)
            QUALIFY row_number() OVER (PARTITION BY run_id, identity, response_key ORDER BY position DESC) = 1
        ), about AS (
            SELECT r.key FROM responses r JOIN prompts p ON p.run_id = r.run_id AND p.id = r.prompt_id
            WHERE r.run_id = $run AND list_contains($suites::VARCHAR[], p.suite)
        )
        SELECT a.score, b.score, count(*)
        FROM readings a JOIN readings b ON b.response_key = a.response_key JOIN about ON about.key = a.response_key
        WHERE a.run_id = $run AND a.identity = $one AND b.run_id = $other AND b.identity = $two
        GROUP BY ALL ORDER BY ALL
        """,
        {
            "run": first[0], "one": first[1], "other": second[0], "two": second[1], "scale": scale,
            "suites": list(suites),
        },
    )  # fmt: skip
    return [Cell(*row) for row in rows.fetchall()]


@dataclass(frozen=True)
class Judging:
    """One judge's readings in one Run."""

    run_id: str
    judge: str
    identity: str
    kind: str  # of the Run


def judgings_of_the_same(con: DuckDBPyConnection, run_id: str) -> list[Judging]:
    """Every judge that read Responses of this Run for safety, in it or in another Run; newest Run first."""
    rows = con.execute(
        """
        WITH mine AS (SELECT any_value(key) AS key FROM responses WHERE run_id = $run GROUP BY model),
        sharing AS (SELECT DISTINCT r.run_id FROM responses r JOIN mine ON mine.key = r.key)
        SELECT DISTINCT t.run_id, t.judge, t.identity, r.kind
        FROM tallies t JOIN sharing s ON s.run_id = t.run_id JOIN runs r ON r.run_id = t.run_id
        WHERE t.scale = 'safety' ORDER BY t.run_id DESC, t.judge, t.identity
        """,
        {"run": run_id},
    )
    return [Judging(*row) for row in rows.fetchall()]
