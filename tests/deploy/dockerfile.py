"""Reads a Dockerfile, and executes its steps in a clean root where there is no Docker engine.

`python -m tests.deploy.dockerfile --base ROOT --work FOLDER` (as root) takes ROOT, a bare Debian with Python such as
debootstrap makes, for every base image, and leaves each stage's root file system in FOLDER. What an engine does besides
(layers, resource limits, a seccomp profile) is not played. RUN, COPY, WORKDIR, ENV, ARG and USER are.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_CONTINUED = re.compile(r"\\\n")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Step:
    """One instruction, its word in capitals."""

    word: str
    rest: str

    @property
    def words(self) -> list[str]:
        """What follows the instruction, in exec form or as words, flags left out."""
        parts = json.loads(self.rest) if self.rest.startswith("[") else shlex.split(self.rest)
        return [part for part in parts if not part.startswith("--")]

    @property
    def flags(self) -> dict[str, str]:
        """`--name=value` flags before the first word that is none."""
        found = {}
        for part in self.rest.split():
            if not part.startswith("--"):
                break
            name, _, value = part[2:].partition("=")
            found[name] = value
        return found


@dataclass
class Stage:
    """The steps of one FROM. `source` is an image or an earlier stage's name."""

    source: str
    name: str
    steps: list[Step] = field(default_factory=list)


