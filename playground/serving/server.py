"""Starts, watches, restarts and ends one vLLM server. The server never outlives the app: see `guard.py`."""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.disk import told_to_people
from evaluation.errors import UserFacingError
from playground.jobs.leases import DeviceBusy, Lease, take_from_chat, visible_gpus
from playground.serving import asking, leftovers
from playground.serving.command import check_options, command_line, devices_wanted, environment_of, largest_rank
from playground.serving.environment import VllmEnvironment, check_cpu, find_environment
from playground.serving.logs import Log
from playground.serving.plan import MemoryPlan, free_gpu_memory, free_memory, make_plan, read_model
from playground.serving.reasons import Reason, ServerFailed, why_it_ended
from playground.serving.state import Server, ServerState
from playground.serving.watched import Report, Watched
from playground.settings import Settings

log = logging.getLogger(__name__)

CHAT_LETS_GO_S = 30.0  # in which chat gives a GPU back to who asks for it
GUARD = Path(__file__).with_name("guard.py")


@dataclass(frozen=True)
class Adapters:
    """What is laid over the base: folders and ranks by name, and why others are left out."""

    folders: Mapping[str, Path]
    ranks: Mapping[str, int]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Base:
    """The model that a server holds. `adapters` is asked at every start; None: it takes none."""

    served_as: str
    folder: Callable[[Report], Path]  # fetches or converts it first; raises UserFacingError
    adapters: Callable[[], Adapters] | None = None


@dataclass(frozen=True)
class Patience:
    """Seconds, but for `restarts`: so many within `window` are tried, each after a longer pause."""

    stop: float = 20.0  # from SIGTERM to SIGKILL; vLLM takes 10 with nothing to do
    silent: float = 900.0  # a start in which the log does not grow; weights of a large model come from a slow disk
    unhealthy: float = 120.0  # without an answer of one that was ready; a full CPU makes it slow to answer
    dead: float = 10.0  # it says that its engine has died, and ends by itself as a rule
    pauses: tuple[float, ...] = (1.0, 5.0, 20.0)
    window: float = 600.0
    restarts: int = 3
    look: float = 0.5
    health: float = 5.0  # between two questions to one that is ready


