"""The one DuckDB connection of the process: opened, locked down, and healed when the file or the disk fails.

Only one process can have the file open (a second one cannot, even to read), and a connection shared by
threads has returned another thread's rows: every caller gets a cursor of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from evaluation.disk import LockHeld, take_lock, told_to_people
from evaluation.errors import UserFacingError
from playground.store.migrations import NewerSchema, migrate

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,  # the models need the other cores
    "memory_limit": "1GB",
    "max_temp_directory_size": "4GB",
    "checkpoint_threshold": "128MB",  # of write-ahead log; at the usual 16 MB a large ingest spends a fifth on checkpoints
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
}


class StoreBusy(UserFacingError):
    """Another process has the index open."""


class StoreUnavailable(UserFacingError):
    """The index cannot be opened or written; the run folders are not affected."""


def is_fatal(error: duckdb.Error) -> bool:
    """Whether DuckDB has shut the database down until it is opened again."""
    return isinstance(error, duckdb.FatalException | duckdb.InternalException)


def is_corrupt(error: duckdb.Error) -> bool:
    """Whether the file itself is damaged. DuckDB raises several types for it; its words are the same."""
    if isinstance(error, duckdb.SerializationException):
        return True
    return "corrupt" in str(error).lower() or "Could not read enough bytes from file" in str(error)


def is_full(error: duckdb.Error) -> bool:
    """Whether the disk, or this process's limit on file size, stopped a write."""
    return any(words in str(error) for words in ("No space left", "File too large", "Disk quota exceeded"))