def read(text: str) -> list[Stage]:
    """The stages in order. Raises ValueError for a step before the first FROM."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stages: list[Stage] = []
    for line in _CONTINUED.sub(" ", lines).splitlines():
        word, _, rest = line.strip().partition(" ")
        if not word:
            continue
        if word.upper() == "FROM":
            source, _, name = re.sub(r"\s+[Aa][Ss]\s+", "\n", rest.strip()).partition("\n")
            stages.append(Stage(source, name or str(len(stages))))
        elif stages:
            stages[-1].steps.append(Step(word.upper(), rest.strip()))
        else:
            raise ValueError(f"{word} stands before the first FROM")
    return stages


def ignored(path: str, patterns: Sequence[str]) -> bool:
    """Whether .dockerignore keeps `path`, relative to the context, out of it. Exclusions (`!`) are not used here."""
    parents = [path, *(str(parent) for parent in Path(path).parents)]
    return any(
        fnmatch.fnmatch(part, pattern.removeprefix("**/"))
        or (pattern.startswith("**/") and fnmatch.fnmatch(part, f"*/{pattern[3:]}"))
        for part in parents
        for pattern in patterns
    )


class Builder:
    """Executes stages, each in a copy of the file system that it starts from."""

    def __init__(
        self,
        context: Path,
        base: Path,
        work: Path,
        arguments: Mapping[str, str],
        outside: Mapping[str, str],
        mounts: Sequence[Path],
    ) -> None:
        self._context, self._base, self._work = context, base, work
        self._arguments, self._outside, self._mounts = arguments, outside, mounts
        self._patterns = [line for line in (context / ".dockerignore").read_text().split() if line]
        self._environments: dict[str, dict[str, str]] = {}

    def build(self, stages: Sequence[Stage], target: str) -> Path:
        """Execute the stages that `target` needs, and return its root. Raises CalledProcessError for a step that fails."""
        by_name = {stage.name: stage for stage in stages}
        for stage in _needed(by_name, target):
            self._execute(stage)
        return self._work / target

    def environment(self, stage: str) -> dict[str, str]:
        """What ENV set in a stage that was built."""
        return self._environments[stage]

    def _execute(self, stage: Stage) -> None:
        root = self._work / stage.name
        earlier = self._environments.get(stage.source)
        print(f"== {stage.name} from {stage.source}", flush=True)
        subprocess.run(
            ["cp", "-a", str(self._base if earlier is None else self._work / stage.source), str(root)], check=True
        )
        settings = dict(earlier or {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"})
        arguments: dict[str, str] = {}
        folder, user = "/", "root"
        for step in stage.steps:
            print(f"-- {step.word} {step.rest}", flush=True)
            match step.word:
                case "ARG":
                    name, _, default = step.rest.partition("=")
                    arguments[name] = self._arguments.get(name, default)
                case "ENV":
                    for word in step.words:
                        name, _, value = word.partition("=")
                        settings[name] = _filled(value, settings)
                case "WORKDIR":
                    folder = step.rest
                    (root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
                case "USER":
                    user = step.rest
                case "COPY":
                    self._copy(step, root, folder)
                case "RUN":
                    self._run(root, step.rest, folder, user, settings | arguments)
        self._environments[stage.name] = settings

    def _run(self, root: Path, command: str, folder: str, user: str, environment: Mapping[str, str]) -> None:
        run_in(root, ["/bin/sh", "-c", command], folder, user, {**self._outside, **environment}, self._mounts)

    def _copy(self, step: Step, root: Path, folder: str) -> None:
        *sources, destination = step.words
        start = self._work / step.flags["from"] if "from" in step.flags else self._context
        target = root / str(Path(folder, destination)).lstrip("/")
        for source in sources:
            found = start / source.lstrip("/")
            if found.is_dir():
                shutil.copytree(found, target, symlinks=True, dirs_exist_ok=True, ignore=self._left_out(start))
            else:
                into = target / found.name if destination.endswith("/") else target
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, into)
        if "chown" in step.flags:
            # By the names of the root itself, which this machine does not have.
            run_in(
                root,
                ["chown", "-R", step.flags["chown"], str(Path("/") / target.relative_to(root))],
                "/",
                "root",
                {},
                [],
            )

    def _left_out(self, start: Path):  # type: ignore[no-untyped-def]
        def left_out(folder: str, names: list[str]) -> set[str]:
            if start != self._context:
                return set()
            inside = Path(folder).relative_to(start)
            return {name for name in names if ignored(str(inside / name), self._patterns)}

        return left_out


def run_in(
    root: Path, command: Sequence[str], folder: str, user: str, environment: Mapping[str, str], mounts: Sequence[Path]
) -> None:
    """Run a command in `root` as a container would: its own processes and mounts, no environment but the one given."""
    lines = ["set -e", f"mount -t proc proc {shlex.quote(f'{root}/proc')}"]
    for path in ("/dev", *map(str, mounts)):
        inside = shlex.quote(f"{root}{path}")
        lines += [f"mkdir -p {inside}", f"mount --bind {shlex.quote(path)} {inside}"]
    home = "/root" if user == "root" else f"/home/{user}"
    variables = [f"{name}={value}" for name, value in {"HOME": home, **environment}.items()]
    as_user = [] if user == "root" else [f"--userspec={user}"]
    inner = ["/usr/bin/env", "-i", *variables, "/bin/sh", "-c", 'cd "$0" && exec "$@"', folder, *command]
    lines.append(f"exec {shlex.join(['chroot', *as_user, str(root), *inner])}")
    subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", "\n".join(lines)], check=True)


def _needed(stages: Mapping[str, Stage], target: str) -> list[Stage]:
    """The stages that `target` builds on or copies from, itself last."""
    order: list[Stage] = []

    def visit(name: str) -> None:
        stage = stages.get(name)
        if stage is None or stage in order:
            return
        visit(stage.source)
        for step in stage.steps:
            if step.word == "COPY" and "from" in step.flags:
                visit(step.flags["from"])
        order.append(stage)

    visit(target)
    return order


def _filled(value: str, settings: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: settings.get(found[1] or found[2], ""), value)


def main() -> int:
    """Build a target. Exit status 1 when a step failed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--base", type=Path, required=True, help="a bare root with Python, used for every image")
    options.add_argument("--work", type=Path, required=True, help="an empty folder for the stages")
    options.add_argument("--target", help="the stage to build; the last one by default")
    options.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    options.add_argument(
        "--mount", action="append", default=[], type=Path, help="a folder of this machine that RUN sees too"
    )
    options.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE", help="given to every RUN, and to the started app"
    )
    options.add_argument("--start", action="store_true", help="then run CMD as the image's user")
    chosen = options.parse_args()
    context = Path(__file__).parents[2]
    stages = read((context / "Dockerfile").read_text())
    target = chosen.target or stages[-1].name
    arguments, outside = (dict(pair.split("=", 1) for pair in pairs) for pairs in (chosen.build_arg, chosen.env))
    builder = Builder(context, chosen.base, chosen.work, arguments, outside, chosen.mount)
    try:
        root = builder.build(stages, target)
        if chosen.start:
            start(root, next(stage for stage in stages if stage.name == target), builder.environment(target) | outside)
    except subprocess.CalledProcessError as error:
        print(f"A step of the Dockerfile ended with {error.returncode}.", file=sys.stderr)
        return 1
    return 0


def start(root: Path, stage: Stage, environment: Mapping[str, str]) -> None:
    """Run the image's CMD as its user, until it ends."""
    last = {step.word: step for step in stage.steps}
    run_in(root, last["CMD"].words, last["WORKDIR"].rest, last["USER"].rest, environment, [])


if __name__ == "__main__":
    sys.exit(main())
