"""vLLM's own `LLM.generate` on given prompts; run by tests.bench.serving in vLLM's environment: IN.json OUT.json.

Writes tokens/s of each repeat. The first round, which is not counted, fills the prefix cache as the server's is filled.
"""

import json
import sys
import time
from pathlib import Path


def main(given: str, got: str) -> None:
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    work = json.loads(Path(given).read_text(encoding="utf-8"))
    llm = LLM(
        work["folder"],
        dtype="bfloat16",
        max_model_len=4096,
        enable_lora=True,
        max_lora_rank=16,
        max_loras=4,
        kv_cache_memory_bytes=2 << 30,
        generation_config="vllm",
        compilation_config=work["compilation_config"],
    )
    adapters = {
        name: LoRARequest(name, number, path) for number, (name, path) in enumerate(work["adapters"].items(), start=1)
    }
    prompts = [{"prompt_token_ids": request["prompt"]} for request in work["requests"]]
    loras = [adapters[request["adapter"]] for request in work["requests"]]
    speeds = []
    for number in range(work["repeats"] + 1):
        settings = [
            SamplingParams(
                temperature=0.0,
                max_tokens=request["max_tokens"],
                stop=request["stop"],
                stop_token_ids=request["stop_token_ids"],
                seed=number,
            )
            for request in work["requests"]
        ]
        began = time.perf_counter()
        outputs = llm.generate(prompts, settings, lora_request=loras, use_tqdm=False)
        seconds = time.perf_counter() - began
        speeds.append(sum(len(output.outputs[0].token_ids) for output in outputs) / seconds)
    Path(got).write_text(json.dumps(speeds[1:]), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
