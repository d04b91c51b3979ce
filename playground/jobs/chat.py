"""Chat's part in the lease of a GPU: it takes the device for its models, and sees who waits for it.

`playground.engine.tenancy` decides when the models come and go; on the CPU, which chat and runs share, there is no claim.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from evaluation.disk import DiskRefused
from playground.jobs.leases import CHAT, DeviceBusy, Holder, Lease, holder, take_now
from playground.jobs.waiting import Waiter, waiters

log = logging.getLogger(__name__)


def claim_for_chat(home: Path, device: str, *, keeps: bool = False) -> ChatClaim | None:
    """Chat's claim to a GPU; None for the CPU, which it shares with whatever runs there."""
    return None if device == "cpu" else ChatClaim(home, device, keeps=keeps)


class ChatClaim:
    """The device that the models of this process's chat are on."""

    def __init__(self, home: Path, device: str, *, keeps: bool = False) -> None:
        """Nothing is taken yet. `keeps`: once it is ours it is given to nobody."""
        self._home, self._device, self._keeps = home, device, keeps
        self._lease: Lease | None = None

    def take(self) -> None:
        """Make the device ours, or keep it.

        Raises DeviceBusy when another has it, or waits for it and so comes first; DiskRefused.
        """
        if self._lease is not None and self._keeps:
            return
        first = first_in_line(self._home, self._device)
        if first is not None:
            raise DeviceBusy(f"{self._device} goes to {first}, which waits for it.", first)
        if self._lease is None:
            lease = take_now(self._home, self._device)
            try:
                lease.describe(None, CHAT, os.getpid(), keeps=self._keeps)
            except DiskRefused:
                lease.close()
                raise
            self._lease = lease
            log.info("chat has %s", self._device)

    def wanted(self) -> bool:
        """Whether somebody waits for the device and may have it."""
        return not self._keeps and first_in_line(self._home, self._device) is not None

    def let_go(self) -> None:
        """Give the device to who waits."""
        if self._lease is not None:
            self._lease.close()
            self._lease = None
            log.info("chat has let %s go", self._device)


def first_in_line(home: Path, device: str) -> Waiter | None:
    """Who gets the device next, before a question that is asked now."""
    return next(iter(waiters(home, device)), None)


def in_the_way(home: Path, device: str) -> Holder | Waiter | None:
    """Who keeps a question of this process from the device now, or None.

    On the CPU, which is shared, that is the run that makes it slower.
    """
    held = holder(home, device)
    ours = held is not None and (held.kind, held.pid) == (CHAT, os.getpid())
    if held is not None and not ours:
        return held
    if device == "cpu" or (held is not None and held.keeps):
        return None
    return first_in_line(home, device)
