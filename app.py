"""The AnswerCarefully Playground: wiring and launch. Also the entry of a Hugging Face Space.

What exists: a router in front of the models, judges, the suites, the chat log over run folders with their
DuckDB index, the supervisor of long runs, and the pages. Settings come from the environment (`PLAYGROUND_*`) and `.env`.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys

# Before gradio and transformers are imported: they read these once. Nothing is sent anywhere by itself.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("FORWARDED_ALLOW_IPS", "")  # uvicorn would believe whoever asks from this machine; see access.py

from evaluation.errors import UserFacingError
from evaluation.journal import read_run
from playground import catalog
from playground.engine.router import Router
from playground.engine.zerogpu import BorrowedGpu
from playground.jobs import Supervisor, claim_for_chat, default_device
from playground.pages import EngineStatus, Services, assembly, build_app, launch_options
from playground.pages.services import owners
from playground.pages.text_errors import line_for
from playground.serving import lent_to, vllm_server
from playground.settings import Settings, load_settings
from playground.store import ChatLog, Store

# The page explains how far the embedded model is; these are the loader's stages in the visitor's words.
STAGES_JA = {
    "starting": "準備しています",
    "looking for the embedded model": "内蔵モデルを確認しています",
    "loading the embedded model and its adapters": "モデルとアダプターを読み込んでいます",
    "vLLM server: preparing": "vLLM サーバー: モデルと空きメモリを確かめています",
    "vLLM server: importing": "vLLM サーバー: 読み込んでいます",
    "vLLM server: engine": "vLLM サーバー: エンジンを準備しています",
    "vLLM server: weights": "vLLM サーバー: 重みを読み込んでいます",
    "vLLM server: cache": "vLLM サーバー: キャッシュの領域を確保しています",
    "vLLM server: opening": "vLLM サーバー: まもなく受け付けを始めます",
}
# Share of the start that is done when a stage begins; the conversion is most of a first start.
FRACTIONS = {
    "converting the embedded model, once, about a minute: unpacking": 0.05,
    "converting the embedded model, once, about a minute: tokenizer": 0.1,
    "converting the embedded model, once, about a minute: weights": 0.35,
    "loading the embedded model and its adapters": 0.85,
}


class RouterReadiness:
    """Tells the page how far the embedded model is."""

    def __init__(self, router: Router | BorrowedGpu) -> None:
        self._router = router

    def status(self) -> EngineStatus:
        """The load state in both languages."""
        state = self._router.load_state()
        if state.ready:
            return EngineStatus("ready", "準備できました", "Ready", 1.0)
        if state.error is not None:
            return EngineStatus("failed", line_for(state.error, "ja"), state.error)
        return EngineStatus(
            "loading",
            STAGES_JA.get(stage := state.stage.partition(", start ")[0]) or line_for(stage, "ja"),
            state.stage,
            FRACTIONS.get(state.stage),
        )


def keep_few_heaps() -> None:
    """Let threads that start later share two heaps, instead of one each; peak memory 2.7 GB became 2.5 GB.

    glibc's own setting (-8 is M_ARENA_MAX); other C libraries have no mallopt. `MALLOC_ARENA_MAX=2` in the
    environment, as `make run` and the Dockerfile set it, reaches the earlier threads too (1.8 GB).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-8, 2)


def build_services(settings: Settings) -> Services:
    """Open the store and hand the pages what they need. The embedded model loads when it is started or first asked for."""
    keep_few_heaps()
    access = assembly.access_of(settings)
    store = Store(settings.home / "index.duckdb", settings.runs)
    server = vllm_server(settings)
    router = catalog.build_router(
        settings,
        claim=lambda: claim_for_chat(settings.home, default_device(), keeps=settings.chat_keeps_gpu),
        server=server,
    )
    engine = assembly.borrowed_gpu(settings) if access.profile.name == "zerogpu" else router
    own = Services(
        engine=engine,
        judges=catalog.judges(settings, engine),
        suites=lambda: catalog.suites(settings),
        chat=ChatLog(store, settings.runs),
        store=store,
        readiness=RouterReadiness(engine),
        settings=settings,
        jobs=Supervisor(settings.home, lend=lambda run: lent_to(read_run(run), server)),
        vllm=server,
        access=access,
    )
    return assembly.with_visitors(own, settings) if access.profile.public else own


def main() -> int:
    """Serve until interrupted. Returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log every request of the page
    try:
        settings = load_settings()
        services = build_services(settings)
        app = build_app(services)
        own, housekeeping = owners(services), assembly.Housekeeping(services, settings.retention_days)
    except UserFacingError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        at = {"server_name": settings.host, "server_port": settings.port}
        app.launch(**launch_options(services.access, hosts=settings.own_names, **at, prevent_thread_lock=True))
        own.engine.start()  # after the page is there: loading would slow it down
        own.jobs.start()
        housekeeping.start()
        app.block_thread()
    except OSError as error:
        print(
            f"Cannot serve on {settings.host}:{settings.port} ({error}); set PLAYGROUND_PORT to a free port.",
            file=sys.stderr,
        )
        return 1
    finally:
        housekeeping.close()
        assembly.close(services)
    return 0


if __name__ == "__main__":
    sys.exit(main())
