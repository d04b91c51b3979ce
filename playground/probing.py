"""Looks at a training before it starts, in a process of its own: `python -m playground probe`.

Reading a tokenizer and making three steps would hold up everybody else in the app's process, and its memory is what
is to be measured.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playground.settings import ROOT
from training.settings import SftSettings

COMMAND: tuple[str, ...] = (sys.executable, "-m", "playground", "probe")
NICE = 10


@dataclass(frozen=True)
class Stage:
    """How far it is. `preview` and `cost` are dicts like training.probe's Preview and Probe; None while unknown.

    `busy`: why time and memory were not measured. `problem`: why there is nothing to see.
    """

    preview: dict[str, Any] | None = None
    cost: dict[str, Any] | None = None
    busy: str | None = None
    problem: str | None = None
    done: bool = False


class Check:
    """One look at one training. Close it, whether it has ended or not."""

    def __init__(self, settings: SftSettings, home: Path, command: tuple[str, ...] = COMMAND) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="playground-probe-"))
        file = self._folder / "settings.json"
        file.write_text(json.dumps(settings.to_json()), encoding="utf-8")
        hidden = ("PLAYGROUND_OPENAI_API_KEY", "OPENAI_API_KEY")  # a training asks no judge
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        # Files, never pipes: a pipe that nobody empties stops the work.
        with (self._folder / "out").open("wb") as out, (self._folder / "err").open("wb") as err:
            self._child = subprocess.Popen(
                [*command, str(file), "--stages"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                env={
                    **environment,
                    "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
                    "PLAYGROUND_HOME": str(home),
                    "TMPDIR": str(self._folder),  # what it leaves behind when it is killed goes with the folder
                },
            )
        os.setpriority(os.PRIO_PROCESS, self._child.pid, NICE)

    def stage(self) -> Stage:
        """How far it is now. Cheap."""
        code = self._child.poll()  # before the file: when it has ended, all of it is there
        found: dict[str, Any] = {}
        for line in (self._folder / "out").read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                found |= json.loads(line)
        if code is None:
            return Stage(found.get("preview"))
        problem = None
        if "cost" not in found:
            lines = (self._folder / "err").read_text(encoding="utf-8", errors="replace").splitlines()
            # 1 and 2 are how our own commands end, with one line for people; else it was killed, or it is a bug.
            told = lines[-1] if lines and code in (1, 2) else f"The look at this training ended with status {code}."
            problem = told[:1000]
        return Stage(found.get("preview"), found.get("cost"), found.get("busy"), problem, done=True)

    def close(self) -> None:
        """End it, if it goes on, with everything it left behind. Calling it again does nothing."""
        if self._child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)  # it writes nothing that could be half-done
            self._child.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
