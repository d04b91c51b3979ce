"""What vLLM servers serve, seen from here, and models whose files lie here (`vllm_theirs` has those without).

With the files identities are hashes, as the in-process engine's are, prompts are sent as tokens, and adapters are loaded
into running servers under names that contain their hash: weights that were replaced under one name can then never
answer for each other, not even out of the server's prefix cache.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from evaluation.errors import ModelUnavailable, PromptTooLong
from evaluation.types import ModelIdentity
from playground.engine.balance import Server
from playground.engine.protocol import GenerationRequest
from playground.engine.thinking import left_open
from playground.engine.vllm_cards import CANNOT_ANSWER, cards_of, none_answers
from playground.engine.wire import QUICK_S, Call, Refused
from training.chat import ChatFormat
from training.embedded import weights_sha256

log = logging.getLogger(__name__)

LOAD_S = 120.0  # a large adapter read from a slow disk
_PROOF = "自己診断"


@dataclass(frozen=True)
class Prepared:
    """A request as a server takes it. `begin` stands before the reply's first text."""

    identity: str
    path: str
    body: dict[str, Any]
    begin: str = ""
    adapter: Path | None = None  # which a server may have to load first, under the body's model name


@dataclass(frozen=True)
class LinearShape:
    """What an adapter's layer must fit."""

    in_features: int
    out_features: int


class Models(Protocol):
    """What VllmEngine needs to know."""

    def model_ids(self) -> list[str]: ...

    def identity(self, model: str) -> ModelIdentity: ...

    def prepare(self, request: GenerationRequest) -> Prepared:
        """Raises ModelUnavailable, PromptTooLong."""

    def check(self) -> None:
        """Raises ModelUnavailable unless a server answers, and serves what it should."""

    def able(self, server: Server, model: str) -> bool:
        """Whether the server can be asked for the model."""

    def ready(self, server: Server, prepared: Prepared) -> None:
        """Make the server ready for the request. Raises ModelUnavailable, and CANNOT_ANSWER."""


def sampling_of(request: GenerationRequest) -> dict[str, Any]:
    """How text is drawn, said in full: a server takes what is left out from the model's own defaults."""
    sampling = request.sampling
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "seed": sampling.seed,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
    }


