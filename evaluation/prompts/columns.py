"""Which column is what: guessed from names and content, or said with `--map`.

A file with a header is never guessed past its names: no known name for the question is an error that lists them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.errors import ImportRejected

FIELDS = (
    "question", "reference", "category", "risk_area", "harm_type", "specific_harm",
    "id", "response", "model", "label", "rater", "language",
)  # fmt: skip

# Within a field the first name wins. Names are compared without case, spaces, hyphens and underscores.
NAMES: dict[str, tuple[str, ...]] = {
    "question": (
        "messages", "conversations", "conversation", "utterances", "dialogue", "dialog", "turns",
        "question", "questiontext", "質問", "質問文", "設問", "問題", "問題文", "問い",
        "prompt", "prompttext", "userprompt", "プロンプト", "instruction", "指示", "input", "入力", "query",
        "text", "テキスト", "本文", "sent", "sentence", "文", "文章", "goal",
    ),
    "reference": (
        "reference", "referenceanswer", "referenceresponse", "referenceoutput", "参考回答", "模範回答", "参照回答",
        "output", "outputsample", "回答", "回答例", "出力", "answer", "解答", "正解", "goldanswer", "groundtruth",
        "expected", "expectedanswer", "expectedoutput", "ideal", "target",
    ),
    "response": (
        "response", "modelresponse", "responsetext", "completion", "generation", "generatedtext", "prediction",
        "modelanswer", "modeloutput", "応答", "モデル回答", "モデル応答",
    ),
    "model": ("model", "modelid", "modelname", "モデル", "モデル名"),
    "id": ("id", "qid", "questionid", "promptid", "rowid", "uid", "uuid", "key", "質問id", "番号", "index"),
    "language": ("language", "lang", "言語"),
    "rater": ("rater", "annotator", "annotatorid", "labeler", "labeller", "judge", "評価者"),
    "category": ("category", "harmcategory", "riskcategory", "カテゴリ", "カテゴリー", "分類"),
    "risk_area": ("riskarea",),
    "harm_type": ("harmtype",),
    "specific_harm": ("specificharm",),
}  # fmt: skip
STATEMENTS = frozenset({"text", "テキスト", "本文", "sent", "sentence", "文", "文章"})
ANSWERS_WHEN_A_MODEL_IS_NAMED = ("answer", "output", "回答")
CONTEXTS = ("input", "context", "入力")
CHOICE = re.compile(r"(?:choice|option|選択肢)(?:\d+|[a-j])")
# How AdvBench's targets begin, and JailbreakBench's: a reply that agrees to do harm.
_COMPLIES = re.compile(r"(?:sure|of course|certainly)\b|here(?:'s| is| are)\b", re.I)
VOTE_COUNTS = ("annotationnum", "numannotations", "numannotators", "nannotators", "annotators", "votes", "numvotes")
LABEL = re.compile(
    r"(label|score|rating|severity|grade|verdict|judge?ment|refusal|harmful|toxic|toxicity|safe|unsafe|violation|acceptable"
    r"|評価|評点|スコア|ラベル|安全性|重大度|有害度|(final|human|gold|annotator|annotation|majority)_.+"
    r"|.+_(label|score|rating|severity)|is_(safe|harmful|toxic|refusal|jailbroken)|jailbroken.*)"
)


@dataclass(frozen=True)
class Columns:
    """Column names by their part; None or empty where the file has none. Dots reach into nested fields."""

    question: str | None = None
    context: str | None = None  # Alpaca's input, added below the instruction
    references: tuple[str, ...] = ()  # the first that is filled counts
    response: str | None = None
    answers: str | None = None  # FastChat's choices[].turns[]
    chosen: str | None = None
    rejected: str | None = None
    model: str | None = None
    id: str | None = None
    second_id: str | None = None  # AnswerID, for files that repeat the QuestionID
    language: str | None = None
    rater: str | None = None
    category: str | None = None
    risk_area: str | None = None
    harm_type: str | None = None
    specific_harm: str | None = None
    labels: tuple[str, ...] = ()
    votes: tuple[str, ...] = ()  # people counted per level, their number included
    choices: tuple[str, ...] = ()
    choice_answer: str | None = None  # the right option's letter, in a file whose names do not say it
    statement: bool = False  # the labels judge the text itself
    warnings: tuple[str, ...] = ()

    def used(self) -> set[str]:
        """Top-level names whose whole content goes into a known field."""
        single = (self.question, self.context, self.response, self.answers, self.chosen, self.rejected, self.model)
        more = (self.id, self.language, self.rater, self.category, self.risk_area, self.harm_type, self.specific_harm)
        return {
            name
            for name in (*single, *more, *self.references, *self.labels, *self.votes, *self.choices, self.choice_answer)
            if name
        }


def normal(name: str) -> str:
    """A column name as it is compared."""
    return re.sub(r"[\s_\-]+", "", unicodedata.normalize("NFKC", name).lower())


_KNOWN = {name for names in NAMES.values() for name in names} | {"chosen", "rejected", "choices"} | set(VOTE_COUNTS)


def is_known(name: object) -> bool:
    """Whether a column of this name is understood without a mapping."""
    text = str(name)
    return normal(text) in _KNOWN or bool(CHOICE.fullmatch(normal(text)) or _is_label(text))


def _is_label(name: str) -> bool:
    return bool(LABEL.fullmatch(re.sub(r"[\s\-]+", "_", name.strip().lower())))


def as_text(value: Any) -> str:
    """A cell as text: None is empty, true and false as in JSON, whole floats without ".0"."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def parse_mapping(text: str) -> dict[str, str]:
    """Read `question=COL,reference=COL,category=COL`. A column name may hold commas and equals signs.

    Raises ImportRejected for an unknown or repeated field or an empty column name.
    """
    mapping: dict[str, str] = {}
    # A comma separates only where a known field follows, so "question=Q, or so" stays whole.
    for part in re.split(rf",(?=\s*(?:{'|'.join(FIELDS)})\s*=)", text):
        name, equals, column = part.partition("=")
        name, column = name.strip(), column.strip()
        if not equals or name not in FIELDS or not column:
            one_line = " ".join(part.split())[:60]
            raise ImportRejected(f"--map: {one_line!r} is not FIELD=COLUMN; fields are {', '.join(FIELDS)}.")
        if name in mapping:
            raise ImportRejected(f"--map: {name} is given twice; give each field one column.")
        mapping[name] = column
    return mapping


