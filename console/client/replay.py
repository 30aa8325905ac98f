"""Plays recordings as runs: a session like a live one, with a `player` by which it is held and moved."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from console.client.api import ChatDelta, ChatMessage, ChatOptions, LogPage, Playing, Rewound, Update
from console.client.onlooker import Onlooker
from console.core.errors import UsageError
from console.core.playback import Playback
from console.core.recording import Recording
from console.core.timeline import Timeline
from console.protocol import History, Pushed, RunInfo

__all__ = ["REFUSAL", "ReplaySession", "refused"]

REFUSAL: Final = "This is a recording: there is no server here to act on."
SAMPLES_KEPT: Final = 3_700
"""Sent after a jump: as many as the charts hold."""
EVENTS_KEPT: Final = 1_000
TICK_S: Final = 1.0
FAST_TICK_S: Final = 0.25
"""At more than the speed of life."""
HINTS_STEP_MAX: Final = 64
"""A tick that has more samples than this to judge works in a thread, so that keys stay quick."""


def refused() -> UsageError:
    """What whoever asks for a server is told."""
    return UsageError("Not in a recording", REFUSAL, "Open the console on a server: dsv4-console")


class ReplayLog:
    """The log up to the moment of its session (see `console.client.api.LogReader`)."""

    def __init__(self, session: ReplaySession) -> None:
        self._session = session
        self._timeline = session.timeline
        self._at = 0
        """Lines given out."""

    def read(self, bytes_max: int = 262_144) -> LogPage:
        """Lines up to the moment. After a jump back a page without lines says which number comes next."""
        timeline, shown_s = self._session.timeline, self._session.shown_s
        log = timeline.recording.log
        until = timeline.lines_until(shown_s)
        if timeline is not self._timeline or until < self._at:
            self._at = until if timeline is self._timeline and _whole(log.numbers[: self._at]) else 0
            self._timeline = timeline
            return LogPage(lines=(), offset=0, first_line=log.numbers[self._at - 1] + 1 if self._at else 1)
        first, size = self._at, 0
        while self._at < until and size < bytes_max:
            if self._at > first and log.numbers[self._at] != log.numbers[self._at - 1] + 1:
                break  # the lines of a page have no gap
            size += len(log.texts[self._at]) + 1
            self._at += 1
        before = log.numbers[first - 1] if first else 0
        number = log.numbers[first] if first < self._at else before + 1
        return LogPage(
            lines=log.texts[first : self._at], offset=0, first_line=number, skipped=max(number - before - 1, 0)
        )

    def skip_to_last(self, bytes_max: int) -> int:
        """Nothing is passed over: a recording is read from memory."""
        return 0

    def close(self) -> None:
        """There is no file."""


def _whole(numbers: Sequence[int]) -> bool:
    """Whether lines 1 to the last one are all there."""
    return not numbers or numbers[-1] == len(numbers)


class ReplaySession(Onlooker):
    """One recording, or several that follow one another, played (see `console.client.api.Session` and `Player`).

    Args:
        recordings: in order of time.
        label: `REPLAY` or `DEMO`.
        clock: seconds of a clock that never goes back.
        paused: begin held.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        *,
        label: str = "REPLAY",
        clock: Callable[[], float] = time.monotonic,
        paused: bool = False,
    ) -> None:
        self._label = label
        self._clock = clock
        self._timelines = tuple(Timeline(recording) for recording in recordings)
        first, last = recordings[0], recordings[-1]
        self._playback = Playback(
            begin_s=first.begin_s,
            end_s=max(last.end_s, first.from_s),
            at_s=first.from_s,
            set_s=clock(),
            paused=paused,
        )
        self.timeline = self._timelines[0]
        self.shown_s = first.from_s
        """The moment of the last snapshot."""
        self._seq = 0
        self._jumped = True
        self._wake = asyncio.Event()

    @property
    def run(self) -> RunInfo:
        """The run of the moment."""
        return self.timeline.run_at(self.shown_s)

    @property
    def player(self) -> ReplaySession:
        """By which it is paused and moved."""
        return self

    @property
    def refusal(self) -> str:
        """Why a key that needs a server does nothing."""
        return REFUSAL

    @property
    def missing(self) -> tuple[str, ...]:
        """A sentence for each thing that cannot be shown."""
        return tuple(sentence for timeline in self._timelines for sentence in timeline.recording.missing)

    @property
    def playing(self) -> Playing:
        """Where it is."""
        now, playback = self._clock(), self._playback
        at = playback.position_s(now)
        return Playing(
            label=self._label,
            at_s=at,
            begin_s=playback.begin_s,
            end_s=playback.end_s,
            local_s=at + self.timeline.recording.utc_offset_s,
            speed=playback.speed,
            paused=playback.paused,
            ended=playback.ended(now),
        )

    def pause(self) -> None:
        """Hold, or go on."""
        before = self._playback.position_s(self._clock())
        self._playback = self._playback.toggled(self._clock())
        self._jumped = self._jumped or self._playback.at_s < before
        self._wake.set()

    def faster(self, step: int) -> None:
        """The next speed, or with -1 the one before."""
        self._playback = self._playback.faster(self._clock(), step)
        self._wake.set()

    def seek(self, step_s: float) -> None:
        """Move by so many seconds."""
        self._go(self._playback.position_s(self._clock()) + step_s)

    def seek_event(self, step: int) -> None:
        """To the next event, or with -1 to the one before; in the first or last part also to its ends."""
        at = self._playback.position_s(self._clock())
        index = self._index(at)
        for timeline in self._timelines[index:] if step > 0 else reversed(self._timelines[: index + 1]):
            if (stop := timeline.stop(at, step)) is not None:
                self._go(stop)
                return

    def restart_play(self) -> None:
        """To the beginning."""
        self._go(self._playback.begin_s)

    def _go(self, to_s: float) -> None:
        self._playback = self._playback.sought(self._clock(), to_s)
        self._jumped = True
        self._wake.set()

    def _index(self, at_s: float) -> int:
        begun = [i for i, timeline in enumerate(self._timelines) if timeline.recording.begin_s <= at_s]
        return begun[-1] if begun else 0

    async def updates(self, history_s: float = 0.0) -> AsyncIterator[Update]:
        """The past up to the moment, then snapshot after snapshot, and after a jump `Rewound` and the past again."""
        # It runs from the moment at which somebody looks on.
        self._playback = self._playback.sought(self._clock(), self._playback.at_s)
        while True:
            self._wake.clear()
            for update in await self._frame():
                yield update
            playing = self.playing
            if playing.paused or playing.ended:
                await self._wake.wait()
                continue
            try:
                async with asyncio.timeout(TICK_S if playing.speed == 1 else FAST_TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _frame(self) -> list[Update]:
        at = self._playback.position_s(self._clock())
        timeline = self._timelines[self._index(at)]
        jumped = self._jumped or timeline is not self.timeline or at < self.shown_s
        since = float("-inf") if jumped else self.shown_s
        self._jumped = False
        self._seq += 1
        samples = timeline.samples(since, at, SAMPLES_KEPT)
        events = timeline.events(since, at, EVENTS_KEPT)
        if len(samples) > HINTS_STEP_MAX:
            snapshot = await asyncio.to_thread(timeline.snapshot, at, self._seq)
        else:
            snapshot = timeline.snapshot(at, self._seq)
        self.timeline, self.shown_s = timeline, at
        out: list[Update] = [Rewound()] if jumped else []
        if samples or events:
            out.append(History(samples=samples, events=events))
        return [*out, Pushed(snapshot=snapshot)]

    def _refused(self) -> UsageError:
        return refused()

    def log(self) -> ReplayLog:
        """The log up to the moment."""
        return ReplayLog(self)

    async def chat(self, messages: Sequence[ChatMessage], options: ChatOptions) -> AsyncIterator[ChatDelta]:
        """One answer: there is no server."""
        yield ChatDelta(done=True, error=REFUSAL)

    async def close(self) -> None:
        """Nothing is held open."""
