"""What the supervisor writes down. A full disk costs records, never the server: losses are counted and said."""

from __future__ import annotations

import asyncio
from collections import deque

from console.core.models import EventRecord, RunInfo, Sample
from console.core.money import Tally
from console.core.resume import Saved
from console.core.sampling import slim
from console.io.runs import RunDir
from console.protocol import History

__all__ = ["Records"]

SAMPLES_KEPT = 300
"""Samples in memory: five minutes at 1 Hz; older ones are read from the disk when somebody asks."""
EVENTS_KEPT = 1_000
HISTORY_SAMPLES_MAX = 2_000
HISTORY_S_MAX = 86_400.0
"""A front end gets so much of the past at most."""
HOUR_S = 3_600.0
HOUR_POINTS = 360
"""Of the newest hour, apart from what is in memory; what is older gets the rest."""
APART_S = 0.001
"""Times are kept in milliseconds: so much before a time is not that time."""
FLUSH_EVERY = 5
"""Samples written at a time."""


class Records:
    """Events and samples of one run, in memory and on disk."""

    def __init__(self, run: RunDir, info: RunInfo) -> None:
        self._run = run
        self._info = info
        self._samples: deque[Sample] = deque(_newest(run), maxlen=SAMPLES_KEPT)
        self._events: deque[EventRecord] = deque(run.events(EVENTS_KEPT), maxlen=EVENTS_KEPT)
        self._pending: list[Sample] = []
        self.lost = 0
        """Records that could not be written."""
        self.last_error = ""
        self._info_unwritten = False

    @property
    def info(self) -> RunInfo:
        """`run.json` as it should stand on disk."""
        return self._info

    @property
    def last_sample_s(self) -> float | None:
        """Wall-clock time of the newest sample."""
        return self._samples[-1].time_s if self._samples else None

    def write_info(self, info: RunInfo) -> None:
        """Replace `run.json` if something changed."""
        if info == self._info and not self._info_unwritten and self._run.info_path.exists():
            return
        self._info = info
        try:
            self._run.write_info(info)
        except OSError as error:
            self._info_unwritten = True  # the next supervisor needs it, so this one is no loss yet
            self.last_error = error.strerror or str(error)
        else:
            self._info_unwritten = False

    def retry(self) -> None:
        """Write `run.json` if it could not be written when it changed."""
        if self._info_unwritten:
            self.write_info(self._info)

    def save(self, saved: Saved) -> None:
        """Replace `state.json`."""
        try:
            self._run.write_state(saved)
        except OSError as error:
            self._lose(1, error)

    def read_money(self) -> Tally | None:
        """The ledger that a lost supervisor left; `None` if there is none that can be read."""
        return self._run.read_money()

    def save_money(self, tally: Tally) -> None:
        """Replace `money.json`."""
        try:
            self._run.write_money(tally)
        except OSError as error:
            self._lose(1, error)

    def event(self, event: EventRecord) -> None:
        """Keep one event."""
        self._events.append(event)
        try:
            self._run.append_event(event)
        except OSError as error:
            self._lose(1, error)

    def sample(self, sample: Sample) -> None:
        """Keep one sample."""
        self._samples.append(sample)
        self._pending.append(sample)
        if len(self._pending) >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Write the samples that wait."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        try:
            self._run.append_samples(pending)
        except OSError as error:
            self._lose(len(pending), error)

    async def history(self, seconds: float) -> History:
        """The last `seconds`, coarser with age, as much as one message may hold."""
        held = self._held(seconds)
        if not held:
            return History(events=tuple(self._events))
        samples = await asyncio.to_thread(self._past, held, min(seconds, HISTORY_S_MAX))
        samples += [slim(sample) for sample in self._held(seconds) if sample.time_s > held[-1].time_s]
        return History(samples=tuple(samples[-HISTORY_SAMPLES_MAX:]), events=tuple(self._events))

    def _held(self, seconds: float) -> list[Sample]:
        """Of the samples in memory those of the last `seconds`."""
        if seconds <= 0 or not self._samples:
            return []
        since_s = self._samples[-1].time_s - seconds
        return [sample for sample in self._samples if sample.time_s >= since_s]

    def _past(self, held: list[Sample], seconds: float) -> list[Sample]:
        """Those in memory, and before them those on the disk; runs in a thread."""
        end_s = held[-1].time_s
        until_s = min(sample.time_s for sample in held)
        kept = [slim(sample) for sample in held]
        left = HISTORY_SAMPLES_MAX - SAMPLES_KEPT - HOUR_POINTS
        for span_s, points in ((min(HOUR_S, seconds), HOUR_POINTS), (seconds, left)):
            since_s = end_s - span_s
            if since_s < until_s - APART_S:
                found = self._run.samples(since_s=since_s, until_s=until_s - APART_S, points_max=points)
                kept = [*map(slim, found), *kept]
                until_s = since_s
        return kept

    def _lose(self, count: int, error: OSError) -> None:
        self.lost += count
        self.last_error = error.strerror or str(error)


def _newest(run: RunDir) -> tuple[Sample, ...]:
    """The last samples of the supervisor before this one."""
    known = run.sampled()
    return run.samples(since_s=known[1] - SAMPLES_KEPT)[-SAMPLES_KEPT:] if known else ()
