"""Profiles: which one fits, what it refuses, and that the app starts in each."""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import yaml

import app as entry
from evaluation.errors import SettingsRejected
from evaluation.journal import create_run
from playground import examples, profiles, retention
from playground.pages import assembly, build_app, launch_options
from tests.playground.access.serving import settings_for, users_file

ROOT = Path(__file__).parents[3]
HARDWARE = {
    "cpu-basic",
    "cpu-upgrade",
    "zero-a10g",
    "t4-small",
    "t4-medium",
    "l4x1",
    "l4x4",
    "a10g-small",
    "a10g-large",
}
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


@pytest.mark.parametrize(
    ("environment", "gpu", "fits"),
    [
        ({}, True, "local"),
        ({"SPACES_ZERO_GPU": "1"}, False, "local"),
        ({"SPACE_ID": "org/name"}, False, "replay"),
        ({"SPACE_ID": "org/name"}, True, "gpu"),
        ({"SPACE_ID": "org/name", "SPACES_ZERO_GPU": "true"}, True, "zerogpu"),
        ({"SPACE_ID": "org/name", "SPACES_ZERO_GPU": "0"}, False, "replay"),
    ],
)
def test_a_space_is_public_and_any_other_machine_is_somebodys_own(environment, gpu: bool, fits: str):
    assert profiles.detected(environment, has_gpu=gpu) == fits


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_a_profile_for_strangers_bounds_whatever_costs_somebody_something(name):
    found = profiles.profile(name)
    bounds = (
        found.requests_per_minute,
        found.requests_per_minute_address,
        found.tokens_per_day,
        found.spend_usd_per_day,
    )
    assert found.public is (name != "local")
    assert all((bound is not None) is found.public for bound in bounds)
    if found.public:
        assert found.spend_usd_per_day == 0, "money is spent only when the owner says how much"


def test_budgets_are_the_owners_to_set_and_have_no_place_in_the_profile_local(tmp_path):
    settings = settings_for(tmp_path, profile="replay", tokens_per_day=5, spend_usd_per_day=2.5)
    assert (settings.allowed.tokens_per_day, settings.allowed.spend_usd_per_day) == (5, 2.5)
    with pytest.raises(SettingsRejected, match="PLAYGROUND_TOKENS_PER_DAY"):
        _ = settings_for(tmp_path, profile="local", tokens_per_day=5).allowed


def test_the_profile_local_is_not_served_to_others_unless_somebody_says_who_may(tmp_path):
    with pytest.raises(SettingsRejected) as refused:
        assembly.access_of(settings_for(tmp_path, profile="local", host="0.0.0.0"))
    assert "PLAYGROUND_USERS" in str(refused.value) and "\n" not in str(refused.value)
    assert (
        assembly.access_of(settings_for(tmp_path, profile="local", host="0.0.0.0", open=True)).caller().role == "owner"
    )
    assert assembly.access_of(settings_for(tmp_path, profile="local")).caller().role == "owner"
    users = users_file(tmp_path / "users.json")
    assert (
        assembly.access_of(settings_for(tmp_path, profile="local", host="0.0.0.0", users=users)).caller().role is None
    )


def front_matter() -> dict:
    found = re.match(r"---\n(.*?)\n---\n", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found, "README.md begins with the block that a Space reads"
    return yaml.safe_load(found[1])


def test_the_front_matter_is_what_a_space_reads_and_what_is_pinned_here():
    told = front_matter()
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
    assert told["sdk"] == "gradio" and told["sdk_version"] == pins["gradio"]
    assert (ROOT / told["app_file"]).is_file()
    assert told["python_version"] == "3.11", "a string: 3.10 would be read as 3.1"
    assert told["suggested_hardware"] in HARDWARE
    assert {told["colorFrom"], told["colorTo"]} <= COLOURS
    assert len(told["short_description"]) <= 60 and told["title"]


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_the_app_starts_in_each_profile_and_shows_its_page(tmp_path, monkeypatch, name, caplog):
    if name == "zerogpu":
        spaces = ModuleType("spaces")
        spaces.GPU = lambda duration: lambda function: function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "spaces", spaces)
    with caplog.at_level(logging.WARNING):
        services = entry.build_services(settings_for(tmp_path, profile=name))
    app = build_app(services)
    try:
        options = launch_options(services.access, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)
        _, url, _ = app.launch(**options)
        page = httpx.get(url, timeout=60)
        assert page.status_code == 200
        assert ('"train-start"' in page.text) is (name in ("local", "gpu"))
        assert ("nobody can sign in" in caplog.text) is (name != "local")
        shown = {job.run_id for job in services.jobs.jobs()}
        assert shown == (set(examples.names()) if name != "local" else set())
    finally:
        app.close(verbose=False)
        assembly.close(services)


def test_what_a_visitor_left_is_gone_after_a_restart(tmp_path):
    settings = settings_for(tmp_path, profile="replay")
    services = entry.build_services(settings)
    left = services.chat.start_conversation({}, {})
    folder = tmp_path / "visitors" / "runs" / left
    assert folder.is_dir()
    assembly.close(services)
    again = entry.build_services(settings)
    assert not folder.exists()
    assembly.close(again)


def test_old_conversations_go_and_runs_stay(home, call):
    runs = home / "runs"
    for kind in ("chat", "benchmark"):
        with create_run(runs, kind, {}, {}):
            pass
    now = datetime.now(UTC)
    assert retention.expired(runs, 1.0, now) == []
    (old,) = retention.expired(runs, 1.0, now + timedelta(days=2))
    said = call("runs", "purge", "--older-than", "0", "--json")
    assert said.document == {"deleted": [old.name]}
    assert len([path for path in runs.iterdir() if path.is_dir()]) == 1
    assert call("runs", "purge", "--older-than", "nan").status == 2
    assert call("runs", "purge", "--older-than", "-1").status == 2
