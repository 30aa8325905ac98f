"""What the supervisor writes down. A full disk costs records, never the server: losses are counted and said."""

from __future__ import annotations

from collections import deque

from console.core.models import EventRecord, RunInfo, Sample
from console.core.resume import Saved
from console.io.runs import RunDir
from console.protocol import History

__all__ = ["Records"]

SAMPLES_KEPT = 3_600
"""Samples in memory: an hour at 1 Hz."""
EVENTS_KEPT = 1_000
HISTORY_SAMPLES_MAX = 2_000
FLUSH_EVERY = 5
"""Samples written at a time."""


class Records:
    """Events and samples of one run, in memory and on disk."""

    def __init__(self, run: RunDir, info: RunInfo) -> None:
        self._run = run
        self._info = info
        self._samples: deque[Sample] = deque(run.samples()[-SAMPLES_KEPT:], maxlen=SAMPLES_KEPT)
        self._events: deque[EventRecord] = deque(run.events(), maxlen=EVENTS_KEPT)
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

    def history(self, seconds: float) -> History:
        """The last `seconds`, thinned evenly to what one message may hold."""
        samples = tuple(self._samples)
        if samples:
            since = samples[-1].time_s - seconds
            samples = tuple(sample for sample in samples if sample.time_s >= since)
        stride = -(-len(samples) // HISTORY_SAMPLES_MAX) or 1
        return History(samples=samples[::stride], events=tuple(self._events))

    def _lose(self, count: int, error: OSError) -> None:
        self.lost += count
        self.last_error = error.strerror or str(error)
