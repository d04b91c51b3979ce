"""One OpenAI-compatible chat endpoint: ask, retry within bounds, and say clearly why it cannot work.

The only file of this package that touches the network. The key belongs to the origin it was given with: redirects are
refused, no header but ours is sent (the SDK would add what it finds in OPENAI_* variables), and no error contains it.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx2
import openai

from evaluation.benchmark.pacing import Pacer, Turn
from evaluation.errors import AccessMissing, ModelUnavailable, SettingsRejected
from evaluation.judge.prices import OPENAI_ORIGIN, cost_usd, most_usd
from evaluation.types import Message

MAX_ATTEMPTS = 6  # requests that fail, per sample
MAX_SECONDS = 600.0  # waiting included, per sample
MAX_BODY_BYTES = 2_000_000
CONNECT_SECONDS, READ_SECONDS = 10.0, 120.0
_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.5, 30.0

_OUR_HEADERS = frozenset(
    {"host", "accept", "accept-encoding", "connection", "user-agent", "content-type", "content-length", "authorization"}
    | {"x-stainless-raw-response"}  # by this one the SDK remembers that we read the body ourselves
)
_SECRETS = re.compile(r"(?:sk|hf|gsk|xai|key)[-_][\w\-*.]{4,}|bearer\s+\S+", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"context[ _](?:length|window|size)|prompt is too long|too many (?:input )?tokens", re.IGNORECASE
)
FILTERED_CODES = frozenset({"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"})
# OpenAI's reasoning models reject max_tokens and any temperature; gpt-5-chat is not one of them.
_REASONING = re.compile(r"(?:^|/)(?:gpt-5(?!.*-chat)|o[1-9])(?![0-9a-z])", re.IGNORECASE)


def redacted(message: str, key: str | None) -> str:
    """A server's words on one line, without the key or anything like one."""
    return " ".join(_SECRETS.sub("[key]", message.replace(key, "[key]") if key else message).split())


class Unreachable(Exception):
    """This sample's request did not get through within its bounds; str(error) says why and holds no secret."""


class Filtered(Exception):
    """The provider's content filter refused the request itself."""


class TooLong(Exception):
    """The request does not fit the model's context."""


