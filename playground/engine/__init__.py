"""How text is generated. Knows requests and chunks of text; knows no page, no store, no judge.

Must import where only torch, transformers, peft and openai are installed. Start at `protocol`;
`local` decodes in this process, `endpoint` speaks to an OpenAI-compatible server. To add one more,
write a class that fits `protocol.Engine` and pass it through the contract tests.
"""
