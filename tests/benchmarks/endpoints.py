"""Scripted endpoints, many in one process: `python -m tests.benchmarks.endpoints PORT…`.

Each answers `/health`, `/version`, `/v1/models` and `/metrics` as vLLM does, with the metrics of a real server whose
counters go on, and keeps connections open. `/counted` says how often metrics were read, and how many are connected.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from pathlib import Path

RECORDED = (Path(__file__).parents[1] / "data" / "metrics" / "metrics-after-bench.txt").read_text(encoding="utf-8")
MODELS = json.dumps({"object": "list", "data": [{"id": "tiny", "root": "tiny", "max_model_len": 1024}]})
TOKENS = re.compile(r"^(vllm:generation_tokens_total\{[^}]*\}) \S+$", re.M)
PER_SCRAPE = 1_900


class Endpoint:
    """One port."""

    def __init__(self) -> None:
        self.scrapes = 0
        self.connected = 0

    def answer(self, path: str) -> str:
        """The body for one address."""
        if path == "/metrics":
            self.scrapes += 1
            return TOKENS.sub(rf"\g<1> {float(self.scrapes * PER_SCRAPE)}", RECORDED)
        if path == "/counted":
            return json.dumps({"scrapes": self.scrapes, "connected": self.connected})
        return {"/version": '{"version":"0.32.0"}', "/v1/models": MODELS}.get(path, "")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it is closed."""
        self.connected += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = self.answer(head.split(b" ", 2)[1].decode()).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connected -= 1
            writer.close()


async def main(ports: list[int]) -> None:
    """Serve until terminated."""
    servers = [await asyncio.start_server(Endpoint().serve, "127.0.0.1", port) for port in ports]
    print("ready", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main([int(word) for word in sys.argv[1:]]))
