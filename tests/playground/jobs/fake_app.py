"""`python -m tests.playground.jobs.fake_app HOME`: an app that is nothing but a supervisor, to be killed."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from playground.jobs import Supervisor
from tests.playground.jobs.waiting import FAKE_WORK

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    supervisor = Supervisor(Path(sys.argv[1]), program=FAKE_WORK)
    supervisor.start()
    supervisor.jobs()
    print("watching", flush=True)
    while True:
        time.sleep(60)
