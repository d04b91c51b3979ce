"""A local server that behaves as vLLM's does, for tests: completions by token, adapters loaded at run time, metrics.

Its models write their own name and what they were asked, over and over, one piece of four characters per token, so that
a test sees who answered what. The faults of `OpenAIServer` can be asked of it too; loading and listing take none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.openai_server import Behaviour, OpenAIServer, Request, _Handler

KEY = "vllm-never-to-be-seen-0123456789"


def parrot(body: Mapping[str, Any]) -> str:
    """What a model writes: a text of its own for each model and prompt, `max_tokens` pieces long."""
    asked = json.dumps(body.get("prompt") or body.get("messages"), ensure_ascii=False)
    said = f"{body['model']}:{hashlib.sha256(asked.encode()).hexdigest()[:8]}|"
    return (said * body["max_tokens"])[: 4 * body["max_tokens"]]


class VllmServer(OpenAIServer):
    """A server that has loaded the model in `root`. `adapters` are those it has loaded, by name, with their paths.

    `inert` names adapters (without their hash) that change nothing; `forget` drops all adapters, as a restart does.
    `loads_at_run_time` and `max_rank` are what the real one is started with.
    """

    def __init__(
        self,
        root: Path | str,
        behaviours: Sequence[Behaviour] = (),
        reply: Callable[[dict[str, Any]], str] = parrot,
        *,
        name: str = "base",
        chunk_delay: float = 0.0,
        max_model_len: int = 4096,
        max_rank: int = 16,
        loads_at_run_time: bool = True,
        template: bool = False,
        inert: Sequence[str] = (),
        port: int = 0,
    ) -> None:
        super().__init__(behaviours, reply, chunk_delay=chunk_delay)
        self.root, self.name, self.max_model_len, self.max_rank = str(root), name, max_model_len, max_rank
        self.loads_at_run_time, self.template, self.inert = loads_at_run_time, template, tuple(inert)
        self.port = port
        self.adapters: dict[str, str] = {}
        self.loads: list[str] = []  # names, in the order in which they were asked for

    @property
    def handler(self) -> type[_Handler]:
        return _VllmHandler

    @property
    def completions(self) -> list[Request]:
        """Requests for text, without those that prove that an adapter works."""
        return [r for r in self.requests if r.path.endswith("/completions") and not r.body.get("logprobs")]

    def forget(self) -> None:
        self.adapters.clear()


class _VllmHandler(_Handler):
    owner: VllmServer

    def do_GET(self) -> None:
        match self.path:
            case "/health":
                self._json(200, {})
            case "/version":
                self._json(200, {"version": "0.0-test"})
            case "/metrics":
                body = f'vllm:num_requests_running{{engine="0"}} {float(self.owner._at_once)}\n'.encode()
                self._head(200, {"Content-Type": "text/plain", "Content-Length": str(len(body))})
                self.wfile.write(body)
            case "/v1/models" if self._admitted():
                base = {
                    "id": self.owner.name,
                    "object": "model",
                    "root": self.owner.root,
                    "parent": None,
                    "max_model_len": self.owner.max_model_len,
                }
                adapters = [
                    {"id": name, "object": "model", "root": path, "parent": self.owner.name}
                    for name, path in self.owner.adapters.items()
                ]
                self._json(200, {"object": "list", "data": [base, *adapters]})
            case _:
                self._refuse(404, "Not Found")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
        if not self._admitted():
            return
        match self.path:
            case "/v1/load_lora_adapter" if self.owner.loads_at_run_time:
                self._load(body)
            case "/v1/unload_lora_adapter" if self.owner.loads_at_run_time:
                self.owner.adapters.pop(body["lora_name"], None)
                self._json(200, {})
            case "/tokenize":
                if "messages" in body and not self.owner.template:
                    self._refuse(400, "default chat template is no longer allowed, so you must provide a chat template")
                else:
                    self._json(200, {"tokens": [1, 2], "count": 2})
            case "/v1/completions" | "/v1/chat/completions":
                self._complete(request)
            case _:
                self._json(404, {"detail": "Not Found"})

    def _admitted(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {KEY}":
            return True
        self._json(401, {"error": "Unauthorized"})
        return False

    def _refuse(self, code: int, message: str) -> None:
        self._json(code, {"error": {"message": message, "type": "BadRequestError", "param": None, "code": code}})

    def _load(self, body: dict[str, Any]) -> None:
        name, path = body["lora_name"], Path(body["lora_path"])
        self.owner.loads.append(name)
        if name in self.owner.adapters:
            self._refuse(400, f"The lora adapter '{name}' has already been loaded.")
            return
        config = path / "adapter_config.json"
        if not config.is_file():
            self._refuse(404, f"Loading lora {name} failed: No adapter found for {path}")
            return
        rank = json.loads(config.read_text(encoding="utf-8"))["r"]
        if rank > self.owner.max_rank:
            self._refuse(500, f"LoRA rank {rank} is greater than max_lora_rank {self.owner.max_rank}.")
            return
        self.owner.adapters[name] = str(path)
        self._json(200, {})

    def _complete(self, request: Request) -> None:
        body = request.body
        model = body["model"]
        if model != self.owner.name and model not in self.owner.adapters:
            self._refuse(404, f"The model `{model}` does not exist.")
            return
        if body.get("logprobs"):
            same = model == self.owner.name or model.partition("@")[0] in self.owner.inert
            drawn = {"tokens": ["あ"], "token_logprobs": [-1.0 if same else -1.5]}
            self._json(200, {"choices": [{"index": 0, "text": "あ", "logprobs": drawn, "finish_reason": "length"}]})
            return
        behaviour = self.owner._take(request)
        self.owner._enter(+1)
        try:
            if behaviour.kind == "ok" and behaviour.text is None and not body.get("stream"):
                self._answer_whole(body)
            elif behaviour.kind == "ok":
                self._stream_completion(body, behaviour)
            else:
                self._answer(request, behaviour)
        except (BrokenPipeError, ConnectionResetError):
            self._left()
        finally:
            self.owner._enter(-1)

    def _answer_whole(self, body: dict[str, Any]) -> None:
        text = self.owner.reply(body)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        choice |= {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
        usage = {"prompt_tokens": 3, "completion_tokens": len(text) // 4, "total_tokens": 3 + len(text) // 4}
        self._json(200, {"object": "completion", "choices": [choice], "usage": usage})

    def _stream_completion(self, body: dict[str, Any], behaviour: Behaviour) -> None:
        text = behaviour.text if behaviour.text is not None else self.owner.reply(body)
        chat = "messages" in body
        self._head(200, {"Content-Type": "text/event-stream", "Connection": "close"})
        self.close_connection = True
        together = 4 * int(body.get("stream_interval") or 1)
        # As the real one does: the first piece goes out at once, whatever the interval is.
        pieces = [text[:4], *(text[start : start + together] for start in range(4, len(text), together))]
        said, tokens = 0, 0
        for number, piece in enumerate(pieces):
            if behaviour.after_chunks == number:
                self._reset()
                return
            said += len(piece)
            tokens = -(-said // 4)
            choice = {"index": 0, "finish_reason": None} | ({"delta": {"content": piece}} if chat else {"text": piece})
            self._event([choice], **self._usage(body, tokens, every=True))
            if not self._pause(self.owner.chunk_delay * max(1, len(piece) // 4)):
                return
        if behaviour.after_chunks is not None:
            self._reset()
            return
        reason = "length" if tokens >= body["max_tokens"] else behaviour.finish_reason
        last = {"index": 0, "finish_reason": reason} | ({"delta": {}} if chat else {"text": ""})
        self._event([last], **self._usage(body, tokens, every=True))
        self._event([], **self._usage(body, tokens, every=False))
        self.wfile.write(b"data: [DONE]\n\n")

    @staticmethod
    def _usage(body: Mapping[str, Any], tokens: int, *, every: bool) -> dict[str, Any]:
        options = body.get("stream_options") or {}
        if not options.get("continuous_usage_stats" if every else "include_usage"):
            return {}
        return {"usage": {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens}}
