"""Who has a device and who waits for it, in the visitor's words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from playground.jobs import DeviceUse, Holder, Waiter
from playground.pages.markup import esc
from playground.pages.text import say

WORK_WORDS = {kind: f"work.{kind}" for kind in ("training", "benchmark", "judging", "chat")}


def work(who: Holder | Waiter, language: str) -> str:
    """What kind of work that is."""
    return say(language, WORK_WORDS.get(who.kind or "", "work.other"))


def party(who: Holder | Waiter, language: str) -> str:
    """The work with its run, or its process where it has none, and since when: `a training (run X, since 15:02)`."""
    known = []
    if who.run_id:
        known.append(say(language, "device.run", run=who.run_id))
    elif who.pid:
        known.append(say(language, "device.process", pid=who.pid))
    if who.since:
        known.append(say(language, "device.since", since=_clock(who.since)))
    if not known:
        return work(who, language)
    return say(language, "device.party", work=work(who, language), known=say(language, "device.comma").join(known))


def _clock(since: str) -> str:
    """An ISO 8601 time as hours and minutes; what is no such time, as in a damaged lease, is shown as it is."""
    try:
        return f"{datetime.fromisoformat(since).astimezone():%H:%M}"
    except ValueError:
        return since


def held_line(who: Holder | Waiter, language: str) -> str:
    """Why a question waits for a device, and what one can do about it."""
    key = "device.next" if isinstance(who, Waiter) else "device.chat" if who.kind == "chat" else "device.held"
    words = say(language, key, device=who.device, party=party(who, language))
    return words[:1].upper() + words[1:] if language == "en" else words


def strip(devices: Sequence[DeviceUse], language: str) -> str:
    """One line for each device that somebody has or waits for."""
    lines = "".join(f"<li>{esc(_line(use, language))}</li>" for use in devices)
    return f'<ul class="devices fine">{lines}</ul>' if lines else ""


def _line(use: DeviceUse, language: str) -> str:
    parts = [say(language, "device.free", device=use.device)]
    if use.holder is not None:
        parts = [say(language, "device.has", device=use.device, party=party(use.holder, language))]
        if use.holder.kind == "chat" and use.device != "cpu":
            parts.append(say(language, "device.keeps" if use.holder.keeps else "device.yields"))
    if use.waiting:
        comma = say(language, "device.comma")
        parts.append(say(language, "device.waiting", parties=comma.join(party(one, language) for one in use.waiting)))
    return " · ".join(parts)
