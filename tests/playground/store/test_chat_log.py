"""Conversations: written to their folder first, found again, and gone when deleted."""

from __future__ import annotations

import os
import random
import resource
from pathlib import Path

import pytest

from evaluation.errors import SettingsRejected
from evaluation.journal import RunBusy, RunFolder, create_run, read_records
from evaluation.types import Message, Pair, judgement_key
from playground.store import ChatLog, Store, history, ratings, runs
from playground.store.chat import NoSuchConversation
from playground.store.database import StoreUnavailable
from tests import nouns
from tests.processes import in_child, output_of


@pytest.fixture
def log(store: Store, runs_folder: Path) -> ChatLog:
    return ChatLog(store, runs_folder)


def ask(
    log: ChatLog,
    conversation: str,
    question: str,
    left: str = "左の回答",
    right: str = "右の回答",
    *,
    models: tuple[str, str] = ("general", "answercarefully-sample"),
    before: tuple[Message, ...] = (),
) -> Pair:
    sent = (*before, Message("user", question))
    sides = [
        nouns.response(f"{conversation}-{model}-{question}-{side}", text=text, model=model, messages=sent)
        for side, model, text in zip("lr", models, (left, right), strict=True)
    ]
    return log.add_turn(conversation, nouns.prompt(f"prompt-{question}", question=question), *sides)


def questions(store: Store, **filters: object) -> list[str]:
    return [entry.pair.question for entry in store.read(history.page, **filters).entries]


def test_a_turn_is_in_the_folder_and_in_the_history_at_once(log: ChatLog, store: Store, runs_folder: Path):
    conversation = log.start_conversation({"judge": "embedded"}, {"general": {"base": "gemma"}})
    pair = ask(log, conversation, "眠れない夜が続きます。")
    assert [record for record, _ in read_records(runs_folder / conversation / "pairs.jsonl")] == [pair]
    page = store.read(history.page)
    assert page.total == 1
    (entry,) = page.entries
    assert (entry.pair, entry.run_id, entry.harm_type) == (pair, conversation, "乙")
    assert (entry.left.response.text, entry.right.response.text) == ("左の回答", "右の回答")
    assert (entry.left.judge, entry.left.score, entry.left.missing, entry.choice) == (None, None, None, None)


def test_no_conversation_exists_before_its_first_turn_needs_it(log: ChatLog, store: Store, runs_folder: Path):
    assert list(runs_folder.iterdir()) == []
    assert store.read(history.page) == history.HistoryPage([], 0)


def test_a_verdict_and_a_vote_stand_beside_their_pair(log: ChatLog, store: Store):
    conversation = log.start_conversation({}, {})
    pair = ask(log, conversation, "質問")
    log.add_judgement(conversation, nouns.judgement("a", response_key=pair.left, score=2))
    log.add_judgement(conversation, nouns.judgement("b", response_key=pair.right, missing="judge_refused"))
    log.add_judgement(conversation, nouns.judgement("c", response_key=pair.left, score=3, scale="refusal"))
    log.add_rating(conversation, pair, "right")
    (entry,) = store.read(history.page).entries
    assert (entry.left.score, entry.left.missing, entry.left.judge) == (2, None, "embedded")
    assert (entry.right.score, entry.right.missing) == (None, "judge_refused")
    assert entry.choice == "right"


def test_a_second_reading_by_the_same_judge_is_kept_beside_the_first_and_shown(log: ChatLog, store: Store):
    conversation = log.start_conversation({}, {})
    pair = ask(log, conversation, "質問")
    key = judgement_key(pair.left, "bbbb", "safety", 0)
    for verdict in ({"missing": "unreachable"}, {"score": 4}, {"score": 2}):
        log.add_judgement(conversation, nouns.judgement(key, response_key=pair.left, **verdict))
    (turn,) = store.read(history.conversation, conversation).turns
    found = [(judgement.attempt, judgement.score, judgement.missing) for judgement in turn.judgements]
    assert found == [(0, None, "unreachable"), (1, 4, None), (2, 2, None)]
    assert store.read(history.page).entries[0].left.score == 2


