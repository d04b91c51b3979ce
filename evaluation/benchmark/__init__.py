"""Benchmarks: every chosen Model answers every Prompt, a judge reads the Responses, and both are counted.

`settings` says what is asked for; `plan` turns it into requests with keys; `forecast` says beforehand what it will take;
`run` does it, answering and judging at once; `pacing` is how fast an endpoint is asked. `results` counts what a run
folder holds. Models come as a function, so no engine is imported here: never gradio, duckdb, `training` or `playground`.
"""
