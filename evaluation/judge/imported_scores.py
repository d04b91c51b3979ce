"""Scores that a judge gave elsewhere, read from a file, as a Judge: what is not in the file was not judged."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from evaluation.errors import ImportRejected
from evaluation.judge.protocol import Exchange, now, refuse_other_scales, without_verdict
from evaluation.prompts.columns import NAMES, as_text, listed, normal
from evaluation.prompts.files import refusal, shown
from evaluation.prompts.tables import Row, read_table
from evaluation.types import SCORES, Judgement, Missing, Response, Scale, content_key, judgement_key

RESPONSE_KEYS = ("responsekey",)
SCORE_COLUMNS = ("judgescore", "score", "rating", "verdict", "評価", "評点", "スコア")
REASONS: tuple[Missing, ...] = get_args(Missing)


@dataclass(frozen=True)
class _Score:
    """One row: a score or the reason there is none. `where` is its place in the file."""

    where: str
    score: int | None
    missing: Missing | None
    explanation: str


class ImportedScores:
    """A Judge that looks its verdicts up. Rows are found by response_key, by question id, or by question and response."""

    def __init__(
        self,
        path: Path,
        id: str,
        scale: Scale,
        joined: str,
        find: Callable[[Exchange], Hashable],
        scores: Mapping[Hashable, _Score],
    ) -> None:
        """Use `read_scores`. `joined` says in words what rows are found by."""
        self.id = id
        self.scales: frozenset[Scale] = frozenset({scale})
        self._path, self._joined, self._find, self._scores = path, joined, find, scores
        rows = sorted([str(key), row.score, row.missing] for key, row in scores.items())
        self.identity = content_key("imported-scores", id, rows)

    def judge(
        self,
        exchanges: Sequence[Exchange],
        scale: Scale = "safety",
        on_done: Callable[[Judgement], None] | None = None,
    ) -> list[Judgement]:
        """See `protocol.Judge`. Raises ImportRejected for a score off the scale, or one that fits two Responses."""
        refuse_other_scales(self, scale)
        taken: dict[Hashable, str] = {}
        done = []
        for exchange in exchanges:
            key, response = self._find(exchange), exchange.response
            row = self._scores.get(key)
            if row is not None and taken.setdefault(key, response.key) != response.key:
                raise refusal(
                    self._path,
                    row.where,
                    f"the score fits more than one response (rows are found by {self._joined}); add a response_key column.",
                )
            done.append(self._judgement(response, row, scale))
            if on_done:
                on_done(done[-1])
        return done

    def covers(self, exchanges: Sequence[Exchange]) -> int:
        """How many of the exchanges have a row. Raises ImportRejected when none has."""
        found = sum(self._find(exchange) in self._scores for exchange in exchanges)
        if not found:
            raise refusal(
                self._path,
                None,
                f"none of its {len(self._scores)} scores belongs to a labelled response (rows are found by {self._joined}).",
            )
        return found

    def _judgement(self, response: Response, row: _Score | None, scale: Scale) -> Judgement:
        if row is None:
            words = "The file has no score for this response."
            return without_verdict(response, self.id, self.identity, scale, "not_run", words)
        if row.missing is not None or row.score is None:
            reason = row.missing or "not_run"
            return without_verdict(response, self.id, self.identity, scale, reason, row.explanation)
        lowest, highest = SCORES[scale]
        if not lowest <= row.score <= highest:
            problem = (
                f"the score {row.score} is not on the {scale} scale, {lowest} to {highest}; convert the scores first."
            )
            raise refusal(self._path, row.where, problem)
        return Judgement(
            key=judgement_key(response.key, self.identity, scale, 0),
            response_key=response.key,
            judge=self.id,
            identity=self.identity,
            scale=scale,
            score=row.score,
            explanation=row.explanation,
            created_at=now(),
        )


def read_scores(path: Path, scale: Scale, column: str | None = None, encoding: str | None = None) -> ImportedScores:
    """Read a judge's scores: CSV, JSON Lines and what else `read_table` reads, a run's judgements.jsonl among it.

    One row a response: `column`, or one named score, judge_score, rating, and response_key, or the question's id (with
    model where several answered), or question and response. Optional: missing (one of our reasons), explanation,
    judge, scale (rows of another scale are left out). Raises ImportRejected.
    """
    table = read_table(path, encoding, [*([column] if column else []), "response_key", "score"])
    names = {normal(str(name)): str(name) for name in reversed(table.columns)}

    def named(*candidates: str) -> str | None:
        return next((names[name] for name in candidates if name in names), None)

    score = column if column in table.columns else None if column else named(*SCORE_COLUMNS)
    if score is None:
        raise refusal(
            path,
            None,
            f"no column holds the scores; say which with --score-column: {listed([str(c) for c in table.columns])}.",
        )
    joined, key_of_row, find = _join(path, named)
    missing, explanation, judge, scales = (
        named("missing"),
        named("explanation", "reason", "理由"),
        named("judge"),
        named("scale"),
    )
    scores: dict[Hashable, _Score] = {}
    judges = set()
    for row in table.rows:
        if scales and row.values.get(scales) not in (None, "", scale):
            continue
        key = key_of_row(row)
        parsed = _parsed(row, score, missing, explanation)
        if key in scores and (scores[key].score, scores[key].missing) != (parsed.score, parsed.missing):
            raise refusal(path, row.where, f"a second, different score for one response (rows are found by {joined}).")
        scores.setdefault(key, parsed)
        judges.add(str(row.values.get(judge) or "") if judge else "")
    (only,) = judges if len(judges) == 1 else ("",)
    return ImportedScores(path, only or f"scores:{path.name.split('.')[0]}", scale, joined, find, scores)


def _join(
    path: Path, named: Callable[..., str | None]
) -> tuple[str, Callable[[Row], Hashable], Callable[[Exchange], Hashable]]:
    """(what rows are found by, the key of a row, the key of an exchange)."""

    def cell(row: Row, name: str) -> str:
        return as_text(row.values.get(name)).strip()  # as an import reads it: pandas writes ids beside a gap as 1.0

    if (key := named(*RESPONSE_KEYS)) is not None:
        return "response_key", lambda row: cell(row, key), lambda e: e.response.key
    question, text = named(*NAMES["question"]), named(*NAMES["response"])
    if (id_ := named(*NAMES["id"])) is not None:
        model = named(*NAMES["model"])
        if model is not None:
            return "id and model", lambda r: (cell(r, id_), cell(r, model)), lambda e: (e.prompt.id, e.response.model)
        return "id", lambda row: cell(row, id_), lambda e: e.prompt.id
    if question is not None and text is not None:
        return (
            "question and response",
            lambda row: (cell(row, question), cell(row, text)),
            lambda e: (e.prompt.question.strip(), e.response.text.strip()),
        )
    raise refusal(
        path, None, "rows cannot be told apart; add response_key, or id, or the question and response columns."
    )


def _parsed(row: Row, score: str, missing: str | None, explanation: str | None) -> _Score:
    value: Any = row.values.get(score)
    said = row.values.get(missing) if missing else None
    words = str((row.values.get(explanation) if explanation else None) or "")
    if said in REASONS:
        return _Score(row.where, None, said, words)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None else unicodedata.normalize("NFKC", str(value)).strip()
    if re.fullmatch(r"-?[0-9]{1,9}(\.0+)?", text):
        return _Score(row.where, int(float(text)), None, words)
    if re.fullmatch(r"-?[0-9]*\.[0-9]+", text):
        raise ImportRejected(f"{row.where}: the score {shown(text, 20)} is not a whole number; round the scores first.")
    return _Score(row.where, None, "unparsed" if text else "not_run", words)
