"""What can be chosen here: models, adapters, suites, judges, and how each id is opened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evaluation.benchmark.pacing import Pacer
from evaluation.errors import ImportRejected, ModelUnavailable
from evaluation.judge.protocol import Judge
from evaluation.prompts.suites import Suite, list_suites, load_suite
from evaluation.types import ModelIdentity
from playground.engine.router import Router
from playground.engine.tenancy import Claim
from playground.settings import Settings
from training.embedded import ensure_embedded
from training.hub import fetch_model
from training.presets import SHIPPED_ADAPTERS

if TYPE_CHECKING:
    from playground.engine.local import LocalEngine
    from playground.engine.protocol import Engine
    from playground.engine.wire import Address
    from playground.serving import VllmServer
    from playground.serving.remote import RemoteServers

# torch and openai take seconds to import: they are imported where they are first needed, so that the page is there first.
log = logging.getLogger(__name__)

DEFAULT_PAIR = ("general", "answercarefully-sample")
DEFAULT_JUDGE = "embedded"
JUDGE_TOKENS = 2048  # of a verdict at most, for a judge that thinks first


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be named in a request."""

    id: str
    kind: Literal["base", "adapter", "checkpoint", "endpoint"]
    where: str  # folder or origin, for people


def adapters(settings: Settings) -> dict[str, Path]:
    """Adapters of the embedded model by name: the shipped ones, then the user's own under home/adapters.

    A user's adapter never takes a shipped one's name: which of two answered must be impossible to miss.
    """
    found: dict[str, Path] = {}
    for root in (SHIPPED_ADAPTERS, settings.home / "adapters"):
        for config in sorted(root.glob("[!.]*/adapter_config.json")):
            found.setdefault(config.parent.name, config.parent)
    # The default pair leads the list.
    return {name: found[name] for name in sorted(found, key=lambda n: (n not in DEFAULT_PAIR, n != DEFAULT_PAIR[0], n))}


def models(settings: Settings) -> list[ModelEntry]:
    """Everything offered without loading anything."""
    entries = [ModelEntry("base", "base", "Gemma 3 270M, embedded")]
    entries += [ModelEntry(name, "adapter", str(folder)) for name, folder in adapters(settings).items()]
    entries += [ModelEntry(model, "checkpoint", model.partition(":")[2]) for model in settings.models]
    if settings.vllm_url:
        from playground.served import their_engine

        where = ", ".join(settings.vllm_url)
        entries += [ModelEntry(model, "endpoint", where) for model in their_engine(settings).model_ids()]
    entries += [ModelEntry(f"openai:{n}", "endpoint", settings.openai_base_url) for n in settings.openai_models]
    return entries


def endpoint_pacer(settings: Settings, *, cap_usd: float | None = None, spent_usd: float = 0.0) -> Pacer:
    """How the endpoint may be asked: within the account's rate, and within a spend cap where there is one."""
    return Pacer(requests_per_minute=settings.openai_requests_per_minute, cap_usd=cap_usd, spent_usd=spent_usd)


