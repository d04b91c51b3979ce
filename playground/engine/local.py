"""The in-process engine: one base model, any number of adapters, one thread that decodes everybody's batch.

Requests of all callers share each forward pass; a new one joins between two steps. `cancel` and closing a
stream take the row out before the next step, so stopping really stops the computing.
"""

from __future__ import annotations

import gc
import logging
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from evaluation.errors import ModelUnavailable, PromptTooLong
from evaluation.judge.features import Features, pooled_states
from evaluation.judge.low_rank import Terms
from evaluation.types import FinishReason, ModelIdentity
from playground.engine.adapters import Adapter, read_adapter
from playground.engine.decoder import Decoder, Row
from playground.engine.protocol import Chunk, Finish, GenerationRequest
from playground.engine.text import TextStream
from playground.engine.thinking import left_open
from training.chat import ChatFormat
from training.embedded import weights_sha256

log = logging.getLogger(__name__)

MAX_ROWS = 32  # rows decoded together; more wait their turn


@dataclass(eq=False)
class _Active:
    """A request on its way through the batch."""

    request: GenerationRequest
    row: Row
    text: TextStream
    out: queue.SimpleQueue[Chunk]
    identity: str
    asked: float  # monotonic seconds
    first_token: float | None = None
    cancelled: bool = False
    finished: bool = False


@dataclass(eq=False)
class _Task:
    """Work that must run on the decoding thread, between two steps."""

    call: Any
    when_idle: bool  # only while no row is in the batch
    done: threading.Event = field(default_factory=threading.Event)
    value: Any = None
    error: Exception | None = None