def reach(values: Mapping[str, Any], column: str) -> Any:
    """The value of a column; dots step into objects and, with a number, into lists. Raises KeyError."""
    if column in values:
        return values[column]
    value: Any = values
    for step in column.split("."):
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            raise KeyError(column)
    return value


def _has(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    for values in rows:
        try:
            reach(values, column)
        except KeyError:
            continue
        return True
    return False


def choose(
    names: Sequence[str], rows: Sequence[Mapping[str, Any]], mapping: Mapping[str, str], headerless: bool
) -> Columns:
    """Decide what each column is. `mapping` wins over guesses; a mapped column is used for nothing else.

    Raises ImportRejected, without the file's name, when a mapped column is missing or nothing is a question.
    """
    for field, column in mapping.items():
        if field not in FIELDS:
            raise ImportRejected(f"the mapping names the field {field!r}; fields are {', '.join(FIELDS)}.")
        if not _has(rows, column):
            raise ImportRejected(f"there is no column {column[:60]!r}; the columns are {listed(names)}.")
    free = {normal(name): name for name in reversed(names) if name not in mapping.values()}

    def find(field: str, candidates: Sequence[str] | None = None) -> str | None:
        if field in mapping:
            return mapping[field]
        return next((free[name] for name in candidates or NAMES[field] if name in free), None)

    warnings = []
    choices = tuple(name for name in names if CHOICE.fullmatch(normal(name))) or _lettered(names)
    answers = None
    if "choices" in free:
        first = next((row["choices"] for row in rows if row.get("choices")), None) if "choices" in names else None
        if isinstance(first, list) and isinstance(first[0], dict) and "turns" in first[0]:
            answers = "choices"
        elif isinstance(first, (list, dict)):
            choices = ("choices",)
    question = find("question")
    choice_answer = None
    if question is None and headerless and _ends_in_letters(names, rows):
        question, *options, choice_answer = names
        choices = tuple(options)
        warnings.append(
            f"The file has no header; it was read as question, {len(choices)} options and the right one's letter."
        )
    elif question is None and headerless and names:
        question = _longest(names, rows)
        warnings.append(
            f"The file has no header; {question!r} was taken as the question (--map question=... changes it)."
        )
    chosen, rejected = (free.get(name) for name in ("chosen", "rejected"))
    if not (chosen and rejected):
        chosen = rejected = None
    if question is None and not chosen and not answers:
        raise ImportRejected(f"no column is a question; say which with --map question=COLUMN: {listed(names)}.")
    free = {key: name for key, name in free.items() if name != question}

    model = find("model")
    answer_names = NAMES["response"] + (ANSWERS_WHEN_A_MODEL_IS_NAMED if model else ())
    reference_names = [name for name in NAMES["reference"] if not (model and name in ANSWERS_WHEN_A_MODEL_IS_NAMED)]
    response = find("response", answer_names)
    reference = find("reference", reference_names)
    guessed = [name for name in names if _is_label(name) and name in free.values()]
    labels = [mapping["label"]] if "label" in mapping else guessed
    if question and normal(question) in ("instruction", "指示") and reference is None and not model and not labels:
        response, reference = (None, response) if "response" not in mapping else (response, None)
    references = [reference] if reference else []
    if reference == free.get("output") and "reference" not in mapping and "outputsample" in free:
        references.append(free["outputsample"])
    if reference and "reference" not in mapping and normal(reference) == "target":
        why = "is the same in every row" if _constant(rows, reference) else None
        if (question and normal(question) == "goal") or _all_comply(rows, reference):
            why = "is how an attacker wants the reply to begin"
        if why:
            references = []
            warnings.append(f"Column {reference!r} {why}, so it was kept as a note, not as a reference.")
    if choices and "label" not in mapping:
        labels = []
    votes = _votes(names, rows, {name for name in (question, reference, response, model, *choices) if name})
    labels = [name for name in labels if name not in votes]
    statement = bool(question and normal(question) in STATEMENTS) and not (response or references or answers or chosen)
    statement = statement and bool(labels or votes)
    if not (statement or response or answers or chosen or (model and question)):
        labels, votes = [], ()
    context = find("context", CONTEXTS) if question and normal(question) in ("instruction", "指示") else None
    meta: dict[str, Any] = next((row["meta"] for row in rows if isinstance(row.get("meta"), dict)), {})
    nested = {normal(key): f"meta.{key}" for key in meta if "meta" not in mapping.values()}
    paths = {field: find(field) or nested.get(NAMES[field][0]) for field in ("risk_area", "harm_type", "specific_harm")}
    return Columns(
        question=question, context=context, references=tuple(references), response=response, answers=answers,
        chosen=chosen, rejected=rejected, model=model, id=find("id"), second_id=free.get("answerid"),
        language=find("language"), rater=find("rater"), category=find("category"),
        labels=tuple(labels), votes=votes, choices=choices, choice_answer=choice_answer, statement=statement, warnings=tuple(warnings), **paths,
    )  # fmt: skip


def listed(names: Sequence[str]) -> str:
    """Column names for a message: one line, at most 20."""
    shown = [" ".join(str(name).split())[:40] for name in names[:20]]
    return ", ".join(shown) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _longest(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """The first of the text columns: at least half as long on average as the longest one."""
    size = {name: sum(len(str(row[name] or "")) for row in rows) for name in names}
    return next(name for name in names if 2 * size[name] >= max(size.values()))


def _lettered(names: Sequence[str]) -> tuple[str, ...]:
    """Columns named A, B, C, ...: at least three, without a gap."""
    there = []
    for code in range(ord("A"), ord("Z") + 1):
        if chr(code) not in names:
            break
        there.append(chr(code))
    return tuple(there) if len(there) > 2 else ()


def _ends_in_letters(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the rows are MMLU's: question, options, and last the letter of one of these options."""
    if len(names) < 5 or not rows:
        return False
    letters = {chr(ord("A") + n) for n in range(len(names) - 2)}
    return all(str(row.get(names[-1])).strip() in letters for row in rows)


def _constant(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    return len(rows) > 2 and len({str(row.get(column)) for row in rows}) == 1


def _all_comply(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    """Whether every text of the column begins by agreeing."""
    return all(_COMPLIES.match(str(row.get(column))) for row in rows)


def _whole(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    return (
        int(value) if isinstance(value, int) or (isinstance(value, str) and re.fullmatch(r"\d{1,6}", value)) else None
    )


def _votes(names: Sequence[str], rows: Sequence[Mapping[str, Any]], taken: set[str]) -> tuple[str, ...]:
    """Columns that count people per level: whole numbers never above the largest number of annotators.

    Not above the row's own number: an annotator may tick a kind of harm more than once.
    """
    total = next((name for name in names if normal(name) in VOTE_COUNTS), None)
    if total is None:
        return ()
    people = [_whole(row.get(total)) for row in rows]
    most = max((n for n in people if n is not None), default=0)
    found = []
    for name in names:
        counts = [_whole(row.get(name)) for row in rows]
        if name not in taken and normal(name) not in NAMES["id"] and all(n is not None and n <= most for n in counts):
            found.append(name)
    return tuple(found) if len(found) > 2 else ()
