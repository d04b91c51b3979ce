"""From tokens to text, as it comes: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from typing import Any

_CONTEXT = 6  # earlier tokens decoded along, because a token's text can depend on its neighbour


class TextStream:
    """Turns one row's tokens into text pieces. Text that may still become a stop string is held back."""

    def __init__(self, tokenizer: Any, stop: tuple[str, ...], begin: str = "") -> None:
        """`begin` stands before the first piece: what the prompt has left open for the reply."""
        self._tokenizer = tokenizer
        self._stop = stop
        self._ids: list[int] = []
        self._shown = 0  # ids whose text has been taken
        self._held = begin

    def push(self, token: int) -> tuple[str, bool]:
        """Take one token. Returns the text that is safe to show, and whether a stop string came."""
        self._ids.append(token)
        return self._release(self._take())

    def flush(self) -> str:
        """What is still held back when the reply ends."""
        # The last token may have finished a stop string and begun a character that never became whole.
        text, _ = self._release(self._take(final=True))
        rest, self._held = self._held, ""
        return text + rest

    def _take(self, *, final: bool = False) -> str:
        start = max(0, self._shown - _CONTEXT)
        before = self._decode(self._ids[start : self._shown])
        now = self._decode(self._ids[start:])
        if not final and now.endswith("�"):
            return ""  # a character of several byte tokens is not whole yet
        self._shown = len(self._ids)
        return now[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _release(self, text: str) -> tuple[str, bool]:
        text = self._held + text
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self._held = ""
            return text[: min(found)], True
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
