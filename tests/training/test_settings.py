"""Settings are checked at the door, each with one line that says what to change."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.errors import SettingsRejected
from training.presets import PRESETS, preset
from training.settings import SftSettings, Source, read_settings, settings_from_json

GOOD = {"name": "mine", "sources": [{"suite": "sample-tuning", "multiplier": 16}]}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../etc"},
        {"name": "base"},
        {"name": ""},
        {"sources": []},
        {"sources": [{"suite": "a", "multiplier": 0}]},
        {"sources": [{"suite": "a", "multiplier": -1}, {"suite": "b"}]},
        {"sources": [{"suite": "a"}, {"suite": "a"}]},
        {"sources": [{"suite": "a", "times": 2}]},
        {"epochs": 0},
        {"learning_rate": 1.0},
        {"lora_rank": 0},
        {"lora_rank": 10_000},
        {"lora_dropout": 1.0},
        {"batch_size": 0},
        {"warmup_ratio": -0.1},
        {"max_length": 4},
        {"sources": [{"suit": "a"}]},
        {"sources": "sample-tuning"},
        {"sources": [{"suite": "a", "multiplier": 1.5}]},
        {"held_out": "sample-test"},
        {"held_out": [1]},
        {"name": 5},
        {"name": "名前"},
        {"base": None},
        {"epochs": "three"},
        {"epochs": True},
        {"epochs": float("inf")},
        {"epochs": float("nan")},
        {"learning_rate": float("nan")},
        {"lora_rank": 8.5},
        {"lora_alpha": 0},
        {"batch_size": 2.5},
        {"seed": -1},
        {"seed": 2**40},
        {"lerning_rate": 1e-4},
        {"method": "dora"},
        {"precision": "fp8"},
        {"method": "qlora", "shard": True},
        {"min_learning_rate": 1e-2},
        {"weight_decay": -1},
        {"adam_beta2": 1.0},
        {"held_out_share": 0},
        {"held_out_rows": 0},
        {"allow_overlap": "sample-test"},
        {"micro_batch_size": 0},
        {"gradient_checkpointing": 1},
        {"leave_out_long": "no"},
        {"checks": -1},
        {"save_seconds": 0},
        {"save_steps": -1},
    ],
    ids=lambda change: json.dumps(change),
)
def test_a_setting_out_of_range_is_refused_in_one_line(change: dict[str, object]):
    with pytest.raises(SettingsRejected) as refused:
        settings_from_json({**GOOD, **change})
    assert "\n" not in str(refused.value)
    assert any(name in str(refused.value) for name in ("suite", *change))


@settings(deadline=None)
@given(
    st.builds(
        SftSettings,
        name=st.from_regex(r"[a-z][a-z0-9._-]{3,12}", fullmatch=True),
        sources=st.lists(
            st.builds(Source, st.text(min_size=1), st.integers(1, 32)),
            min_size=1,
            max_size=3,
            unique_by=lambda s: s.suite,
        ).map(tuple),
        method=st.sampled_from(["lora", "qlora", "full"]),
        allow_overlap=st.lists(st.text(), max_size=2).map(tuple),
        held_out=st.lists(st.text(), max_size=2).map(tuple),
        epochs=st.floats(0.1, 10),
        learning_rate=st.floats(1e-6, 1e-2),
        seed=st.integers(0, 2**31),
    )
)
def test_settings_survive_json(settings: SftSettings):
    assert settings_from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize(
    "text", [None, "{torn", "[]", '{"name": "x"}'], ids=["missing", "torn", "no object", "no sources"]
)
def test_a_file_that_is_no_settings_file_is_refused_by_name(tmp_path: Path, text: str | None):
    path = tmp_path / "settings.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsRejected, match=r"settings\.json"):
        read_settings(path)


def test_the_two_shipped_recipes_differ_in_the_safety_rows_and_share_the_learning_rate():
    general, careful = PRESETS["embedded-general"], PRESETS["embedded-answercarefully"]
    assert careful.sources[: len(general.sources)] == general.sources
    safety = {s.suite: s.multiplier for s in careful.sources[len(general.sources) :]}
    assert safety == {"sample-tuning": 1, "sample-tuning-more": 1, "sample-intents": 1}
    assert replace(careful, name=general.name, sources=general.sources) == general


def test_an_unknown_preset_is_answered_with_the_known_ones():
    with pytest.raises(SettingsRejected, match="embedded-general"):
        preset("quickest")


def test_a_source_multiplied_by_zero_is_allowed_beside_others_and_left_out():
    settings = settings_from_json({**GOOD, "sources": [{"suite": "a", "multiplier": 0}, {"suite": "b"}]})
    assert settings.trained_sources == (Source("b"),)


def test_settings_of_an_older_run_take_the_defaults_of_what_they_lack():
    assert settings_from_json(GOOD) == SftSettings(name="mine", sources=(Source("sample-tuning", 16),))


def test_every_setting_says_where_its_default_comes_from_or_is_plain_from_its_name():
    """One line per field, so that the file is the documentation."""
    source = inspect.getsource(SftSettings)
    bare = {"sources", "seed"}
    lines = {line.split(":")[0].strip(): line for line in source.splitlines() if re.match(r"    [a-z_0-9]+: ", line)}
    comments = {name for name, line in lines.items() if "#" in line} | {"held_out"}  # its comment stands above it
    assert set(lines) == {field.name for field in fields(SftSettings)}
    assert set(lines) - comments == bare


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json_and_names_what_it_makes(name):
    made = preset(name)
    assert settings_from_json(json.loads(json.dumps(made.to_json()))) == made


def test_the_papers_recipe_repeats_answercarefully_sixteen_times_and_trains_every_weight():
    paper = preset("paper-13b-full")
    assert (paper.method, paper.shard, paper.learning_rate, paper.min_learning_rate) == ("full", True, 2e-5, 2e-6)
    assert {s.suite: s.multiplier for s in paper.sources}["answercarefully-v1-dev"] == 16
