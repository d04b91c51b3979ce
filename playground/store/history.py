"""What was asked in the chat: pairs newest first with search and filters, and one conversation in full."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from duckdb import DuckDBPyConnection

from evaluation.journal import RunInfo
from evaluation.types import Choice, Judgement, Missing, Pair, Prompt, Rating, Response
from playground.store import judgements, prompts, ratings, responses, runs
from playground.store.search_text import terms

# The last safety verdict of each response and the last vote on each pair are what the list shows.
_PAIRS = """
    WITH verdicts AS (
        SELECT * FROM judgements WHERE scale = 'safety'
        QUALIFY row_number() OVER (PARTITION BY run_id, response_key ORDER BY position DESC) = 1
    ), votes AS (
        SELECT * FROM ratings
        QUALIFY row_number() OVER (PARTITION BY run_id, left_key, right_key ORDER BY position DESC) = 1
    ), found AS (
        SELECT p.run_id, p.key, p.turn, p.created_at, p.position, p.record, q.suite, q.harm_type, v.choice,
               l.record AS left_record, lj.judge AS left_judge, lj.score AS left_score, lj.missing AS left_missing,
               r.record AS right_record, rj.judge AS right_judge, rj.score AS right_score, rj.missing AS right_missing
        FROM pairs p
        JOIN responses l ON l.run_id = p.run_id AND l.key = p.left_key
        JOIN responses r ON r.run_id = p.run_id AND r.key = p.right_key
        LEFT JOIN prompts q ON q.run_id = p.run_id AND q.id = p.prompt_id
        LEFT JOIN verdicts lj ON lj.run_id = p.run_id AND lj.response_key = p.left_key
        LEFT JOIN verdicts rj ON rj.run_id = p.run_id AND rj.response_key = p.right_key
        LEFT JOIN votes v ON v.run_id = p.run_id AND v.left_key = p.left_key AND v.right_key = p.right_key
        -- contains() and not LIKE: it has no wildcards, so nothing that is typed needs escaping.
        WHERE (len($terms) = 0 OR list_bool_and(list_transform($terms::VARCHAR[],
                  lambda term: contains(concat_ws(chr(10), p.search, l.search, r.search), term))))
          AND ($model IS NULL OR l.model = $model OR r.model = $model)
          AND ($score IS NULL OR lj.score = $score OR rj.score = $score)
          AND ($choice IS NULL OR v.choice = $choice)
          AND ($only IS NULL OR list_contains($only::VARCHAR[], p.run_id))
    )
"""


@dataclass(frozen=True)
class Side:
    """One side of a Pair. `judge` is None when nobody judged it; else either `score` or `missing` is set."""

    response: Response
    judge: str | None
    score: int | None
    missing: Missing | None


@dataclass(frozen=True)
class Entry:
    """One line of the history: a Pair of a conversation. `choice` is the last vote, None without one."""

    run_id: str
    pair: Pair
    suite: str | None
    harm_type: str | None
    left: Side
    right: Side
    choice: Choice | None


@dataclass(frozen=True)
class HistoryPage:
    """Some entries, and how many there are under the same filters."""

    entries: list[Entry]
    total: int


def page(
    con: DuckDBPyConnection,
    *,
    search: str = "",
    model: str | None = None,
    score: int | None = None,
    choice: Choice | None = None,
    only: Collection[str] | None = None,
    limit: int = 50,
    offset: int = 0,
) -> HistoryPage:
    """Pairs newest first. Every word of `search` must occur in the question or in a reply; widths and case are one.

    `model` is on either side, `score` is either side's last safety score, `choice` the last vote, `only` the
    runs that may be shown.
    """
    filters: dict[str, Any] = {"terms": terms(search), "model": model, "score": score, "choice": choice}
    filters["only"] = None if only is None else list(only)
    counted = con.execute(_PAIRS + "SELECT count(*) FROM found", filters).fetchone()
    assert counted is not None
    rows = con.execute(
        _PAIRS
        + """
        SELECT run_id, record, suite, harm_type, choice,
               left_record, left_judge, left_score, left_missing, right_record, right_judge, right_score, right_missing
        FROM found ORDER BY created_at DESC, run_id DESC, position DESC LIMIT $limit OFFSET $offset
        """,
        {**filters, "limit": limit, "offset": offset},
    )
    return HistoryPage([_entry(*row) for row in rows.fetchall()], counted[0])


def _entry(run_id: str, pair: str, suite: str | None, harm: str | None, choice: Choice | None, *sides: Any) -> Entry:
    left, right = (
        Side(responses.from_record(record), judge, score, missing)
        for record, judge, score, missing in (sides[:4], sides[4:])
    )
    return Entry(run_id, ratings.pair_from_record(pair), suite, harm, left, right, choice)


@dataclass(frozen=True)
class Turn:
    """A Pair in full. `prompt` is None when the journal's line of it is damaged."""

    pair: Pair
    prompt: Prompt | None
    left: Response
    right: Response
    judgements: list[Judgement]  # of either side, oldest first
    ratings: list[Rating]  # oldest first


@dataclass(frozen=True)
class Conversation:
    """A chat Run with its turns in order."""

    info: RunInfo
    turns: list[Turn]


def conversation(con: DuckDBPyConnection, run_id: str) -> Conversation | None:
    """The conversation of that id with all its turns, judgements and votes, or None."""
    info = runs.find_run(con, run_id)
    if info is None:
        return None
    asked = {prompt.id: prompt for prompt in prompts.of_run(con, run_id)}
    replies = {response.key: response for response in responses.of_run(con, run_id)}
    judged = judgements.of_run(con, run_id)
    votes = ratings.of_run(con, run_id)
    turns = [
        Turn(
            pair=pair,
            prompt=asked.get(pair.prompt_id),
            left=replies[pair.left],
            right=replies[pair.right],
            judgements=[judgement for judgement in judged if judgement.response_key in (pair.left, pair.right)],
            ratings=[vote for vote in votes if (vote.left, vote.right) == (pair.left, pair.right)],
        )
        for pair in ratings.pairs_of_run(con, run_id)
        if pair.left in replies and pair.right in replies  # else its line is damaged: see `runs.bad_lines`
    ]
    return Conversation(info, turns)
