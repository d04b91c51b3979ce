"""`python -m playground`: see `playground.cli`."""

import sys

from evaluation.collector import without_collector

with without_collector():
    from playground.cli import main

sys.exit(main())
