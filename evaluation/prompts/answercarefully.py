"""AnswerCarefully from the hub or from the person's own copy. Its rows are never shipped, shown in public or exported.

Source: https://huggingface.co/datasets/llm-jp/AnswerCarefully (gated) and arXiv 2506.02372.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

from evaluation.errors import AccessMissing, ImportRejected
from evaluation.prompts.files import shown
from evaluation.prompts.imports import read_prompts
from evaluation.types import Prompt

Version = Literal["v1", "v2.0", "v2.2", "v3.0", "borderline-v1.0"]
Split = Literal["test", "dev"]

REPO = "llm-jp/AnswerCarefully"
PAGE = f"https://huggingface.co/datasets/{REPO}"
VERSIONS: tuple[Version, ...] = ("v1", "v2.0", "v2.2", "v3.0", "borderline-v1.0")
# Rows of the v1 test set that are also in the v2 tuning set (dataset page, revision of 2024-12-24).
LEAKED_IDS = frozenset(
    {
        "answercarefully-instruction-test-001-001-0000144-001",
        "answercarefully-instruction-test-001-001-0000148-001",
    }
)
FILE_SUFFIXES = (".parquet", ".json", ".jsonl", ".csv")
_VERSION_MARKS: dict[Version, str] = {
    "v1": r"v1(?:\.0)?|answercarefullyversion001",
    "v2.0": r"v2\.0|answercarefullyversion002",
    "v2.2": r"v2\.2",
    "v3.0": r"v3\.0",
    "borderline-v1.0": r"borderline(?:-v1\.0)?",
}
_SPLIT_MARKS: dict[Split, str] = {"test": "test", "dev": "dev|validation"}


def load_answercarefully(
    version: Version, split: Split, source: Path | None = None, token: str | None = None
) -> list[Prompt]:
    """The Prompts of one split, from the hub or, with `source`, from a local folder or file.

    The tuning split is found as `dev` and as `validation`. A folder may have the hub's layout
    (`<version>/test-*.parquet`) or hold the files side by side. Suite: `answercarefully-<version>-<split>`.
    Raises AccessMissing when the gated data set cannot be had, ImportRejected when its files cannot be found or read.
    """
    if version not in VERSIONS or split not in _SPLIT_MARKS:
        wanted = f"{shown(version)} {shown(split)}"
        raise ImportRejected(
            f"AnswerCarefully has no {wanted}; versions are {', '.join(VERSIONS)}, splits test and dev."
        )
    name = f"answercarefully-{version}-{split}"
    root = source if source is not None else _snapshot(token)
    found: list[Prompt] = []
    for file in _files(root, version, split):
        found += read_prompts(file, name).prompts
    seen: set[str] = set()
    for prompt in found:
        if prompt.id in seen:
            raise ImportRejected(
                f"AnswerCarefully {version} {split}: the id {shown(prompt.id)!r} is in several files under "
                f"{shown(root.name)}; keep one copy of each split."
            )
        seen.add(prompt.id)
    return [replace(prompt, extra={"version": version, "split": split, **prompt.extra}) for prompt in found]


def _snapshot(token: str | None) -> Path:
    """The hub's copy, or the cached one when offline. The whole set is a few megabytes."""
    import httpx2  # the hub client's own; a dead proxy raises its error as it is
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        folder = snapshot_download(
            REPO, repo_type="dataset", token=token, allow_patterns=[f"*{suffix}" for suffix in FILE_SUFFIXES]
        )
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise AccessMissing(_how_to_get_access("is gated, and this token has no access to it")) from error
    except HfHubHTTPError as error:
        # Any other refusal by the hub, 401 and 403 among them.
        status = error.response.status_code if error.response is not None else "no status"
        raise AccessMissing(_how_to_get_access(f"was refused by the hub ({status})")) from error
    except (EntryNotFoundError, OSError, httpx2.HTTPError) as error:
        raise AccessMissing(_how_to_get_access("is not cached here and the hub cannot be reached")) from error
    return Path(folder)


def _how_to_get_access(why: str) -> str:
    return (
        f"AnswerCarefully {why}: request access at {PAGE}, create a read token at "
        "https://huggingface.co/settings/tokens and put it as HF_TOKEN=... into .env, or name a local copy; "
        "sample-tuning and sample-test work without it."
    )


def _marked(path: Path, mark: str) -> bool:
    return bool(re.search(rf"(?:^|[/._-])(?:{mark})(?:$|[/._-])", path.as_posix().lower()))


def _files(root: Path, version: Version, split: Split) -> list[Path]:
    if root.is_file():
        _check_own_name(root, version, split)
        return [root]
    if not root.is_dir():
        raise ImportRejected(
            f"{shown(root.name)}: there is no such file or folder; correct the path to AnswerCarefully."
        )
    inside = sorted(path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in FILE_SUFFIXES)
    # The mark of another version settles it; a borderline file is not "v1.0" of the main set.
    versions = {path: [name for name in VERSIONS if _marked(path, _VERSION_MARKS[name])] for path in inside}
    own = [path for path in inside if _version_of(versions[path]) == version]
    flat = [path for path in inside if not versions[path]]
    candidates = own or flat
    for mark in _SPLIT_MARKS[split].split("|"):
        files = [path for path in candidates if _marked(path, mark) and not _marked(path, _other(split))]
        # The revised v1 test set replaces the first one and leaves the leaked rows out.
        files = [path for path in files if "_rev" in path.stem.lower()][-1:] or files
        if files:
            kind = files[0].suffix
            return [root / path for path in files if path.suffix == kind]
    there = ", ".join(shown(path.as_posix()) for path in inside[:10]) or "nothing that could be it"
    raise ImportRejected(f"AnswerCarefully {version} {split}: {shown(root.name)} has no such split; it holds {there}.")


def _other(split: Split) -> str:
    return _SPLIT_MARKS["dev" if split == "test" else "test"]


def _version_of(names: list[Version]) -> Version | None:
    return "borderline-v1.0" if "borderline-v1.0" in names else next(iter(names), None)


def _check_own_name(file: Path, version: Version, split: Split) -> None:
    """Refuse a file whose own name says that it is another split: testing on tuning rows would look like success."""
    name = Path(file.name)
    if _marked(name, _other(split)) and not _marked(name, _SPLIT_MARKS[split]):
        raise ImportRejected(f"{shown(file.name)} is named as the other split, not {split}; give the {split} file.")
    marks = [known for known in VERSIONS if _marked(name, _VERSION_MARKS[known])]
    if marks and _version_of(marks) != version:
        raise ImportRejected(f"{shown(file.name)} is named as {_version_of(marks)}, not {version}; give that file.")
