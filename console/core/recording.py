"""A recorded run as data, and the server's status at any moment of it, worked out from its events.

A supervisor keeps only the status of the moment; what it was an hour ago stands in the events, or where they are
missing in the states of the samples. What else was known at a moment is in `console.core.timeline`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import attrgetter
from typing import Final

import msgspec

from console.core.models import (
    OVER_STATES,
    PHASES,
    EventRecord,
    Phase,
    PhaseTime,
    RunInfo,
    Sample,
    ServerState,
    ServerStatus,
)
from console.core.profile import Profile

__all__ = ["SAMPLE_HOLD_S", "RecordedLog", "Recording", "turns"]

SAMPLE_HOLD_S: Final = 90.0
"""A sample stands for the moments after it for so long at most: longer than samples are thinned to, and short enough
that a gap in the recording shows as one."""

_STATE = re.compile(r"(?:(?P<before>[a-z]+) → )?(?P<state>[a-z]+)(?:: (?P<reason>.*))?", re.DOTALL)
_RESTART = re.compile(r"restart (\d{1,3}) ")


class RecordedLog(msgspec.Struct, frozen=True):
    """Lines with their numbers in the whole log (rising, with gaps where lines are missing) and their times."""

    numbers: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    times_s: tuple[float, ...] = ()
    """Never falling."""


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """All that is there of a run. Samples and events are in order of time."""

    run: RunInfo
    begin_s: float
    end_s: float
    profile: Profile | None = None
    """As launched; without it no hint can be judged."""
    samples: tuple[Sample, ...] = ()
    events: tuple[EventRecord, ...] = ()
    log: RecordedLog = RecordedLog()
    missing: tuple[str, ...] = ()
    """A sentence for each thing that a replay of this one cannot show."""
    utc_offset_s: float = 0.0
    """Of the recorded machine, so that times of day agree with those in its log."""

    @property
    def from_s(self) -> float:
        """Where playing begins: at the launch, or where the figures begin if they cover only the end of the run."""
        first = self.samples[0].time_s if self.samples else self.begin_s
        return first if first - self.begin_s > SAMPLE_HOLD_S else self.begin_s


def _state_of(text: str) -> tuple[ServerState | None, ServerState, str] | None:
    """State before, state after and reason, of a `state` event's text; `None` if it tells none."""
    found = _STATE.fullmatch(text)
    if found is None:
        return None
    try:
        before = ServerState(found["before"]) if found["before"] else None
        return before, ServerState(found["state"]), found["reason"] or ""
    except ValueError:
        return None


def _from_samples(samples: Sequence[Sample]) -> list[EventRecord]:
    """Changes of state as samples show them, for a recording whose events are missing."""
    out: list[EventRecord] = []
    last: ServerState | None = None
    for sample in samples:
        if sample.state is not last:
            out.append(EventRecord(time_s=sample.time_s, kind="state", text=str(sample.state)))
            last = sample.state
    return out


def _next_start(events: Sequence[EventRecord], index: int) -> float | None:
    for event in events[index:]:
        if event.kind == "state" and (read := _state_of(event.text)) and read[1] is ServerState.STARTING:
            return event.time_s
    return None


def _entered(status: ServerStatus, state: ServerState, at: float, reason: str) -> ServerStatus:
    """The status after a change of state."""
    if state is ServerState.STARTING:
        return ServerStatus(state=state, since_s=at, started_s=at, reason=reason)
    if state is ServerState.LOADING:
        return msgspec.structs.replace(status, state=state, since_s=at, phase=Phase.CONFIG, reason=reason)
    ready_s = status.ready_s if state is not ServerState.READY or status.ready_s is not None else at
    return msgspec.structs.replace(
        status, state=state, since_s=at, ready_s=ready_s, phase=None, phase_detail="", reason=reason, restart=None
    )


def turns(recording: Recording) -> list[tuple[float, ServerStatus]]:
    """The server's status from each moment on at which an event changed it, oldest first."""
    events = list(recording.events)
    if not any(event.kind == "state" for event in events):
        events = sorted((*events, *_from_samples(recording.samples)), key=attrgetter("time_s"))
    out: list[tuple[float, ServerStatus]] = [(recording.begin_s, _first(recording, events))]
    phase_s = recording.begin_s
    for index, event in enumerate(events):
        status, at = out[-1][1], event.time_s
        if event.kind == "state" and (read := _state_of(event.text)) is not None:
            status = _entered(_closed(status, at - phase_s), read[1], at, read[2])
            phase_s = at
        elif event.kind == "phase" and event.text.partition(":")[0] in PHASES:
            name, _, detail = event.text.partition(":")
            status = msgspec.structs.replace(
                _closed(status, at - phase_s), phase=Phase(name), phase_detail=detail.strip()
            )
            phase_s = at
        elif event.kind == "restart" and (planned := _RESTART.match(event.text)):
            again = _next_start(events, index)
            status = msgspec.structs.replace(status, restart=int(planned[1]), deadline_s=again)
        else:
            continue
        out.append((at, status))
    last_s, last = out[-1]
    if last.state in OVER_STATES:
        run = recording.run
        reason = last.reason or run.reason
        out[-1] = (last_s, msgspec.structs.replace(last, over=True, reason=reason, diagnosis=run.diagnosis))
    return out


def _first(recording: Recording, events: Sequence[EventRecord]) -> ServerStatus:
    """Before the first event that is there: it names what was before it."""
    run = recording.run
    begun = recording.samples[0].state if recording.samples else ServerState.STOPPED
    for event in events:
        if event.kind == "state" and (read := _state_of(event.text)) is not None:
            begun = read[0] or read[1]
            break
    if begun is ServerState.STOPPED:
        begun = ServerState.STARTING  # nothing is recorded before a launch
    return ServerStatus(state=begun, since_s=recording.begin_s, started_s=run.server_started_s or recording.begin_s)


def _closed(status: ServerStatus, seconds: float) -> ServerStatus:
    """Its phase is over."""
    if status.phase is None:
        return status
    done = PhaseTime(phase=status.phase, seconds=max(0.0, seconds))
    return msgspec.structs.replace(status, phases=(*status.phases, done), phase=None, phase_detail="", progress=None)
