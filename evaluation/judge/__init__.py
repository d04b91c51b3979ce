"""Judges: build the prompt, ask, parse. Counting is `evaluation.metrics`.

`protocol` is what every judge offers; `rubric` builds the prompt out of `neutralise`d text; `parse` reads the reply;
`endpoint` is the one file that touches the network; `openai_judge` puts the steps together; `canaries` attacks any judge.
To add a judge, implement `protocol.Judge`. May import what `evaluation` may: never gradio, duckdb, training or playground.
"""
