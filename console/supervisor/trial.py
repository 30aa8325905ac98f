"""The supervisor's part in a trial: the files behind `console.core.trial`, and its words for front ends.

Separate from the service, which only asks it which settings the next start takes and what is to be done now.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from console.core import trial as core
from console.core.lifecycle import Machine
from console.core.models import Level, ProfileChange, RunInfo, ServerState, TrialPhase, TrialStatus
from console.core.profile import RestartPolicy
from console.core.text import redact, redact_argv
from console.core.trial import OLD, Do, Trial
from console.io import trials
from console.io.runs import LaunchSpec, RunDir
from console.protocol import Hold, Keep, Revert, Try

__all__ = ["Trials", "described"]

Settings: TypeAlias = tuple[LaunchSpec, tuple[ProfileChange, ...]]
"""What a server is started with, and how that differs from what is kept."""

_FIXED = ("url", "model", "cwd")
"""What a trial may not change: clients would not find the server again."""


def described(info: RunInfo, spec: LaunchSpec, change: tuple[ProfileChange, ...] = ()) -> RunInfo:
    """The run as it is with these settings."""
    serve = spec.profile.serve
    return msgspec.structs.replace(
        info,
        argv=redact_argv(spec.argv),
        env=redact(spec.env),
        max_num_seqs=serve.max_num_seqs,
        max_model_len=serve.max_model_len if isinstance(serve.max_model_len, int) else None,
        trial=change,
    )


class Trials:
    """The trial of one run, if there is one.

    Args:
        run: where its files are.
        spec: what served before, `launch.json`.
        say: tells what happened.
    """

    def __init__(self, run: RunDir, spec: LaunchSpec, say: Callable[[str, Level], None]) -> None:
        self._run = run
        self._say = say
        self._old = spec
        self._new: LaunchSpec | None = None
        self.trial: Trial | None = None
        self.last: TrialStatus | None = None

    @property
    def spec(self) -> LaunchSpec:
        """The settings that are kept: those of the next start where nothing is tried."""
        return self._old

    def restore(self, saved: Trial | None, last: TrialStatus | None, info: RunInfo) -> Settings:
        """Go on where a lost supervisor was; returns the settings of the server that runs, if one does.

        Args:
            saved: its trial; `None` also where nothing that it saved can be read.
            last: how the last trial ended.
            info: its last word on the run.
        """
        self.last = last
        self._new = trials.read_trial(self._run)
        if saved is None and info.trial and self._new is not None and info.argv == redact_argv(self._new.argv):
            saved = msgspec.structs.replace(core.begin(info.id, info.trial, 0, core.LEASE_S, 0.0), running=1)
        if saved is None:
            trials.drop_trial(self._run)
            return self._old, ()
        if self._new is None and saved.wanted != OLD:  # it was renamed, and nothing could be said of it any more
            self.last = TrialStatus(id=saved.id, change=saved.change, number=saved.highest, phase=TrialPhase.KEPT)
            return self._old, ()
        self.trial = core.taken_over(saved)
        if saved.running == OLD or self._new is None:
            return self._old, ()
        return _careful(self._new), saved.change

    def begin(self, message: Try, client: int, machine: Machine) -> str:
        """Take in settings to try. Returns why not; empty if they are taken."""
        now_s = time.monotonic()
        trial = self.trial
        try:
            spec = msgspec.convert(message.spec, LaunchSpec)
        except msgspec.ValidationError as error:
            return f"the settings cannot be read: {error}; use the same dsv4-console version as the supervisor"
        for name in _FIXED:
            if getattr(spec, name) != getattr(self._old, name):
                return f"a trial may not change the server's {name}: {getattr(self._old, name)}"
        if trial is not None and (trial.owner != client or trial.wanted == OLD or trial.stopped):
            return f"another trial is under way: {core.status_of(trial, machine).phase}"
        if trial is None and machine.status.state is not ServerState.READY:
            return f"the server is {machine.status.state}; settings are tried on one that is ready"
        try:
            trials.write_trial(self._run, spec)
        except OSError as error:
            return f"the run directory cannot be written: {error.strerror}"
        self._new = spec
        if trial is None:
            self.trial = core.begin(f"{time.time():.3f}", message.change, client, message.lease_s, now_s)
        else:
            self.trial = core.another(trial, message.change, now_s)
        self._say(f"trying other settings: {_words(message.change)}", Level.INFO)
        return ""

    def answer(self, message: Hold | Revert, client: int) -> str:
        """A word of the client's. Returns why it is refused."""
        trial = self.trial
        if trial is None:
            return "no settings are being tried"
        if isinstance(message, Revert):
            self.trial = core.turn_back(trial, message.why or "asked to go back")
        elif trial.owner != client:
            return "this trial is another client's"
        else:
            self.trial = core.hold(trial, time.monotonic())
        return ""

    def keep(self, _message: Keep, machine: Machine) -> str:
        """Make the settings that are tried the run's. Returns why not."""
        if refusal := core.keep_refusal(self.trial, machine):
            return refusal
        assert self.trial is not None  # noqa: S101 - else refused
        assert self._new is not None  # noqa: S101 - written when they were taken
        try:
            trials.keep_trial(self._run)
        except OSError as error:
            return f"the run directory cannot be written: {error.strerror}"
        self._old, self._new = self._new, None
        self.last = core.outcome(self.trial, machine, kept=True)
        self._say(f"kept: {_words(self.trial.change)}", Level.OK)
        self.trial = None
        return ""

    def left(self, client: int) -> None:
        """A client went away."""
        if self.trial is not None:
            self.trial = core.left(self.trial, client)

    def interrupt(self, why: str, *, stop: bool) -> None:
        """Somebody stops or restarts the server."""
        if self.trial is not None:
            self.trial = core.stopped(self.trial, why) if stop else core.turn_back(self.trial, why)

    def look(self, machine: Machine) -> Do:
        """What is to be done now."""
        before = self.trial
        if before is None:
            return Do.NOTHING
        after, what = core.look(before, machine, time.monotonic())
        self.trial = after
        if what is Do.RESTART and after.wanted == OLD:
            self._say(f"taking it back: {after.why}", Level.WARN)
        if what is Do.END:
            self._end(after, machine)
        return what

    def _end(self, trial: Trial, machine: Machine) -> None:
        self.last = core.outcome(trial, machine, kept=False)
        lost = self.last.phase is TrialPhase.LOST
        state = "the settings from before " + ("did not start" if lost else f"are back ({machine.status.state})")
        self._say(f"{state}: {self.last.why}", Level.BAD if lost else Level.INFO)
        self.trial, self._new = None, None
        trials.drop_trial(self._run)

    def next_start(self) -> Settings:
        """The settings for a start that happens now, and how they differ from those that are kept."""
        trial = self.trial
        if trial is None:
            return self._old, ()
        self.trial = msgspec.structs.replace(trial, running=trial.wanted)
        if trial.wanted == OLD or self._new is None:
            return self._old, ()
        return _careful(self._new), trial.change

    def status(self, machine: Machine) -> TrialStatus | None:
        """The trial for front ends: the present one, else how the last one ended."""
        return self.last if self.trial is None else core.status_of(self.trial, machine)


def _careful(spec: LaunchSpec) -> LaunchSpec:
    """Settings that are tried are not restarted: what served before is the answer to their failure."""
    return msgspec.structs.replace(spec, timing=msgspec.structs.replace(spec.timing, restart=RestartPolicy.NEVER))


def _words(change: tuple[ProfileChange, ...]) -> str:
    return ", ".join(f"{each.key} {_value(each.before)} → {_value(each.after)}" for each in change)


def _value(value: Any) -> str:
    return "unset" if value is None else str(value)