class LocalEngine:
    """Serves one base model under the id `base_id`, and each of its adapters under the adapter's name."""

    def __init__(
        self,
        folder: Path,
        adapters: Mapping[str, Path],
        *,
        base_id: str = "base",
        max_context: int | None = None,
        device: str | None = None,
    ) -> None:
        """Load the model; takes seconds. `max_context` (tokens) bounds prompt plus reply below the model's own limit.

        `device` is `cpu` or `cuda`; None is the GPU where there is one.

        Raises ModelUnavailable when the folder or an adapter cannot be used or the self-test fails.
        """
        self._base_id = base_id
        self._folder = folder
        tokenizer, model = _load(folder, device or _usual_device())
        self._tokenizer = tokenizer
        self._chat = ChatFormat(tokenizer)
        own_limit = getattr(model.config, "max_position_embeddings", None)
        limits = [limit for limit in (own_limit, max_context) if limit is not None]
        self.context: int | None = min(limits) if limits else None
        self._stop_ids = _stop_ids(model, tokenizer)
        self._base_sha256 = weights_sha256(folder)
        on_cpu = next(model.parameters()).device.type == "cpu"
        self.precision = _precision(model.dtype, on_cpu)
        self._decoder = Decoder(model, int8=on_cpu)
        self._adapters: dict[str, Adapter] = {}
        self._waiting: list[_Active] = []
        self._running: list[_Active] = []
        self._tasks: list[_Task] = []
        self._work = threading.Condition()
        self._closed = False
        self._set_adapters({name: read_adapter(path, name) for name, path in adapters.items()})
        self._self_test()
        self._thread = threading.Thread(target=self._run, name=f"decode-{base_id}", daemon=True)
        self._thread.start()

    def model_ids(self) -> list[str]:
        """The base and its adapters."""
        return [self._base_id, *self._adapters]

    def identity(self, model: str) -> ModelIdentity:
        """What `model` is. Raises ModelUnavailable for an unknown id."""
        adapter = self._adapters.get(model)
        if adapter is None and model != self._base_id:
            raise ModelUnavailable(f"There is no model {model} here; choose one of {', '.join(self.model_ids())}.")
        return ModelIdentity(
            model=model,
            base=_base_name(self._folder, self.precision),
            weights_sha256=self._base_sha256,
            adapter_sha256=adapter.sha256 if adapter else None,
            template_sha256=self._chat.sha256,
        )

    def add_adapter(self, name: str, folder: Path) -> None:
        """Load one more adapter, or a new version of one, once the running batch is done.

        Raises ModelUnavailable when it cannot be used or does nothing; the others stay as they were.
        """
        adapter = read_adapter(folder, name)
        self._on_thread(lambda: self._replace_adapters({**self._adapters, name: adapter}), when_idle=True)

    def stream(self, requests: Sequence[GenerationRequest]) -> Iterator[Chunk]:
        """See `protocol.Engine.stream`."""
        if self._closed:
            raise self._shut_down()
        out: queue.SimpleQueue[Chunk] = queue.SimpleQueue()
        active = [self._prepare(request, out) for request in requests]
        return self._follow(active, out)

    def cancel(self, request_id: str) -> None:
        """See `protocol.Engine.cancel`."""
        with self._work:
            for active in (*self._waiting, *self._running):
                if active.request.id == request_id:
                    active.cancelled = True
            self._work.notify()

    def pooled_states(
        self, contexts: Sequence[str], texts: Sequence[str], layer: int, terms: Terms | None = None
    ) -> Features:
        """Mean hidden states of texts on the base, no adapter; see `evaluation.judge.features.pooled_states`."""
        return self._on_thread(
            lambda: self._decoder.without_adapters(
                lambda model: pooled_states(model, self._tokenizer, contexts, texts, layer, terms)
            )
        )

    def close(self) -> None:
        """Stop the thread; running requests finish as cancelled. The weights go, whoever still holds this object."""
        with self._work:
            self._closed = True
            self._work.notify()
        self._thread.join()
        self._adapters = {}
        vars(self).pop("_decoder", None)  # a second call finds it gone

    # What follows up to `_run` is called from any thread.

    def _prepare(self, request: GenerationRequest, out: queue.SimpleQueue[Chunk]) -> _Active:
        identity = self.identity(request.model).digest
        ids = self._chat.prompt_ids(request.messages, request.sampling.system_prompt)
        needed = len(ids) + request.sampling.max_tokens
        if self.context is not None and needed > self.context:
            raise PromptTooLong(
                f"The prompt has {len(ids)} tokens and up to {request.sampling.max_tokens} are to be generated: {needed} in "
                f"all, but {request.model} takes {self.context}. Shorten the text by {needed - self.context} tokens or lower max tokens."
            )
        adapter = None if request.model == self._base_id else request.model
        row = Row(adapter, ids, request.sampling)
        begin = left_open(str(self._tokenizer.decode(ids[-8:])))  # of thoughts, by the chat template
        text = TextStream(self._tokenizer, self._chat.stop, begin)
        return _Active(request, row, text, out, identity, asked=time.monotonic())

    def _follow(self, active: list[_Active], out: queue.SimpleQueue[Chunk]) -> Iterator[Chunk]:
        with self._work:
            now = time.monotonic()
            for one in active:
                one.asked = now
            if self._closed:  # since `stream` was called
                for one in active:
                    self._finish(one, "cancelled")
            else:
                self._waiting += active
            self._work.notify()
        unfinished = len(active)
        try:
            while unfinished:
                chunk = out.get()
                unfinished -= chunk.finish is not None
                yield chunk
        finally:
            for one in active:
                one.cancelled = True

    def _shut_down(self) -> ModelUnavailable:
        return ModelUnavailable(f"The engine for {self._base_id} is shut down; start the app again.")

    def _on_thread(self, call: Any, *, when_idle: bool = False) -> Any:
        task = _Task(call, when_idle)
        with self._work:
            if self._closed:
                raise self._shut_down()
            self._tasks.append(task)
            self._work.notify()
        task.done.wait()
        if task.error is not None:
            raise task.error
        return task.value

    # From here on everything runs on the decoding thread (or before it is started).

    def _run(self) -> None:
        while True:
            with self._work:
                self._work.wait_for(lambda: self._closed or self._waiting or self._running or self._tasks)
                if self._closed:
                    self._end()
                    return
                for active in self._waiting:
                    if active.cancelled:
                        self._finish(active, "cancelled")
                self._waiting = [active for active in self._waiting if not active.finished]
                tasks = [task for task in self._tasks if not (task.when_idle and self._running)]
                self._tasks = [task for task in self._tasks if task not in tasks]
                # While a task waits for the batch to end nobody joins, or a busy engine would never come to it.
                free = 0 if self._tasks else MAX_ROWS - len(self._running)
                joining, self._waiting = self._waiting[:free], self._waiting[free:]
                self._running += joining
            for task in tasks:
                self._do(task)
            try:
                self._advance(joining)
            except Exception as error:  # one bad step must not end the engine for everybody
                log.exception("decoding failed")
                self._fail(list(self._running), error)

    def _end(self) -> None:
        for active in (*self._running, *self._waiting):
            self._finish(active, "cancelled")
        for task in self._tasks:
            task.error = self._shut_down()
            task.done.set()

    def _do(self, task: _Task) -> None:
        try:
            task.value = task.call()
        except Exception as error:  # handed to the caller, who raises it
            task.error = error
        task.done.set()

    def _advance(self, joining: list[_Active]) -> None:
        cancelled = [active for active in self._running if active.cancelled]
        for active in cancelled:
            self._finish(active, "cancelled")
        self._retire(cancelled)
        joining = [active for active in joining if active not in cancelled]
        for active in joining:  # an adapter may have changed while the request waited
            active.identity = self.identity(active.request.model).digest
        if joining:
            try:
                self._decoder.admit([active.row for active in joining])
            except Exception as error:  # reading one's prompt must not end what others are being told
                log.exception("reading prompts failed")
                self._fail(joining, error)
                return
        elif self._running:
            self._decoder.step()
        drawn = joining or self._running
        self._retire([active for active in drawn if self._deliver(active)])

    def _retire(self, ended: list[_Active]) -> None:
        if not ended:
            return
        self._decoder.drop([active.row for active in ended])
        with self._work:
            self._running = [a for a in self._running if a not in ended]

    def _deliver(self, active: _Active) -> bool:
        """Send the newest token of a row on. Returns whether the row has ended."""
        token, count = active.row.ids[-1], len(active.row.ids)
        if active.first_token is None:
            active.first_token = time.monotonic()
        if token in self._stop_ids:
            self._finish(active, "stop", active.text.flush())
            return True
        text, stopped = active.text.push(token)
        if stopped:
            self._finish(active, "stop", text)
            return True
        if count >= active.request.sampling.max_tokens:
            self._finish(active, "length", text + active.text.flush())
            return True
        if text:
            active.out.put(Chunk(active.request.id, active.identity, text, count))
        return False

    def _finish(self, active: _Active, reason: FinishReason, text: str = "", error: str | None = None) -> None:
        finish = Finish(
            reason=reason,
            tokens=len(active.row.ids),
            prompt_tokens=len(active.row.prompt_ids),
            seconds=time.monotonic() - active.asked,
            ttft_s=None if active.first_token is None else active.first_token - active.asked,
            error=error,
        )
        active.finished = True
        active.out.put(Chunk(active.request.id, active.identity, text, len(active.row.ids), finish))

    def _fail(self, failed: list[_Active], error: Exception) -> None:
        told = f"Generation failed ({type(error).__name__}); the log has the details. Try again."
        for active in failed:
            if not active.finished:
                self._finish(active, "error", error=told)
        self._retire(failed)

    def _set_adapters(self, adapters: dict[str, Adapter]) -> None:
        if self._base_id in adapters:
            raise ModelUnavailable(f"An adapter cannot be named {self._base_id}; that means no adapter.")
        self._decoder.set_adapters(list(adapters.values()))
        self._adapters = adapters

    def _replace_adapters(self, adapters: dict[str, Adapter]) -> None:
        before = self._adapters
        try:
            self._set_adapters(adapters)
            self._self_test()
        except ModelUnavailable:
            self._set_adapters(before)
            raise

    def _self_test(self) -> None:
        """Prove which weights answer: an adapter changes the logits, no adapter leaves the base's exactly.

        Raises ModelUnavailable when an adapter does nothing or leaks into a row that does not name it.
        """
        prompt = self._tokenizer("自己診断", add_special_tokens=True).input_ids
        for name in self._adapters:
            alone = self._decoder.logits([prompt, prompt], [None, None])
            mixed = self._decoder.logits([prompt, prompt], [None, name])
            if not torch.equal(mixed[0], alone[0]):
                raise ModelUnavailable(
                    f"Self-test: adapter {name} changes a row that does not name it. Report this as a bug."
                )
            if torch.equal(mixed[1], alone[1]):
                raise ModelUnavailable(f"Self-test: adapter {name} changes nothing; it is empty or not for this base.")


