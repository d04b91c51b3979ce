"""A report of benchmark runs: one HTML file that needs nothing else, in Japanese and English.

It holds no script and loads nothing, so it opens from disk without a network and can be sent to a colleague. `page` puts
it together, `figures` draws, `text` has every sentence, `style.css` the look. Never gradio, duckdb or `playground`.
"""

from evaluation.report.page import build_report

__all__ = ["build_report"]
