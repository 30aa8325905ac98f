"""Requests in flight, from a process of its own: `python -m tests.gpu.load URL MODEL CLIENTS --tokens N`.

Prompts are token ids, all different, so that neither a tokenizer nor the prefix cache is in the way. Ends after
`--seconds`, or on SIGTERM, and prints what was answered as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import random
import signal
import time

import httpx

IDS = range(6, 500)
"""Ids that every model's tokenizer has, without the special ones."""
REQUEST_TIMEOUT_S = 300.0


async def client(url: str, body: dict[str, object], prompt: int, said: collections.Counter[str]) -> None:
    """One request after the other."""
    # A connection per request: the server closes idle ones just as one is used again.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, timeout=REQUEST_TIMEOUT_S, trust_env=False, limits=limits) as http:
        while True:
            try:
                answer = await http.post("/v1/completions", json=body | {"prompt": random.choices(IDS, k=prompt)})
                said[str(answer.status_code)] += 1
                if answer.status_code != 200:
                    said[answer.text[:200]] += 1
                    await asyncio.sleep(0.2)
            except httpx.HTTPError as error:
                said[repr(error)[:200]] += 1
                await asyncio.sleep(0.5)


async def run(arguments: argparse.Namespace) -> None:
    """All clients, until the end."""
    said: collections.Counter[str] = collections.Counter()
    body = {"model": arguments.model, "max_tokens": arguments.tokens, "ignore_eos": True, "temperature": 1.0}
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    began = time.monotonic()
    tasks = [asyncio.create_task(client(arguments.url, body, arguments.prompt, said)) for _ in range(arguments.clients)]
    try:
        async with asyncio.timeout(arguments.seconds):
            await ended.wait()
    except TimeoutError:
        pass
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(json.dumps({"clients": arguments.clients, "seconds": time.monotonic() - began, "answers": dict(said)}))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.load")
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("clients", type=int)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=300.0)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
