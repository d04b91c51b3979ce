"""The headless twin of every button: `python -m playground COMMAND`.

One file per family of commands, each with `add(commands)` that declares its arguments and functions that do the
work. Imports that need gradio or duckdb stay inside the functions: a GPU worker has neither.

Exit status: 0 done, 1 the work failed, 2 the call was wrong. With --json, standard output is one JSON document.
"""

from playground.cli.main import main

__all__ = ["main"]