class VllmServer(Watched):
    """One server of this app."""

    def __init__(
        self,
        settings: Settings,
        base: Base,
        *,
        environment: Callable[[], VllmEnvironment] = find_environment,
        patience: Patience = Patience(),
    ) -> None:
        """Nothing is started before `start`."""
        super().__init__(settings, ServerState("off", time.time(), model=base.served_as))
        self._base = base
        self._find = environment
        self._patience = patience
        self._folder: Path | None = None  # of this server's log
        self._key = secrets.token_urlsafe(32)
        self._port = 0

    def stop(self, *, wait: bool = True) -> None:
        """End it and, unless told otherwise, wait until nothing of it is left: the patience, and some seconds."""
        with self._mutex:
            thread = self._thread
            if thread is None or not thread.is_alive():
                if self._state.phase == "failed":
                    self._set_off()
                return
            self._set(replace(self._state, phase="stopping", since=time.time()))
            self._ending.set()
        if wait:
            thread.join()

    def close(self) -> None:
        """End it with the app."""
        self.stop()

    def wait_ready(self, report: Report = lambda _: None) -> Server:
        """Wait until it answers. `report` gets every new stage in words. Raises ServerFailed when it will not."""
        told: object = None
        while True:
            with self._mutex:
                state = self._state
                if self._server is not None and state.phase == "ready":
                    return self._server
                if state.phase not in ("starting", "ready"):
                    raise self._none_there()
                if told == (state.stage, state.restarts):
                    self._mutex.wait(5.0)
                    continue
            told = (state.stage, state.restarts)
            again = f", start {state.restarts + 1}: {state.reason.words}" if state.reason else ""
            report(f"vLLM server: {state.stage}{again}")

    def log_tail(self, lines: int = 80) -> str:
        """The end of the log of the newest start; empty before the first."""
        with self._mutex:
            folder = self._folder
        return Log(folder).tail(lines) if folder is not None else ""

    # From here on everything runs on the server's thread.

    def _run(self) -> None:
        last: Reason | None
        try:
            last = self._keep_up()
        except ServerFailed as error:
            last = error.reason
        except UserFacingError as error:  # the disk, or the model's folder
            last = Reason("model", str(error))
        except Exception as error:
            log.exception("the vLLM server cannot be supervised")
            last = Reason("ended", f"The supervision of the server failed ({type(error).__name__}: {error}).")
        if last is None or self._ending.is_set():
            self._set_off()
        else:
            log.warning("vLLM server: %s", last.words)
            self._set(replace(self._state, phase="failed", since=time.time(), stage=None, models=(), reason=last))

    def _keep_up(self) -> Reason | None:
        """Serve until asked to stop, which gives None, or until there is no use in trying again."""
        leftovers.sweep(self._settings.home)
        ends: deque[float] = deque()
        while True:
            ended = self._serve_once()
            if ended is None or ended.lasting:
                return ended
            now = time.monotonic()
            ends.append(now)
            while ends and now - ends[0] > self._patience.window:
                ends.popleft()
            if len(ends) > self._patience.restarts:
                minutes = self._patience.window / 60
                return Reason("restarts", f"The server ended {len(ends)} times in {minutes:g} minutes. {ended.words}")
            log.warning("vLLM server: %s It is started again.", ended.words)
            tries = self._state.restarts + 1
            self._set(
                ServerState("starting", time.time(), "preparing", self._base.served_as, reason=ended, restarts=tries)
            )
            if self._ending.wait(self._patience.pauses[min(len(ends), len(self._patience.pauses)) - 1]):
                return None

    def _serve_once(self) -> Reason | None:
        """One life of the server: why it ended, or None when it was asked to."""
        environment = self._find()
        options = self._settings.vllm_options
        check_options(options)
        if environment.build == "cpu":
            check_cpu()
        folder = self._base.folder(lambda words: None)
        adapters = self._base.adapters() if self._base.adapters is not None else None
        share, copies = devices_wanted(options)
        devices = ["cpu"] if environment.build == "cpu" else [f"cuda:{n}" for n in range(share * copies)]
        with ExitStack() as held:
            leases = [] if environment.build == "cpu" else [held.enter_context(self._lease(d)) for d in devices]
            # Asked while the device is ours: nobody else takes the memory before the server does.
            plan = self._plan(folder, devices, 1 if environment.build == "cpu" else share)
            self._port = asking.free_port(self._port)
            rank = largest_rank([*adapters.ranks.values()]) if adapters is not None else None
            paths = adapters.folders if adapters is not None else {}
            command = command_line(
                environment, folder, self._base.served_as, plan, paths, rank, self._port, options
            )  # fmt: skip
            left_out = adapters.left_out if adapters is not None else ()
            self._set(replace(self._state, plan=plan, left_out=left_out))
            found = Server(
                (f"http://127.0.0.1:{self._port}/v1",), self._key, self._base.served_as, (), dict(paths), folder,
                plan.max_model_len, rank,
            )  # fmt: skip
            gpus = None if environment.build == "cpu" else ",".join(visible_gpus(device) for device in devices)
            with self._guarded(command, gpus, leases) as (child, own_log):
                return self._watch(child, own_log, found)

    def _lease(self, device: str) -> Lease:
        try:
            lease = take_from_chat(self._settings.home, device, "vllm", CHAT_LETS_GO_S)
        except DeviceBusy as error:
            raise ServerFailed(Reason("device", f"{error} Start the server when that has ended.")) from error
        lease.describe(None, "vllm", os.getpid())
        return lease

    def _plan(self, folder: Path, devices: Sequence[str], share: int) -> MemoryPlan:
        if devices[0] == "cpu":
            free, total = free_memory()
        else:
            free, total = free_gpu_memory(visible_gpus(devices[0]))
        name = devices[0] if len(devices) == 1 else f"each of {len(devices)} GPUs"
        return make_plan(read_model(folder), name, self._settings.max_context, free, total, share)

    @contextmanager
    def _guarded(
        self, command: Sequence[str], gpus: str | None, leases: Sequence[Lease]
    ) -> Iterator[tuple[subprocess.Popen[bytes], Log]]:
        """The server under its guard; in the end nothing of it is left."""
        folder = leftovers.new_folder(self._settings.home)
        own_log = Log(folder)
        environment = environment_of(self._key, folder.name, self._settings.home / "vllm" / "cache", gpus)
        ours, theirs = None, None
        try:
            theirs, ours = os.pipe2(os.O_CLOEXEC)
            with told_to_people(own_log.path), own_log.path.open("ab") as file:
                child = subprocess.Popen(
                    [sys.executable, "-I", str(GUARD), str(theirs), str(os.getpid()), f"{self._patience.stop:g}", *command],
                    stdin=subprocess.DEVNULL,
                    stdout=file,  # a file, never a pipe: a pipe that nobody empties stops the server
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    cwd=folder,
                    pass_fds=(theirs, *(lease.fd for lease in leases)),
                    env=environment,
                )  # fmt: skip
            leftovers.remember(folder, child.pid)
            with self._mutex:
                self._folder = folder
            os.close(theirs)
            theirs = None
            try:
                yield child, own_log
            finally:
                os.close(ours)  # tells the guard to end the server
                ours = None
                self._await_end(child, folder)
        finally:
            for opened in (ours, theirs):
                if opened is not None:
                    os.close(opened)

    def _await_end(self, child: subprocess.Popen[bytes], folder: Path) -> None:
        try:
            child.wait(self._patience.stop + 10.0)
        except subprocess.TimeoutExpired:
            log.warning("the guard of the vLLM server does not end and is killed")
            child.kill()
            child.wait()
        if child.returncode < 0:  # it was killed, so what it should have ended may live
            leftovers.kill_marked(folder.name)

    def _watch(self, child: subprocess.Popen[bytes], own_log: Log, found: Server) -> Reason | None:
        """Follow the start, then the health. Returns why it must be started again, or None when asked to stop."""
        last_sign = time.monotonic()
        asked = 0.0
        dead_since: float | None = None
        ready = False
        while not self._ending.wait(self._patience.look):
            if child.poll() is not None:
                return why_it_ended(own_log.all(), child.returncode)
            now = time.monotonic()
            if not ready and own_log.grown():
                last_sign = now
                self._set(replace(self._state, stage=own_log.stage()))
            if ready and now - asked < self._patience.health:
                continue
            asked = now
            health = asking.health(self._port)
            if health == "ok":
                dead_since = None
                if not ready:
                    try:
                        self._set_ready(replace(found, models=asking.models(found.base_url, self._key)))
                    except ServerFailed as error:  # too busy with its first request; or not ours, and ours has no port
                        log.info("vLLM server: %s", error)
                        continue
                ready, last_sign = True, now
            elif health == "dead":
                dead_since = dead_since if dead_since is not None else now
                if now - dead_since > self._patience.dead:
                    return why_it_ended(own_log.all(), None)
            own_log.keep_short()
            limit = self._patience.unhealthy if ready else self._patience.silent
            if now - last_sign > limit:
                what = "gives no answer" if ready else "says nothing in its log"
                return Reason("silent", f"The server {what} for {limit:g} s and is ended.")
        return None

    def _set_ready(self, server: Server) -> None:
        state = self._state
        log.info("vLLM server: ready on port %s with %s", self._port, ", ".join(server.models))
        self._set(
            ServerState(
                "ready", time.time(), None, server.model, server.models, server.base_urls, state.left_out,
                restarts=state.restarts, plan=state.plan,
            ),
            server,
        )  # fmt: skip
