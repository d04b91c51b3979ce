"""What models are asked: the taxonomy, the suites, and the door through which files come in.

May import: `evaluation.types` and `evaluation.errors`; pyarrow, openpyxl and huggingface_hub only inside the function
that needs them, since a GPU worker has none of the first two. Never gradio or duckdb.
Start reading at `imports.read_prompts`. A new file format goes into `tables`, a new row layout into `rows`,
a new column name into `columns`.
"""
