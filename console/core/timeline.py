"""What was known at any moment of a recording: the snapshot that the supervisor would have sent.

Pure, so that every moment of a replay can be tested without a clock, a file or a screen.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final, TypeVar

import msgspec

from console.core.hints import HintEngine, explain_rules
from console.core.logparse import LineParser
from console.core.models import (
    OVER_STATES,
    EventRecord,
    Hint,
    RunInfo,
    Sample,
    ServerState,
    ServerStatus,
    Snapshot,
)
from console.core.phases import PhaseTracker, PhaseUpdate
from console.core.profile import Profile, ServeSection
from console.core.recording import SAMPLE_HOLD_S, RecordedLog, Recording, turns

__all__ = ["Timeline"]

START_LINES_MAX: Final = 20_000
"""Lines of the log that are looked through for what a start says of its phases."""
EVENT_STEP_S: Final = 1.0
"""Events closer together than this are one stop for who goes from event to event."""
STOPS: Final = frozenset({"state", "phase", "hint", "restart", "drain", "note", "trial"})
"""Kinds of events that one may go to."""

Timed = TypeVar("Timed", Sample, EventRecord)
_TIME: Callable[[Sample | EventRecord], float] = attrgetter("time_s")


def _details(log: RecordedLog, starts_s: Sequence[float]) -> list[tuple[float, PhaseUpdate]]:
    """What the log says inside the phases of the starts that it holds."""
    out: list[tuple[float, PhaseUpdate]] = []
    parser, tracker, attempt = LineParser(), PhaseTracker(), 0
    for at, text in zip(log.times_s[:START_LINES_MAX], log.texts, strict=False):
        begun = bisect_right(starts_s, at)
        if begun != attempt:
            parser, tracker, attempt = LineParser(), PhaseTracker(), begun
        update = tracker.feed(parser.parse(text))
        if update is not None:
            out.append((at, update))
    return out


class _Settings:
    """What `[serve]` said at any moment: a trial changes it in the middle of a run."""

    def __init__(self, recording: Recording) -> None:
        self._times: list[float] = []
        self._serves: list[ServeSection] = []
        for event in recording.events:
            if event.kind != "settings":
                continue
            try:
                before, after = (msgspec.convert(event.data.get(key), ServeSection) for key in ("before", "serve"))
            except msgspec.ValidationError:
                continue  # of another version; the settings at the end must do
            if not self._serves:
                self._serves.append(before)
            self._times.append(event.time_s)
            self._serves.append(after)

    def at(self, at_s: float) -> ServeSection | None:
        """`[serve]` at this moment; `None` if it was the same all the time."""
        return self._serves[bisect_right(self._times, at_s)] if self._serves else None

    def run_at(self, run: RunInfo, at_s: float) -> RunInfo:
        """The run with the limits of this moment."""
        serve = self.at(at_s)
        if serve is None:
            return run
        length = serve.max_model_len if isinstance(serve.max_model_len, int) else None
        return msgspec.structs.replace(run, max_num_seqs=serve.max_num_seqs, max_model_len=length)


class _Hints:
    """Hints at any sample, judged again from the profile. Remembers where it is, so that playing on costs one step."""

    def __init__(self, recording: Recording, profile: Profile, settings: _Settings) -> None:
        self._recording = recording
        self._profile = profile
        self._settings = settings
        self._serve: ServeSection | None = None
        self._next = 0
        self._engine = self._fresh(recording.begin_s)
        self._hints: tuple[Hint, ...] = ()
        rules = explain_rules()
        self._back_s = max((rule.window_s + rule.hold_s + rule.clear_s for rule in rules), default=0.0)
        self.broken = False
        """The figures are such that no rule can reckon with them."""

    def _fresh(self, at_s: float) -> HintEngine:
        self._serve = self._settings.at(at_s)
        run = self._settings.run_at(self._recording.run, at_s)
        profile = self._profile
        if self._serve is not None:
            profile = msgspec.structs.replace(profile, serve=self._serve)
        return HintEngine(
            profile,
            max_num_seqs=run.max_num_seqs,
            max_model_len=run.max_model_len,
            usd_per_hour=run.usd_per_hour,
        )

    def at(self, index: int) -> tuple[Hint, ...]:
        """After the sample `index`. A jump is judged from so far back that every rule has had its time."""
        samples = self._recording.samples
        if self.broken:
            return ()
        start = bisect_left(samples, samples[index].time_s - self._back_s, key=_TIME)
        if index + 1 < self._next or start > self._next:
            self._engine, self._next, self._hints = self._fresh(samples[start].time_s), start, ()
        try:
            while self._next <= index:
                at_s = samples[self._next].time_s
                if self._settings.at(at_s) is not self._serve:
                    self._engine = self._fresh(at_s)
                self._hints = self._engine.update(samples[self._next])
                self._next += 1
        except (ArithmeticError, ValueError):
            self.broken, self._hints = True, ()
        return self._hints


class Timeline:
    """One recording, asked for its moments."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._turns = turns(recording)
        self._turn_times = [at for at, _ in self._turns]
        starts_s = [at for at, status in self._turns if status.state is ServerState.STARTING]
        self._details = _details(recording.log, starts_s)
        self._settings = _Settings(recording)
        profile = recording.profile
        self._hints = _Hints(recording, profile, self._settings) if profile is not None else None
        self._stops = _stops(recording)

    def run_at(self, at_s: float) -> RunInfo:
        """The run with the limits that were in force at a moment."""
        return self._settings.run_at(self.recording.run, at_s)

    def samples(self, after_s: float, until_s: float, count_max: int) -> tuple[Sample, ...]:
        """Samples after one moment and up to another one, the newest `count_max`."""
        return _between(self.recording.samples, after_s, until_s, count_max)

    def events(self, after_s: float, until_s: float, count_max: int) -> tuple[EventRecord, ...]:
        """The same of events."""
        return _between(self.recording.events, after_s, until_s, count_max)

    def lines_until(self, at_s: float) -> int:
        """How many of the log's lines were written by then."""
        return bisect_right(self.recording.log.times_s, at_s)

    def stop(self, at_s: float, step: int) -> float | None:
        """The next event after a moment, or with -1 the one before; `None` if there is none."""
        if step > 0:
            index = bisect_right(self._stops, at_s)
            return self._stops[index] if index < len(self._stops) else None
        index = bisect_right(self._stops, at_s - EVENT_STEP_S) - 1
        return self._stops[index] if index >= 0 else None

    def snapshot(self, at_s: float, seq: int) -> Snapshot:
        """What was known at this moment. No source counts as stale: nothing here is late."""
        samples = self.recording.samples
        index = bisect_right(samples, at_s, key=_TIME) - 1
        sample = samples[index] if index >= 0 and at_s - samples[index].time_s <= SAMPLE_HOLD_S else None
        status = self._status(at_s, sample)
        hints: tuple[Hint, ...] = ()
        if sample is not None and self._hints is not None and status.state not in OVER_STATES:
            hints = self._hints.at(index)
        if sample is None:
            return Snapshot(seq=seq, time_s=at_s, status=status)
        return Snapshot(
            seq=seq,
            time_s=at_s,
            status=status,
            gpus=sample.gpus,
            host=sample.host,
            engine=sample.engine,
            hints=hints,
        )

    def _status(self, at_s: float, sample: Sample | None) -> ServerStatus:
        status = self._turns[max(bisect_right(self._turn_times, at_s) - 1, 0)][1]
        if status.phase is not None and self._details:
            index = bisect_right(self._details, at_s, key=lambda detail: detail[0]) - 1
            update = self._details[index][1] if index >= 0 else None
            if update is not None and update.phase is status.phase:
                return msgspec.structs.replace(status, phase_detail=update.detail, progress=update.progress)
        if status.state is ServerState.STOPPING and sample is not None and sample.engine is not None:
            engine = sample.engine
            return msgspec.structs.replace(status, in_flight=(engine.running or 0) + (engine.waiting or 0))
        return status


def _between(items: Sequence[Timed], after_s: float, until_s: float, count_max: int) -> tuple[Timed, ...]:
    first, last = bisect_right(items, after_s, key=_TIME), bisect_right(items, until_s, key=_TIME)
    return tuple(items[max(first, last - count_max) : last])


def _stops(recording: Recording) -> list[float]:
    """Moments that one may go to: begin, events, end."""
    out = [recording.begin_s]
    for event in recording.events:
        if event.kind in STOPS and event.time_s - out[-1] >= EVENT_STEP_S:
            out.append(event.time_s)
    if recording.end_s - out[-1] >= EVENT_STEP_S:
        out.append(recording.end_s)
    return out
