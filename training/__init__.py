"""From rows to an adapter or a model: mix, chat format, SFT, and the embedded base model they run on.

May import `evaluation` and what a GPU worker has (torch, transformers, peft). Never gradio, duckdb or `playground`.
Start at `sft`, which says in which order the others work: `base` and `mix` (with `leaks`) before the model is loaded,
`plan` for the order of rows, `model` for the loss, `loop` for the steps, `checkpoints` and `adapter` for what is saved.
`probe` looks before a run is started; `cluster` hands one to Slurm. A new preset is one more entry in `presets`.
"""
