"""The DuckDB index over the run folders. All SQL of the project is here, and the only duckdb import.

May import `evaluation`; knows no page and no engine. Start at `index.Store`: folders go in through
`ingest_run`, nouns come out through `store.read(query, ...)`, where `query` is a function of `runs`,
`prompts`, `responses`, `judgements`, `ratings` or `history`. `chat.ChatLog` is what the chat page writes to.
To add a column, add a migration and write it in the noun's file; `rebuild` fills it.
"""

from playground.store.chat import ChatLog
from playground.store.index import Store

__all__ = ["ChatLog", "Store"]
