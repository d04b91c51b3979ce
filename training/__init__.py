"""From rows to an adapter: chat format, mix, SFT, and the embedded base model they run on.

May import `evaluation` and what a GPU worker has (torch, transformers, peft). Never gradio, duckdb or
`playground`. Start at `sft`; a new preset is one more entry in `presets`.
"""
