"""Settings are checked at the door, each with one line that says what to change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
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
    ],
    ids=lambda change: json.dumps(change),
)
def test_a_setting_out_of_range_is_refused_in_one_line(change: dict[str, object]):
    with pytest.raises(SettingsRejected) as refused:
        settings_from_json({**GOOD, **change})
    assert "\n" not in str(refused.value)
    assert any(name in str(refused.value) for name in ("suite", *change))


@given(
    st.builds(
        SftSettings,
        name=st.from_regex(r"[a-z][a-z0-9._-]{3,12}", fullmatch=True),
        sources=st.lists(st.builds(Source, st.text(min_size=1), st.integers(1, 32)), min_size=1, max_size=3).map(tuple),
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
    assert {s.suite for s in careful.sources} - {s.suite for s in general.sources} == {"sample-tuning"}
    assert next(s.multiplier for s in careful.sources if s.suite == "sample-tuning") == 16
    assert (general.learning_rate, general.lora_rank, general.epochs) == (
        careful.learning_rate,
        careful.lora_rank,
        careful.epochs,
    )


def test_an_unknown_preset_is_answered_with_the_known_ones():
    with pytest.raises(SettingsRejected, match="embedded-general"):
        preset("quickest")
