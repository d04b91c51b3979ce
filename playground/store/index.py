"""The Store: one writer thread that ingests run folders, and reads from any thread.

The index can always be made again from the folders, so it is never repaired: a file that does not open
is moved aside and rebuilt.
"""

from __future__ import annotations

import atexit
import logging
import queue
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

import duckdb
from duckdb import DuckDBPyConnection

from evaluation.disk import told_to_people
from playground.store import ingest, runs
from playground.store.database import Database, StoreUnavailable, full, is_corrupt, is_fatal, is_full
from playground.store.ingest import Ingested

P = ParamSpec("P")
T = TypeVar("T")
_log = logging.getLogger(__name__)

_MOST_REMEMBERED = 200  # answers of `once`
_ATTEMPTS = 3  # as it is, opened again, rebuilt
# What comes in a few records at a time, as conversations do, would stay in the log and in memory up to DuckDB's own limit
# of 128 MB: 50 visitors made the process grow by 9 MB a minute. A benchmark of many records does better without this.
_FEW = 1_000
_MOST_LOG = 8 << 20  # bytes
Work = tuple[tuple[str, str], Callable[[], Any], "Future[Any]"]  # what it is called, the work, who waits for it


class Store:
    """The DuckDB index over the run folders. Safe to use from several threads; one process can have it open."""

    def __init__(self, path: Path, runs: Path) -> None:
        """Open or create the index at `path` of the folders under `runs`, migrated to the newest schema.

        It knows what it knew when it was closed: call `ingest_all` to catch up. A file that had to be
        moved aside is rebuilt before this returns, and one of an older schema is brought up to the folders.
        Raises StoreBusy or StoreUnavailable.
        """
        with told_to_people(runs):
            runs.mkdir(parents=True, exist_ok=True)
        self._runs = runs
        self._database = Database(path)
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._gate = threading.Lock()
        self._closed = False
        self._rebuilding = False
        self._versions: Counter[str] = Counter()  # of each Run: how often its rows have changed
        self._remembered: OrderedDict[Hashable, tuple[Hashable, Any]] = OrderedDict()
        # A daemon: the folders are the truth, so nothing is lost when the process ends without close().
        self._writer = threading.Thread(target=self._write, name="store-writer", daemon=True)
        self._writer.start()
        atexit.register(self.close)  # DuckDB prints a page of leaks when the interpreter ends before it
        if self._database.was_replaced or self._database.was_migrated:
            _log.info("The index is new or of an older version; the run folders are read again.")
            self.ingest_all()

    def read(self, query: Callable[Concatenate[DuckDBPyConnection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `query(con, ...)` with a cursor of its own; `query` fetches all it returns.

        Raises StoreUnavailable when the index can be neither opened nor rebuilt.
        """
        for attempt in range(_ATTEMPTS):
            generation = self._database.generation
            try:
                with self._database.cursor() as con:
                    return query(con, *args, **kwargs)
            except duckdb.Error as error:
                if is_corrupt(error) or (is_fatal(error) and attempt > 0):
                    self._submit(("heal", str(generation)), partial(self._start_anew, generation, keep=True))
                elif is_fatal(error):
                    self._database.reopen(generation)
                else:
                    raise
        raise self._hopeless()

    def once(self, key: Hashable, runs: Collection[str] | None, compute: Callable[[], T]) -> T:
        """What `compute` made of the index under this key, anew only after rows of these Runs (None: of any) changed.

        The answer is shared by all who ask: nobody may change it.
        """
        with self._gate:
            version = self._version(runs)
            found = self._remembered.get(key)
            if found is not None and found[0] == version:
                self._remembered.move_to_end(key)
                return cast(T, found[1])
        made = compute()
        with self._gate:
            # As of before: what was committed meanwhile may or may not be in it.
            self._remembered[key] = (version, made)
            self._remembered.move_to_end(key)
            while len(self._remembered) > _MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        return made

    def _version(self, runs: Collection[str] | None) -> Hashable:
        counted = self._versions.total() if runs is None else tuple(self._versions[run] for run in runs)
        return self._database.generation, counted

    def _changed(self, run_id: str) -> None:
        with self._gate:
            self._versions[run_id] += 1

    def ingest_run(self, path: Path) -> Ingested:
        """Bring the index up to one run folder; a folder that is gone loses its rows. Returns what was new to read.

        Raises StoreUnavailable when a journal cannot be read or the index not written; the folder is safe.
        """
        return self._submit(("ingest", str(path)), partial(self._ingest, path))

    def ingest_all(self) -> Ingested:
        """Bring the index up to every run folder, and forget those that are gone."""
        return self._submit(("ingest all", ""), self._ingest_all)

    def rebuild(self) -> Ingested:
        """Throw the index away and make it again from the folders. Reads wait, then see it grow."""
        return self._submit(("rebuild", ""), lambda: self._start_anew(self._database.generation, keep=False))

    def forget(self, *run_ids: str) -> None:
        """Delete the rows of these Runs and their bytes in the file. Their folders are the caller's to remove, first."""

        def delete() -> None:
            self._purge(run_ids)

        self._submit(("forget", " ".join(run_ids)), delete)

    def _purge(self, run_ids: Collection[str]) -> None:
        """In the writer, where nothing is written meanwhile."""
        for run_id in run_ids:
            self._in_cursor(partial(ingest.purge, run_id=run_id))
            self._changed(run_id)
        if run_ids:
            self._database.compact()

    def close(self) -> None:
        """Finish the work that is queued, then let the file go."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            self._work.put(None)
        self._writer.join()
        self._database.close()
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _submit(self, name: tuple[str, str], work: Callable[[], T]) -> T:
        waiting: Future[T] = Future()
        with self._gate:
            if self._closed:
                raise RuntimeError("The store is closed.")
            self._work.put((name, work, waiting))
        try:
            return waiting.result()
        finally:
            del waiting  # it holds the error, whose traceback holds this frame: a cycle with cursors in it

    def _write(self) -> None:
        """Do what is queued, in order. Equal work that queued up meanwhile is done once for all who wait."""
        open_ = True
        while open_:
            batch: dict[tuple[str, str], tuple[Callable[[], Any], list[Future[Any]]]] = {}
            item = self._work.get()
            while item is not None:
                name, work, waiting = item
                batch.setdefault(name, (work, []))[1].append(waiting)
                try:
                    item = self._work.get_nowait()
                except queue.Empty:
                    break
            open_ = item is not None
            for work, waiters in batch.values():
                try:
                    outcome = work()
                except BaseException as error:
                    # The writer outlives any failure: it belongs to those who wait for this work.
                    for waiting in waiters:
                        waiting.set_exception(error)
                else:
                    for waiting in waiters:
                        waiting.set_result(outcome)

    def _in_cursor(self, work: Callable[[DuckDBPyConnection], T]) -> T:
        """Do the work in the writer; open the file again, or rebuild it, when DuckDB has given it up."""
        for attempt in range(_ATTEMPTS):
            generation = self._database.generation
            try:
                with self._database.cursor() as con:
                    return work(con)
            except duckdb.Error as error:
                if is_full(error):
                    if is_fatal(error):
                        self._database.reopen(generation)
                    raise full(self._database.path) from error
                if self._rebuilding:
                    raise self._hopeless() from error
                if is_corrupt(error) or (is_fatal(error) and attempt > 0):
                    _log.warning("The index is damaged and is made again from the run folders: %s", error)
                    self._start_anew(generation, keep=True)
                elif is_fatal(error):
                    self._database.reopen(generation)
                else:
                    raise
        raise self._hopeless()

    def _start_anew(self, generation: int, *, keep: bool) -> Ingested:
        self._database.start_anew(generation, keep=keep)
        self._rebuilding = True
        try:
            return self._ingest_all()
        finally:
            self._rebuilding = False

    def _hopeless(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._database.path} fails again after a rebuild. Check the disk it is on.")

    def _ingest(self, path: Path) -> Ingested:
        done, unreadable = self._ingest_together([path])
        if unreadable:
            raise UnreadableJournal(_told(unreadable[0])) from unreadable[0]
        return done

    def _ingest_all(self) -> Ingested:
        folders = [path for path in sorted(self._runs.iterdir()) if path.is_dir() and not path.name.startswith(".")]
        gone = self._in_cursor(runs.run_ids) - {path.name for path in folders}
        self._purge(gone)
        done = Ingested()
        for some in ingest.together(self._in_cursor(partial(ingest.with_news, paths=folders))):
            found, unreadable = self._ingest_together(some)
            done += found
            for error in unreadable:
                _log.warning("%s", _told(error))  # the other folders are not to blame
        return done

    def _ingest_together(self, paths: Sequence[Path]) -> tuple[Ingested, list[OSError]]:
        """What was read of these folders, and the errors of files that cannot be read."""
        try:
            found, unreadable = self._in_cursor(partial(ingest.ingest_folders, paths=paths))
            done = sum(found.values(), Ingested())
            if done.records <= _FEW and self._database.log_bytes() >= _MOST_LOG:
                self._in_cursor(lambda con: con.execute("CHECKPOINT") and None)
                self._database.let_memory_go()
        except BaseException as error:
            for path in paths:
                self._changed(path.name)  # a part of it may have been committed
            if not isinstance(error, OSError):
                raise
            if len(paths) == 1:
                return Ingested(), [error]
            apart = [self._ingest_together([path]) for path in paths]  # nothing of the others is in either
            return sum((done for done, _ in apart), Ingested()), [error for _, errors in apart for error in errors]
        for path, ingested in found.items():
            if ingested.changed:
                self._changed(path.name)
        return done, unreadable


class UnreadableJournal(StoreUnavailable):
    """A file of a run folder cannot be read."""


def _told(error: OSError) -> str:
    return f"{error.filename} cannot be read: {error.strerror}. Check its rights."
