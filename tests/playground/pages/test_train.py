"""The Train page: the form, the look at a training before it starts, Start and the sweep."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from evaluation.errors import SettingsRejected
from evaluation.types import Prompt
from playground import probing
from playground.pages import Services, train, train_markup
from playground.pages.access import Caller
from playground.pages.text import say
from playground.pages.train_form import (
    AS_PRESET,
    FIELDS,
    FIRST,
    OWN,
    Form,
    as_form,
    data_choices,
    form_of,
    rows_now,
    settings_of,
    sweep_of,
)
from playground.pages.train_watch import Desk
from playground.probing import Check, Stage
from tests.fakes import imported_suite
from training.presets import PRESETS

HOSTILE = '<img src=x onerror="alert(1)">${alert(2)}'


def values(form: Form) -> tuple[Any, ...]:
    return tuple(asdict(form).values())


@pytest.fixture
def desk() -> Desk:
    return Desk(here=True)


# ---- the form ----


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_that_nobody_changed_is_still_that_preset(name: str):
    assert settings_of(form_of(name)) == PRESETS[name]


def test_safety_and_general_data_are_told_apart():
    form = form_of("paper-13b-full")
    assert form.safety == ["answercarefully-v1-dev"] and "dolly-ja" in form.general
    assert form_of("embedded-general").safety == []


def multipliers(form: Form) -> dict[str, int]:
    return {source.suite: source.multiplier for source in settings_of(form).sources}


def test_the_multiplier_is_a_usual_one_or_ones_own_for_every_safety_suite():
    form = replace(form_of(FIRST), safety=["sample-tuning", "sample-intents"])
    assert (form.multiplier, form_of("llm-jp-3-13b-lora").multiplier) == (1, 16)
    assert multipliers(replace(form, multiplier=OWN, own=7)) == {
        "sample-general": 1, "sample-tuning": 7, "sample-intents": 7,
    }  # fmt: skip


def test_a_preset_may_repeat_its_safety_suites_differently(monkeypatch: pytest.MonkeyPatch):
    careful = PRESETS["embedded-answercarefully"]
    mixed = replace(careful, sources=(*careful.sources[:-1], replace(careful.sources[-1], multiplier=2)))
    monkeypatch.setitem(PRESETS, "embedded-answercarefully", mixed)
    form = form_of("embedded-answercarefully")
    said = {source.suite: source.multiplier for source in mixed.sources}
    assert form.multiplier == AS_PRESET and multipliers(form) == said
    assert multipliers(replace(form, safety=[*form.safety, "mine"]))["mine"] == 1
    assert {multipliers(replace(form, multiplier=4))[suite] for suite in form.safety} == {4}


def test_a_sweep_changes_the_safety_rows_alone():
    form = form_of("embedded-answercarefully")
    runs = sweep_of(replace(form, name=" mine "))
    assert [run.name for run in runs] == ["mine-x0", "mine-x1", "mine-x4", "mine-x16"]
    for run, value in zip(runs, (0, 1, 4, 16), strict=True):
        found = {source.suite: source.multiplier for source in run.sources}
        assert {found.pop(suite) for suite in form.safety} == {value}
        assert found == {"sample-general": 1, "sample-daily": 1}


def test_a_sweep_needs_safety_rows_and_something_beside_them():
    with pytest.raises(SettingsRejected, match="safety data"):
        sweep_of(replace(form_of(FIRST), safety=[]))
    with pytest.raises(SettingsRejected, match="at least one suite"):
        sweep_of(replace(form_of(FIRST), general=[]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": None}, "epochs"),
        ({"lora_rank": 0}, "lora_rank"),
        ({"name": "../escape"}, "name"),
        ({"multiplier": OWN, "own": None}, "multiplier"),
        ({"multiplier": "16"}, "multiplier"),
        ({"safety": [], "general": []}, "sources"),
        ({"general": ["sample-tuning"]}, "named twice"),
        ({"preset": "nobody"}, "nobody"),
        ({"method": "magic"}, "method"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_the_name_of_its_field(changes: dict[str, Any], words: str):
    with pytest.raises(SettingsRejected, match=words):
        settings_of(replace(form_of(FIRST), **changes))


def test_a_base_that_is_not_offered_is_its_owners_to_name(
    services: Services, desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(services.access, "caller", lambda: Caller("operator"))
    strange = values(replace(form_of(FIRST), base="hub:owner/private"))
    assert "hub:owner/private" in train.start(services, desk, "en", *strange)[0]
    assert "hub:owner/private" in str(next(train.check(services, desk, "en", *strange))[0])
    assert services.jobs.jobs() == [] and desk.check is None


def test_test_sets_are_not_offered_as_data_and_imported_suites_as_either(services: Services):
    suites = services.suites()
    safety, general = ([value for _, value in data_choices(suites, kind, "ja")] for kind in ("safety", "general"))
    assert "sample-test" not in safety and "sample-borderline" not in safety
    assert "sample-tuning" in safety and "sample-tuning" not in general
    assert "sample-general" in general and "sample-general" not in safety
    assert "imported" in safety and "imported" in general


def test_a_suite_that_a_preset_needs_is_offered_and_said_to_be_missing(services: Services):
    label = {value: label for label, value in data_choices(services.suites(), "safety", "en")}["answercarefully-v1-dev"]
    assert "not imported" in label


def test_rows_are_counted_at_once_with_their_repeats(services: Services):
    form = replace(form_of(FIRST), multiplier=4, general=["imported"], general_multiplier=2)
    total, safety, missing = rows_now(form, services.suites())
    tuning = next(suite for suite in services.suites() if suite.name == "sample-tuning")
    assert (total, safety, missing) == (
        4 * len(tuning.prompts) + 2 * len(imported_suite().prompts),
        4 * len(tuning.prompts),
        [],
    )
    assert rows_now(replace(form, multiplier=OWN, own=None), services.suites())[1] == 0
    assert rows_now(form_of("paper-13b-full"), services.suites())[2][0] == "dolly-en"


def test_choosing_a_preset_fills_every_field_and_finds_a_free_name(services: Services, desk: Desk):
    *updates, rows = train.fill(services, desk, "ja", "embedded-general")
    filled = dict(zip(FIELDS[1:], (update["value"] for update in updates), strict=True))
    assert filled["general"] == ["sample-general", "sample-daily"] and filled["epochs"] == 1.0
    assert filled["name"] == "general-2"  # the shipped one has that name
    assert "0%" in rows


def test_an_unknown_preset_is_told(services: Services, desk: Desk):
    with pytest.raises(gr.Error, match="プリセット nobody はありません"):
        train.fill(services, desk, "ja", "nobody")


def test_a_preset_that_the_focus_only_passes_changes_no_field(services: Services, desk: Desk):
    assert train.fill(services, desk, "ja", FIRST) == [gr.skip()] * len(FIELDS)
    assert train.fill(services, desk, "ja", "embedded-general")[0] != gr.skip()
    assert train.fill(services, desk, "ja", "embedded-general") == [gr.skip()] * len(FIELDS)
    assert train.fill(services, desk, "ja", FIRST)[0] != gr.skip()


def test_a_name_that_is_free_is_left_to_who_types_it(services: Services):
    assert train.choices_now(services, "ja", "mine")[0] == gr.skip()
    assert train.choices_now(services, "ja", "general")[0]["value"] == "general-2"


def test_data_of_ones_own_is_measured_until_it_is_taken_out(services: Services, desk: Desk):
    usual = form_of(FIRST)
    with_own = replace(usual, safety=[*usual.safety, "imported"])
    held_out = train.hold_out(desk, *values(with_own))
    assert held_out == [*usual.held_out, "imported"]
    assert train.hold_out(desk, *values(replace(with_own, held_out=held_out, general=[]))) == gr.skip()
    more = replace(with_own, general=[*usual.general, "sample-daily"])
    assert train.hold_out(desk, *values(more)) == [*usual.held_out, "sample-daily"]  # the other was taken out by hand
    assert train.hold_out(desk, *values(replace(usual, held_out=held_out))) == usual.held_out  # not chosen any more
    assert train.hold_out(desk, *values(with_own)) == held_out
    train.fill(services, desk, "ja", "embedded-general")
    train.fill(services, desk, "ja", FIRST)
    assert train.hold_out(desk, *values(with_own)) == held_out


# ---- the look before the start ----


def preview(text: str = "問い", suite: str = "sample-tuning") -> dict[str, Any]:
    rows = [{"suite": suite, "prompt_id": "p1", "tokens": 9, "pieces": [[text, False], [f"{text}答え", True]]}]
    mix = [
        {"suite": "sample-general", "rows": 600, "tokens": 1000, "trained_tokens": 500},
        {"suite": suite, "rows": 2640, "tokens": 3000, "trained_tokens": 2500},
    ]
    shares = {"sample-general": 0.25, suite: 0.75}
    return {
        "mix": mix, "shares": shares, "trained_shares": {"sample-general": 1 / 6, suite: 5 / 6}, "steps": 203,
        "tokens": 4000, "rows": rows, "warnings": [text],
    }  # fmt: skip


COST = {"tokens_per_s": 190.0, "seconds": 2700.0, "peak_bytes": 5_600_000_000, "device": "cpu"}


def test_the_mix_tells_shares_time_and_memory():
    text = train_markup.mix(Stage(preview(), COST, done=True), form_of(FIRST), "ja")
    for words in ("2,640", "75.0%", "83.3%", "203", "45 分", "190 トークン/秒", "5.6 GB"):
        assert words in text


def test_before_the_measurement_the_mix_says_what_is_awaited_and_a_busy_device_is_told():
    form = form_of(FIRST)
    assert say("ja", "mix.reading") in train_markup.mix(Stage(), form, "ja")
    assert say("ja", "mix.measuring") in train_markup.mix(Stage(preview()), form, "ja")
    busy = train_markup.mix(Stage(preview(), busy="cpu is in use by run X.", done=True), form, "ja")
    assert "run X" in busy and say("ja", "mix.measuring") not in busy


def test_what_is_learned_is_marked_and_nothing_else():
    text = train_markup.seen_rows(Stage(preview()), False, "ja")
    assert '<mark class="learned" title="学習する">問い答え</mark>' in text
    assert text.count('<mark class="learned" title=') == 1


class Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))


@pytest.mark.parametrize("veiled", [True, False])
def test_hostile_rows_add_no_element(veiled: bool):
    def drawn(text: str) -> list[tuple[str, tuple[str, ...]]]:
        stage = Stage(preview(text, text), {**COST, "device": text}, done=True)
        return Seen(
            train_markup.seen_rows(stage, veiled, "ja")
            + train_markup.mix(stage, form_of(FIRST), "ja")
            + train_markup.problem(text)
            + train_markup.command(text, "ja")
        ).tags

    assert drawn(HOSTILE) == drawn("無害")


def fake_probe(tmp_path: Path, program: str) -> tuple[str, ...]:
    """A stand-in for the command that looks at a training."""
    file = tmp_path / "probe.py"
    file.write_text(
        f"import json, sys, time, os\nPREVIEW = {preview()!r}\nCOST = {COST!r}\n{program}", encoding="utf-8"
    )
    return (sys.executable, str(file))


SOUND = """
print(json.dumps({"preview": PREVIEW}), flush=True)
print(json.dumps({"cost": COST, "busy": None}), flush=True)
"""
REFUSED = 'print("Rows of mine are test questions of sample-test: a.", file=sys.stderr); sys.exit(2)'
ENDLESS = 'print(json.dumps({"preview": PREVIEW}), flush=True); time.sleep(600)'


@pytest.fixture
def probe_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def replace_program(program: str) -> None:
        command = fake_probe(tmp_path, program)
        monkeypatch.setattr(train, "Check", lambda sft, home: Check(sft, home, command))

    return replace_program


def test_a_look_ends_with_rows_and_cost(services: Services, desk: Desk, probe_with):
    probe_with(SOUND)
    looks = list(train.check(services, desk, "ja", *values(form_of(FIRST))))
    problem, mix, seen, command, shown, again, stop = looks[-1]
    assert problem == "" and "45 分" in mix and "learned" in seen
    assert "train --preset quick" in command
    assert (shown["visible"], again["visible"], stop["visible"]) == (False, True, False)
    assert desk.check is None


def test_what_the_guard_says_is_shown_as_it_is(services: Services, desk: Desk, probe_with):
    probe_with(REFUSED)
    problem, mix, *_ = list(train.check(services, desk, "ja", *values(form_of(FIRST))))[-1]
    assert "test questions of sample-test" in problem and 'role="alert"' in problem and mix == ""


def test_a_look_that_dies_says_so_without_its_traceback(services: Services, desk: Desk, probe_with):
    probe_with("os.kill(os.getpid(), 9)")
    problem = list(train.check(services, desk, "ja", *values(form_of(FIRST))))[-1][0]
    assert "status -9" in problem


def test_stopping_a_look_ends_its_process_and_keeps_the_rows(services: Services, desk: Desk, probe_with):
    probe_with(ENDLESS)
    looks = train.check(services, desk, "ja", *values(form_of(FIRST)))
    look = next(look for look in looks if desk.stage.preview)
    child, folder = desk.check._child, desk.check._folder  # type: ignore[union-attr]
    assert look[-1]["visible"]
    train.end_check(desk)
    assert child.poll() is not None and not folder.exists()
    *_, last = looks
    assert "learned" in last[2] and not last[-1]["visible"]


def test_a_page_that_is_closed_takes_its_look_with_it(services: Services, desk: Desk, probe_with):
    probe_with(ENDLESS)
    looks = train.check(services, desk, "ja", *values(form_of(FIRST)))
    next(looks)
    child = desk.check._child  # type: ignore[union-attr]
    looks.close()  # type: ignore[attr-defined]
    assert child.poll() is not None


def test_a_form_that_means_nothing_starts_no_process(services: Services, desk: Desk):
    [look] = train.check(services, desk, "ja", *values(replace(form_of(FIRST), epochs=-1)))
    assert "epochs" in look[0] and desk.check is None


def test_protected_rows_are_hidden_until_somebody_asks(services: Services, desk: Desk):
    desk.stage = Stage(preview("秘密", "imported"), COST, done=True)
    pieces = train.checked(services, desk, form_of(FIRST), "ja", "")
    assert 'class="veiled"' in pieces[2] and pieces[4]["visible"]
    assert 'class="veiled"' not in train.unveil(services, desk, "ja", True)
    assert 'class="veiled"' not in train.redraw(services, desk, "en", *values(form_of(FIRST)))[2]


def test_the_child_gets_no_key_and_its_settings(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not for it")
    command = fake_probe(
        tmp_path,
        """
