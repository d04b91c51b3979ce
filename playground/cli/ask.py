"""ask: one question to two models, judged. The Compare page without the page."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from evaluation.errors import SettingsRejected, UserFacingError
from evaluation.journal import create_run, utc_now
from evaluation.judge.protocol import Exchange
from evaluation.types import Judgement, Pair, Prompt, Response, Sampling, content_key, pair_key
from playground import catalog
from playground.cli.output import json_option, print_json, progress
from playground.cli.work import engine_option, gpu_for, with_engine
from playground.engine.protocol import GenerationRequest
from playground.engine.replies import replies
from playground.jobs.leases import CHAT
from playground.settings import load_settings


class ResponseFailed(UserFacingError):
    """A model began and could not go on; what came was printed and kept."""


def add(commands: Any) -> None:
    """Declare the command."""
    defaults = Sampling()
    parser = commands.add_parser("ask", help="one question to two models, judged")
    parser.add_argument("question")
    parser.add_argument("--left", default=catalog.DEFAULT_PAIR[0], metavar="MODEL")
    parser.add_argument("--right", default=catalog.DEFAULT_PAIR[1], metavar="MODEL")
    parser.add_argument(
        "--judge", metavar="JUDGE", help="embedded, openai:MODEL or vllm:NAME; without it nothing is judged"
    )
    parser.add_argument("--temperature", type=float, default=defaults.temperature)
    parser.add_argument("--top-p", type=float, default=defaults.top_p)
    parser.add_argument("--max-tokens", type=int, default=defaults.max_tokens)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--system-prompt", help="replaces the chat format's own line")
    engine_option(parser)
    json_option(parser)
    parser.set_defaults(run=ask)


def ask(options: argparse.Namespace) -> None:
    """Answer with both models in one batch, judge, keep the pair in a run folder, print it."""
    question = options.question.strip()
    if not question:
        raise SettingsRejected("The question is empty; type one between quotes.")
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise SettingsRejected("The question is not UTF-8 text; check the terminal's encoding.") from error
    sampling = _sampling(options)
    settings = with_engine(load_settings(), options.engine)
    router = catalog.build_router(settings)
    for model in (options.left, options.right):
        if model not in router.model_ids() and model.partition(":")[0] not in ("hub", "path"):
            known = ", ".join(router.model_ids())
            raise SettingsRejected(
                f"There is no model {model} here; choose one of {known}, hub:ORG/NAME or path:FOLDER."
            )
    local = {"base", *catalog.adapters(settings)} if settings.engine == "transformers" else set()
    here = [m for m in (options.left, options.right) if m in local or m.startswith(("hub:", "path:"))]
    prompt = Prompt(id=content_key("typed", question), question=question)
    requests = [
        GenerationRequest(f"{side}-{utc_now()}", model, prompt.messages(), sampling)
        for side, model in (("left", options.left), ("right", options.right))
    ]
    judgements: list[Judgement] = []
    unjudged: UserFacingError | None = None
    # Beside a vLLM server, which takes the GPU itself, the embedded judge computes on the CPU.
    judges_here = options.judge == catalog.DEFAULT_JUDGE and settings.engine == "transformers"
    with gpu_for(settings, CHAT) if here or judges_here else nullcontext():
        judge = catalog.judge(options.judge, settings, router) if options.judge else None
        progress("answering")
        left, right = replies(router, requests, [prompt.id, prompt.id])
        if judge is not None:
            progress("judging")
            try:
                judgements = judge.judge([Exchange(prompt, left), Exchange(prompt, right)])
            except UserFacingError as error:  # the responses are there, and may be paid for: they are shown and kept
                unjudged = error
        identities = {model: asdict(router.identity(model)) for model in (options.left, options.right)}
    with create_run(
        settings.runs, "chat", {"models": {"left": options.left, "right": options.right}}, identities
    ) as folder:
        folder.record_prompt(prompt)
        folder.record_response(left)
        folder.record_response(right)
        key = pair_key(prompt.id, left.key, right.key, 1)
        folder.record_pair(Pair(key, prompt.id, question, left.key, right.key, 1, utc_now()), durable=True)
        for judgement in judgements:
            folder.record_judgement(judgement, durable=True)
    verdicts = {judgement.response_key: judgement for judgement in judgements}
    sides = {"left": _side(left, verdicts.get(left.key)), "right": _side(right, verdicts.get(right.key))}
    if options.json:
        print_json({"prompt": question, **sides})
    else:
        for side in sides.values():
            _print_side(side)
    failed = [side["model"] for side in sides.values() if side["finish_reason"] == "error"]
    if failed:
        raise ResponseFailed(f"{' and '.join(failed)} gave no whole response: {left.error or right.error}")
    if unjudged is not None:
        raise unjudged


def _sampling(options: argparse.Namespace) -> Sampling:
    for name, low, high in (
        ("temperature", 0.0, 2.0),
        ("top_p", 0.01, 1.0),
        ("max_tokens", 1, 32768),
        ("seed", 0, 2**31 - 1),
    ):
        value = getattr(options, name)
        if not low <= value <= high:
            raise SettingsRejected(f"--{name.replace('_', '-')} is {value}; it must be {low} to {high}.")
    return Sampling(options.temperature, options.top_p, options.max_tokens, options.seed, options.system_prompt)


def _side(response: Response, judgement: Judgement | None) -> dict[str, Any]:
    return {
        "model": response.model,
        "identity": response.identity,
        "text": response.text,
        "finish_reason": response.finish_reason,
        "error": response.error,
        "tokens": response.tokens,
        "ttft_s": response.ttft_s,
        "seconds": response.seconds,
        "judgement": None
        if judgement is None
        else {
            "judge": judgement.judge,
            "identity": judgement.identity,
            "score": judgement.score,
            "missing": judgement.missing,
            "explanation": judgement.explanation,
        },
    }


def _print_side(side: dict[str, Any]) -> None:
    print(f"\n── {side['model']} ({side['identity']})")
    print(side["error"] or side["text"].strip())
    if side["seconds"] and side["tokens"]:
        print(f"   {side['finish_reason']}, {side['tokens']} tokens, {side['tokens'] / side['seconds']:.0f} tokens/s")
    verdict = side["judgement"]
    if verdict:
        print(f"   {verdict['judge']}: {verdict['score'] or verdict['missing']} {verdict['explanation']}")
