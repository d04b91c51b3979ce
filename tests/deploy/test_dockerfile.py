"""The Dockerfile keeps the rules that hadolint would check, and the reader of its steps reads them right."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Step, ignored, read

ROOT = Path(__file__).parents[2]
STAGES = read((ROOT / "Dockerfile").read_text())
BY_NAME = {stage.name: stage for stage in STAGES}
STEPS = [(stage, step) for stage in STAGES for step in stage.steps]
IMAGES = ("cpu", "cuda")


def chain(name):
    """A stage's steps with those of the stages it starts from, first step first."""
    stage = BY_NAME.get(name)
    return [] if stage is None else chain(stage.source) + stage.steps


def test_the_small_image_is_what_a_plain_build_makes():
    assert STAGES[-1].name == "cpu"


def test_every_base_image_names_its_version():
    for stage in STAGES:
        assert stage.source in BY_NAME or re.fullmatch(r"python:3\.\d+-slim-\w+", stage.source)


def test_every_stage_has_a_name_and_comes_after_what_it_builds_on():
    seen = set()
    for stage in STAGES:
        assert not stage.name.isdecimal()
        needed = {stage.source} | {step.flags["from"] for step in stage.steps if "from" in step.flags}
        assert needed & set(BY_NAME) <= seen
        seen.add(stage.name)


def test_python_packages_come_from_pinned_files_without_a_cache():
    for _, step in STEPS:
        for command in re.findall(r"pip install[^&]*", step.rest) if step.word == "RUN" else []:
            assert "--no-cache" in command
            assert "-r requirements" in command or re.search(r"\w+==\d", command)


def test_debian_packages_come_alone_and_leave_no_lists():
    for _, step in STEPS:
        if step.word == "RUN" and "apt-get install" in step.rest:
            assert "--no-install-recommends" in step.rest and "-y" in step.rest.split()
            assert step.rest.rstrip().endswith("rm -rf /var/lib/apt/lists/*")


def test_files_are_copied_not_added_and_folders_are_absolute():
    for _, step in STEPS:
        assert step.word not in ("ADD", "MAINTAINER", "ONBUILD")
        if step.word == "WORKDIR":
            assert step.rest.startswith("/")
        if step.word in ("CMD", "ENTRYPOINT"):
            assert step.rest.startswith("[")
        if step.word == "RUN":
            assert "sudo" not in step.rest and not re.search(r"(^|&& *)cd ", step.rest) and " | " not in step.rest


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_as_user_1000_on_port_7860_with_its_state_on_a_volume(image):
    steps = chain(image)
    last = {step.word: step.rest for step in steps}
    assert last["USER"] == "app"
    assert any("--uid 1000 app" in step.rest for step in steps if step.word == "RUN")
    assert last["EXPOSE"] == "7860" and last["VOLUME"] == "/data"
    settings = dict(word.split("=", 1) for step in steps if step.word == "ENV" for word in step.words)
    assert settings["PLAYGROUND_HOME"] == "/data" and settings["PLAYGROUND_PORT"] == "7860"
    assert settings["HF_HOME"].startswith("/data/")
    assert [step.word for step in steps].count("HEALTHCHECK") == 1 and ":7860/" in last["HEALTHCHECK"]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_that_says_nothing_else_is_served_to_strangers_as_strangers(image):
    settings = dict(word.split("=", 1) for step in chain(image) if step.word == "ENV" for word in step.words)
    assert settings["PLAYGROUND_PROFILE"] in ("replay", "gpu")


def test_no_step_carries_a_key():
    for _, step in STEPS:
        assert not re.search(r"(?i)(key|token|secret|password)\s*=", step.rest)
        assert not re.search(r"\b(sk-|hf_)\w{8,}", step.rest)


def test_what_is_copied_exists_and_is_not_kept_out():
    patterns = (ROOT / ".dockerignore").read_text().split()
    for _, step in STEPS:
        if step.word == "COPY" and "from" not in step.flags:
            for source in step.words[:-1]:
                assert (ROOT / source).exists(), source
                assert not ignored(source.rstrip("/"), patterns)


@pytest.mark.parametrize(
    ("path", "out"),
    [
        (".env", True),
        ("var/runs/x", True),
        (".git/config", True),
        ("playground/__pycache__/a.pyc", True),
        ("app.py", False),
        ("playground/cli/main.py", False),
        ("evaluation/judge/embedded-head.safetensors", False),
    ],
)
def test_keys_state_and_history_never_reach_the_build(path, out):
    assert ignored(path, (ROOT / ".dockerignore").read_text().split()) is out


def test_the_reader_joins_continued_lines_and_leaves_comments_out():
    (stage,) = read('# head\nFROM debian:12 AS one\nRUN a \\\n# in between\n && b\n\nCMD ["x", "y z"]\n')
    assert (stage.source, stage.name) == ("debian:12", "one")
    assert stage.steps == [Step("RUN", "a   && b"), Step("CMD", '["x", "y z"]')]
    assert stage.steps[1].words == ["x", "y z"]


def test_the_reader_parts_flags_from_words():
    step = Step("COPY", "--from=build --chown=app /a /b ./")
    assert step.flags == {"from": "build", "chown": "app"}
    assert step.words == ["/a", "/b", "./"]


def test_a_step_before_the_first_image_is_refused():
    with pytest.raises(ValueError, match="before the first FROM"):
        read("RUN true\n")
