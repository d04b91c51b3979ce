"""The app with fakes, for looking at it by hand: `python -m tests.serve_fake --port 7861`."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from playground.pages import build_app, launch_options
from tests.fakes import FakeEngine, FakeJudge, FakeReadiness, fake_services


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, default=7861)
    options.add_argument("--delay", type=float, default=0.04, help="seconds per token pair")
    options.add_argument(
        "--loading", type=int, default=3, help="how many readiness questions until the engine is ready"
    )
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as home:
        judges = (FakeJudge(delay_s=0.6), FakeJudge("openai:gpt-4o-2024-08-06", delay_s=0.4))
        services = fake_services(
            Path(home), FakeEngine(delay_s=chosen.delay), judges, FakeReadiness(loading=chosen.loading)
        )
        build_app(services).launch(**launch_options(server_name="127.0.0.1", server_port=chosen.port))


if __name__ == "__main__":
    main()
