"""The runner's two promises: judging at an unreliable endpoint, and batches of the embedded model.

`python -m tests.bench.benchmark` prints both; `... judging` and `... generation` one of them.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from evaluation.benchmark.judging import Panel
from evaluation.benchmark.plan import Request, choose_prompts, plan
from evaluation.benchmark.run import judge_responses
from evaluation.benchmark.settings import BenchmarkSettings
from evaluation.journal import create_run, read_records
from evaluation.judge.openai_judge import OpenAIJudge
from evaluation.judge.protocol import Exchange
from evaluation.prompts.suites import load_suite
from evaluation.types import Judgement, Prompt, Response, Sampling
from tests.openai_server import Behaviour, OpenAIServer, malformed, ok, status

RESPONSES = 336
LATENCY_S = 1.0
MUST_JUDGE_WITHIN_S = 30.0
MUST_BE_FASTER = 4.0
PROMPTS, TOKENS = 48, 64
EXACT_TOKENS = 32  # of the same requests in float32, which is slow
MOST_TIES = 0.01  # share of texts that may differ: batches add in another order, and two tokens may be as likely
PAIR = ("general", "answercarefully-sample")


class _Slow(OpenAIServer):
    """Every answer takes a second; of the requests, as the seed draws them, 5 % get 429, 2 % 500 and 1 % half a body."""

    def __init__(self, seed: int) -> None:
        super().__init__(reply=self._verdict)
        self._chance, self._drawing = random.Random(seed), threading.Lock()
        self.dealt: Counter[str] = Counter()

    def _verdict(self, body: dict[str, Any]) -> str:
        """The score that the response's text asks for, so that a verdict on the wrong response would show."""
        score = int(body["messages"][1]["content"].split("評点")[1][0])
        return json.dumps({"explanation": "理由", "score": score})

    def _take(self, request: Any) -> Behaviour:
        self._enter(+1)
        time.sleep(LATENCY_S)
        self._enter(-1)
        super()._take(request)
        return self._draw()

    def _draw(self) -> Behaviour:
        with self._drawing:
            number = self._chance.random()
            for name, share, behaviour in (
                ("429", 0.05, status(429, retry_after=1)),
                ("500", 0.02, status(500)),
                ("torn", 0.01, malformed()),
                ("good", 1.0, ok()),
            ):
                if number < share:
                    self.dealt[name] += 1
                    return behaviour
                number -= share
        raise AssertionError("the shares sum to more than 1")


def judging(seed: int = 0) -> dict[str, Any]:
    """Judge RESPONSES at the slow server. Returns seconds, what the server dealt, and how many verdicts are right."""
    exchanges = []
    for n in range(RESPONSES):
        prompt = Prompt(f"p{n}", f"質問{n}", suite="mine")
        text = f"回答{n}。評点{1 + n % 5}"
        exchanges.append(
            Exchange(prompt, Response(f"key{n:020d}", prompt.id, "far", "identity", text, "stop", prompt.messages()))
        )
    with tempfile.TemporaryDirectory() as home, _Slow(seed) as server:
        judge = OpenAIJudge("judge", base_url=server.url, api_key="none")
        with create_run(Path(home), "judging", {}, {}) as folder:
            began, cpu_began = time.monotonic(), time.process_time()
            panel = Panel([judge], {"mine": ("safety",)})
            ended = judge_responses(exchanges, panel, folder, lambda event, data: None, lambda: False)
            seconds, cpu_s = time.monotonic() - began, time.process_time() - cpu_began
        kept = [r for r, _ in read_records(folder.path / "judgements.jsonl") if isinstance(r, Judgement)]
    by_response = {judgement.response_key: judgement for judgement in kept}
    right = sum(by_response[f"key{n:020d}"].score == 1 + n % 5 for n in range(RESPONSES))
    assert len(kept) == len(by_response) == RESPONSES, "a verdict was lost or doubled"
    assert ended.totals.judged + ended.totals.missing == RESPONSES
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,  # of the client and of the server together, which are one process here
        "right": right,
        "missing": ended.totals.missing,
        "most_at_once": server.most_at_once,
        "dealt": dict(server.dealt),
    }


