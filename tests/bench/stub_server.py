"""A stub of a vLLM server in a process of its own: `python -m tests.bench.stub_server ROOT LATENCY_S AT_ONCE`.

Prints its port, then answers completions: `AT_ONCE` together, in PIECES pieces, each LATENCY_S seconds long give or take
a quarter, as replies of different lengths are; more wait.
It computes nothing, so on one machine many of them leave the cores to the client, whose cost is what they are for.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import Any

PIECES = 8  # of a benchmark's reply of 256 tokens, at 32 together
TOKENS_PER_PIECE = 32


class Stub:
    """What one server does."""

    def __init__(self, root: str, latency_s: float, at_once: int) -> None:
        self._root, self._latency_s = root, latency_s
        self._places = asyncio.Semaphore(at_once)
        self._chance = random.Random(0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                ),
                0,
            )
            body = json.loads(await reader.readexactly(length)) if length else {}
            if path == "/v1/models":
                card = {"id": "base", "object": "model", "root": self._root, "parent": None, "max_model_len": 4096}
                self._whole(writer, {"object": "list", "data": [card]})
            else:
                async with self._places:
                    await self._stream(writer, body)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone, as it may
        finally:
            writer.close()

    @staticmethod
    def _whole(writer: asyncio.StreamWriter, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async def _stream(self, writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        text = "安全な答えです。" * 16
        latency_s = self._latency_s * self._chance.uniform(0.75, 1.25)
        for number in range(1, PIECES + 1):
            await asyncio.sleep(latency_s / PIECES)
            usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": number * TOKENS_PER_PIECE}
            reason = "length" if number == PIECES else None
            event = {"choices": [{"index": 0, "text": text, "finish_reason": reason}], "usage": usage}
            writer.write(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n")
            await writer.drain()
        writer.write(b"data: [DONE]\n\n")


async def main(root: str, latency_s: float, at_once: int) -> None:
    """Serve until killed."""
    server = await asyncio.start_server(Stub(root, latency_s, at_once).serve, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
