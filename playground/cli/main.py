"""The argument parser and the exit status."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from evaluation.errors import ImportRejected, SettingsRejected, UserFacingError

# Which module of this package has a command, in the order of the help.
COMMANDS = {
    "doctor": "info",
    "models": "info",
    "suites": "info",
    "ask": "ask",
    "data": "data",
    "agreement": "agreement",
    "probe": "probe",
    "bench": "bench",
    "judge": "judge",
    "compare": "compare",
    "report": "report",
    "export": "export",
    "train": "train",
    "runs": "runs",
    "adapters": "adapters",
    "users": "users",
    "work": "work",
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a call in one line; argparse would print the usage as well."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{' '.join(message.split())}; see {self.prog} --help\n")


def _families(arguments: Sequence[str]) -> list[Any]:
    """The module of the command that is called; all of them where it is none, for the help and for the error.

    Together they import every library of the judges and the statistics, which a training would wait for.
    """
    called = COMMANDS.get(next(iter(arguments), ""))
    names = [called] if called is not None else list(dict.fromkeys(COMMANDS.values()))
    return [importlib.import_module(f"playground.cli.{name}") for name in names]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status."""
    # transformers' progress bars would mix with ours, and nothing here may ask a hub by itself.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    parser = _Parser(prog="python -m playground", description="AnswerCarefully Playground on the command line.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for family in _families(arguments if arguments is not None else sys.argv[1:]):
        family.add(commands)
    options = parser.parse_args(arguments)  # exits with 2 on a wrong call
    try:
        options.run(options)
    except (SettingsRejected, ImportRejected) as error:
        print(error, file=sys.stderr)
        return 2
    except UserFacingError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; what was recorded is kept.", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
