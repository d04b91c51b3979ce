"""From rows to nouns: each row becomes a Prompt, its answers become Responses, its verdicts Labels."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from evaluation.prompts.choices import NoChoice, options_of
from evaluation.prompts.columns import Columns, as_text, reach
from evaluation.prompts.conversations import NotAConversation, is_transcript, messages, transcript, user_turns
from evaluation.prompts.files import refusal, shown
from evaluation.prompts.tables import Row
from evaluation.prompts.taxonomy import category_of
from evaluation.types import Category, Label, Message, Prompt, Response, content_key, response_key

PLACEHOLDER = "[INSERT PROMPT HERE]"  # GPTFuzzer's templates
STATEMENT_MODEL = "statement"  # "answers" that no model gave: texts with labels of their own
UNSTATED = "unstated"  # the file does not say who gave its labels
# Names in `Prompt.extra` that this reader and those who use a suite give a meaning to.
_MEANT = frozenset({"choices", "answer_index", "stem", "placeholder", "conversation"})
_META_PART = re.compile(r"""['"](risk-area|harm-type|specific-harm)['"]\s*:\s*['"]([^'"]*)['"]""")


def language_of(text: str) -> str:
    """ja for text with kana or kanji, en for other text with Latin letters, und (BCP 47) for neither."""
    if re.search(r"[\u3041-\u30ff\u3400-\u9fff]", text):
        return "ja"
    return "en" if re.search(r"[A-Za-z]", text) else "und"


class RowReader:
    """Collects the nouns of one file. Rows that lack a text are skipped and counted in `warnings()`."""

    def __init__(self, path: Path, suite: str, columns: Columns, model: str, questions: Mapping[str, Prompt]) -> None:
        """`model` is used where rows name none; `questions` has what was asked by id for files of bare answers."""
        self.path, self.suite, self.columns, self.model, self.questions = path, suite, columns, model, questions
        self.prompts: list[Prompt] = []
        self.responses: list[Response] = []
        self.labels: list[Label] = []
        self._asked: dict[tuple[str, ...], str] = {}  # user turns -> prompt id, for files without ids
        self._by_id: dict[str, tuple[Prompt, str]] = {}
        self._answered: set[tuple[str, str]] = set()
        # (what was sent, identity) -> the attempts up to which all may be taken; those that are; by conversation, its own
        self._attempts: Counter[tuple[tuple[Message, ...], str]] = Counter()
        self._taken: set[tuple[tuple[Message, ...], str, int]] = set()
        self._begun: dict[tuple[str, int | None, str], int] = {}
        self._skipped: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def warnings(self) -> list[str]:
        """One sentence per reason for which something was skipped, with the count and the first place."""
        return [f"{count} {why} (first: {self._first[why]})." for why, count in self._skipped.items()]

    def _skip(self, row: Row, why: str) -> None:
        self._skipped[why] += 1
        self._first.setdefault(why, row.where)

    def _refuse(self, row: Row, problem: str) -> NoReturn:
        raise refusal(self.path, row.where, problem)

    def _get(self, row: Row, column: str | None) -> Any:
        try:
            return reach(row.values, column) if column else None
        except KeyError:
            return None

    def _text(self, row: Row, column: str | None) -> str | None:
        """A cell as text; None when blank. Lists give their first element, as llm-jp-judge writes references."""
        value = self._get(row, column)
        if isinstance(value, list) and value and isinstance(value[0], str):
            value = value[0]
        if isinstance(value, (dict, list)) and value:
            self._refuse(row, f"column {shown(column)!r} holds a nested value where text is needed; map a field in it.")
        return as_text(value) or None if not isinstance(value, (dict, list)) else None

    def add(self, row: Row, number: int) -> None:
        """Take one row, the `number`-th of its file. Raises ImportRejected."""
        columns = self.columns
        if columns.chosen:
            self._add_pair(row, number)
            return
        if columns.answers and not columns.question:
            self._add_answers(row, number)
            return
        conversation = self._conversation(row, self._get(row, columns.question))
        if not (turns := user_turns(conversation)) or not turns[0].strip():
            self._skip(row, f"rows have no question ({columns.question} is empty) and were skipped")
            return
        if columns.context and (context := self._text(row, columns.context)) and len(turns) == 1:
            turns = (f"{turns[0]}\n\n{context}",)
            conversation = (Message("user", turns[0]),)
        replies = self._replies(row, conversation)
        reference = next((text for name in columns.references if (text := self._text(row, name))), None)
        extra: dict[str, Any] = self._turn_references(row, turns)
        if len(conversation) > len(turns):
            extra["conversation"] = [{"role": turn.role, "content": turn.content} for turn in conversation]
            if not columns.model and reference is None:
                # The reply to the first question, which is what a Prompt sends.
                asked = next(n for n, turn in enumerate(conversation) if turn.role == "user")
                following = conversation[asked + 1 : asked + 2]
                reference = following[0].content if following and following[0].role == "assistant" else None
        prompt = self._prompt(row, number, turns, reference, extra, bool(replies))
        keys = [self._respond(row, prompt.id, *reply) for reply in replies]
        self._label(row, keys[-1:])

    # --- parts of a row ---

    def _turn_references(self, row: Row, turns: tuple[str, ...]) -> dict[str, Any]:
        """FastChat's list of one reference a turn; of a question with one turn, the Prompt's own is all there is."""
        values = (self._get(row, name) for name in self.columns.references)
        found = next((value for value in values if isinstance(value, list) and value), [])
        if len(turns) < 2 or len(found) < 2 or not all(isinstance(text, str) for text in found):
            return {}
        return {"turn_references": found[: len(turns)]}

    def _conversation(self, row: Row, value: Any) -> tuple[Message, ...]:
        if value is None or value == []:
            return ()
        if isinstance(value, list):
            if all(isinstance(turn, str) for turn in value):
                return tuple(Message("user", turn) for turn in value)
            try:
                return messages(value)
            except NotAConversation as error:
                self._refuse(row, f"{error}.")
        if isinstance(value, dict):
            self._refuse(row, "the question is a nested object; map a text field in it, like --map question=a.b.")
        return transcript(value) if is_transcript(value) else (Message("user", as_text(value)),)

    def _replies(
        self, row: Row, conversation: tuple[Message, ...]
    ) -> list[tuple[str, tuple[Message, ...], str, int | None]]:
        """(model, what was sent, text, attempt or None) for each reply that the row carries."""
        columns = self.columns
        asked = tuple(turn for turn in conversation if turn.role != "assistant")
        if columns.statement:
            return [(STATEMENT_MODEL, asked, asked[-1].content, None)]
        if columns.answers:
            return self._choices(row, user_turns(conversation))
        if columns.response:
            value = self._get(row, columns.response)
            texts = value if isinstance(value, list) else [value]
            if any(isinstance(text, (dict, list)) for text in texts):
                self._refuse(row, f"column {shown(columns.response)!r} holds nested values where text is needed.")
            if not any(as_text(text).strip() for text in texts):
                self._skip(row, f"answers are empty ({columns.response}) and were skipped")
                return []
            if isinstance(value, list):
                return self._exchange(row, self._model(row), user_turns(conversation), texts, None)
            return [(self._model(row), asked, as_text(value), None)]
        if columns.model and len(asked) < len(conversation):
            model = self._model(row)
            return [
                (model, conversation[:n], turn.content, None)
                for n, turn in enumerate(conversation)
                if turn.role == "assistant" and turn.content.strip()
            ]
        return []

    def _choices(self, row: Row, turns: tuple[str, ...]) -> list[tuple[str, tuple[Message, ...], str, int | None]]:
        choices = self._get(row, self.columns.answers)
        found = []
        for attempt, choice in enumerate(choices if isinstance(choices, list) else []):
            texts = choice.get("turns") if isinstance(choice, dict) else None
            if not isinstance(texts, list):
                self._refuse(row, f"choice {attempt} has no list of turns; write choices[].turns[].")
            found += self._exchange(row, self._model(row), turns, texts, attempt)
        if not found:
            self._skip(row, "answers are empty (choices) and were skipped")
        return found

    def _exchange(
        self, row: Row, model: str, turns: tuple[str, ...], texts: list[Any], attempt: int | None
    ) -> list[tuple[str, tuple[Message, ...], str, int | None]]:
        """One reply per user turn, each sent with what came before it."""
        sent: tuple[Message, ...] = ()
        found = []
        for _ in texts[len(turns) :]:
            self._skip(row, "answers are more than the questions of their row and were skipped; give each its own row")
        for asked, text in zip(turns, texts, strict=False):  # a model may have stopped after the first turn
            if not isinstance(text, str) or not text.strip():
                self._skip(row, "answers are empty and were skipped, with those after them in the same conversation")
                break
            sent = (*sent, Message("user", asked))
            found.append((model, sent, text, attempt))
            sent = (*sent, Message("assistant", text))
        return found

    def _model(self, row: Row) -> str:
        if not self.columns.model:
            return self.model
        if (name := self._text(row, self.columns.model)) is None:
            self._refuse(row, f"{shown(self.columns.model)} is empty; name the model that answered.")
        return name

    def _prompt(
        self,
        row: Row,
        number: int,
        turns: tuple[str, ...],
        reference: str | None,
        extra: dict[str, Any],
        answered: bool,
        category: Category | None = None,
    ) -> Prompt:
        """`category` is that of a row that does not tell its own."""
        columns = self.columns
        extra = extra | self._unknown(row)
        if columns.choices:
            try:
                options, right = options_of(row.values, columns.choices, columns.choice_answer)
            except NoChoice as error:
                self._refuse(row, str(error))
            extra["choices"] = options
            if right is not None:
                extra["answer_index"] = right
                reference = options[right]
        if any(PLACEHOLDER in turn for turn in turns):
            extra["placeholder"] = PLACEHOLDER
        key = self._id(row, number, turns, answered)
        prompt = Prompt(
            id=key,
            question=turns[0],
            reference=reference,
            category=self._category(row) or category,
            language=self._text(row, columns.language) or language_of(turns[0]),
            suite=self.suite,
            turns=turns[1:],
            extra=extra,
        )
        earlier = self._by_id.get(key)
        if earlier is None:
            self._by_id[key] = (prompt, row.where)
            self.prompts.append(prompt)
        elif not answered or (earlier[0].question, earlier[0].turns) != (prompt.question, prompt.turns):
            self._refuse(row, f"the id {shown(key)!r} is already on {earlier[1]}; give each question its own id.")
        return prompt

    def _id(self, row: Row, number: int, turns: tuple[str, ...], answered: bool) -> str:
        if self.columns.id:
            if (key := self._text(row, self.columns.id)) is None:
                self._refuse(row, f"{shown(self.columns.id)} is empty; give each row an id, or none to all.")
            second = self._text(row, self.columns.second_id)
            return f"{key}-{second}" if second else key
        key = f"{self.suite}-{number:05d}"
        # Several models' answers to one question belong to one Prompt.
        return self._asked.setdefault(turns, key) if answered else key

    def _unknown(self, row: Row) -> dict[str, Any]:
        """The columns that no field took, as they are; of a nested column only the parts not taken.

        A column that has the name of something `extra` means gets another.
        """
        used = self.columns.used()
        kept = {}
        for name, value in row.values.items():
            parts = [column.removeprefix(f"{name}.") for column in used if column.startswith(f"{name}.")]
            if name in used:
                continue
            if parts and isinstance(value, dict):
                value = {key: part for key, part in value.items() if key not in parts}
                if not value:
                    continue
            kept[f"{name}_column" if name in _MEANT else str(name)] = value
        return kept

    def _category(self, row: Row) -> Category | None:
        columns = self.columns
        risk_area, harm_type, specific_harm = (
            self._text(row, name) for name in (columns.risk_area, columns.harm_type, columns.specific_harm)
        )
        meta = row.values.get("meta")
        if isinstance(meta, str) and not (risk_area or harm_type or specific_harm):
            # pandas writes the struct of the Parquet files into a CSV as the text of a dict.
            parts = dict(_META_PART.findall(meta))
            risk_area, harm_type, specific_harm = (
                parts.get(name) or None for name in ("risk-area", "harm-type", "specific-harm")
            )
        if risk_area or harm_type or specific_harm:
            known = category_of(specific_harm or harm_type or "") if not risk_area else None
            return known or Category(risk_area, harm_type, specific_harm)
        name = self._text(row, columns.category)
        return (category_of(name) or Category(harm_type=name)) if name else None

    # --- answers and verdicts ---

    def _respond(
        self, row: Row, prompt_id: str, model: str, sent: tuple[Message, ...], text: str, n: int | None
    ) -> str:
        identity = content_key("imported", model)[:12]
        said = row.values.get("attempt", n)
        if self.columns.id and said is None and model != STATEMENT_MODEL:
            # Several raters of one answer have a row each.
            rater = self._text(row, self.columns.rater) if self.columns.labels else None
            mark = content_key(prompt_id, model, [turn.content for turn in sent], *([rater] if rater else []))
            if (prompt_id, mark) in self._answered:
                problem = (
                    f"{shown(model)} answers the id {shown(prompt_id)!r} twice; give an attempt column or one row."
                )
                self._refuse(row, problem)
            self._answered.add((prompt_id, mark))
        attempt = self._attempt(sent, identity, (row.where, n, identity))
        key = response_key(sent, identity, None, attempt)
        self.responses.append(Response(key, prompt_id, model, identity, text, "stop", sent, attempt=attempt))
        return key

    def _attempt(self, sent: tuple[Message, ...], identity: str, conversation: tuple[str, int | None, str]) -> int:
        """Which attempt a reply is of: one that nothing else has, and the same at every turn of a conversation."""
        attempt = self._begun.get(conversation, self._attempts[sent, identity])
        if (sent, identity, attempt) in self._taken:
            attempt = self._attempts[sent, identity]
        self._begun.setdefault(conversation, attempt)
        self._taken.add((sent, identity, attempt))
        self._attempts[sent, identity] = max(self._attempts[sent, identity], attempt + 1)
        return attempt

    def _label(self, row: Row, keys: list[str]) -> None:
        """The row's verdicts, on the last of its replies."""
        columns = self.columns
        human = any(re.match(r"annotat(ion|or)", name.lower()) for name in columns.labels)
        for key in keys:
            for name in (*columns.labels, *columns.votes):
                value = self._get(row, name)
                if as_text(value) == "":
                    self._skip(row, f"labels are empty ({shown(name)}) and were skipped")
                    continue
                if isinstance(value, (dict, list)):
                    value = json.dumps(value, ensure_ascii=False)
                rater = self._text(row, columns.rater)
                by_people = human or name in columns.votes or "human" in name.lower()
                self.labels.append(Label(key, name, as_text(value), rater or _rater(name, by_people)))

    def _add_pair(self, row: Row, number: int) -> None:
        """chosen / rejected: two Responses to one conversation, each with a Label."""
        columns = self.columns
        before = self._conversation(row, self._get(row, columns.question)) if columns.question else ()
        replies = []
        for column in (columns.chosen, columns.rejected):
            value = self._get(row, column)
            if isinstance(value, list) or is_transcript(value):
                whole = self._conversation(row, value)
                if not whole or whole[-1].role != "assistant":
                    self._refuse(
                        row, f"{column} does not end with an assistant turn; end each dialogue with the answer."
                    )
                sent, text = whole[:-1], whole[-1].content
                # TRL's explicit form keeps the question in its own column and only the answer here.
                sent = sent if user_turns(sent) else before
            elif isinstance(value, dict):
                self._refuse(row, f"{column} is a nested object where text is needed.")
            else:
                sent, text = before, as_text(value)
            if not user_turns(sent):
                self._skip(row, "rows have no question and were skipped")
                return
            replies.append((column, sent, text))
        sent = replies[0][1]
        turns = user_turns(sent)
        extra: dict[str, Any] = {}
        if len(sent) > len(turns):
            extra["conversation"] = [{"role": turn.role, "content": turn.content} for turn in sent]
        prompt = self._prompt(row, number, turns, None, extra, True)
        for name, (column, asked, text) in zip(("chosen", "rejected"), replies, strict=True):
            if not text.strip():
                self._skip(row, f"answers are empty ({column}) and were skipped")
                continue
            key = self._respond(row, prompt.id, name, asked, text, None)
            rater = self._text(row, columns.rater) or UNSTATED
            self.labels.append(Label(key, "preference", name, rater))

    def _add_answers(self, row: Row, number: int) -> None:
        """A row of answers without its question: the question comes from the file beside it."""
        if (key := self._text(row, self.columns.id)) is None:
            self._refuse(row, "the answers have neither a question nor its id; add question_id.")
        if key not in self.questions:
            self._skip(row, "rows answer a question that is in no question file beside this one, and were skipped")
            return
        asked = self.questions[key]
        turns = (asked.question, *asked.turns)
        replies = self._choices(row, turns)
        prompt = self._prompt(row, number, turns, asked.reference, dict(asked.extra), True, asked.category)
        keys = [self._respond(row, prompt.id, *reply) for reply in replies]
        self._label(row, keys[-1:])


def _rater(column: str, by_people: bool) -> str:
    if column.lower().startswith("jailbroken"):
        return column[len("jailbroken") :].strip("_- ") or "model"
    return "human" if by_people else UNSTATED
