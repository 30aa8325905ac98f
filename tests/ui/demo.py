"""The console on the scripted backend, live.

`python -m tests.ui.demo [serve|start|picker] [lines=N] [theme=NAME] [--ascii] [--no-mouse] [--readonly]`, with N log
lines a second.

For eyes, for a real terminal (tmux) and for measuring what a second of watching costs.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time

from msgspec.structs import replace

from console.client.api import ChatDelta
from console.core.models import EventRecord, Level, Phase, ServerState
from console.core.preferences import THEMES, Preferences
from console.protocol import Happened
from console.tui.run import run_tui
from tests.fakes.backend import (
    BUSY,
    LOG_LINES,
    NO_GPU,
    NOW_S,
    PROBLEMS,
    RUN,
    FakeBackend,
    FakeSession,
    gpus,
    loading,
    snapshot,
)
from tests.ui.states import PAST


class Live(FakeSession):
    """Goes on by itself: a snapshot a second, log lines as asked."""

    lines_per_s = 0
    begin = "serve"

    async def updates(self, history_s=0.0):
        """First the past, then the present."""
        if self.begin == "serve":
            yield PAST
        tick = 0
        while True:
            tick += 1
            wave = 0.5 + 0.5 * math.sin(tick / 17)
            self.log_lines += [f"{LOG_LINES[tick % len(LOG_LINES)]} #{tick}.{i}" for i in range(self.lines_per_s)]
            self.queue.put_nowait(replace(self._pushed(tick, wave)))
            if tick % 20 == 0:
                happened = EventRecord(
                    time_s=NOW_S + tick, kind="hint", text=f"hint of second {tick}", level=Level.WARN
                )
                self.queue.put_nowait(Happened(event=happened))
            while not self.queue.empty():
                yield self.queue.get_nowait()
            await asyncio.sleep(1.0)

    def _pushed(self, tick: int, wave: float):
        from console.protocol import Pushed

        if self.begin == "start" and tick <= 14:
            phase = list(Phase)[(tick - 1) // 2]
            status = loading(phase, 10.0 * ((tick - 1) // 2) + tick, progress=(tick % 2) / 2, phase_detail="shard 3/46")
            return Pushed(snapshot=snapshot(seq=tick, time_s=NOW_S + tick, status=status, engine=None, hints=()))
        engine = replace(
            BUSY,
            kv_cache_usage=0.55 + 0.4 * wave,
            generation_tokens_per_s=1500 + 700 * wave,
            running=round(20 + 12 * wave),
        )
        return Pushed(snapshot=snapshot(seq=tick, time_s=NOW_S + tick, engine=engine, gpus=gpus(4, 40 + 40 * wave)))

    async def chat(self, messages, options):
        """A slow answer."""
        words = [
            "Here",
            "is",
            "`code`",
            "with",
            "[brackets]",
            "and",
            "\x1b[31mcolour\x1b[0m",
            "that",
            "is",
            "only",
            "text.",
            "",
        ] * 20
        begin = time.monotonic()
        for word in words:
            await asyncio.sleep(0.02)
            yield ChatDelta(text=word + " ", ttft_s=0.02, elapsed_s=time.monotonic() - begin)
        yield ChatDelta(
            done=True, finish_reason="stop", elapsed_s=time.monotonic() - begin, completion_tokens=len(words)
        )

    async def stop(self, drain_timeout_s=None):
        """Drain and end."""
        status = replace(loading(Phase.SERVER), state=ServerState.STOPPING, in_flight=3, phase=None)
        self.push(snapshot(status=status))
        self.push(snapshot(status=replace(status, state=ServerState.STOPPED, in_flight=None, since_s=NOW_S)))


def main() -> int:
    """Run until it is left."""
    words = sys.argv[1:]
    session = Live(RUN)
    session.begin = "start" if "start" in words or "picker" in words else "serve"
    session.lines_per_s = next((int(w.removeprefix("lines=")) for w in words if w.startswith("lines=")), 0)
    picker = "picker" in words
    backend = FakeBackend(
        problems=PROBLEMS,
        machine=NO_GPU,
        runs=() if picker else (RUN,),
        sessions={RUN.id: session} | dict.fromkeys(("flash-4xh200", "cpu-smoke"), session),
        engine=None if "no-engine" in words else "cuda-0.33.0",
    )
    theme = next((w.removeprefix("theme=") for w in words if w.startswith("theme=")), "dark")
    assert theme in THEMES
    return run_tui(
        backend,
        ascii_glyphs="--ascii" in words,
        mouse="--no-mouse" not in words,
        preferences=Preferences(theme=theme, readonly="--readonly" in words),
    )


if __name__ == "__main__":
    raise SystemExit(main())
