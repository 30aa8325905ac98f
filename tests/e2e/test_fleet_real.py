"""A real server watched by its address: what the console that did not start it sees is what its supervisor sees."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from console.client.api import ChatMessage, ChatOptions
from console.client.watch_session import Watcher
from console.core.fleet import FleetDocument, FleetState
from console.core.models import EngineReading
from console.core.watching import target_of
from console.protocol import Pushed
from tests.e2e.world import World, wait_for

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

REQUESTS, TOKENS = 6, 12
COUNTERS = ("requests_finished_total", "prompt_tokens_total", "generation_tokens_total", "preemptions_total")
STATE = ("running", "waiting", "kv_cache_tokens", "block_size", "finished_by_reason", "http_errors_by_status")


def supervised(world: World) -> dict[str, Any]:
    """What the supervisor tells of vLLM now, in full: fields that are zero are written too."""
    snapshot = world.json("status")["snapshot"]
    engine = msgspec.convert(snapshot["engine"] or {}, EngineReading)
    return {name: getattr(engine, name) for name in (*COUNTERS, *STATE)}


async def watched(url: str) -> tuple[dict[str, Any], str, str, int | None, str]:
    """What a watcher of the address sees: figures, model, version, longest context, and an answer of the chat."""
    watcher = Watcher((target_of(url),))
    session = await watcher.attach(watcher_id := next(iter(watcher.targets)))
    assert watcher_id.startswith("watch:")
    try:
        question = [ChatMessage(role="user", content="Say something.")]
        text = ""
        async for delta in session.chat(question, ChatOptions(max_tokens=TOKENS, temperature=0.0)):
            assert not delta.error
            text += delta.text + delta.reasoning
        seen = 0
        async with asyncio.timeout(120):
            async for update in session.updates():
                # After the answer: a look that began before it may not have it yet.
                if isinstance(update, Pushed) and (engine := update.snapshot.engine) is not None:
                    seen += 1
                    if seen >= 4 and engine.running == 0:
                        figures = {name: getattr(engine, name) for name in (*COUNTERS, *STATE)}
                        run = session.run
                        return figures, run.model, run.engine_version, run.max_model_len, text
        raise AssertionError("the updates ended")
    finally:
        await session.close()
        await watcher.close()


def test_a_watched_server_has_the_counts_of_its_supervisor(world: World, tmp_path: Path, data_home: Path) -> None:
    headless = world.headless()
    headless.wait_ready()
    for _ in range(REQUESTS):
        body = {"model": "tiny", "prompt": "one two three", "max_tokens": TOKENS, "ignore_eos": True}
        answer = httpx.post(f"{world.url}/v1/completions", json=body, timeout=120.0, trust_env=False)
        assert answer.status_code == 200, answer.text
    figures, model, version, longest, text = asyncio.run(watched(world.url))
    assert text, "it can be talked to"
    assert figures["requests_finished_total"] == REQUESTS + 1
    wait_for("the supervisor to have seen the last answer", lambda: supervised(world) == figures, 60.0)
    run = world.json("status")["run"]
    # `/version` leaves the build (`+cpu`) out.
    assert (model, version, longest) == (run["model"], run["engine_version"].partition("+")[0], run["max_model_len"])

    # Another operator, with directories of their own, and the command.
    other = World(tmp_path / "other", data_home)
    (tmp_path / "other").mkdir()
    done = other.run("fleet", "--json", "--watch", world.url)
    (row,) = msgspec.json.decode(done.stdout, type=FleetDocument).rows
    assert (row.state, row.watched, row.model, row.running, row.waiting) == (FleetState.READY, True, "tiny", 0, 0)
    assert json.loads(done.stdout)["totals"]["ready"] == 1
    headless.interrupt()
    headless.wait_end()
