"""What is measured and how: prompts, judges, metrics, statistics, the run folder.

May import: the standard library and the packages a GPU worker has (torch, transformers, peft, openai, pydantic).
Never gradio, duckdb, `training` or `playground`. Start reading at `types`, then `journal`.
"""
