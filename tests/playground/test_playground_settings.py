"""Settings come from the environment and .env, and keys go no further."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.errors import SettingsRejected
from playground.settings import Settings, load_settings

KEY = "sk-never-to-be-seen-0123456789"


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch) -> None:
    """No variable of ours, and an empty folder where .env would be."""
    import os

    for name in list(os.environ):
        if name.startswith("PLAYGROUND_") or name == "HF_TOKEN":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_without_any_setting_the_app_is_local_and_has_no_key():
    settings = load_settings()
    assert settings.host == "127.0.0.1"
    assert settings.home.name == "var"
    assert settings.runs == settings.home / "runs"
    assert settings.openai_key is None
    assert settings.openai_models == ()


def test_variables_win_over_the_env_file_and_the_file_over_the_defaults(monkeypatch):
    Path(".env").write_text("PLAYGROUND_PORT=7000\nPLAYGROUND_HOME=here\nHF_TOKEN=hf_x\nUNKNOWN=1\n")
    monkeypatch.setenv("PLAYGROUND_PORT", "7001")
    settings = load_settings()
    assert (settings.port, settings.home) == (7001, Path("here"))
    assert settings.hf_token is not None and settings.hf_token.get_secret_value() == "hf_x"


@pytest.mark.parametrize("name", ["PLAYGROUND_OPENAI_API_KEY", "HF_TOKEN", "PLAYGROUND_ANSWERCAREFULLY"])
def test_a_variable_that_is_there_but_empty_is_unset(monkeypatch, name):
    monkeypatch.setenv(name, "")
    settings = load_settings()
    assert (settings.openai_key, settings.hf_token, settings.answercarefully) == (None, None, None)


def test_models_are_named_with_commas_between():
    Path(".env").write_text("PLAYGROUND_OPENAI_MODELS=a, org/b ,,c\n")
    assert load_settings().openai_models == ("a", "org/b", "c")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PLAYGROUND_PORT", "eighty"),
        ("PLAYGROUND_PORT", "0"),
        ("PLAYGROUND_PORT", "70000"),
        ("PLAYGROUND_MAX_CONTEXT", "-1"),
        ("PLAYGROUND_MAX_CONTEXT", "4k"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_its_variable(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsRejected) as refused:
        load_settings()
    assert str(refused.value).startswith(f"{name} is not usable")
    assert "\n" not in str(refused.value)


def test_an_env_file_that_is_no_text_is_refused_in_one_line():
    Path(".env").write_bytes(b"PLAYGROUND_HOST=\xff\xfe\x00")
    with pytest.raises(SettingsRejected, match=r"\.env") as refused:
        load_settings()
    assert "\n" not in str(refused.value)


def test_keys_are_in_no_repr_and_in_no_dump(monkeypatch):
    monkeypatch.setenv("PLAYGROUND_OPENAI_API_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", KEY)
    settings = load_settings()
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
        assert KEY not in shown
    assert settings.openai_key == KEY, "the client that sends it gets it"


def test_the_example_file_names_only_variables_that_are_read():
    text = (Path(__file__).parents[2] / ".env.example").read_text(encoding="utf-8")
    named = {
        part.split("=")[0].strip("# ")
        for part in text.splitlines()
        if "=" in part and " " not in part.split("=")[0].strip("# ")
    }
    expected = {f"PLAYGROUND_{name.upper()}" for name in Settings.model_fields if name != "hf_token"} | {"HF_TOKEN"}
    assert named
    assert named <= expected


@pytest.mark.parametrize(
    ("url", "key", "sent"),
    [
        ("https://api.openai.com/v1", None, None),
        ("https://api.openai.com/v1", "sk-mine", "sk-mine"),
        ("http://127.0.0.1:8000/v1", None, "none"),
        ("https://api.openai.com.example/v1", None, "none"),
    ],
    ids=["OpenAI without a key", "OpenAI", "own server", "a look-alike"],
)
def test_a_server_of_ones_own_needs_no_key_and_openai_does(url: str, key: str | None, sent: str | None):
    assert Settings(openai_base_url=url, openai_api_key=key, _env_file=None).endpoint_key == sent


def test_a_checkpoint_must_say_whether_it_is_on_the_hub_or_in_a_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PLAYGROUND_MODELS", "hub:org/one, path:two")
    assert load_settings().models == ("hub:org/one", "path:two")
    monkeypatch.setenv("PLAYGROUND_MODELS", "org/one")
    with pytest.raises(SettingsRejected, match=r"PLAYGROUND_MODELS.*hub: or path:"):
        load_settings()
