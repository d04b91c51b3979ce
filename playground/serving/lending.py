"""The app's own server, lent to the process of a run, which then needs none of its own.

Address and key go over in the process's environment, which its user alone can read: not on its command line and not
into the run's folder. The process speaks to the server as the app does; when that is gone, with the app or because
somebody has stopped it, the process starts one of its own.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from evaluation.errors import UserFacingError
from evaluation.journal import RunInfo
from playground.serving import asking
from playground.serving.local import vllm_server
from playground.serving.reasons import ServerFailed
from playground.serving.remote import RemoteServers
from playground.serving.server import VllmServer
from playground.serving.state import Server
from playground.serving.watched import Report
from playground.settings import Settings

log = logging.getLogger(__name__)

LENT = "PLAYGROUND_LENT_VLLM"  # of the app's child processes; nobody sets it by hand
_FIELDS = ("base_url", "api_key", "model", "folder", "max_model_len", "max_lora_rank")


class ServerStarting(UserFacingError):
    """The app's server is on its way, in or out; the run that needs one is started when it is there, or gone."""


def lent_to(info: RunInfo, server: VllmServer | RemoteServers) -> dict[str, str]:
    """What a run's process finds in its environment: the app's server when it runs and the run needs one, else nothing.

    Servers that somebody else runs are in the settings, which the process reads itself. Raises ServerStarting.
    """
    if not isinstance(server, VllmServer) or not needs_server(info, server.settings):
        return {}
    phase = server.state().phase
    if phase == "starting":
        raise ServerStarting("The vLLM server is starting; the run begins when it is there.")
    if phase == "stopping":  # it still has the device, which the run's own server needs
        raise ServerStarting("The vLLM server is stopping; the run begins, with a server of its own, when it has.")
    try:
        found = server.server()
    except ServerFailed:  # the run starts its own, and says so where that fails too
        return {}
    return {LENT: json.dumps({name: _plain(getattr(found, name)) for name in _FIELDS})}


def needs_server(info: RunInfo, settings: Settings) -> bool:
    """Whether the run asks a vLLM server of our own."""
    if info.kind not in ("benchmark", "judging"):
        return False
    if info.settings.get("engine") == "vllm":
        return True
    judged = str(info.settings.get("judge") or "").startswith("vllm:")
    return judged and settings.engine == "vllm" and not settings.judge_url


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def lent_server(environment: Mapping[str, str] = os.environ) -> Server | None:
    """The server that the app has lent to this process, if it has."""
    if LENT not in environment:
        return None
    found = json.loads(environment[LENT])
    folder = Path(found["folder"]) if found["folder"] else None
    return Server(
        (found["base_url"],), found["api_key"], found["model"], (), {}, folder, found["max_model_len"],
        found["max_lora_rank"],
    )  # fmt: skip


class LentServer:
    """The methods of `VllmServer` that an engine needs, over a server that is lent, and one of our own after it."""

    def __init__(self, lent: Server, settings: Settings) -> None:
        """Nothing is asked before `wait_ready`."""
        self._lent, self._settings = lent, settings
        self._own: VllmServer | RemoteServers | None = None
        self._mutex = threading.Lock()

    def start(self) -> None:
        """The app has started it."""

    def wait_ready(self, report: Report = lambda words: None) -> Server:
        """The lent server when it answers, else our own, once that does. Raises ServerFailed."""
        try:
            asking.models(self._lent.base_url, self._lent.api_key)
            return self._lent
        except ServerFailed as error:
            log.warning("the app's vLLM server: %s", error)
        return self.own(report)

    def server(self) -> Server:
        """The one that was found last. Raises ServerFailed."""
        return self._lent if self._own is None else self._own.server()

    def own(self, report: Report = lambda words: None) -> Server:
        """A server of this process, started if need be, for when the lent one is gone. Raises ServerFailed."""
        with self._mutex:
            if self._own is None:
                report("the app's vLLM server is gone; this run starts its own")
                self._own = vllm_server(self._settings)
            self._own.start()
            return self._own.wait_ready(report)

    def close(self) -> None:
        """End our own; the lent one goes on."""
        if self._own is not None:
            self._own.close()
