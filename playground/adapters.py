"""Adapters as people handle them: list, rename, delete, export, push. `adapter_imports` brings new ones in.

An adapter is a folder in PEFT's format, `home/adapters/<name>/`. The shipped ones stand elsewhere and never change.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from evaluation.disk import sync_folder, told_to_people
from evaluation.errors import AccessMissing, ModelUnavailable, UserFacingError
from playground import catalog
from playground.jobs.workers import ORIGIN_FILE
from playground.settings import Settings
from training.presets import SHIPPED_ADAPTERS

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
FILES = (CONFIG, WEIGHTS, CARD)  # all that an adapter is for others; its origin is this machine's business
LONGEST_NAME = 64
_NAME = re.compile(rf"[a-z0-9_-][a-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_DATA_ROW = re.compile(r"^\| ([\w.-]+) \| (\d+) \| \d+ \| \d+ \|$", re.MULTILINE)
_CARD_HEAD = """---
library_name: peft
base_model: google/gemma-3-270m
license: gemma
language: ja
pipeline_tag: text-generation
---
"""


class AdapterRefused(UserFacingError):
    """What was asked of an adapter cannot be done as asked."""


@dataclass(frozen=True)
class AdapterInfo:
    """An adapter as the list shows it. `made_at` (ISO 8601, UTC) is None where nobody noted it.

    `data`: the suites it was trained on and their rows in an epoch, from its card. `run_id` says which run made it
    here, `source` where it was imported from; a shipped one has neither.
    """

    name: str
    folder: Path
    shipped: bool
    size_bytes: int
    sha256: str
    data: tuple[tuple[str, int], ...] = ()
    made_at: str | None = None
    run_id: str | None = None
    source: str | None = None
    warnings: tuple[str, ...] = ()


class Hub(Protocol):
    """What pushing needs of huggingface_hub.HfApi."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any: ...

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> Any: ...


def list_adapters(settings: Settings) -> list[AdapterInfo]:
    """The adapters that can be named here, the shipped ones first. A half-copied folder is not among them."""
    folders = catalog.adapters(settings)
    return [describe(name, folder) for name, folder in folders.items() if (folder / WEIGHTS).is_file()]


def describe(name: str, folder: Path) -> AdapterInfo:
    """What is known of the adapter in `folder`. Its card and origin are other people's text: show them escaped."""
    from playground.engine.adapters import adapter_sha256

    card = folder / CARD
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    origin = _origin(folder)
    return AdapterInfo(
        name=name,
        folder=folder,
        shipped=folder.parent == SHIPPED_ADAPTERS,
        size_bytes=(folder / WEIGHTS).stat().st_size,
        sha256=adapter_sha256(folder),
        data=tuple((suite, int(rows)) for suite, rows in _DATA_ROW.findall(text)),
        made_at=origin.get("at"),
        run_id=origin.get("run_id"),
        source=origin.get("source"),
        warnings=tuple(origin.get("warnings", ())),
    )


def _origin(folder: Path) -> dict[str, Any]:
    file = folder / ORIGIN_FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # made by hand, or before origins were noted
        return {}
    return found if isinstance(found, dict) else {}


def find(settings: Settings, name: str) -> AdapterInfo:
    """The adapter of that name. Raises AdapterRefused: the name may come from anywhere and is only looked up."""
    for info in list_adapters(settings):
        if info.name == name:
            return info
    raise AdapterRefused(f"There is no adapter {name[:80]!r} here; `python -m playground adapters list` shows them.")


def check_free(settings: Settings, name: str) -> Path:
    """Where a new adapter of that name goes. Raises AdapterRefused for a name that is taken or cannot be one."""
    if not _NAME.fullmatch(name) or name == "base":
        raise AdapterRefused(
            f"An adapter cannot be named {name[:80]!r}; use up to {LONGEST_NAME} of a-z, 0-9, dot, hyphen and "
            "underscore, not beginning with a dot, and not base."
        )
    folder = settings.home / "adapters" / name
    if folder.exists() or name in catalog.adapters(settings):
        raise AdapterRefused(f"There is already an adapter {name}; choose another name, or delete that one first.")
    return folder


