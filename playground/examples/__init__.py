"""Runs of the embedded model that are shipped, so that a page without a GPU and without a key has something to show.

Each is one zip file of a run folder: this project's own sample set answered by its own adapters and read by its own
judge, made by `python -m playground bench`. Nothing of AnswerCarefully is in them.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from evaluation.disk import told_to_people

FOLDER = Path(__file__).parent
_JOURNALS = ("run.json", "events.jsonl", "prompts.jsonl", "responses.jsonl", "judgements.jsonl")


def names() -> list[str]:
    """Run ids of the examples."""
    return sorted(path.stem for path in FOLDER.glob("*.zip"))


def unpack(runs: Path) -> list[str]:
    """Write every example that is not there yet under `runs`; the run ids. Raises DiskRefused."""
    with told_to_people(runs):
        for name in names():
            folder = runs / name
            if not folder.exists():
                folder.mkdir(parents=True)
                with zipfile.ZipFile(FOLDER / f"{name}.zip") as packed:
                    for journal in _JOURNALS:
                        (folder / journal).write_bytes(packed.read(journal))
    return names()


def pack(run: Path, to: Path = FOLDER) -> Path:
    """Make an example of a finished run folder; the zip file. Its bytes depend on the journals alone."""
    path = to / f"{run.name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for journal in _JOURNALS:
            packed.writestr(zipfile.ZipInfo(journal), (run / journal).read_bytes(), zipfile.ZIP_DEFLATED, 9)
    return path
