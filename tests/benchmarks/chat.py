"""A long answer in the chat's pane: what a painted flush costs at its start and its end, keys meanwhile, memory."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
from textual import constants

from console.core.models import ChatDelta, ChatMessage, ChatOptions
from console.tui.app import ConsoleApp
from console.tui.widgets.transcript import Transcript
from tests.benchmarks.world import World
from tests.fakes.backend import RUN, FakeBackend, FakeSession, snapshot

__all__ = ["chat"]

TOKENS = 100_000
RATE = 4_000
"""Tokens per second: far above any real stream, so that it takes no minutes."""
KEY_PERIOD_S = 0.05
MIB = 2**20
ANSWER = """## Section {n}

Paragraphs of **ordinary** length with `code` in them, as a model writes them when it is asked for very much text.

- one point about the KV cache, which grows by a block at a time
- another about chunked prefill and what it does to TTFT

| name | value |
|------|-------|
| n | {n} |

```python
def section_{n}(tokens: list[int]) -> int:
    # sum them
    return sum(token for token in tokens if token % {n})
```

"""


class Long(FakeSession):
    """Streams that many tokens of about four characters at that rate."""

    tokens = TOKENS

    async def chat(self, messages: Sequence[ChatMessage], options: ChatOptions) -> AsyncIterator[ChatDelta]:
        """The answer; late pieces come together, as they do from a socket."""
        began = time.monotonic()
        text, at, section = "", 0, 0
        for number in range(self.tokens):
            if at + 4 > len(text):
                section += 1
                text, at = text[at:] + ANSWER.format(n=section + 1), 0
            piece = text[at : at + 4]
            at += 4
            due = began + number / RATE
            if due > time.monotonic():
                await asyncio.sleep(due - time.monotonic())
            elif number % 20 == 0:
                await asyncio.sleep(0)
            yield ChatDelta(text=piece, ttft_s=0.1, elapsed_s=time.monotonic() - began, raw=(f"data: {piece!r}",))
        yield ChatDelta(done=True, finish_reason="stop", completion_tokens=self.tokens, prompt_tokens=10,
                        elapsed_s=time.monotonic() - began)  # fmt: skip


class Seen:
    """What was measured. Processor time where what counts is the work, since a flush takes what has come by then; what
    a key waits for is time on the wall."""

    def __init__(self) -> None:
        self.flushes_s: list[float] = []
        """Per 1,000 characters."""
        self.paints_s: list[float] = []
        self.keys_s: list[float] = []


async def measured(tokens: int, size: tuple[int, int]) -> tuple[Seen, float, float, int]:
    """Stream it; returns what was seen, MiB before and after, and rows."""
    seen = Seen()
    session = Long(RUN)
    session.tokens = tokens
    session.push(snapshot())
    app = ConsoleApp(FakeBackend(runs=(RUN,), sessions={RUN.id: session}))
    grow, render = Transcript.grow, Transcript.render_lines

    def timed_grow(self: Transcript, text: str, reasoning: str) -> None:
        start = time.thread_time()
        grow(self, text, reasoning)
        if text:
            seen.flushes_s.append((time.thread_time() - start) / len(text) * 1_000)

    def timed_render(self: Transcript, crop: Any) -> Any:
        start = time.thread_time()
        strips = render(self, crop)
        seen.paints_s.append(time.thread_time() - start)
        return strips

    process = psutil.Process()
    with patch.object(Transcript, "grow", timed_grow), patch.object(Transcript, "render_lines", timed_render):
        async with app.run_test(size=size) as pilot:
            while not app.screen.query("#chat"):
                await pilot.pause(0.05)
            while app.model is None or app.model.snapshot is None:
                await pilot.pause(0.05)
            await pilot.press("c")
            pane = app.screen.query_one("#chat")
            before = process.memory_info().rss / MIB
            await pilot.press(*"go")
            # Not by the pilot, which would wait for a rest in the stream.
            app.simulate_key("enter")
            transcript = app.screen.query_one("#transcript", Transcript)
            while not transcript.streaming:
                await asyncio.sleep(0.01)
            prompt = app.screen.query_one("#prompt")
            typed = 0
            while transcript.streaming:
                await asyncio.sleep(KEY_PERIOD_S)
                start = time.perf_counter()
                app.simulate_key("a")
                typed += 1
                while len(prompt.text) < typed:  # type: ignore[attr-defined]
                    await asyncio.sleep(0)
                seen.keys_s.append(time.perf_counter() - start)
            assert pane.turns[-1].completion_tokens == tokens  # type: ignore[attr-defined]
            return seen, before, process.memory_info().rss / MIB, int(transcript.virtual_size.height)


def milliseconds(values: Sequence[float]) -> str:
    """Median and p99."""
    ordered = sorted(values)
    return (
        f"{statistics.median(ordered) * 1e3:6.2f} ms median, "
        f"{ordered[min(int(len(ordered) * 0.99), len(ordered) - 1)] * 1e3:6.2f} ms p99 (n={len(ordered)})"
    )


def chat(world: World, quick: bool) -> None:
    """One answer at 80×24 and one at 160×50."""
    tokens = TOKENS // 5 if quick else TOKENS
    scratch = Path(world.env["XDG_STATE_HOME"])
    for size in ((80, 24), (160, 50)):
        # Each with a history of its own, or the second would also hold the answer of the first.
        homes = {"XDG_STATE_HOME": str(scratch / f"chat-{size[0]}"), "XDG_CONFIG_HOME": world.env["XDG_CONFIG_HOME"]}
        with patch.dict(os.environ, homes), patch.object(constants, "TEXTUAL_ANIMATIONS", "none"):
            began = time.monotonic()
            seen, before, after, rows = asyncio.run(measured(tokens, size))
            lasted = time.monotonic() - began
            print(f"    {size[0]}×{size[1]}: {tokens:,} tokens, {rows:,} rows, {lasted:.0f} s, "
                  f"{tokens / lasted:,.0f} tok/s shown")  # fmt: skip
            for name, values in (("CPU / 1k chars", seen.flushes_s), ("CPU / paint", seen.paints_s)):
                tenth = max(len(values) // 10, 1)
                print(f"      {name:<15} first tenth {milliseconds(values[:tenth])}")
                print(f"      {'':<15} last tenth  {milliseconds(values[-tenth:])}")
            print(f"      {'key handled':<15} all         {milliseconds(seen.keys_s)}")
            tenth = max(len(seen.keys_s) // 10, 1)
            print(f"      {'':<15} last tenth  {milliseconds(seen.keys_s[-tenth:])}")
            print(f"      memory          {before:.0f} MiB before, {after:.0f} MiB after", flush=True)