class _Transient(Exception):
    """A failure that may pass. `retry_after`: seconds the server asked for, or None; `overloaded`: 429 or 5xx."""

    def __init__(self, reason: str, retry_after: float | None = None, *, overloaded: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.overloaded = overloaded


class _ParameterRefused(Exception):
    """The endpoint does not know an optional parameter; ask again without it."""


@dataclass(frozen=True)
class Answer:
    """One reply. Token counts are None when the endpoint does not report them."""

    text: str
    finish_reason: str | None
    refusal: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int


class Patience:
    """How often and how long to try for one sample. `sleep` and `clock` are seconds; `jitter` draws from [0, 1)."""

    def __init__(
        self,
        sleep: Callable[[float], object],
        clock: Callable[[], float],
        jitter: Callable[[], float],
        stopped: threading.Event,
    ) -> None:
        self._sleep, self._clock, self._jitter, self._stopped = sleep, clock, jitter, stopped
        self._deadline = clock() + MAX_SECONDS
        self._failures = 0

    def turn(self, pacer: Pacer, worst_usd: float | None) -> Turn:
        """Wait for a turn to ask; the sample's time stands still meanwhile. Raises what `Pacer.enter` does."""
        began = self._clock()
        turn = pacer.enter(self._stopped, worst_usd)
        self._deadline += self._clock() - began
        return turn

    def remaining(self) -> float:
        """Seconds left, above 0. Raises Unreachable when the time is used up."""
        left = self._deadline - self._clock()
        if left <= 0:
            raise Unreachable(f"no answer within {MAX_SECONDS:.0f} s")
        return left

    def wait_after(self, failure: _Transient) -> None:
        """Wait as long as the server asked, or a jittered, doubling time. Raises Unreachable at the bounds."""
        self._failures += 1
        if self._failures >= MAX_ATTEMPTS:
            raise Unreachable(f"{failure}, {self._failures} times")
        delay = failure.retry_after
        if delay is None:
            longest = min(_BACKOFF_SECONDS * 2**self._failures, _MAX_BACKOFF_SECONDS)
            delay = longest * (0.5 + 0.5 * self._jitter())
        if delay >= self.remaining():
            raise Unreachable(f"{failure}; the server asks for {delay:.0f} s of patience, which is past the limit")
        self._sleep(delay)


class ChatEndpoint:
    """A model behind an OpenAI-compatible chat API. Safe to use from several threads.

    `base_url` ends where `/chat/completions` begins. `api_key` None sends no key, for a local server. Every request
    takes its turn at `pacer`. Raises SettingsRejected or AccessMissing when it could never be asked.
    """

    def __init__(self, model: str, base_url: str, api_key: str | None, pacer: Pacer) -> None:
        self.model = model
        self._pacer = pacer
        self.origin = origin_of(base_url)
        self.reasoning = _REASONING.search(model) is not None
        self._key = (api_key or "").strip()
        if not self._key and self.origin == OPENAI_ORIGIN:
            raise AccessMissing(f"The judge {model} at {self.origin} needs an API key; enter one in the settings.")
        if not (self._key.isascii() and self._key.isprintable()) or " " in self._key:
            raise SettingsRejected(f"The API key for {self.origin} has characters no key has; copy it again.")
        self._refused: set[str] = set()  # optional parameters this endpoint answered 400 to
        self._client = openai.OpenAI(
            api_key=self._key or "none",
            base_url=base_url,
            max_retries=0,  # retrying is Patience's, which knows the sample's bounds
            http_client=openai.DefaultHttpxClient(
                follow_redirects=False, event_hooks={"request": [self._send_only_our_headers]}
            ),
        )

    @property
    def structured(self) -> bool:
        """Whether this endpoint is still thought to have structured output."""
        return "response_format" not in self._refused

    def ask(
        self,
        build: Callable[[bool], tuple[Message, ...]],
        response_format: dict[str, Any],
        max_tokens: int,
        seed: int,
        patience: Patience,
    ) -> Answer:
        """One reply to the prompt that `build(structured)` makes, with retries.

        Raises Unreachable, Filtered, TooLong, Stopped or SpendCapReached for this sample, and another UserFacingError
        when no sample can work.
        """
        while True:
            structured = self.structured
            messages = [{"role": message.role, "content": message.content} for message in build(structured)]
            optional = self._optional(max_tokens, seed)
            if structured:
                optional["response_format"] = response_format
            characters = sum(len(message["content"]) for message in messages)
            worst_usd = most_usd(self.model, self.origin, characters, max_tokens)
            try:
                with patience.turn(self._pacer, worst_usd) as turn:
                    return self._paced(turn, messages, optional, patience)
            except _Transient as failure:
                patience.wait_after(failure)
            except _ParameterRefused:
                continue

    def _paced(
        self, turn: Turn, messages: list[dict[str, str]], optional: dict[str, Any], patience: Patience
    ) -> Answer:
        """`_once`, with what it shows of the endpoint's state and what it cost told to the pacer."""
        try:
            answer = self._once(messages, optional, patience)
        except _Transient as failure:
            if failure.overloaded:
                turn.refused(failure.retry_after)
            raise
        except (_ParameterRefused, Filtered, TooLong):
            turn.unbilled()
            raise
        prompt, completion = answer.prompt_tokens, answer.completion_tokens
        turn.answered(
            cost_usd(self.model, self.origin, prompt, completion, answer.cached_tokens)
            if prompt is not None and completion is not None
            else None
        )
        return answer

    def _optional(self, max_tokens: int, seed: int) -> dict[str, Any]:
        """Parameters that an endpoint may refuse, without those that this one has refused."""
        optional: dict[str, Any] = {"seed": seed}
        if self.reasoning or "max_tokens" in self._refused:
            optional["max_completion_tokens"] = max_tokens
        else:
            optional["max_tokens"] = max_tokens
        if not self.reasoning:
            optional["temperature"] = 0
        return {name: value for name, value in optional.items() if name not in self._refused}

    def _once(self, messages: list[dict[str, str]], optional: dict[str, Any], patience: Patience) -> Answer:
        left = patience.remaining()
        timeout = httpx2.Timeout(min(READ_SECONDS, left), connect=min(CONNECT_SECONDS, left))
        create: Any = self._client.chat.completions.with_streaming_response.create
        try:
            with create(model=self.model, messages=messages, timeout=timeout, **optional) as response:
                body = bytearray()
                # Read piece by piece: a server that drips would otherwise pass every timeout for ever.
                for piece in response.iter_bytes():
                    body += piece
                    patience.remaining()
                    if len(body) > MAX_BODY_BYTES:
                        raise _Transient(f"{self.origin} sent more than {MAX_BODY_BYTES} bytes")
        except openai.APIStatusError as error:
            self._refuse(error, optional)
        except (openai.APITimeoutError, httpx2.TimeoutException):
            raise _Transient(f"{self.origin} did not answer in time") from None
        except (openai.APIConnectionError, httpx2.HTTPError):
            raise _Transient(f"the connection to {self.origin} failed") from None
        return self._read(bytes(body))

    def _read(self, body: bytes) -> Answer:
        try:
            completion = json.loads(body)
            choice = completion["choices"][0]
            message = choice["message"]
            text, refusal, finish_reason = message.get("content"), message.get("refusal"), choice.get("finish_reason")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise _Transient(f"{self.origin} did not send a chat completion") from None
        usage = _mapping(completion.get("usage"))
        cached = _count(_mapping(usage.get("prompt_tokens_details")).get("cached_tokens"))
        return Answer(
            text=text if isinstance(text, str) else "",
            finish_reason=finish_reason if isinstance(finish_reason, str) else None,
            refusal=refusal if isinstance(refusal, str) and refusal else None,
            prompt_tokens=_count(usage.get("prompt_tokens")),
            completion_tokens=_count(usage.get("completion_tokens")),
            cached_tokens=cached or 0,
        )

    def _refuse(self, error: openai.APIStatusError, optional: dict[str, Any]) -> NoReturn:
        """Translate an HTTP status. `from None` throughout: the SDK's own error may quote the key."""
        status, message = error.status_code, self._redacted(error)
        where = f"The judge {self.model} at {self.origin}"
        if status == 429 and error.code == "insufficient_quota":
            raise AccessMissing(f"{where} has no quota left (429); add credit there and start again.") from None
        if status in (408, 409, 429) or status >= 500:
            retry_after = retry_after_s(error.response.headers)
            overloaded = status == 429 or status >= 500
            raise _Transient(f"{self.origin} answered {status}", retry_after, overloaded=overloaded) from None
        if status < 400:
            raise SettingsRejected(
                f"{where} answered with a redirect ({status}), and a key is not sent on; set the base URL to its final address."
            ) from None
        if status in (401, 403):
            raise AccessMissing(f"{where} refused the API key ({status}); check the key and its rights.") from None
        if status == 404:
            raise ModelUnavailable(
                f"{where} does not exist (404); check the model's name and that the base URL ends in /v1."
            ) from None
        if error.code in FILTERED_CODES:
            raise Filtered(f"the provider's content filter refused the request ({error.code})") from None
        if too_long(status, error.code, message):
            raise TooLong(f"the prompt does not fit the context of {self.model}") from None
        refused = _refused_parameter(error, optional)
        if status in (400, 422) and refused:
            self._refused.add(refused)
            raise _ParameterRefused from None
        said = f": {message}" if message else ""
        raise SettingsRejected(f"{where} rejected the request ({status}){said}; change the judge's settings.") from None

    def _redacted(self, error: openai.APIStatusError) -> str:
        """The server's own error message on one line, at most 200 characters, without the key or anything like one."""
        body = error.body
        message = body.get("message") if isinstance(body, dict) else None
        if not isinstance(message, str):
            return ""
        return redacted(message, self._key)[:200]

    def _send_only_our_headers(self, request: httpx2.Request) -> None:
        for name in list(request.headers):
            if name.lower() not in _OUR_HEADERS:
                del request.headers[name]
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        elif "Authorization" in request.headers:
            del request.headers["Authorization"]


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def origin_of(base_url: str) -> str:
    """`scheme://host[:port]` of a base URL. Raises SettingsRejected for anything but a plain http(s) address."""
    try:
        parts = urlsplit(base_url.strip())
        port = parts.port
    except ValueError:
        raise SettingsRejected("The judge's base URL cannot be read; it should look like https://host/v1.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsRejected("The judge's base URL must start with https:// or http:// and name a host.")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        # Not quoted: what stands there is likely a secret.
        raise SettingsRejected("The judge's base URL must not hold a user, a query or a fragment; give the key apart.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = port is None or (parts.scheme, port) in {("https", 443), ("http", 80)}
    return f"{parts.scheme}://{host}" if usual else f"{parts.scheme}://{host}:{port}"


def _refused_parameter(error: openai.APIStatusError, optional: dict[str, Any]) -> str | None:
    """The optional parameter a 400 is about; structured output when it names none, since few servers name it."""
    named = re.split(r"[.\[]", error.param)[0] if isinstance(error.param, str) else ""
    if named in optional:
        return named
    text = json.dumps(error.body, ensure_ascii=False) if error.body is not None else ""
    for name in optional:
        if re.search(rf"\b{name}\b", text):
            return name
    return "response_format" if "response_format" in optional else None


def too_long(status: int, code: str | None, message: str) -> bool:
    """Whether a server refused a request because it does not fit the model's context. `message`: its own words."""
    return status == 413 or code == "context_length_exceeded" or _TOO_LONG.search(message) is not None


def retry_after_s(headers: httpx2.Headers) -> float | None:
    """Seconds from `Retry-After` (a number or an HTTP date) or `retry-after-ms`; None when there is no usable one."""
    milliseconds = re.fullmatch(r"\d{1,9}(?:\.\d+)?", headers.get("retry-after-ms", "").strip())
    if milliseconds:
        return float(milliseconds[0]) / 1000
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(?:\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
