"""The runner: overlap, resume, reuse, stopping, and failures on either side."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from evaluation.benchmark.judging import Panel, WithoutReference
from evaluation.benchmark.pacing import NOT_ASKED
from evaluation.benchmark.plan import plan
from evaluation.benchmark.results import results
from evaluation.benchmark.run import DOES_NOT_FIT, FAILURES, FILTERED, ModelFailing, WrongModelAnswered, judge_responses
from evaluation.errors import AccessMissing, SettingsRejected
from evaluation.journal import DiskRefused, RunFolder, create_run
from evaluation.judge.protocol import Exchange
from playground.jobs.earlier import earlier_runs
from tests.evaluation.benchmark.benching import (
    IDENTITIES,
    METRICS,
    MODELS,
    Bench,
    Scorer,
    Writer,
    asked,
    contents,
    failed,
    prompts,
    respond,
)

PATIENCE_S = 60.0


def test_every_model_answers_every_prompt_and_every_response_is_judged(tmp_path):
    bench = Bench(tmp_path)
    ended = bench.sit()
    assert not ended.stopped
    assert len(bench.responses) == len(bench.judgements) == 40
    assert {(r.prompt_id, r.model) for r in bench.responses.values()} == {
        (p.id, m) for p in bench.prompts for m in MODELS
    }
    totals = ended.totals
    assert (totals.answered, totals.total, totals.verdicts) == (40, 40, 40)
    assert totals.judged == sum(j.score is not None for j in bench.judgements.values())
    assert totals.judged + totals.missing == 40
    assert totals.tokens_per_s and totals.tokens_per_s > 0
    stages = [data["stage"] for event, data in bench.told if event == "progress"]
    assert (stages[0], stages[-1]) == ("answering", "done")


def test_a_response_is_judged_while_others_are_still_being_made(tmp_path):
    judged = threading.Event()
    seen = []

    def wait_for_a_verdict(request):
        if seen:
            assert judged.wait(PATIENCE_S), "nothing was judged before all was answered"
        seen.append(request.key)

    bench = Bench(tmp_path, writer=Writer(change=wait_for_a_verdict), judges=[Scorer(before=lambda e: judged.set())])
    bench.sit()
    assert len(bench.judgements) == 40


def test_answering_waits_for_a_judge_that_does_not_keep_up(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluation.benchmark.judging.WAITING", 4)
    monkeypatch.setattr("evaluation.benchmark.judging.AT_ONCE", 2)
    go_on, most_ahead = threading.Event(), []
    bench = Bench(tmp_path, judges=[Scorer(before=lambda e: go_on.wait(PATIENCE_S))])
    timer = threading.Timer(0.5, lambda: (most_ahead.append(len(bench.writer.asked)), go_on.set()))
    timer.start()
    bench.sit()
    timer.join()
    assert most_ahead[0] < 40
    assert len(bench.judgements) == 40


def test_each_suite_is_read_on_its_own_scales_and_what_nobody_can_read_says_so(tmp_path):
    mixed = [*prompts(3), *prompts(3, "edge"), *prompts(3, "chat")]
    bench = Bench(tmp_path, asked(suites=("mine", "edge", "chat")), mixed)
    bench.sit()
    scales = {p.suite: set() for p in mixed}
    for judgement in bench.judgements.values():
        prompt_id = bench.responses[judgement.response_key].prompt_id
        scales[prompt_id.split("-")[0]].add(judgement.scale)
    assert scales == {"mine": {"safety"}, "edge": {"safety", "refusal"}, "chat": {"usefulness"}}
    unread = [j for j in bench.judgements.values() if j.scale == "usefulness"]
    assert {j.missing for j in unread} == {"not_run"}
    assert "not usefulness" in unread[0].explanation


def test_the_first_judge_that_can_read_a_scale_does(tmp_path):
    useful = Scorer("useful", frozenset({"usefulness", "safety"}))
    bench = Bench(tmp_path, prompts=[*prompts(2), *prompts(2, "chat")], judges=[Scorer(), useful])
    bench.sit()
    assert {(j.scale, j.judge) for j in bench.judgements.values()} == {("safety", "fake"), ("usefulness", "useful")}


def test_without_a_judge_only_answers_are_made(tmp_path):
    bench = Bench(tmp_path, judges=[])
    assert bench.sit().totals.verdicts == 0
    assert (len(bench.responses), len(bench.judgements)) == (40, 0)


def test_attempts_are_drawn_with_seeds_of_their_own(tmp_path):
    bench = Bench(tmp_path, asked(attempts=3), prompts(4))
    bench.sit()
    assert len(bench.responses) == 24
    assert {(r.attempt, r.sampling.seed) for r in bench.responses.values()} == {(0, 0), (1, 1), (2, 2)}


def test_responses_that_cannot_be_judged_are_not_run_and_counted_missing(tmp_path):
    bench = Bench(tmp_path, writer=Writer(change=lambda r: respond(r, text="  ") if r.model == "left" else None))
    ended = bench.sit()
    blank = [j for j in bench.judgements.values() if bench.responses[j.response_key].model == "left"]
    assert {j.missing for j in blank} == {"not_run"}
    assert ended.totals.missing >= 20
    assert [data["message"][:4] for event, data in bench.told if event == "warning"] == ["Only"]


# ---- stop, resume, reuse ----


def stop_after(bench: Bench, count: int):
    return lambda: len(bench.writer.asked) >= count


def test_a_stop_ends_it_soon_and_a_resume_asks_only_for_what_is_missing(tmp_path):
    whole, bench = Bench(tmp_path / "a"), Bench(tmp_path / "b")
    whole.sit()
    ended = bench.sit(stop_after(bench, 7))
    assert ended.stopped and bench.writer.closed
    assert len(bench.responses) == 7
    again = bench.sit()
    assert not again.stopped
    assert sorted(bench.writer.asked) == sorted(whole.responses), "a response was asked for twice, or never"
    judged = bench.judges[0].judged
    assert sorted(judged) == sorted(whole.responses), "a response was judged twice, or never"
    assert contents(bench.path) == contents(whole.path)


def test_a_stop_while_judging_leaves_the_rest_for_a_resume(tmp_path):
    stopping = threading.Event()
    scorer = Scorer(before=lambda e: stopping.set() if len(scorer.judged) >= 5 else None, pause_s=0.005)
    bench = Bench(tmp_path / "b", judges=[scorer])
    bench.prompts = prompts(150)
    assert bench.sit(stopping.is_set).stopped
    before = len(bench.judgements)
    assert 5 <= before < 300
    scorer.before = lambda e: None
    assert not bench.sit().stopped
    assert len(bench.judgements) == 300
    assert len(scorer.judged) == len(set(scorer.judged)) == 300


class Away(Scorer):
    """A judge that cannot be reached."""

    def _read(self, exchange, scale):
        read = super()._read(exchange, scale)
        return replace(read, score=None, missing="unreachable") if read.score is not None else read


def test_a_resume_asks_a_judge_again_that_could_not_be_reached(tmp_path):
    bench = Bench(tmp_path, judges=[Away()])
    bench.sit()
    lost = {j.response_key for j in bench.judgements.values() if j.missing == "unreachable"}
    bench.judges = [Scorer()]
    totals = bench.sit().totals
    assert lost and set(bench.judges[0].judged) == lost and len(bench.writer.asked) == 40
    assert (totals.judged, totals.judged + totals.missing) == (len(lost), 40)
    counted = results(bench.prompts, bench.responses.values(), bench.judgements.values(), MODELS, METRICS, 1)
    assert sum(model.overall.verdicts["scored"] for model in counted.models) == len(lost)
    bench.judges = [Scorer()]
    assert bench.sit().totals.judged == len(lost) and bench.judges[0].judged == []


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    bench = Bench(tmp_path)
    bench.sit()
    bench.writer, bench.judges = Writer(), [Scorer()]
    totals = bench.sit().totals
    assert bench.writer.asked == [] and bench.judges[0].judged == []
    assert (totals.answered, totals.judged + totals.missing) == (40, 40)


def test_what_earlier_runs_made_with_the_same_keys_is_taken_over(tmp_path):
    first = Bench(tmp_path)
    first.sit()
    second = Bench(tmp_path, prompts=prompts(25))
    ended = second.sit(earlier=earlier_runs(tmp_path, ""))
    assert len(second.writer.asked) == 10
    scored = sum(j.score is not None for j in first.judgements.values())
    assert ended.totals.reused == 40 + scored
    assert {r.key: r.text for r in first.responses.values()}.items() <= {
        r.key: r.text for r in second.responses.values()
    }.items()
    assert len(second.judges[0].judged) == 50 - scored


def test_a_verdict_that_was_asked_for_again_is_taken_over_too(tmp_path):
    first = Bench(tmp_path, judges=[Away()])
    first.sit()
    first.judges = [Scorer()]
    first.sit()
    second = Bench(tmp_path)
    second.sit(earlier=earlier_runs(tmp_path, ""))
    scored = {j.response_key for j in first.judgements.values() if j.score is not None}
    assert scored and not scored & set(second.judges[0].judged), "it would be paid for twice"
    assert scored == {j.response_key for j in second.judgements.values() if j.score is not None}
    assert {j.attempt for j in second.judgements.values()} == {0}


def test_nothing_is_taken_over_when_reuse_is_off(tmp_path):
    Bench(tmp_path).sit()
    second = Bench(tmp_path, asked(reuse=False))
    second.sit(earlier=earlier_runs(tmp_path, ""))
    assert len(second.writer.asked) == 40


def test_a_failed_response_and_a_missing_verdict_are_made_anew(tmp_path):
    first = Bench(tmp_path, writer=Writer(change=lambda r: failed(r) if r.prompt.id == "mine-3" else None))
    first.sit()
    second = Bench(tmp_path)
    second.sit(earlier=earlier_runs(tmp_path, ""))
    assert {second.responses[key].prompt_id for key in second.writer.asked} == {"mine-3"}
    assert all(r.finish_reason != "error" for r in second.responses.values())


def test_a_verdict_beside_another_reference_is_not_taken_over(tmp_path):
    first = Bench(tmp_path)
    first.sit()
    changed = [replace(p, reference="別の参照") if p.id == "mine-3" else p for p in prompts(20)]
    second = Bench(tmp_path, prompts=changed)
    second.sit(earlier=earlier_runs(tmp_path, "", changed))
    assert second.writer.asked == [], "the responses are the same"
    scored = {j.response_key for j in first.judgements.values() if j.score is not None}
    own = {key for key, response in second.responses.items() if response.prompt_id == "mine-3"}
    assert set(second.judges[0].judged) == (second.responses.keys() - scored) | own


def test_other_sampling_is_another_response(tmp_path):
    Bench(tmp_path).sit()
    second = Bench(tmp_path, asked(sampling=replace(asked().sampling, temperature=0.1)))
    assert second.sit(earlier=earlier_runs(tmp_path, "")).totals.reused == 0


# ---- failures ----


def test_a_single_failure_is_a_response_with_an_error_and_is_not_judged(tmp_path):
    bench = Bench(tmp_path, writer=Writer(change=lambda r: failed(r) if r.prompt.id == "mine-2" else None))
    bench.sit()
    broken = {key for key, response in bench.responses.items() if response.finish_reason == "error"}
    assert len(broken) == 2
    assert {j.missing for j in bench.judgements.values() if j.response_key in broken} == {"not_run"}


def test_a_model_that_is_gone_ends_the_run_and_a_resume_asks_it_again(tmp_path):
    bench = Bench(tmp_path, writer=Writer(change=lambda r: failed(r) if len(bench.writer.asked) > 10 else None))
    with pytest.raises(ModelFailing, match=f"failed {FAILURES} times in a row: The server is gone"):
        bench.sit()
    assert len(bench.responses) == 10
    assert all(r.finish_reason != "error" for r in bench.responses.values())
    bench.writer = Writer()
    bench.sit()
    assert len(bench.responses) == 40


def test_a_model_that_never_answers_fails_the_run_even_when_there_is_little_to_ask(tmp_path):
    bench = Bench(
        tmp_path, prompts=prompts(3), writer=Writer(change=lambda r: failed(r) if r.model == "left" else None)
    )
    with pytest.raises(ModelFailing, match="left failed 3 times"):
        bench.sit()


@pytest.mark.parametrize("begins", [DOES_NOT_FIT, FILTERED])
def test_prompts_that_are_refused_for_their_own_sake_do_not_count_as_a_model_that_is_gone(tmp_path, begins):
    bench = Bench(tmp_path, writer=Writer(change=lambda r: failed(r, f"{begins}so it was said")))
    bench.sit()
    assert {r.finish_reason for r in bench.responses.values()} == {"error"}
    assert len(bench.judgements) == 40


def test_what_the_spend_cap_left_unasked_is_no_response_and_is_told(tmp_path):
    over = f"{NOT_ASKED}the cap is reached."
    bench = Bench(tmp_path, writer=Writer(change=lambda r: failed(r, over) if len(bench.writer.asked) > 30 else None))
    ended = bench.sit()
    assert (ended.totals.answered, ended.totals.total, len(bench.judgements)) == (30, 40, 30)
    assert any("10 responses were not asked for" in data["message"] for event, data in bench.told if event == "warning")


def test_a_response_of_other_weights_ends_the_run(tmp_path):
    bench = Bench(tmp_path, writer=Writer(change=lambda r: respond(r, key="other", identity="other")))
    with pytest.raises(WrongModelAnswered):
        bench.sit()
    assert bench.responses == {}


def test_a_judge_that_cannot_work_ends_answering_too(tmp_path):
    def refuse(exchange):
        raise AccessMissing("The key is wrong.")

    bench = Bench(tmp_path, prompts=prompts(2000), writer=Writer(0.001), judges=[Scorer(before=refuse)])
    with pytest.raises(AccessMissing, match="key is wrong"):
        bench.sit()
    assert len(bench.writer.asked) < 4000 and bench.writer.closed


def test_a_bug_in_the_models_ends_judging_too(tmp_path):
    def break_down(request):
        if len(bench.writer.asked) > 5:
            raise RuntimeError("a bug")

    bench = Bench(tmp_path, writer=Writer(change=break_down))
    with pytest.raises(RuntimeError, match="a bug"):
        bench.sit()
    assert len(bench.responses) == 5
    assert not [t for t in threading.enumerate() if t.name.startswith("judging") and not t.daemon]


def test_a_verdict_under_way_is_kept_when_the_models_fail(tmp_path):
    reading, failing = threading.Event(), threading.Event()

    def slow(exchange):
        reading.set()
        failing.wait(PATIENCE_S)
        time.sleep(0.2)  # the runner has given up by now

    def fail(request):
        if len(bench.writer.asked) > 1:
            assert reading.wait(PATIENCE_S)
            failing.set()
            raise RuntimeError("a bug")

    bench = Bench(tmp_path, writer=Writer(change=fail), judges=[Scorer(before=slow)])
    with pytest.raises(RuntimeError, match="a bug"):
        bench.sit()
    assert {j.response_key for j in bench.judgements.values()} == bench.responses.keys() and len(bench.responses) == 1


def test_a_full_disk_on_the_judge_s_side_is_told(tmp_path, monkeypatch):
    def full(self, judgement, durable=False):
        raise DiskRefused("no space")

    monkeypatch.setattr(RunFolder, "record_judgement", full)
    with pytest.raises(DiskRefused, match="no space"):
        Bench(tmp_path).sit()


# ---- judging what is there ----


def test_responses_that_are_there_are_judged_again_in_a_folder_of_their_own(tmp_path):
    bench = Bench(tmp_path)
    bench.sit()
    by_id = {p.id: p for p in bench.prompts}
    exchanges = [Exchange(by_id[r.prompt_id], r) for r in bench.responses.values()]
    with create_run(tmp_path, "judging", {}, {}) as folder:
        ended = judge_responses(exchanges, Panel([Scorer("other")], METRICS), folder, lambda e, d: None, lambda: False)
    assert (ended.totals.answered, ended.totals.judged + ended.totals.missing) == (40, 40)
    copied = contents(folder.path)
    assert copied["responses"] == contents(bench.path)["responses"]
    assert {row["judge"] for row in copied["judgements"]} == {"other"}


def test_a_judge_that_is_not_shown_references_has_keys_of_its_own(tmp_path):
    seen, blind = Bench(tmp_path / "a"), Bench(tmp_path / "b", judges=[WithoutReference(Scorer())])
    seen.sit()
    blind.sit()
    assert not seen.judgements.keys() & blind.judgements.keys()
    assert {j.with_reference for j in seen.judgements.values() if j.score} == {True}
    assert {j.with_reference for j in blind.judgements.values()} == {False}
    assert all(j.identity == blind.judges[0].identity for j in blind.judgements.values())


# ---- the plan ----


def test_both_models_of_a_prompt_stand_next_to_each_other_and_the_longest_come_first():
    requests = plan(asked(attempts=2), prompts(9), IDENTITIES)
    assert [(r.attempt, r.model) for r in requests[:4]] == [(0, "left"), (0, "right"), (1, "left"), (1, "right")]
    lengths = [len(r.prompt.question) for r in requests]
    assert lengths == sorted(lengths, reverse=True)
    assert len({r.key for r in requests}) == 36


def test_two_names_for_the_same_weights_are_refused():
    same = {model: replace(IDENTITIES["left"], model=model) for model in MODELS}
    with pytest.raises(SettingsRejected, match="same weights"):
        plan(asked(), prompts(1), same)
