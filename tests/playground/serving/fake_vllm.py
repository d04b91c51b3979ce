"""Stands in for vLLM's server: takes its options, writes its log lines, answers /health and /v1/models.

FAKE_VLLM names a folder; `plays.json` in it lists what each start does (the last one from then on), `starts` counts
them, and `pids` gets a line for every process that was there. A play may have:
log: lines first; exit: a status to end with; kill: a signal for itself; wait: seconds before it is ready;
die_after: seconds after it was ready; deaf: it ignores SIGTERM; helper: "same" or "own" session of a child that stays;
dead: seconds after which /health answers 503; mute: it never opens its port.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STARTED = time.monotonic()
SLEEPER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def option(name: str, default: str = "") -> str:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def adapters() -> list[str]:
    names = []
    if "--lora-modules" in sys.argv:
        for word in sys.argv[sys.argv.index("--lora-modules") + 1 :]:
            if word.startswith("--"):
                break
            names.append(word.partition("=")[0])
    return names


def next_play(folder: Path) -> dict[str, object]:
    plays = json.loads((folder / "plays.json").read_text())
    with (folder / "starts").open("a") as file:
        file.write(json.dumps({"argv": sys.argv[1:], "environment": dict(os.environ)}) + "\n")
    number = len((folder / "starts").read_text().splitlines())
    return dict(plays[min(number, len(plays)) - 1])


def main() -> None:
    folder = Path(os.environ["FAKE_VLLM"])
    play = next_play(folder)
    print("(APIServer pid=1) INFO 01-01 00:00:00 [api_utils.py:1] non-default args: {}", flush=True)
    for line in play.get("log", []):
        print(line, flush=True)
    pids = [os.getpid()]
    if play.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if play.get("helper"):
        helper = subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=play["helper"] == "own")
        pids.append(helper.pid)
    with (folder / "pids").open("a") as file:
        file.write("".join(f"{pid}\n" for pid in pids))
    if "kill" in play:
        os.kill(os.getpid(), int(play["kill"]))
    if "exit" in play:
        sys.exit(int(play["exit"]))
    if play.get("mute"):
        time.sleep(600)
    time.sleep(float(play.get("wait", 0)))
    ready_at = time.monotonic()
    key = os.environ["VLLM_API_KEY"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            dead = "dead" in play and time.monotonic() - ready_at > float(play["dead"])
            if self.path == "/health":
                self.answer(503 if dead else 200, b"")
            elif self.headers.get("Authorization") != f"Bearer {key}":
                self.answer(401, b"{}")
            else:
                data = [{"id": name} for name in (option("--served-model-name"), *adapters())]
                self.answer(200, json.dumps({"data": data}).encode())

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    if "die_after" in play:
        threading.Timer(float(play["die_after"]), os._exit, [3]).start()
    server = ThreadingHTTPServer(("127.0.0.1", int(option("--port"))), Handler)
    print("(APIServer pid=1) INFO 01-01 00:00:00 [entry.py:1] Starting vLLM server", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
