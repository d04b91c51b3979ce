"""The run folder: what is written stays, what was cut off is not there, and nobody writes beside the writer."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import journal
from evaluation.disk import lock_held, take_lock
from evaluation.errors import SettingsRejected
from evaluation.journal import (
    BadLine,
    DiskRefused,
    RunBusy,
    RunFolder,
    RunUnreadable,
    create_run,
    finish_removals,
    read_records,
    read_run,
    remove_run,
    run_status,
)
from evaluation.records import encode_record, parse_record
from evaluation.types import Judgement, Prompt, Response, Sampling, to_json
from tests import nouns
from tests.processes import in_child


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with create_run(tmp_path, "benchmark", {"suite": "sample-test"}, {"general": {"base": "gemma"}}, seed=3) as run:
        return run.path


def records(path: Path) -> list[object]:
    return [record for record, _ in read_records(path)]


# ---------------------------------------------------------------------------------------------- run.json


def test_a_new_run_is_one_folder_with_all_that_was_fixed_at_its_start(tmp_path: Path):
    with create_run(tmp_path, "training", {"lr": 1e-4}, {"base": {"weights_sha256": "ab"}}, seed=7) as run:
        assert [path.name for path in tmp_path.iterdir()] == [run.info.run_id]
    info = read_run(run.path)
    assert (info.kind, info.settings, info.identities, info.seed) == (
        "training",
        {"lr": 1e-4},
        {"base": {"weights_sha256": "ab"}},
        7,
    )
    assert info.versions["python"].startswith("3.")
    assert info.run_id == run.path.name


def test_a_new_run_is_its_maker_s_from_the_moment_it_can_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[bool] = []

    def look(runs: Path) -> None:
        seen.extend(lock_held(run / "lock") for run in runs.glob("[!.]*"))

    monkeypatch.setattr(journal, "sync_folder", look)  # the first that is done once it can be seen
    with create_run(tmp_path, "training", {}, {}, queued={"device": "cpu"}) as run:
        assert seen == [True]
    assert not lock_held(run.path / "lock")


def test_run_ids_sort_by_time(tmp_path: Path):
    ids = []
    for _ in range(3):
        with create_run(tmp_path, "chat", {}, {}) as run:
            ids.append(run.path.name)
        time.sleep(0.002)
    assert ids == sorted(ids)


@pytest.mark.parametrize(
    "settings_",
    [
        pytest.param({"api_key": "x"}, id="api_key"),
        pytest.param({"judge": {"openaiApiKey": "x"}}, id="camel case, nested"),
        pytest.param({"HF_TOKEN": "x"}, id="HF_TOKEN"),
        pytest.param({"token": "x"}, id="token"),
        pytest.param({"list": [{"password": "x"}]}, id="password in a list"),
        pytest.param({"headers": {"Authorization": "x"}}, id="authorization"),
        pytest.param({"client_secret": "x"}, id="client_secret"),
        pytest.param({"note": "use sk-abcdefghijklmnop123"}, id="a key as a value"),
        pytest.param({"note": ["hf_abcdefghijklmnopqrst"]}, id="a hub token as a value"),
    ],
)
def test_settings_that_look_like_a_secret_are_refused_and_not_repeated(tmp_path: Path, settings_):
    with pytest.raises(SettingsRejected) as caught:
        create_run(tmp_path, "chat", settings_, {})
    assert "abcdefghijklmnop" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["max_tokens", "tokens_per_s", "eos_token", "tokenizer", "completion_only", "keys", "passes", "key_names"]
)
def test_settings_about_tokens_of_text_are_no_secret(tmp_path: Path, name: str):
    create_run(tmp_path, "chat", {name: "x"}, {}).close()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(None, "cannot be read", id="missing"),
        pytest.param("{", "damaged", id="torn"),
        pytest.param("[]", "damaged", id="another shape"),
        pytest.param('{"kind": "party"}', "damaged", id="unknown kind"),
        pytest.param(
            '{"run_id": "r", "kind": "chat", "created_at": "2026-01-01T00:00:00Z", "settings": {"a": [NaN]}, '
            '"identities": {}, "versions": {}, "seed": null, "schema_version": 1}',
            "damaged.*not JSON",
            id="a number that is none",
        ),
        pytest.param(
            '{"run_id": "r\\u2028", "kind": "chat", "created_at": "2026-01-01T00:00:00Z", "settings": {}, '
            '"identities": {}, "versions": {}, "seed": null, "schema_version": 1}',
            "damaged.*run_id",
            id="a line break in the id",
        ),
        pytest.param(
            '{"run_id": "' + "r" * 300 + '", "kind": "chat", "created_at": "2026-01-01T00:00:00Z", "settings": {}, '
            '"identities": {}, "versions": {}, "seed": null, "schema_version": 1}',
            "damaged.*run_id",
            id="an id without end",
        ),
    ],
)
def test_a_folder_without_a_whole_run_json_is_refused_in_one_line(tmp_path: Path, content: str | None, said: str):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunUnreadable, match=said) as caught:
        RunFolder.open(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("version", "said"), [(99, "99"), (10**2000, "of over six digits")])
def test_a_run_of_a_newer_version_asks_for_an_update(folder: Path, version: int, said: str):
    document = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**document, "schema_version": version}))
    with pytest.raises(RunUnreadable, match=rf"{said}, newer than 1\. Update"):
        read_run(folder)


# ---------------------------------------------------------------------------------------------- records


def test_every_noun_comes_back_as_it_was_written(folder: Path):
    written = {
        "prompts": nouns.prompt(turns=("続き",), extra={"列": [1, None, {"a": True}]}),
        "responses": nouns.response(),
        "judgements": nouns.judgement(score=None, missing="unparsed"),
        "pairs": nouns.pair(),
        "ratings": nouns.rating(),
    }
    with RunFolder.open(folder) as run:
        run.record_prompt(written["prompts"])
        run.record_response(written["responses"])
        run.record_judgement(written["judgements"])
        run.record_pair(written["pairs"])
        run.record_rating(written["ratings"])
    assert {name: records(folder / f"{name}.jsonl") for name in written} == {
        name: [noun] for name, noun in written.items()
    }


def test_a_key_is_written_once_also_after_a_resume(folder: Path):
    with RunFolder.open(folder) as run:
        assert run.record_response(nouns.response("a"))
        assert not run.record_response(nouns.response("a", text="again"))
    with RunFolder.open(folder) as run:
        assert run.keys("responses") == {"a"}
        assert not run.record_response(nouns.response("a"))
        assert run.record_response(nouns.response("b"))
    assert [record.key for record in records(folder / "responses.jsonl")] == ["a", "b"]


def test_reading_goes_on_from_an_offset(folder: Path):
    with RunFolder.open(folder) as run:
        for key in "abc":
            run.record_response(nouns.response(key))
    offsets = [end for _, end in read_records(folder / "responses.jsonl")]
    rest = [record.key for record, _ in read_records(folder / "responses.jsonl", offsets[0])]
    assert rest == ["b", "c"]
    assert offsets[-1] == (folder / "responses.jsonl").stat().st_size


def test_a_journal_torn_at_any_byte_keeps_the_whole_lines_and_takes_the_next_record(tmp_path: Path):
    with create_run(tmp_path / "runs", "benchmark", {}, {}) as run:
        run.record_judgement(nouns.judgement("一"))
        run.record_judgement(nouns.judgement("二"))
    file = run.path / "judgements.jsonl"
    whole = file.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        kept = [nouns.judgement("一")] if cut >= first else []
        assert records(file) == kept, f"cut at byte {cut}"
        with RunFolder.open(run.path) as again:
            again.record_judgement(nouns.judgement("三"))
        assert records(file) == [*kept, nouns.judgement("三")], f"cut at byte {cut}"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(b"", "Invalid JSON", id="empty"),
        pytest.param(b"\x00\x00\x00", "Invalid JSON", id="a block the disk never wrote"),
        pytest.param(b'{"key": "x"', "Invalid JSON", id="torn in the middle of the file"),
        pytest.param(b"[1]", "line: Input should be an object", id="not an object"),
        pytest.param(b'{"key":"k"}', "response_key: Field required", id="fields missing"),
        pytest.param(b"\xff\xfe", "Invalid JSON", id="not UTF-8"),
        pytest.param(b'{"a":' * 5000, "Invalid JSON", id="nested without end"),
        pytest.param(
            json.dumps({**to_json(nouns.judgement()), "score": 9}).encode(), "1 to 5, not 9", id="impossible score"
        ),
        pytest.param(
            json.dumps({**to_json(nouns.judgement()), "score": "4"}).encode(), "score: Input", id="score as text"
        ),
        pytest.param(
            json.dumps({**to_json(nouns.judgement()), "missing": "unparsed"}).encode(),
            "either a score or the reason",
            id="a score and a reason why there is none",
        ),
    ],
)
def test_a_line_that_is_no_record_is_reported_with_its_number_and_skipped(folder: Path, line: bytes, reason: str):
    file = folder / "judgements.jsonl"
    with RunFolder.open(folder) as run:
        run.record_judgement(nouns.judgement("a"))
    file.write_bytes(file.read_bytes() + line + b"\n")
    with RunFolder.open(folder) as run:
        run.record_judgement(nouns.judgement("b"))
    first, bad, last = records(file)
    assert (first.key, last.key) == ("a", "b")
    assert isinstance(bad, BadLine)
    assert (bad.file, bad.line) == ("judgements.jsonl", 2)
    assert reason in bad.reason
    assert "\n" not in bad.reason


def test_a_bad_line_keeps_its_number_when_reading_goes_on_from_an_offset(folder: Path):
    file = folder / "responses.jsonl"
    with RunFolder.open(folder) as run:
        run.record_response(nouns.response("a"))
    offset = file.stat().st_size
    file.write_bytes(file.read_bytes() + b"nonsense\n")
    ((bad, _),) = read_records(file, offset)
    assert bad.line == 2


def test_the_reason_of_a_bad_line_never_quotes_it(folder: Path):
    row = {**to_json(nouns.response()), "tokens": "秘密の文章", "finish_reason": "秘密の文章"}
    with pytest.raises(ValueError) as caught:
        parse_record("responses", json.dumps(row))
    assert "秘密" not in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
@pytest.mark.parametrize(
    ("journal", "row"),
    [
        ("prompts", to_json(nouns.prompt(extra={"a": [{"b": 0.25}]}))),
        ("responses", to_json(nouns.response(seconds=0.25))),
        ("responses", to_json(nouns.response(sampling=Sampling(top_p=0.25)))),
        ("judgements", to_json(nouns.judgement(cost_usd=0.25))),
        ("events", {"seq": 1, "event": "metric", "at": "2026-01-01T00:00:00Z", "data": {"loss": 0.25}}),
    ],
)
def test_a_number_that_could_not_be_written_back_is_not_read(journal: str, row: dict[str, object], number: str):
    line = json.dumps(row)
    assert json.loads(encode_record(journal, parse_record(journal, line))) == json.loads(line)
    with pytest.raises(ValueError):
        parse_record(journal, line.replace("0.25", number))


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(nouns.response(seconds=float("nan")), id="NaN"),
        pytest.param(nouns.response(tokens=1.5), id="half a token"),
        pytest.param(nouns.response(finish_reason="bored"), id="unknown reason"),
        pytest.param(nouns.response(text=None), id="no text"),
    ],
)
def test_what_no_reader_would_accept_is_not_written(folder: Path, record: Response):
    with RunFolder.open(folder) as run:
        with pytest.raises(ValueError):
            run.record_response(record)
        assert run.record_response(nouns.response())
    assert records(folder / "responses.jsonl") == [nouns.response()]


def test_surrogate_halves_are_joined_and_a_lone_one_is_replaced(folder: Path):
    with RunFolder.open(folder) as run:
        run.record_response(nouns.response(text="\ud83d" + "\ude00" + "と\ud83d"))
    (found,) = records(folder / "responses.jsonl")
    assert found.text == "😀と\ufffd"


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(text=ANY_TEXT, question=ANY_TEXT, extra=st.dictionaries(ANY_TEXT, JSON_VALUES, max_size=3))
def test_any_text_survives_the_journal(text: str, question: str, extra: dict[str, object]):
    with tempfile.TemporaryDirectory() as runs:
        with create_run(Path(runs), "benchmark", {}, {}) as run:
            run.record_response(nouns.response(text=text))
            run.record_prompt(nouns.prompt(question=question, extra=extra))
        assert records(run.path / "responses.jsonl") == [nouns.response(text=text)]
        assert records(run.path / "prompts.jsonl") == [nouns.prompt(question=question, extra=extra)]
        for file in run.path.glob("*.jsonl"):
            assert file.read_bytes().count(b"\n") == 1


def test_records_from_several_threads_do_not_mix(folder: Path):
    with RunFolder.open(folder) as run:

        def write(worker: int) -> None:
            for number in range(50):
                run.record_response(nouns.response(f"{worker}-{number}", text="長" * 3000))

        threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = records(folder / "responses.jsonl")
    assert {record.key for record in found} == {f"{w}-{n}" for w in range(4) for n in range(50)}
    assert len(found) == 200


def test_without_durable_the_disk_has_the_records_within_a_second_or_so(folder: Path, monkeypatch):
    monkeypatch.setattr(journal, "SYNC_SECONDS", 0.01)
    synced = threading.Event()
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        if "responses" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            synced.set()

    with RunFolder.open(folder) as run:
        run.record_response(nouns.response("a"), durable=True)
        monkeypatch.setattr(os, "fsync", noted)
        run.record_response(nouns.response("b"))
        assert synced.wait(10), "nobody synced the record"


def test_a_failed_sync_in_the_background_is_told_with_the_next_record(folder: Path, monkeypatch):
    monkeypatch.setattr(journal, "SYNC_SECONDS", 0.01)
    run = RunFolder.open(folder)

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        # Opening a new journal syncs its folder: that would fail at once, so write one that is there.
        (folder / "responses.jsonl").touch()
        run.record_response(nouns.response("a"))
        run._syncer.join(10)
    with pytest.raises(DiskRefused, match="Input/output error"):
        run.record_response(nouns.response("b"))
    with pytest.raises(DiskRefused):
        run.close()
    assert not lock_held(folder / "lock")


# ---------------------------------------------------------------------------------------------- one writer


def test_a_second_writer_is_told_who_the_first_one_is(folder: Path):
    with RunFolder.open(folder), pytest.raises(RunBusy, match=f"by process {os.getpid()}") as caught:
        RunFolder.open(folder)
    assert "\n" not in str(caught.value)
    RunFolder.open(folder).close()


def test_a_writer_outwaits_somebody_who_only_asks_for_the_status(folder: Path):
    asking = os.open(folder / "lock", os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    threading.Timer(0.1, os.close, [asking]).start()
    RunFolder.open(folder).close()


def test_a_lock_can_be_handed_on_without_a_moment_in_which_it_is_free(folder: Path):
    ours = take_lock(folder / "lock")
    handed = os.dup(ours)
    os.set_inheritable(handed, True)
    with RunFolder.open(folder, handed) as run:
        os.close(ours)
        assert lock_held(folder / "lock")
        assert not os.get_inheritable(handed)
        run.event("started")
    assert not lock_held(folder / "lock")


def test_a_descriptor_of_another_file_is_no_lock(folder: Path):
    with (folder / "run.json").open() as other, pytest.raises(ValueError, match="is not"):
        RunFolder.open(folder, other.fileno())


def test_a_killed_writer_lets_go_and_its_run_counts_as_lost(folder: Path):
    def work(pipe: int) -> None:
        run = RunFolder.open(folder)
        run.event("started")
        os.write(pipe, b"!")
        time.sleep(60)

    child, reading = in_child(work)
    assert os.read(reading, 1) == b"!"
    assert run_status(folder) == "running"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    assert run_status(folder) == "lost"


def test_a_removed_run_leaves_nothing(folder: Path):
    with RunFolder.open(folder) as run:
        run.record_response(nouns.response())
    remove_run(folder)
    assert list(folder.parent.iterdir()) == []


def test_a_removal_that_was_cut_off_is_finished(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(journal.shutil, "rmtree", killed)
        remove_run(folder)
    assert len([*folder.parent.iterdir()]) == 1, "this test could not fail"
    finish_removals(folder.parent)
    assert list(folder.parent.iterdir()) == []


def test_a_run_at_work_is_not_removed(folder: Path):
    with RunFolder.open(folder), pytest.raises(RunBusy):
        remove_run(folder)
    assert folder.exists()


def test_the_reader_of_types_knows_every_noun():
    assert isinstance(parse_record("prompts", json.dumps(to_json(nouns.prompt()))), Prompt)
    assert isinstance(parse_record("judgements", json.dumps(to_json(nouns.judgement()))), Judgement)