def build_router(
    settings: Settings,
    pacer: Pacer | None = None,
    claim: Callable[[], Claim | None] = lambda: None,
    server: VllmServer | RemoteServers | None = None,
    *,
    names_only: bool = False,
) -> Router:
    """The engine in front of all engines. Nothing is loaded yet. `pacer` is that of long work, shared with its judge.

    `claim` is for a process that lends its device to others between two questions; see `Router`. `server` is the app's
    vLLM server, for the engine `vllm`; without it one is started when it is first needed and ends with this process.
    `names_only` is for a process that wants no answer: it starts none to say what models are.
    """
    long_work = pacer is not None
    served = None
    if settings.engine == "vllm":
        from playground.served import ServedEngine

        served = ServedEngine(settings, lambda: adapters(settings), server, long_work=long_work, names_only=names_only)

    def load_embedded(report: Callable[[str], None]) -> LocalEngine:
        from playground.engine.local import LocalEngine

        report("looking for the embedded model")
        folder = ensure_embedded(settings.home, report)
        report("loading the embedded model and its adapters")
        found = adapters(settings) if served is None else {}  # then only the embedded judge reads its states
        try:
            return LocalEngine(folder, found, max_context=settings.max_context, device=_embedded_device(settings))
        except ModelUnavailable as error:
            shipped = {name: path for name, path in found.items() if path.parent == SHIPPED_ADAPTERS}
            if len(shipped) == len(found):
                raise
            log.warning("an adapter under %s cannot be used: %s", settings.home / "adapters", error)
        # One bad adapter of somebody's own must not take everything with it; each is loaded when it is asked for.
        return LocalEngine(folder, shipped, max_context=settings.max_context)

    endpoints: list[Engine] = []
    if settings.vllm_url:
        from playground.served import their_engine

        endpoints.append(their_engine(settings, long_work=long_work))
    if settings.openai_models:
        from evaluation.judge.endpoint import MAX_ATTEMPTS
        from playground.engine.endpoint import ATTEMPTS, EndpointEngine

        endpoints.append(
            EndpointEngine(
                settings.openai_base_url,
                settings.endpoint_key,
                settings.openai_models,
                pacer=pacer or endpoint_pacer(settings),
                attempts=ATTEMPTS if pacer is None else MAX_ATTEMPTS,
            )
        )
    return Router(
        embedded_ids=lambda: ["base", *adapters(settings)] if served is None else [],
        load_embedded=load_embedded,
        endpoints=endpoints,
        load_other=lambda model: _open_checkpoint(model, settings),
        other_ids=settings.models,
        adapters=lambda: adapters(settings) if served is None else {},
        served=served,
        claim=claim,
        identify=lambda model: _identify(model, settings),
    )


def _open_checkpoint(model: str, settings: Settings) -> LocalEngine:
    from playground.engine.local import LocalEngine

    return LocalEngine(_checkpoint_folder(model, settings), {}, base_id=model, max_context=settings.max_context)


def _checkpoint_folder(model: str, settings: Settings) -> Path:
    kind, _, name = model.partition(":")
    return Path(name).expanduser() if kind == "path" else _download(name, settings)


def _identify(model: str, settings: Settings) -> ModelIdentity:
    """What a model in this process is, from its files. Raises ModelUnavailable for an unknown id."""
    from playground.engine.local import identify

    if model.partition(":")[0] in ("hub", "path"):
        return identify(_checkpoint_folder(model, settings), model)
    found = adapters(settings)
    if model != "base" and model not in found:
        raise ModelUnavailable(f"There is no model {model} here; choose one of base, {', '.join(found)}.")
    return identify(ensure_embedded(settings.home), model, found.get(model), _embedded_device(settings))


def _embedded_device(settings: Settings) -> str | None:
    """Where the embedded model computes in this process: beside the app's vLLM server, which has the GPU and its memory, on the CPU."""
    return "cpu" if settings.engine == "vllm" else None


def _download(name: str, settings: Settings) -> Path:
    return fetch_model(name, settings.hf_token.get_secret_value() if settings.hf_token else None)


def suites(settings: Settings) -> list[Suite]:
    """The sample suites and everything imported. A damaged import is left out, with a line in the log."""
    found = []
    for name in list_suites(settings.home):
        about = settings.home / "suites" / name / "suite.json"
        changed = about.stat().st_mtime_ns if about.is_file() else 0
        try:
            found.append(_suite(name, settings.home, changed))
        except ImportRejected as error:
            log.warning("suite %s is left out: %s", name, error)
    return found


@lru_cache(maxsize=64)
def _suite(name: str, home: Path, changed: int) -> Suite:
    """A suite as it was at `changed`: pages ask for all of them at every click."""
    return load_suite(name, home)


