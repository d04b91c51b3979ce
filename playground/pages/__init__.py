"""The pages people touch, the only code here that imports gradio. Start reading in `build_app` below.

One file per page (compare, browse, history), each with its handlers as plain functions above its layout; `markup.py` makes
HTML out of nouns, `text.py` holds every sentence in both languages, `theme.py` and `assets/` the look. A new page is a file with
`build(...)`, a tab here, and its sentences in `text.py`. Pages may import anything below them (engine, store, evaluation).
"""

from playground.pages.frame import build_app, launch_options
from playground.pages.services import EngineStatus, Readiness, Services

__all__ = ["EngineStatus", "Readiness", "Services", "build_app", "launch_options"]