def identify(folder: Path, model: str, adapter: Path | None = None, device: str | None = None) -> ModelIdentity:
    """What a LocalEngine of this folder on this device would say that `model` is, from the files alone; takes seconds.

    Raises ModelUnavailable when a file is missing or an adapter cannot be used.
    """
    device = device or _usual_device()
    return ModelIdentity(
        model=model,
        base=_base_name(folder, _precision(preferred_dtype(device), on_cpu=device == "cpu")),
        weights_sha256=weights_sha256(folder),
        adapter_sha256=read_adapter(adapter, model).sha256 if adapter else None,
        template_sha256=ChatFormat(_load_tokenizer(folder)).sha256,
    )


def _precision(dtype: torch.dtype, on_cpu: bool) -> str:
    return f"{str(dtype).removeprefix('torch.')}{'+int8 weights' if on_cpu else ''}"


def _base_name(folder: Path, precision: str) -> str:
    return f"{folder.name} ({precision})"


def release_memory() -> None:
    """Give back what closed engines have left: models are full of cycles, and torch keeps freed blocks for itself."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _usual_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _load(folder: Path, device: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM

    tokenizer = _load_tokenizer(folder)
    with _explained(folder):
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=preferred_dtype(device), trust_remote_code=False, use_safetensors=True, local_files_only=True
        )
    return tokenizer, model.to(device)


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not (folder / "config.json").is_file():
        raise ModelUnavailable(f"{folder} holds no config.json; name a folder with a transformers model.")
    with _explained(folder):
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelUnavailable(f"The model in {folder} cannot be loaded: {first_line}") from error


def preferred_dtype(device: str) -> torch.dtype:
    """bfloat16 where the hardware multiplies it, float32 elsewhere; never float16, in which Gemma 3 overflows."""
    if device != "cpu":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    # Without AVX-512 or AMX support a bfloat16 product is emulated, slower than float32.
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def _stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends a reply: the generation config may list several, the tokenizer knows one."""
    named = model.generation_config.eos_token_id
    ids = [] if named is None else [named] if isinstance(named, int) else list(named)
    return frozenset([*ids, *([tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else [])])