class Database:
    """Cursors for everybody, and `exclusive` for whoever must replace the file under them."""

    def __init__(self, path: Path) -> None:
        """Open or create the file and migrate it; a damaged file is moved aside and `was_replaced` is set.

        `was_migrated` is set when the file was of an older schema.

        Raises StoreBusy or StoreUnavailable.
        """
        self.path = path
        self.generation = 0  # counts openings: two threads that meet one failure heal it once
        self.was_replaced = False
        self.was_migrated = False  # from an older schema, whose rows may lack what the new one has
        self._root: duckdb.DuckDBPyConnection | None = None
        self._cursors = 0
        self._blocked = False
        self._condition = threading.Condition()
        self._compacted = path.with_name(f"{path.name}.compact") / path.name
        with told_to_people(path):
            self._compacted.parent.mkdir(parents=True, exist_ok=True)
            try:
                # DuckDB locks the file too, but lets it go while it reopens, and not against this same process.
                self._lock = take_lock(path.with_name(f"{path.name}.lock"))
            except LockHeld as held:
                raise _busy(path, held.holder) from None
        try:
            self._open()
        except BaseException:
            os.close(self._lock)
            raise

    def _open(self) -> None:
        try:
            self._connect()
        except (duckdb.Error, NewerSchema) as error:
            if isinstance(error, duckdb.Error):
                self._raise_if_not_the_file(error)
            # Garbage, a torn block, or a newer program's file: the folders can rebuild it, so keep it and start anew.
            self.move_aside()
            self._connect()

    def _connect(self) -> None:
        existed = self.path.exists()
        root = duckdb.connect(self.path, config=_SETTINGS)
        try:
            root.execute("SET allowed_directories = ?", [[f"{self._compacted.parent.absolute()}/"]])
            root.execute("SET enable_external_access = false")
            root.execute("SET lock_configuration = true")
            if migrate(root) and existed:
                self.was_migrated = True
        except BaseException:
            root.close()
            raise
        self._root = root
        self.generation += 1

    def _raise_if_not_the_file(self, error: duckdb.Error) -> None:
        text = str(error)
        if "Could not set lock" in text:
            holder = re.search(r"PID (\d+)", text)
            raise _busy(self.path, int(holder[1]) if holder else None) from None
        if is_full(error):
            raise full(self.path) from error
        if self.path.exists() and not (self.path.is_file() and os.access(self.path, os.R_OK | os.W_OK)):
            raise StoreUnavailable(f"{self.path} is not a file this user may read and write. Move it and start again.")
        if not self.path.exists():
            raise StoreUnavailable(f"{self.path} cannot be created. Check the rights of {self.path.parent}.") from error

    def move_aside(self) -> Path | None:
        """Rename the file and its write-ahead log so that a new one can take its place. Call it while closed."""
        self.was_replaced = True
        if not self.path.exists():
            return None
        aside = self.path.with_name(f"{self.path.name}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
        with told_to_people(self.path):
            for file in self._files():
                file.rename(aside.with_name(file.name.replace(self.path.name, aside.name, 1)))
        return aside

    def _files(self) -> list[Path]:
        """The database file and what DuckDB keeps beside it. The log is never separated from its file."""
        return [self.path, *self.path.parent.glob(f"{self.path.name}.wal*")]

    @contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of the caller's own, for one piece of work in one thread. Raises StoreUnavailable."""
        with self._condition:
            self._condition.wait_for(lambda: not self._blocked)
            if self._root is None:
                self._open()
            assert self._root is not None
            cursor = self._root.cursor()
            self._cursors += 1
        try:
            yield cursor
        finally:
            with self._condition:
                cursor.close()
                self._cursors -= 1
                self._condition.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Close the file once nobody holds a cursor, let the caller replace it, and open it again."""
        with self._condition:
            self._condition.wait_for(lambda: not self._blocked)
            self._blocked = True
            self._condition.wait_for(lambda: self._cursors == 0)
        with self._closed():
            yield

    def let_memory_go(self) -> bool:
        """Close and open again if nobody holds a cursor just now; says whether it did. Call it after a checkpoint.

        DuckDB keeps what it has written in memory, and some for every small commit, until it reaches its limit.
        """
        with self._condition:
            if self._blocked or self._cursors:
                return False
            self._blocked = True
        with self._closed():
            return True

    @contextmanager
    def _closed(self) -> Iterator[None]:
        """Close, and open again afterwards. For who has blocked new cursors and waited for the others; lets them in again."""
        try:
            if self._root is not None:
                self._root.close()
                self._root = None
            yield
            self._open()
        finally:
            with self._condition:
                self._blocked = False
                self._condition.notify_all()

    def reopen(self, generation: int) -> None:
        """Close and open again, unless somebody did so since `generation`. Raises StoreUnavailable."""
        with self._condition:
            if self.generation != generation:
                return
        with self.exclusive():
            pass

    def log_bytes(self) -> int:
        """How much has been committed to the log and is not in the file yet; its rows are held in memory, unpacked."""
        try:
            return self.path.with_name(f"{self.path.name}.wal").stat().st_size
        except FileNotFoundError:
            return 0

    def compact(self) -> None:
        """Rewrite the file with nothing but live rows: DuckDB keeps the bytes of deleted ones.

        Nobody may write meanwhile. Raises StoreUnavailable when the disk has no room for the copy; the file is as it was.
        """
        self._drop_copy()
        try:
            with self.cursor() as con:
                con.execute("ATTACH ? AS compacted", [str(self._compacted.absolute())])
                (name,) = con.execute("SELECT current_database()").fetchone() or ("",)
                quoted = name.replace('"', '""')
                con.execute(f'COPY FROM DATABASE "{quoted}" TO compacted')
                con.execute("DETACH compacted")
        except duckdb.Error as error:
            with self.exclusive():  # opened anew: a copy that was cut short stays attached, and no other could be made
                self._drop_copy()
            if is_full(error):
                raise full(self.path) from error
            raise
        with self.exclusive():
            for log in self._files()[1:]:
                log.unlink()  # every committed row is in the copy
            self._compacted.replace(self.path)

    def _drop_copy(self) -> None:
        """Remove what an unfinished `compact` has left: on a full disk it is what takes the room."""
        for file in self._compacted.parent.iterdir():
            file.unlink()

    def start_anew(self, generation: int, *, keep: bool) -> None:
        """Replace the file by an empty one, unless somebody did so since `generation`."""
        with self._condition:
            if self.generation != generation:
                return
        with self.exclusive():
            if keep:
                self.move_aside()
            else:
                for file in self._files():
                    file.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file and let it go."""
        with self._condition:
            self._condition.wait_for(lambda: self._cursors == 0 and not self._blocked)
            if self._root is not None:
                self._root.close()
                self._root = None
        shutil.rmtree(self._compacted.parent, ignore_errors=True)
        os.close(self._lock)


def full(path: Path) -> StoreUnavailable:
    """The error for a disk that has no room for the index."""
    return StoreUnavailable(
        f"{path} cannot be written: the disk is full. Free some space; no run is lost, the index catches up by itself."
    )


def _busy(path: Path, holder: int | None) -> StoreBusy:
    who = f"process {holder}" if holder else "another process"
    return StoreBusy(f"{path} is open in {who}. Close that program (or use it), then try again; one can have it open.")
