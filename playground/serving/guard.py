"""`python -I guard.py PIPE APP SECONDS COMMAND...`: runs a server, and ends it when the app that wanted it is gone.

The app holds the writing end of PIPE. When that closes, because the app wants the server to stop or because the app
was killed, the server gets SIGTERM, and SECONDS later everything it has started gets SIGKILL. APP is the app's process
number: a process that the app forked may keep the pipe open, but not the app alive. What outlives the server is killed
too, also what has left its process group: on Linux, orphans below this process become its children.

Needs the standard library only, and imports nothing of this project: it is run by its path. It ends with the server's
status, 128 + N when signal N ended that.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
LINGER_S = 3.0  # for what the server has started to end after it


def prctl(option: int, value: int) -> None:
    """Linux's prctl; nothing where there is none."""
    call = getattr(ctypes.CDLL(None), "prctl", None)
    if call is not None:
        call(option, value, 0, 0, 0)


def die_with_guard() -> None:
    """In the server, before its program begins: end when this process is killed and cannot end it."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def descendants() -> list[int]:
    """Every process below this one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text()
        except OSError:  # it ended while we looked
            continue
        parent = int(stat[stat.rindex(")") + 2 :].split()[1])
        children.setdefault(parent, []).append(int(entry.name))
    found, look_at = [], [os.getpid()]
    while look_at:
        below = children.get(look_at.pop(), [])
        found += below
        look_at += below
    return found


def kill_descendants() -> None:
    """SIGKILL them until none is left; new ones cannot outrun it for long, since their parents die."""
    if not Path("/proc/self/stat").exists():
        os.killpg(0, signal.SIGKILL)  # the group that this process leads, itself included
    while descendants():
        for pid in descendants():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        reap()
        time.sleep(0.01)


def reap() -> dict[int, int]:
    """Wait for the children that have ended. Returns their exit statuses by number."""
    ended = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def say(words: str) -> None:
    with contextlib.suppress(OSError):  # a full disk must not keep this process from its work
        print(f"guard: {words}", file=sys.stderr, flush=True)


class Guard:
    """One server and the reasons to end it."""

    def __init__(self, pipe: int, app: int, patience_s: float, command: list[str]) -> None:
        self._patience_s = patience_s
        self._told = False  # SIGTERM came
        self._poller = select.poll()
        self._watched = {pipe}
        woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._woken = woken
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        if hasattr(os, "pidfd_open"):
            try:
                self._watched.add(os.pidfd_open(app))
            except ProcessLookupError:
                self._told = True
        if os.getppid() != app:
            self._told = True  # it died before we could watch it
        for watched in (woken, *self._watched):
            self._poller.register(watched, select.POLLIN | select.POLLHUP)
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        # Kept, since a Popen that is thrown away waits for its process; here `reap` does, for it and all others.
        self._popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_guard)
        self._server = self._popen.pid

    def run(self) -> int:
        """Until the server has ended. Returns its exit status."""
        status: int | None = None
        deadline: float | None = None
        while status is None:
            if self._told and deadline is None:
                say("asked to end the server")
                deadline = time.monotonic() + self._patience_s
                os.kill(self._server, signal.SIGTERM)
            if deadline is not None and time.monotonic() > deadline:
                say(f"the server did not end within {self._patience_s:g} s and is killed")
                kill_descendants()
                return 128 + signal.SIGKILL
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000 + 1
            self._sleep(left)
            status = reap().get(self._server)
        self._clear_up(time.monotonic() + LINGER_S)
        say(f"the server ended with status {status}")
        return status if status >= 0 else 128 - status

    def _on_signal(self, number: int, frame: object) -> None:
        self._told = True

    def _sleep(self, timeout_ms: float | None) -> None:
        for ready, _ in self._poller.poll(timeout_ms):
            if ready == self._woken:
                os.read(ready, 4096)
            else:
                self._told = True
                self._poller.unregister(ready)

    def _clear_up(self, until: float) -> None:
        """End what the server has left behind."""
        while descendants() and time.monotonic() < until:
            reap()
            time.sleep(0.05)
        if descendants():
            kill_descendants()


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    pipe, app, patience_s, *command = arguments
    return Guard(int(pipe), int(app), float(patience_s), command).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
