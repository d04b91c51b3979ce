"""What people touch: pages, engine, store, jobs, catalog, settings, command line.

Imports point one way: app > playground.pages > playground.{cli,jobs,store,engine} > training > evaluation.
Only `pages` imports gradio, only `store` imports duckdb.
"""
