"""Models of vLLM servers that somebody else runs: known by their names, prompted by the servers' own templates."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from evaluation.errors import ModelUnavailable
from evaluation.types import ModelIdentity
from playground.engine.balance import Server
from playground.engine.protocol import GenerationRequest
from playground.engine.vllm_cards import CANNOT_ANSWER, cards_of, none_answers
from playground.engine.vllm_models import Prepared, sampling_of
from playground.engine.wire import BROKEN, QUICK_S, Call, Refused, Unreachable
from training.chat import LLM_JP_SYSTEM, STOP_BEFORE, llm_jp_text

log = logging.getLogger(__name__)

NEWS_S = 15.0  # how long a server's list of models is believed
_PROBE = "こんにちは"
_TEXT_FORMAT = f"llm-jp, as text:{LLM_JP_SYSTEM}"


class TheirModels:
    """Models of somebody else's servers, `prefix` and the name that the server gives them."""

    def __init__(self, servers: Sequence[Server], *, prefix: str = "vllm:") -> None:
        self._servers, self._prefix = list(servers), prefix
        self._names: dict[Server, list[str]] = {}
        self._heard = float("-inf")
        self._chats: dict[str, bool] = {}  # name -> whether its server has a chat template
        self._lock = threading.Lock()

    def model_ids(self) -> list[str]:
        """The names of all servers. Asks them at most every NEWS_S seconds; one that is silent keeps its old ones."""
        with self._lock:
            if time.monotonic() - self._heard > NEWS_S:
                for server in self._servers:
                    try:
                        self._names[server] = [str(card["id"]) for card in cards_of(server)]
                    except CANNOT_ANSWER as problem:
                        log.warning("%s does not say what it serves: %s", server.address.origin, problem)
                self._heard = time.monotonic()
            found = dict.fromkeys(name for names in self._names.values() for name in names)
        return [self._prefix + name for name in found]

    def identity(self, model: str) -> ModelIdentity:
        """What `model` is, as far as servers tell: their addresses and the name. Raises ModelUnavailable."""
        name = self._name(model)
        origins = " ".join(sorted(server.address.origin for server in self._servers))
        told = f"{origins} {name}"
        template = "endpoint" if self._has_template(name) else hashlib.sha256(_TEXT_FORMAT.encode()).hexdigest()
        return ModelIdentity(model, told, hashlib.sha256(told.encode()).hexdigest(), None, template)

    def check(self) -> None:
        """See `Models.check`."""
        if not self.model_ids():
            raise none_answers(self._servers)

    def able(self, server: Server, model: str) -> bool:
        """Whether the server has named it."""
        return model.removeprefix(self._prefix) in self._names.get(server, ())

    def prepare(self, request: GenerationRequest) -> Prepared:
        """The conversation as it is for a server with a chat template, as text of the LLM-jp format for one without."""
        name, sampling = self._name(request.model), request.sampling
        body: dict[str, Any] = {"model": name, **sampling_of(request)}
        digest = self.identity(request.model).digest
        if not self._has_template(name):
            body |= {"prompt": llm_jp_text(request.messages, sampling.system_prompt), "stop": list(STOP_BEFORE)}
            return Prepared(digest, "completions", body)
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        if sampling.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": sampling.system_prompt})
        return Prepared(digest, "chat/completions", body | {"messages": messages})

    def ready(self, server: Server, prepared: Prepared) -> None:
        """Nothing is to be done."""

    def _name(self, model: str) -> str:
        offered = self.model_ids()
        if not offered:
            raise none_answers(self._servers)
        if model not in offered:
            raise ModelUnavailable(f"There is no model {model} here; choose one of {', '.join(offered)}.")
        return model.removeprefix(self._prefix)

    def _has_template(self, name: str) -> bool:
        """Ask once. A server that does not say is taken to have one, as every server of chat models does."""
        if name in self._chats:
            return self._chats[name]
        body = {"model": name, "messages": [{"role": "user", "content": _PROBE}]}
        silent: Exception | None = None
        for server in (server for server in self._servers if name in self._names.get(server, ())):
            try:
                Call(server.address, QUICK_S).text("/tokenize", body)
            except Refused as refused:
                self._chats[name] = not (refused.status == 400 and "template" in refused.told.lower())
            except (Unreachable, *BROKEN) as problem:  # another may have it too
                silent = problem
                continue
            else:
                self._chats[name] = True
            return self._chats[name]
        raise none_answers(self._servers) from silent