def test_a_changed_vote_replaces_the_first_in_lists_and_counts_and_both_are_kept(log: ChatLog, store: Store):
    conversation = log.start_conversation({}, {})
    pair = ask(log, conversation, "質問")
    log.add_rating(conversation, pair, "left")
    log.add_rating(conversation, pair, "tie")
    log.add_rating(conversation, pair, "tie", rater="somebody else")
    assert store.read(history.page).entries[0].choice == "tie"
    (votes,) = store.read(ratings.vote_counts)
    assert (votes.left_model, votes.right_model, votes.choice, votes.count) == (
        "general",
        "answercarefully-sample",
        "tie",
        2,
    )
    assert [vote.choice for vote in store.read(ratings.of_run, conversation)] == ["left", "tie", "tie"]


def test_a_conversation_opens_with_all_its_turns_in_order(log: ChatLog, store: Store):
    conversation = log.start_conversation({"judge": "embedded"}, {})
    first = ask(log, conversation, "一つ目")
    before = (Message("user", "一つ目"), Message("assistant", "左の回答"))
    second = ask(log, conversation, "二つ目", before=before)
    log.add_judgement(conversation, nouns.judgement("x", response_key=second.left, score=5))
    vote = log.add_rating(conversation, first, "both_bad")
    ask(log, log.start_conversation({}, {}), "別の会話")
    found = store.read(history.conversation, conversation)
    assert found.info.settings == {"judge": "embedded"}
    assert [(turn.pair, turn.pair.turn) for turn in found.turns] == [(first, 1), (second, 2)]
    assert found.turns[0].ratings == [vote]
    assert found.turns[0].judgements == []
    assert [judgement.score for judgement in found.turns[1].judgements] == [5]
    assert found.turns[1].left.messages[:2] == before
    assert found.turns[1].prompt.question == "二つ目"


def test_a_conversation_nobody_had_is_none(store: Store):
    assert store.read(history.conversation, "20260101T000000000-aaaaaa") is None


@pytest.mark.parametrize(
    ("search", "found"),
    [
        pytest.param("眠れ", ["眠れない夜が続きます。"], id="inside a Japanese sentence"),
        pytest.param("夜", ["眠れない夜が続きます。"], id="one character"),
        pytest.param("休みましょう", ["眠れない夜が続きます。"], id="in a reply"),
        pytest.param("医師", ["ＰＩＮコードを忘れました"], id="in the right reply"),
        pytest.param("pinコード", ["ＰＩＮコードを忘れました"], id="full width and case are one"),
        pytest.param("ﾊﾟｽﾜｰﾄﾞ", ["パスワード 100%"], id="half-width katakana"),
        pytest.param("100%", ["パスワード 100%"], id="percent is a percent"),
        pytest.param("_", ["a_b"], id="underscore is an underscore"),
        pytest.param("\\", [], id="backslash"),
        pytest.param("'; DROP TABLE pairs; --", [], id="a quote is a quote"),
        pytest.param("眠れ 続き", ["眠れない夜が続きます。"], id="both words"),
        pytest.param("続き　休み", ["眠れない夜が続きます。"], id="an ideographic space, words in either text"),
        pytest.param("眠れ 医師", [], id="words of two pairs"),
        pytest.param("\ud800", [], id="half a surrogate pair"),
        pytest.param(
            "   ", ["a_b", "パスワード 100%", "ＰＩＮコードを忘れました", "眠れない夜が続きます。"], id="blank"
        ),
    ],
)
def test_history_finds_what_was_typed(log: ChatLog, store: Store, search: str, found: list[str]):
    conversation = log.start_conversation({}, {})
    ask(log, conversation, "眠れない夜が続きます。", left="まず休みましょう。")
    ask(log, conversation, "ＰＩＮコードを忘れました", right="医師ではなく窓口へ。")
    ask(log, conversation, "パスワード 100%")
    ask(log, conversation, "a_b")
    assert questions(store, search=search) == found
    assert store.read(history.page, search=search).total == len(found)


