"""Ways to spoil an input: values inside a structure, and bytes. All draws come from the generator that is handed in."""

from __future__ import annotations

import copy
import gzip
import json
import struct
from random import Random
from typing import Any

NAMES = (
    "id", "question", "reference", "output", "text", "messages", "turns", "choices", "choice0", "choice1", "label", "model",
    "response", "meta", "chosen", "rejected", "prompt", "message_id", "parent_id", "role", "rank", "replies", "goal", "answer",
    "category", "ID", "meta.x", "QuestionID", "AnswerID", "annotator", "attempt", "key", "score", "missing", "data", "settings",
    "seq", "event", "at", "suite", "r", "lora_alpha", "peft_type", "auto_mapping", "dtype", "shape", "data_offsets", "__metadata__",
)  # fmt: skip
TEXTS = (
    "", " ", "\x00", "\ud800", "\ufeff", "\u202e逆", "a\u2028b", "<script>", "../../../etc/passwd", "/etc/passwd", "=1+1", "1e999",
    "nan", "-0", "0x10", "true", "null", "[[5]]", "Human: a\n\nAssistant: b", "Human:", "{" * 40, "\\u0000", "\r", "\r\n", '"', "'", ",",
    "\t", "%s%s", "{0}", "٣", "𠮷野家", "が", "ｶﾞ", "9" * 400, "x" * 70_000, "2026-13-45T99:99:99Z", "日本語の質問です。", "🏴‍☠️",
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 2, 5, 7, 255, 256, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**30, 10**4000, 0.5, -0.0, 1e308, 5e-324, True, False,
)  # fmt: skip


def value(rng: Random, depth: int = 0) -> Any:
    """Any JSON value; one that JSON's own readers may trip over as likely as a plain one."""
    kind = rng.randrange(10 if depth < 3 else 7)
    if kind < 3:
        return rng.choice(TEXTS)
    if kind < 5:
        return rng.choice(NUMBERS)
    if kind == 5:
        return None
    if kind == 6:
        return float(rng.choice(("nan", "inf", "-inf"))) if rng.random() < 0.2 else rng.uniform(-1e3, 1e3)
    if kind == 7:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 8:
        return {rng.choice(NAMES): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    deep: Any = rng.choice(TEXTS)
    for _ in range(rng.choice((10, 60, 400))):
        deep = [deep] if rng.random() < 0.7 else {"a": deep}
    return deep


def spoiled(rng: Random, tree: Any, times: int | None = None) -> Any:
    """A copy of `tree` with some of its values, names or shapes changed."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3)) if times is None else times):
        tree = _spoil_once(rng, tree)
    return tree


def _spoil_once(rng: Random, tree: Any) -> Any:
    # Down to a random place, as likely near the root as deep.
    if isinstance(tree, dict) and tree and rng.random() < 0.8:
        name = rng.choice(list(tree))
        action = rng.randrange(8)
        if action == 0:
            del tree[name]
        elif action == 1:
            tree[rng.choice(NAMES)] = tree.pop(name)
        elif action == 2:
            tree[rng.choice(NAMES)] = value(rng)
        else:
            tree[name] = _spoil_once(rng, tree[name])
        return tree
    if isinstance(tree, list) and tree and rng.random() < 0.8:
        place = rng.randrange(len(tree))
        action = rng.randrange(6)
        if action == 0:
            del tree[place]
        elif action == 1:
            tree.insert(place, copy.deepcopy(rng.choice(tree)))
        elif action == 2:
            rng.shuffle(tree)
        else:
            tree[place] = _spoil_once(rng, tree[place])
        return tree
    if isinstance(tree, str) and tree and rng.random() < 0.4:
        place = rng.randrange(len(tree) + 1)
        return tree[:place] + rng.choice(TEXTS) + tree[place + rng.randrange(3) :]
    if isinstance(tree, int | float) and rng.random() < 0.5:
        return rng.choice(NUMBERS)
    return rng.choice(([tree], {"a": tree}, str(tree)[:100])) if rng.random() < 0.2 else value(rng)


def as_json(rng: Random, tree: Any) -> bytes:
    """The tree as JSON, NaN and half surrogates as Python would write them."""
    text = json.dumps(tree, ensure_ascii=rng.random() < 0.3)
    return text.encode("utf-8", "surrogatepass")


def as_lines(rng: Random, rows: Any) -> bytes:
    rows = rows if isinstance(rows, list) else [rows]
    end = rng.choice((b"\n",) * 8 + (b"\r\n", b"\n\n"))
    return end.join(as_json(rng, row) for row in rows) + (end if rng.random() < 0.8 else b"")


def damaged(rng: Random, content: bytes) -> bytes:
    """The bytes with some of them flipped, cut, repeated, moved, or in other clothes."""
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        place = rng.randrange(len(content) + 1)
        length = rng.choice((1, 2, 8, 64, max(1, len(content) // 2)))
        action = rng.randrange(9)
        if action == 0:
            content = content[:place]
        elif action == 1:
            content = content[:place] + content[place + length :]
        elif action == 2:
            content = content[:place] + rng.randbytes(min(length, 64)) + content[place + length :]
        elif action == 3:
            content = content[:place] + content[place : place + length] * rng.choice((2, 3, 40)) + content[place:]
        elif action == 4 and content:
            place = min(place, len(content) - 1)
            content = content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
        elif action == 5:
            number = struct.pack(rng.choice(("<I", ">I", "<Q", ">Q")), rng.choice((0, 1, 2**31, 2**32 - 1)))
            content = content[:place] + number + content[place + len(number) :]
        elif action == 6:
            content = content[:place] + rng.choice(TEXTS)[:100].encode("utf-8", "surrogatepass") + content[place:]
        elif action == 7:
            content = (
                rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"PK\x03\x04", b"\x1f\x8b", b"PAR1")) + content
            )
        else:
            content = content.decode("utf-8", "replace").encode(
                rng.choice(("utf-16", "utf-16-le", "cp932", "euc_jp", "utf-8")), "replace"
            )
    return content


def zipped_bomb(rng: Random, megabytes: int) -> bytes:
    """A gzip member of that many megabytes of one line or of many."""
    line = b"x" * (1 << 20) if rng.random() < 0.5 else b'{"question": "a"}\n' * 61_681
    return gzip.compress(line * megabytes, 1)
