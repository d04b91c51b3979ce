"""`python -m tests.playground.jobs.fake_chat HOME BASE [keep]`: an app's router and supervisor, with a tiny model.

It says that its device is cuda:0, in the lease only: the model computes on the CPU. Each line on standard input asks a
question; each line on standard output is an answer, or why there is none.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from evaluation.errors import UserFacingError
from evaluation.types import Message, Sampling
from playground.engine.local import LocalEngine, identify
from playground.engine.protocol import GenerationRequest
from playground.engine.router import Router
from playground.jobs import Supervisor, claim_for_chat
from tests.playground.jobs.waiting import FAKE_WORK

DEVICE = "cuda:0"

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    home, base = Path(sys.argv[1]), Path(sys.argv[2])
    router = Router(
        lambda: ["base"],
        lambda report: LocalEngine(base, {}),
        claim=lambda: claim_for_chat(home, DEVICE, keeps="keep" in sys.argv[3:]),
        identify=lambda model: identify(base, model),
    )
    supervisor = Supervisor(home, program=FAKE_WORK)
    supervisor.start()
    print("ready", flush=True)
    for number, line in enumerate(sys.stdin):
        request = GenerationRequest(
            f"q{number}", "base", (Message("user", line.strip()),), Sampling(temperature=0.0, max_tokens=8)
        )
        try:
            tokens = max(chunk.tokens for chunk in router.stream([request]))
            print(f"answered {tokens}", flush=True)
        except UserFacingError as error:
            print(f"refused {error}", flush=True)