class OurModels:
    """A base model whose folder lies here, and adapters for it, on servers that have loaded that same folder."""

    def __init__(
        self,
        servers: Sequence[Server],
        folder: Path,
        *,
        base_id: str = "base",
        max_rank: int | None = None,
    ) -> None:
        """Reads the tokenizer and hashes the weights; takes seconds. Asks no server yet.

        `max_rank` is the largest adapter that the servers take. Raises ModelUnavailable when the folder cannot be used.
        """
        from transformers import AutoTokenizer

        self._servers, self._folder, self._base_id, self._max_rank = list(servers), folder, base_id, max_rank
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ModelUnavailable(f"The tokenizer in {folder} cannot be loaded ({type(error).__name__}).") from error
        self._chat = ChatFormat(self._tokenizer)
        self._stop_ids = _stop_ids(folder, self._tokenizer)
        self._harmony = "<|channel|>" in (self._chat.template or "")
        # Without the precision: no server tells it.
        base, weights = f"{folder.name} (vLLM)", weights_sha256(folder)
        self._base = ModelIdentity(base_id, base, weights, None, self._chat.sha256)
        self._adapters: dict[str, tuple[ModelIdentity, Path]] = {}
        self._names: dict[Server, str] = {}  # of the base, at each server that we have met
        self._context: int | None = None
        self._lock = threading.Lock()

    def model_ids(self) -> list[str]:
        """The base and the adapters that were added."""
        return [self._base_id, *self._adapters]

    def identity(self, model: str) -> ModelIdentity:
        """What `model` is. Raises ModelUnavailable for an unknown id."""
        if model == self._base_id:
            return self._base
        if model not in self._adapters:
            raise ModelUnavailable(f"There is no model {model} here; choose one of {', '.join(self.model_ids())}.")
        return self._adapters[model][0]

    def identify(self, name: str, folder: Path) -> ModelIdentity:
        """What the adapter is, from its files; asks no server. Raises ModelUnavailable when it cannot be used."""
        from playground.engine.adapters import read_adapter

        sha256 = read_adapter(folder, name).sha256
        return ModelIdentity(name, self._base.base, self._base.weights_sha256, sha256, self._base.template_sha256)

    def add_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter, or a new version of one, into the servers that can be reached now.

        Raises ModelUnavailable when it cannot be used, does nothing, or no server answers.
        """
        from playground.engine.adapters import check_fits, read_adapter

        if name == self._base_id:
            raise ModelUnavailable(f"An adapter cannot be named {name}; that means no adapter.")
        adapter = read_adapter(folder, name)
        # vLLM 0.32 takes an adapter of other shapes without a word, and then writes nonsense.
        check_fits(adapter, linear_shapes(self._folder))
        if self._max_rank is not None and adapter.rank > self._max_rank:
            raise ModelUnavailable(_rank_told(name, adapter.rank, self._max_rank))
        identity = ModelIdentity(
            name, self._base.base, self._base.weights_sha256, adapter.sha256, self._base.template_sha256
        )
        served, before = _served_name(name, adapter.sha256), self._adapters.get(name)
        reached = 0
        for server in self._servers:
            try:
                self._load(server, served, folder, adapter.rank)
                self._prove(server, name, served)
            except CANNOT_ANSWER as problem:
                log.warning("adapter %s is not loaded at %s yet: %s", name, server.address.origin, problem)
            else:
                reached += 1
        if not reached:
            raise self._nobody()
        with self._lock:
            self._adapters[name] = (identity, folder)
        if before is not None and before[0].adapter_sha256 != adapter.sha256:
            self._unload(_served_name(name, before[0].adapter_sha256))

    def add_server(self, server: Server) -> None:
        """One more that has loaded the folder."""
        self._servers.append(server)

    def able(self, server: Server, model: str) -> bool:
        """Every server serves all of them."""
        return True

    def prepare(self, request: GenerationRequest) -> Prepared:
        """Render the prompt to tokens. Raises ModelUnavailable, PromptTooLong."""
        identity = self.identity(request.model)
        self.check()
        ids = self._chat.prompt_ids(request.messages, request.sampling.system_prompt)
        needed = len(ids) + request.sampling.max_tokens
        if self._context is not None and needed > self._context:
            raise PromptTooLong(
                f"The prompt has {len(ids)} tokens and up to {request.sampling.max_tokens} are to be generated: {needed} in "
                f"all, but the server takes {self._context}. Shorten the text by {needed - self._context} tokens or lower max tokens."
            )
        body: dict[str, Any] = {"prompt": ids, **sampling_of(request), "stop_token_ids": self._stop_ids}
        if self._chat.stop:
            body["stop"] = list(self._chat.stop)
        if self._harmony:
            body["skip_special_tokens"] = False  # they say where its thoughts end
        begin = left_open(str(self._tokenizer.decode(ids[-8:])))
        if request.model == self._base_id:
            return Prepared(identity.digest, "completions", body, begin)
        body["model"] = _served_name(request.model, identity.adapter_sha256)
        return Prepared(identity.digest, "completions", body, begin, self._adapters[request.model][1])

    def ready(self, server: Server, prepared: Prepared) -> None:
        """Know the base's name there, and load the adapter unless it is there."""
        base = self._meet(server)
        if prepared.adapter is None:
            prepared.body["model"] = base
        else:
            self._load(server, prepared.body["model"], prepared.adapter, None)

    def check(self) -> None:
        """Know at least one server, for the context that it has. Raises ModelUnavailable."""
        if self._names:
            return
        for server in self._servers:
            try:
                self._meet(server)
                return
            except CANNOT_ANSWER as problem:
                log.info("%s does not answer: %s", server.address.origin, problem)
        raise self._nobody()

    def _meet(self, server: Server) -> str:
        """The base's name at the server. Raises ModelUnavailable when it has loaded something else."""
        known = self._names.get(server)
        if known is not None:
            return known
        cards = cards_of(server)
        base = next((card for card in cards if not card.get("parent")), None)
        root = str(base.get("root") or "") if base else ""
        if base is None or not root or Path(root).resolve() != self._folder.resolve():
            raise ModelUnavailable(
                f"The server at {server.address.origin} serves {root or 'nothing'}, not {self._folder}; name its models "
                "as vllm:NAME, or start it with that folder."
            )
        with self._lock:
            self._names[server] = str(base["id"])
            length = base.get("max_model_len")
            if isinstance(length, int):
                self._context = length if self._context is None else min(length, self._context)
        return self._names[server]

    def _load(self, server: Server, served: str, folder: Path, rank: int | None) -> None:
        from playground.engine.adapters import adapter_sha256

        name = served.rpartition("@")[0]
        self._meet(server)
        with server.loading:
            if served in server.adapters:
                return
            body = {"lora_name": served, "lora_path": str(folder.resolve())}
            try:
                Call(server.address, LOAD_S).text("load_lora_adapter", body)
            except Refused as refused:
                # Loaded by another process of ours: the name has the hash, so it is the same.
                if not (refused.status == 400 and "already" in refused.told):
                    raise self._load_refused(server, served, rank, refused) from refused
            server.adapters.add(served)
            if _served_name(name, adapter_sha256(folder)) != served:  # replaced meanwhile: which of both was read?
                self._forget(server, served)
                raise ModelUnavailable(f"Adapter {name} was changed while it was loaded; ask again.")

    def _load_refused(self, server: Server, served: str, rank: int | None, refused: Refused) -> Exception:
        name = served.rpartition("@")[0]
        if refused.status in (404, 405) and "lora" not in refused.told.lower():
            return ModelUnavailable(
                f"The server at {server.address.origin} does not load adapters while it runs; start it with "
                "--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment."
            )
        if "max_lora_rank" in refused.told:
            return ModelUnavailable(_rank_told(name, rank, self._max_rank))
        if refused.status in (401, 403, 429, 503):
            return refused
        return ModelUnavailable(
            f"Adapter {name}: the server at {server.address.origin} cannot use it ({refused.told or refused.status})."
        )

    def _prove(self, server: Server, name: str, served: str) -> None:
        """Raise ModelUnavailable unless the adapter changes what the server computes."""
        prompt = self._chat.text_ids(_PROOF)
        drawn = []
        for model in (self._meet(server), served):
            body = {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0.0, "logprobs": 1}
            found = Call(server.address, LOAD_S).json("completions", body)["choices"][0]["logprobs"]
            drawn.append((found["tokens"], found["token_logprobs"]))
        if drawn[0] == drawn[1]:
            with server.loading:
                self._forget(server, served)
            raise ModelUnavailable(f"Self-test: adapter {name} changes nothing; it is empty or not for this base.")

    def _unload(self, served: str) -> None:
        """Take an adapter that was replaced out of the servers; replies that are being made with it go on."""
        for server in self._servers:
            with server.loading:
                self._forget(server, served)

    def _forget(self, server: Server, served: str) -> None:
        if served not in server.adapters:
            return
        server.adapters.discard(served)
        try:
            Call(server.address, QUICK_S).text("unload_lora_adapter", {"lora_name": served})
        except CANNOT_ANSWER as problem:  # it costs the server some memory, nothing else
            log.warning("%s keeps adapter %s: %s", server.address.origin, served, problem)

    def _nobody(self) -> ModelUnavailable:
        return none_answers(self._servers)


def _served_name(name: str, sha256: str | None) -> str:
    return f"{name}@{(sha256 or '')[:16]}"


def _rank_told(name: str, rank: int | None, most: int | None) -> str:
    own = f"rank {rank}" if rank is not None else "a rank"
    than = f"the {most} that the server was started for" if most is not None else "the server was started for"
    need = f"--max-lora-rank {rank}" if rank is not None else "a larger --max-lora-rank"
    return f"Adapter {name} has {own}, more than {than}; start the server again with {need}."


def linear_shapes(folder: Path) -> dict[str, LinearShape]:
    """The matrices of a model's safetensors files by layer name; only the files' heads are read."""
    found: dict[str, LinearShape] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            head = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        for key, tensor in head.items():
            if key.endswith(".weight") and len(tensor["shape"]) == 2:
                found[key.removesuffix(".weight")] = LinearShape(tensor["shape"][1], tensor["shape"][0])
    return found


def _stop_ids(folder: Path, tokenizer: Any) -> list[int]:
    """Every token that ends a reply: the generation config may list several, the tokenizer knows one."""
    file = folder / "generation_config.json"
    named = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
    ids = [] if named is None else [named] if isinstance(named, int) else list(named)
    return sorted({*ids, *([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [])})