def judges(settings: Settings, router: Router) -> Mapping[str, Callable[[], Judge]]:
    """Judge ids offered here, each with the function that opens it."""
    offered: dict[str, Callable[[], Judge]] = {DEFAULT_JUDGE: lambda: judge(DEFAULT_JUDGE, settings, router)}
    if settings.endpoint_key is not None:
        offered[f"openai:{settings.judge_model}"] = lambda: judge(f"openai:{settings.judge_model}", settings, router)
    if settings.judge_url or settings.vllm_url:
        from playground.engine.vllm_cards import names_of

        for name in dict.fromkeys(name for address in _judges_servers(settings) for name in names_of(address)):
            offered[f"vllm:{name}"] = lambda name=name: judge(f"vllm:{name}", settings, router)  # type: ignore[misc]
    return offered


def judge(judge_id: str, settings: Settings, router: Router, pacer: Pacer | None = None) -> Judge:
    """Open a judge by id: `embedded`, `openai:MODEL` or `vllm:NAME`. Raises ModelUnavailable or AccessMissing.

    `pacer` is that of long work, shared with the models it asks.
    """
    kind, _, name = judge_id.partition(":")
    if judge_id == DEFAULT_JUDGE:
        from evaluation.judge.embedded import EmbeddedJudge

        # Its states are computed in this process, whatever answers for the model.
        base = router.identity("base") if router.served is None else _identify("base", settings)
        return EmbeddedJudge(router.pooled_states, base.digest)
    if kind == "vllm" and name:
        return _vllm_judge(name, settings, router, pacer)
    if kind == "openai" and name:
        from evaluation.judge.openai_judge import OpenAIJudge

        return OpenAIJudge(
            name,
            base_url=settings.openai_base_url,
            api_key=settings.endpoint_key,
            pacer=pacer or endpoint_pacer(settings),
        )
    raise ModelUnavailable(f"There is no judge {judge_id}; use {DEFAULT_JUDGE}, openai:MODEL or vllm:NAME.")


def _judges_servers(settings: Settings) -> list[Address]:
    """The servers that judges `vllm:NAME` are on, where somebody else runs them."""
    from playground.engine.wire import Address

    if settings.judge_url:
        return [Address(settings.judge_url, settings.judge_key)]
    return [Address(url, settings.vllm_key) for url in settings.vllm_url]


def _judges_server(name: str, settings: Settings) -> Address:
    """The first of them that has the model; the first at all where none says so, which then says what is wrong."""
    from playground.engine.vllm_cards import names_of

    servers = _judges_servers(settings)
    if len(servers) == 1:
        return servers[0]
    return next((server for server in servers if name in names_of(server)), servers[0])


def _vllm_judge(name: str, settings: Settings, router: Router, pacer: Pacer | None) -> Judge:
    """A model of a vLLM server as a judge: of the second server, of somebody else's, or of our own, in that order."""
    from evaluation.judge.openai_judge import OpenAIJudge
    from playground.engine.balance import MOST, START
    from playground.engine.vllm_cards import longest_context
    from playground.engine.wire import Address
    from playground.served import ServedEngine

    where = None
    if settings.judge_url or settings.vllm_url:
        address = _judges_server(name, settings)
    elif isinstance(router.served, ServedEngine):
        server = router.served.server()
        # Its port is another at each start, and so would the judge be.
        address, where = Address(server.base_url, server.api_key), router.identity(name).digest
    else:
        raise ModelUnavailable(
            f"There is no vLLM server for the judge vllm:{name}; set PLAYGROUND_JUDGE_URL or PLAYGROUND_VLLM_URL, or "
            "PLAYGROUND_ENGINE=vllm."
        )
    context = longest_context(address)
    return OpenAIJudge(
        name,
        base_url=address.base_url,
        api_key=address.key,
        pacer=(pacer or Pacer()).beside(start=START, most=MOST),
        kind="vllm",
        where=where,
        # A quarter for the verdict leaves room for a long response in the prompt.
        max_tokens=min(JUDGE_TOKENS, context // 4) if context else JUDGE_TOKENS,
    )