keys = [name for name in os.environ if name.endswith("API_KEY")]
said = json.load(open(sys.argv[1]))
print(json.dumps({"preview": {"keys": keys, "name": said["name"], "home": os.environ["PLAYGROUND_HOME"]}}))
print(json.dumps({"cost": None, "busy": "x"}))
""",
    )
    check = Check(PRESETS["quick"], services.settings.home, command)
    check._child.wait()
    stage = check.stage()
    check.close()
    assert stage.preview == {"keys": [], "name": "quick", "home": str(services.settings.home)}
    assert probing.COMMAND[1:] == ("-m", "playground", "probe")


# ---- Start ----


def test_a_double_click_starts_one_run_and_shows_it(services: Services, desk: Desk):
    form = replace(form_of(FIRST), name="mine")
    for _ in range(2):
        problem, *_ = train.start(services, desk, "ja", *values(form))
        assert problem == ""
    [job] = services.jobs.jobs()
    assert job.status == "queued" and desk.run_id == job.run_id
    assert "mine" in (desk.drawn["listing"])


def test_a_refusal_stays_on_the_page_and_starts_nothing(services: Services, desk: Desk):
    problem, *_ = train.start(services, desk, "ja", *values(replace(form_of(FIRST), name="general")))
    assert "general という名前は使われている" in problem and services.jobs.jobs() == []


def test_the_leak_guard_stops_the_start_and_is_overridden_by_name(
    services: Services, desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    from playground import trainings
    from training.leaks import TestPrompt

    tuning = next(suite for suite in services.suites() if suite.name == "sample-tuning")
    leaked: Prompt = tuning.prompts[0]
    monkeypatch.setattr(trainings, "installed_tests", lambda home, names: [TestPrompt("a-test", "t1", leaked.question)])
    form = replace(form_of(FIRST), name="mine")
    problem = train.start(services, desk, "ja", *values(form))[0]
    assert leaked.id in problem and leaked.question not in problem
    assert train.start(services, desk, "ja", *values(replace(form, allow_overlap=["a-test"])))[0] == ""


def test_starting_ends_ones_own_look_so_that_the_device_is_free(services: Services, desk: Desk, probe_with):
    probe_with(ENDLESS)
    looks = train.check(services, desk, "ja", *values(form_of(FIRST)))
    next(looks)
    train.start(services, desk, "ja", *values(replace(form_of(FIRST), name="mine")))
    assert desk.check is None
    looks.close()  # type: ignore[attr-defined]


def test_a_sweep_is_one_click(services: Services, desk: Desk):
    problem = train.start_sweep(services, desk, "ja", *values(replace(form_of(FIRST), name="mine")))[0]
    assert problem == ""
    assert [job.name for job in services.jobs.jobs()] == ["mine-x0", "mine-x1", "mine-x4", "mine-x16"]
    assert "16x" in desk.drawn["sweep"]


def test_the_values_of_the_browser_come_in_the_order_of_the_form():
    assert as_form(values(form_of(FIRST))) == form_of(FIRST)