def test_history_filters_by_model_score_and_vote_and_by_all_at_once(log: ChatLog, store: Store):
    conversation = log.start_conversation({}, {})
    one = ask(log, conversation, "一", models=("general", "answercarefully-sample"))
    two = ask(log, conversation, "二", models=("base", "general"))
    ask(log, conversation, "三", models=("base", "base"))
    log.add_judgement(conversation, nouns.judgement("a", response_key=one.left, score=1))
    log.add_judgement(conversation, nouns.judgement("b", response_key=two.right, score=1))
    log.add_judgement(conversation, nouns.judgement("c", response_key=two.right, score=5, attempt=1))
    log.add_rating(conversation, one, "right")
    log.add_rating(conversation, two, "right")
    assert questions(store, model="general") == ["二", "一"]
    assert questions(store, model="base") == ["三", "二"]
    assert questions(store, score=1) == ["一"]
    assert questions(store, score=5) == ["二"]
    assert questions(store, choice="right") == ["二", "一"]
    assert questions(store, choice="left") == []
    assert questions(store, model="general", score=5, choice="right", search="二") == ["二"]


def test_history_comes_in_pages_newest_first(log: ChatLog, store: Store):
    for number in range(5):
        ask(log, log.start_conversation({}, {}), f"質問{number}")
    newest = [f"質問{number}" for number in (4, 3, 2, 1, 0)]
    pages = [store.read(history.page, limit=2, offset=offset) for offset in (0, 2, 4)]
    assert [[entry.pair.question for entry in page.entries] for page in pages] == [newest[:2], newest[2:4], newest[4:]]
    assert {page.total for page in pages} == {5}