def rename(settings: Settings, name: str, new: str) -> AdapterInfo:
    """Give an own adapter another name. Raises AdapterRefused, DiskRefused."""
    info = _own(settings, name)
    folder = check_free(settings, new)
    with told_to_people(folder):
        info.folder.rename(folder)
        sync_folder(folder.parent)
    return describe(new, folder)


def delete(settings: Settings, name: str) -> None:
    """Delete an own adapter for good. The run that made it keeps its copy. Raises AdapterRefused, DiskRefused."""
    folder = _own(settings, name).folder
    gone = folder.with_name(f".removed-{name}")
    with told_to_people(folder):
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)  # first, so that nobody meets half of one
        shutil.rmtree(gone)


def _own(settings: Settings, name: str) -> AdapterInfo:
    info = find(settings, name)
    if info.shipped:
        raise AdapterRefused(f"Adapter {name} is shipped with this program; it can be neither renamed nor deleted.")
    return info


def export(settings: Settings, name: str, to: Path) -> Path:
    """Copy an adapter with its card to `to`: a file that ends in .zip, or a new folder. Returns `to`.

    Raises AdapterRefused when `to` is there already, DiskRefused.
    """
    info = find(settings, name)
    if to.exists():
        raise AdapterRefused(f"{to} is there already; name a new file or folder.")
    with told_to_people(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        if to.suffix != ".zip":
            _copy(info, to)
            return to
        with tempfile.TemporaryDirectory() as scratch:
            folder = _copy(info, Path(scratch) / name)
            with zipfile.ZipFile(to, "x", zipfile.ZIP_STORED) as archive:  # weights do not get smaller
                for file in sorted(folder.iterdir()):
                    archive.write(file, f"{name}/{file.name}")
    return to


def _copy(info: AdapterInfo, folder: Path) -> Path:
    folder.mkdir()
    for file in (CONFIG, WEIGHTS):
        shutil.copyfile(info.folder / file, folder / file)
    (folder / CARD).write_text(_card(info), encoding="utf-8")
    return folder


def _card(info: AdapterInfo) -> str:
    """The adapter's own card with what a hub reads at its head; where it has none, one that says so."""
    own = info.folder / CARD
    if not own.is_file():
        return f"{_CARD_HEAD}# Adapter `{info.name}`\n\nNothing was noted of its data and settings.\n"
    text = own.read_text(encoding="utf-8", errors="replace")
    return text if text.startswith("---\n") else _CARD_HEAD + text


def push(settings: Settings, name: str, repository: str, *, private: bool = True, hub: Hub | None = None) -> str:
    """Upload an adapter with its card to the hub as ORG/NAME, which is created if need be. Returns its address.

    `hub` stands in for huggingface_hub in tests. Raises AdapterRefused, AccessMissing, ModelUnavailable.
    """
    info = find(settings, name)
    if not _REPOSITORY.fullmatch(repository):
        raise AdapterRefused(f"{repository[:80]!r} is no hub id; write it as ORG/NAME.")
    if hub is None:
        if settings.hf_token is None:
            raise AccessMissing("Pushing needs a token that may write; put HF_TOKEN in .env and start again.")
        from huggingface_hub import HfApi

        hub = HfApi(token=settings.hf_token.get_secret_value())
    with tempfile.TemporaryDirectory() as scratch, hub_told(repository):
        folder = _copy(info, Path(scratch) / name)
        address = hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"Adapter {name}")
    return str(address)


@contextmanager
def hub_told(repository: str) -> Iterator[None]:
    """Turn what the hub's client raises about a repository into one line with a next step."""
    import httpx2  # the hub client's own library
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise AccessMissing(
            f"{repository} is gated; request access on https://huggingface.co/{repository} and put HF_TOKEN in .env."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelUnavailable(f"There is no {repository} on the hub that this token can see; check it.") from error
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403):
            raise AccessMissing(
                f"The hub refused {repository}: HF_TOKEN in .env must be one that may do this."
            ) from error
        raise ModelUnavailable(f"The hub failed on {repository} ({type(error).__name__}); try again later.") from error
    except (httpx2.HTTPError, OSError) as error:
        raise ModelUnavailable(
            f"{repository} cannot be reached on the hub ({type(error).__name__}); check the network."
        ) from error