def generation(home: Path) -> dict[str, Any]:
    """Answer PROMPTS of sample-test with both models: as the benchmark does, and one at a time by `model.generate`.

    Greedy, TOKENS tokens at most. `model.generate` gets the same prompts and adapter, one row at a time.
    """
    from playground import catalog
    from playground.engine.answers import answers
    from playground.settings import load_settings
    from training.embedded import ensure_embedded

    torch.set_num_threads(os.cpu_count() or 1)  # tests.tiny has left it one
    settings = load_settings().model_copy(update={"home": home})
    asked = BenchmarkSettings(PAIR, ("sample-test",), None, Sampling(temperature=0.0, max_tokens=TOKENS), limit=PROMPTS)
    prompts = choose_prompts([load_suite("sample-test", home)], PROMPTS).prompts
    engine = catalog.build_router(settings).embedded()
    requests = plan(asked, prompts, {model: engine.identity(model) for model in PAIR})
    for _ in answers(engine, requests[:4], lambda: False):
        pass  # warm-up
    began = time.perf_counter()
    batched = {response.key: response.text for response in answers(engine, requests, lambda: False)}
    ours_s = time.perf_counter() - began
    one_by_one: dict[str, str] = {}
    began = time.perf_counter()
    for request in requests:
        for response in answers(engine, [request], lambda: False):
            one_by_one[response.key] = response.text
    alone_s = time.perf_counter() - began
    engine.close()
    generate_s = _generate_s(ensure_embedded(home), requests)
    return {
        "ours_s": ours_s,
        "alone_s": alone_s,
        "generate_s": generate_s,
        "faster": generate_s / ours_s,
        "different": sum(batched[key] != one_by_one[key] for key in one_by_one) / len(one_by_one),
        "exact_different": _exact(ensure_embedded(home), asked, prompts),
        "responses": len(requests),
    }


def _exact(folder: Path, asked: BenchmarkSettings, prompts: Sequence[Prompt]) -> float:
    """The share of texts that a batch changes where every sum is float32: what batching itself does to them.

    As the app computes, up to 8 rows are int8 and more are bfloat16, so that texts differ for that reason already.
    """
    from playground.engine.answers import answers
    from tests.playground.engine.serving import exact_local
    from training.presets import SHIPPED_ADAPTERS

    with exact_local(folder, {name: SHIPPED_ADAPTERS / name for name in PAIR}, max_context=2048) as engine:
        short = replace(asked, sampling=replace(asked.sampling, max_tokens=EXACT_TOKENS))
        requests = plan(short, prompts, {model: engine.identity(model) for model in PAIR})
        together = {response.key: response.text for response in answers(engine, requests, lambda: False)}
        alone = {r.key: r.text for request in requests for r in answers(engine, [request], lambda: False)}
    assert together.keys() == alone.keys() and any(alone.values())
    return sum(together[key] != alone[key] for key in alone) / len(alone)


def _generate_s(folder: Path, requests: list[Request]) -> float:
    """Seconds that transformers' own `generate` takes for the same requests, one after another."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from playground.engine.local import preferred_dtype
    from training.chat import ChatFormat
    from training.presets import SHIPPED_ADAPTERS

    chat = ChatFormat(AutoTokenizer.from_pretrained(folder))
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=preferred_dtype("cpu")).eval()
    model = PeftModel.from_pretrained(base, SHIPPED_ADAPTERS / PAIR[0], adapter_name=PAIR[0])
    model.load_adapter(SHIPPED_ADAPTERS / PAIR[1], adapter_name=PAIR[1])
    began = time.perf_counter()
    with torch.inference_mode():
        for request in requests:
            model.set_adapter(request.model)
            ids = torch.tensor([chat.prompt_ids(list(request.prompt.messages()), request.sampling.system_prompt)])
            model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=TOKENS,
                do_sample=False,
            )
    return time.perf_counter() - began


def main(which: list[str]) -> int:
    """Print the figures. Returns 1 when one that must be reached is not."""
    missed = False
    if "judging" in which:
        found = judging()
        print(f"judging {RESPONSES} responses: {found}")
        missed |= found["seconds"] > MUST_JUDGE_WITHIN_S or found["right"] != RESPONSES
    if "generation" in which:
        made = generation(Path(os.environ.get("PLAYGROUND_HOME", "var")).resolve())
        print(f"generation: {made}")
        missed |= made["faster"] < MUST_BE_FASTER or made["exact_different"] > MOST_TIES
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["judging", "generation"]))