def test_a_deleted_conversation_leaves_neither_folder_nor_row_nor_byte(
    log: ChatLog, store: Store, runs_folder: Path, tmp_path: Path
):
    keep = log.start_conversation({}, {})
    ask(log, keep, "残す質問")
    gone = log.start_conversation({}, {})
    secret = "plugh-xyzzy-4711"
    pair = ask(log, gone, secret, left=secret)
    log.add_rating(gone, pair, "left")
    store._submit(("test", ""), lambda: store._in_cursor(lambda con: con.execute("CHECKPOINT")) and None)
    assert secret.encode() in (tmp_path / "index.duckdb").read_bytes(), "this test could not fail"
    log.delete_conversation(gone)
    assert questions(store) == ["残す質問"]
    assert store.read(runs.run_ids) == {keep}
    assert [path.name for path in runs_folder.iterdir()] == [keep]
    left_over = [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert left_over == []
    ask(log, keep, "次の質問")
    assert questions(store) == ["次の質問", "残す質問"]


def test_many_are_deleted_with_one_rewriting_of_the_index_and_a_busy_one_keeps_none_of_them(
    log: ChatLog, store: Store, runs_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    conversations = [log.start_conversation({}, {}) for _ in range(4)]
    for conversation in conversations:
        ask(log, conversation, f"質問 {conversation}")
    rewritten: list[int] = []
    compact = store._database.compact
    monkeypatch.setattr(store._database, "compact", lambda: (rewritten.append(1), compact()))
    busy = conversations[1]
    with RunFolder.open(runs_folder / busy), pytest.raises(RunBusy):
        log.delete_all()
    assert questions(store) == [f"質問 {busy}"] and [path.name for path in runs_folder.iterdir()] == [busy]
    assert len(rewritten) == 1
    assert log.delete_all() == 1 and log.delete_all() == 0
    assert questions(store) == [] and len(rewritten) == 2


def test_a_deletion_cut_off_before_the_index_is_finished_with_the_next_catch_up(
    log: ChatLog, store: Store, runs_folder: Path
):
    conversation = log.start_conversation({}, {})
    ask(log, conversation, "質問")
    (runs_folder / conversation).rename(runs_folder / f".removed-{conversation}")
    store.ingest_all()
    assert questions(store) == []


def test_a_deletion_on_a_full_disk_says_so_and_those_after_it_work(tmp_path: Path, runs_folder: Path):
    def work(pipe: int) -> None:
        store = Store(tmp_path / "index.duckdb", runs_folder)
        log, chance = ChatLog(store, runs_folder), random.Random(1)
        conversations = [log.start_conversation({}, {}) for _ in range(3)]
        for conversation in conversations:
            ask(log, conversation, "質問", left=chance.randbytes(500_000).hex())
        store.read(lambda con: con.execute("CHECKPOINT") and None)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
        for conversation in conversations:
            try:
                log.delete_conversation(conversation)
            except StoreUnavailable as error:
                os.write(pipe, f"{error}\n".encode())
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            left_over = [path.name for path in (tmp_path / "index.duckdb.compact").iterdir()]
            os.write(pipe, f"{len(questions(store))} {left_over}\n".encode())
        store.close()

    said, *after = output_of(*in_child(work)).splitlines()
    assert "the disk is full. Free some space" in said
    assert after == ["2 []", "1 []", "0 []"]


@pytest.mark.parametrize(
    "conversation",
    ["../runs", "..", "", "/etc", "20260101T000000000-aaaaaa", "x" * 500, "20260101T000000000-aaaaaa/.."],
)
def test_a_name_that_is_no_conversation_reaches_no_file(log: ChatLog, runs_folder: Path, conversation: str):
    with pytest.raises(NoSuchConversation) as caught:
        log.delete_conversation(conversation)
    assert len(str(caught.value)) < 150
    assert runs_folder.exists()


def test_a_benchmark_is_no_conversation_and_cannot_be_deleted_as_one(log: ChatLog, benchmark: Path):
    with pytest.raises(NoSuchConversation):
        log.delete_conversation(benchmark.name)
    assert benchmark.exists()


def test_sides_that_were_not_asked_the_same_are_no_pair(log: ChatLog, store: Store):
    conversation = log.start_conversation({}, {})
    left, right = (nouns.response(text, messages=(Message("user", text),)) for text in ("甲", "乙"))
    with pytest.raises(ValueError, match="same last question"):
        log.add_turn(conversation, nouns.prompt(), left, right)
    with pytest.raises(ValueError, match="same last question"):
        log.add_turn(conversation, nouns.prompt(), nouns.response("l", messages=()), right)
    assert questions(store) == []


def test_the_same_model_on_both_sides_is_one_response_and_one_pair(log: ChatLog, store: Store):
    conversation = log.start_conversation({}, {})
    same = nouns.response("same")
    log.add_turn(conversation, nouns.prompt(), same, same)
    (entry,) = store.read(history.page).entries
    assert entry.left == entry.right


def test_a_key_in_the_settings_starts_no_conversation(log: ChatLog, runs_folder: Path):
    with pytest.raises(SettingsRejected):
        log.start_conversation({"api_key": "x"}, {})
    assert list(runs_folder.iterdir()) == []


def test_a_damaged_line_hides_its_pair_only_and_is_counted(log: ChatLog, store: Store, runs_folder: Path):
    conversation = log.start_conversation({}, {})
    ask(log, conversation, "一")
    ask(log, conversation, "二")
    file = runs_folder / conversation / "responses.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([b"?" + lines[0][1:], *lines[1:]]))
    store.rebuild()
    assert questions(store) == ["二"]
    assert [turn.pair.question for turn in store.read(history.conversation, conversation).turns] == ["二"]
    assert store.read(runs.counts, conversation)["bad_lines"] == 1


def test_a_folder_that_is_being_written_elsewhere_is_said_to_be_busy(log: ChatLog, runs_folder: Path):
    with create_run(runs_folder, "chat", {}, {}) as run, pytest.raises(Exception, match="is being written by process"):
        log.add_rating(run.path.name, nouns.pair(), "left")
