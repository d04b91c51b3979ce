"""The argument parser and the exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from evaluation.errors import ImportRejected, SettingsRejected, UserFacingError
from playground.cli import (
    adapters,
    agreement,
    ask,
    bench,
    compare,
    data,
    export,
    info,
    judge,
    probe,
    report,
    runs,
    train,
    work,
)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a call in one line; argparse would print the usage as well."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{' '.join(message.split())}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status."""
    # transformers' progress bars would mix with ours, and nothing here may ask a hub by itself.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    parser = _Parser(prog="python -m playground", description="AnswerCarefully Playground on the command line.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for family in (
        info,
        ask,
        data,
        agreement,
        probe,
        bench,
        judge,
        compare,
        report,
        export,
        train,
        runs,
        adapters,
        work,
    ):
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
