"""The supervisor itself: feeds the lifecycle machine, carries out its effects, samples, hints, records and tells."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import msgspec

from console.core import lifecycle
from console.core.gauges import View
from console.core.gpuchoice import visible_to
from console.core.gpumemory import still_held
from console.core.hints import HintEngine
from console.core.lifecycle import Effect, Machine, Now
from console.core.models import (
    EventRecord,
    Hint,
    HintState,
    Level,
    ProfileChange,
    RunInfo,
    Sample,
    ServerState,
    Snapshot,
)
from console.core.profile import EngineKind
from console.core.resume import Saved, resume
from console.core.retry import RESTARTS_MAX
from console.core.trial import Do
from console.core.xid import meaning, xid_text
from console.io import process
from console.io.exposition import exposition
from console.io.gpu.base import GpuBackend
from console.io.http import HttpClient
from console.io.runs import LaunchSpec, RunDir
from console.protocol import ClientMessage, GroupNews, Hold, Keep, Postpone, Reply, Restart, Revert, Stop, Try
from console.supervisor.care import Care
from console.supervisor.door import Door
from console.supervisor.engine import EngineProcess
from console.supervisor.guardian import STOP_SIGNALS
from console.supervisor.hangwatch import HangWatch
from console.supervisor.logwatch import LogWatch
from console.supervisor.memorywait import FREE_TIMEOUT_S, held_memory, memory_before
from console.supervisor.metricsdoor import MetricsDoor
from console.supervisor.peerwatch import PeersWatch
from console.supervisor.purse import Purse
from console.supervisor.records import Records
from console.supervisor.remember import remember
from console.supervisor.sampler import Sampler
from console.supervisor.takeover import find_server
from console.supervisor.trial import Trials, described

__all__ = ["Supervisor"]

TICK_S = 1.0
LOADING_TICK_S = 0.25
"""While it comes up or goes down, phases and exits are looked at more often."""
LINGER_S = 5.0
"""After an end that nobody asked for, time for front ends to come and read how it ended."""
GONE_CHECK_S = 0.3
GONE_CHECKS_BEFORE_KILL = 10
"""How often leftovers get time to end by themselves before they are killed."""

SERVING_STATES = frozenset({ServerState.READY, ServerState.UNHEALTHY})

_LEVELS = {
    ServerState.READY: Level.OK,
    ServerState.UNHEALTHY: Level.WARN,
    ServerState.FAILED: Level.BAD,
    ServerState.CRASHED: Level.BAD,
}


def _weighty(machine: Machine) -> tuple[object, ...]:
    """What a successor must know of a machine; a change of it is saved at once."""
    status = machine.status
    return status.state, status.pid, status.ready_s, machine.stop, machine.retry_at_s, machine.alive, machine.cleaned


class Supervisor:
    """Owns one server from launch to proof that nothing is left of it."""

    def __init__(
        self,
        run: RunDir,
        spec: LaunchSpec,
        info: RunInfo,
        gpu: GpuBackend,
        http: HttpClient,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._wall = wall
        self._run = run
        self._spec = spec
        self._records = Records(run, info)
        self._machine: Machine = lifecycle.initial(spec.timing)
        self._engine: EngineProcess | None = None
        self._log = LogWatch(run.log_path)
        self._http = http
        self._sampler = Sampler(
            gpu,
            http,
            self._on_health,
            targets=spec.profile.targets,
            max_model_len=info.max_model_len,
            visible=visible_to(spec.profile.env, os.environ),
            told=lambda: self._log.figures,
        )
        self._hang_watch = HangWatch(spec, http, self._sampler, lambda text: self._note(text, Level.INFO))
        self._group_ends = False
        self._peers = PeersWatch(spec.place, spec.timing.ready_timeout_s)
        self._memory_before: tuple[int | None, ...] = ()
        self._trials = Trials(run, spec, lambda text, level: self._event("trial", text, level))
        self._hints = self._rules()
        self._purse = Purse(spec.profile, info, self._records, self._event, time.monotonic())
        self._firing: tuple[Hint, ...] = ()
        self._door = Door(
            run,
            info=lambda: self._records.info,
            history=self._records.history,
            handle=self._handle,
            left=self._on_client_left,
        )
        self._starts = 0
        self._snapshot: Snapshot | None = None
        self._metrics = MetricsDoor(self._exposition)
        self._seq = 0
        self._wake = asyncio.Event()
        self._gone_check: asyncio.Task[None] | None = None
        self._over_since_s: float | None = None
        self._stop_asked = False
        self._said_sources: dict[str, str] = {}
        self._said_foreign = False
        self._care = Care(run.path, self._log, self._records, self._note)

    async def run(self) -> None:
        """Serve until the end. Returns when the server is gone and nobody looks on any more."""
        process.become_subreaper()
        self._install_signals()
        self._own()
        await self._door.open()
        await self._open_metrics()
        await self._sampler.start()
        try:
            await self._begin()
            while not self._finished():
                await self._turn()
        finally:
            self._records.flush()
            self._purse.save()
            await self._care.close()
            await self._hang_watch.close()
            await self._peers.close()
            await self._sampler.stop()
            await self._http.close()
            if self._engine is not None:
                await self._engine.close()
            await self._metrics.close()
            await self._door.close()
            self._disown()

    def _rules(self) -> HintEngine:
        """The rules for the settings in force."""
        info = self._records.info
        return HintEngine(
            self._spec.profile,
            max_num_seqs=info.max_num_seqs,
            max_model_len=info.max_model_len,
            usd_per_hour=info.usd_per_hour,
            idle_hold_s=0.0,
            engine_version=info.engine_version or None,
        )

    async def _open_metrics(self) -> None:
        port = self._spec.profile.supervise.metrics_port
        if port and (why := await self._metrics.open(port, server_port=self._spec.profile.serve.port)):
            self._note(why, Level.WARN)

    def _exposition(self) -> bytes | None:
        """What a scrape gets: the newest tick."""
        if self._snapshot is None:
            return None
        return exposition(
            View(
                run=self._records.info,
                snapshot=self._snapshot,
                starts=self._starts,
                clients=self._door.client_count,
                records_lost=self._records.lost,
            )
        )

    def _install_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # the guardian starts this process with them blocked
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _on_signal(self, number: int) -> None:
        self._note(f"the supervisor got {signal.Signals(number).name}: stopping the server", Level.WARN)
        self._stop_asked = True
        self._trials.interrupt("the server was stopped", stop=True)
        self._feed(lifecycle.StopRequested())

    def _own(self) -> None:
        me = os.getpid()
        guardian = os.getppid()
        self._records.write_info(
            msgspec.structs.replace(
                self._records.info,
                supervisor_pid=me,
                supervisor_start_s=process.process_start_s(me),
                guardian_pid=guardian if guardian == os.getsid(0) else None,
            )
        )

    def _disown(self) -> None:
        self._records.write_info(
            msgspec.structs.replace(self._records.info, supervisor_pid=None, supervisor_start_s=None, guardian_pid=None)
        )

    async def _begin(self) -> None:
        saved = self._run.read_state()
        info = self._records.info
        before = (saved.trial, saved.last_trial) if saved is not None else (None, None)
        self._settle(*self._trials.restore(*before, info))
        if saved is not None:
            self._memory_before = saved.gpu_memory_before
        elif self._spec.profile.engine.kind is EngineKind.CUDA:
            self._memory_before = await memory_before(self._sampler)
        pid, start_s = find_server(self._run, self._records.info, saved)
        resumed = resume(saved, self._now(), pid=pid) if saved is not None else None
        if resumed is None and pid is None:
            self._feed(lifecycle.Launch())
            return
        self._take_over(resumed, pid, start_s)

    def _take_over(self, resumed: lifecycle.Step | None, pid: int | None, start_s: float | None) -> None:
        """Go on where a lost supervisor was."""
        info = self._records.info
        if resumed is not None:
            self._machine, effects = resumed
            self._log.catch_up()
        else:
            assert pid is not None  # noqa: S101 - told by the caller
            effects = ()
            self._machine = lifecycle.adopted(self._spec.timing, pid, self._now(), started_s=info.server_started_s)
        # A stop that a lost supervisor had been asked for is one that this one was asked for.
        self._stop_asked = self._machine.stop is not None and not self._machine.stop.restart
        if pid is not None:
            self._engine = EngineProcess.adopt(pid, start_s, self._run.log_path, self._run.exit_code)
            self._records.write_info(msgspec.structs.replace(info, server_pid=pid, server_start_s=start_s))
            if self._machine.alive:
                self._watch_server(self._engine)
        self._note(f"took over a server whose supervisor was lost ({self._machine.status.state})", Level.WARN)
        self._perform(effects)
        if pid is None and self._machine.alive:
            self._feed(lifecycle.Exited(None))
        self._go_on_trying()

    async def _turn(self) -> None:
        self._read_log()
        if self._sampler.health is not None:
            self._on_health(*self._sampler.health)
        if self._machine.alive and self._engine is not None and self._machine.status.state in SERVING_STATES:
            self._feed(self._hang_watch.look(self._engine.pid))
        if self._peers.lost and self._group_ends:
            self._stop_asked = True
            self._feed(lifecycle.StopRequested(0.0, self._peers.lost))
        elif self._peers.lost:
            found = self._log.diagnosis(None)
            own = found if found is not None and found.cause is not None else None
            self._feed(lifecycle.PeerLost(self._peers.lost, own))
        if self._trials.trial is None and (why := self._purse.stop_due()):
            self._feed(lifecycle.StopRequested(reason=why))
        self._feed(lifecycle.Tick())
        self._go_on_trying()
        self._care.tick()
        self._tell()
        settled = self._machine.status.state in SERVING_STATES or self._machine.over
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK_S if settled else LOADING_TICK_S):
                await self._wake.wait()
        self._wake.clear()

    def _finished(self) -> bool:
        if not self._machine.over:
            self._over_since_s = None
            return False
        now = time.monotonic()
        if self._over_since_s is None:
            self._over_since_s = now
            self._tell()
        if self._door.client_count:
            return False  # whoever looks on may want to start it again
        asked = self._stop_asked and self._machine.status.state is ServerState.STOPPED
        return asked or now - self._over_since_s >= LINGER_S

    def _now(self) -> Now:
        return Now(time.monotonic(), self._wall())

    def _feed(self, event: lifecycle.Event) -> None:
        earlier = self._machine
        before = earlier.status
        self._machine, effects = lifecycle.step(earlier, event, self._now())
        after = self._machine.status
        if effects or _weighty(self._machine) != _weighty(earlier):
            self._save(effects)
        if after.state is not before.state:
            self._state_changed(before.state)
        elif after.phase is not before.phase and after.phase is not None:
            self._event("phase", f"{after.phase}: {after.phase_detail}".rstrip(": "), Level.INFO)
        if after.reason != before.reason and after.state is before.state:
            self._write_state()
        if after.restart is not None and before.restart is None:
            self._event("restart", f"restart {after.restart} of {RESTARTS_MAX} is planned", Level.WARN)
        if after.cut is not None and before.cut is None:
            self._say_drained(after.cut)
        self._perform(effects)
        if self._machine.over:
            self._go_on_trying()  # before anybody is told of an end that is none

    def _go_on_trying(self) -> None:
        """Do what a trial of other settings asks for now."""
        before = self._trials.trial
        what = self._trials.look(self._machine)
        if self._trials.trial != before:
            self._save(())
        if what is Do.RESTART:
            self._feed(lifecycle.RestartRequested())
        elif what is Do.END:
            self._settle(self._trials.spec)

    def _settle(self, spec: LaunchSpec, change: tuple[ProfileChange, ...] = ()) -> None:
        """From now on these are the settings in force."""
        if spec is self._spec and change == self._records.info.trial:
            return
        before, self._spec = self._spec.profile.serve, spec
        if spec.profile.serve != before:
            data = {"before": msgspec.to_builtins(before), "serve": msgspec.to_builtins(spec.profile.serve)}
            self._event("settings", "other settings are in force from here on", Level.INFO, data)
        self._machine = msgspec.structs.replace(self._machine, timing=spec.timing)
        self._records.write_info(described(self._records.info, spec, change))
        self._hang_watch.watch(spec)
        self._sampler.measure_by(spec.profile.targets, self._records.info.max_model_len)
        self._hints = self._rules()
        self._door.introduce()

    def _on_client_left(self, client: int) -> None:
        self._trials.left(client)
        self._wake.set()

    def _say_drained(self, cut: int) -> None:
        count = f"{cut} {'request was' if cut == 1 else 'requests were'}"
        text = f"the drain reached its limit: {count} cut off" if cut else "all requests in flight were finished"
        self._event("drain", text, Level.WARN if cut else Level.OK)

    def _perform(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            self._carry_out(effect)
        if effects:
            self._save(())

    def _save(self, pending: tuple[Effect, ...]) -> None:
        """Leave to a successor what is so, and what is about to be done."""
        self._records.save(
            Saved(
                machine=self._machine,
                saved_s=time.monotonic(),
                pending=pending,
                gpu_memory_before=self._memory_before,
                trial=self._trials.trial,
                last_trial=self._trials.last,
            )
        )

    def _state_changed(self, before: ServerState) -> None:
        status = self._machine.status
        text = f"{before} → {status.state}" + (f": {status.reason}" if status.reason else "")
        self._event("state", text, _LEVELS.get(status.state, Level.INFO))
        self._write_state()
        if status.state is ServerState.READY and before in {ServerState.STARTING, ServerState.LOADING}:
            self._remember()
        self._wake.set()

    def _remember(self) -> None:
        """Keep what this start has measured, for the next one."""
        gpus = self._sampler.latest()[0]
        if why := remember(self._records.info, self._spec.profile, self._machine.status, self._log, gpus):
            self._note(why, Level.WARN)

    def _write_state(self) -> None:
        status = self._machine.status
        self._records.write_info(
            msgspec.structs.replace(
                self._records.info, state=str(status.state), reason=status.reason, diagnosis=status.diagnosis
            )
        )

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Effect.SPAWN:
                self._spawn()
            case Effect.TERMINATE if self._engine is not None:
                self._event("stop", "SIGTERM to the server", Level.INFO)
                self._engine.terminate()
            case Effect.KILL_GROUP if self._engine is not None:
                self._event("stop", "SIGKILL to all that is left of the server's session", Level.WARN)
                self._engine.kill_session()
            case Effect.CHECK_GONE:
                if self._gone_check is None or self._gone_check.done():
                    self._gone_check = asyncio.create_task(self._check_gone())

    def _spawn(self) -> None:
        self._log.mark_attempt()
        self._settle(*self._trials.next_start())
        if self._trials.trial is not None:
            self._save((Effect.SPAWN,))  # a successor must know which settings the server has that it finds
        self._starts += 1
        try:
            engine = EngineProcess.spawn(self._spec, self._run.log_path)
        except OSError as error:
            reason = f"cannot start {self._spec.argv[0]}: {error.strerror or error}"
            self._feed(lifecycle.SpawnFailed(reason))
            return
        self._engine = engine
        self._records.write_info(
            msgspec.structs.replace(
                self._records.info,
                server_pid=engine.pid,
                server_start_s=engine.start_s,
                server_started_s=self._wall(),
            )
        )
        self._watch_server(engine)
        self._feed(lifecycle.Spawned(engine.pid))

    def _watch_server(self, engine: EngineProcess) -> None:
        self._sampler.set_target(self._spec.url or None, engine.pid)
        self._peers.begin()
        engine.watch(self._on_exit)

    def _on_exit(self, code: int | None) -> None:
        self._read_log(last=True)
        self._sampler.set_target(None, None)
        self._peers.end()
        self._feed(lifecycle.Exited(code, self._log.diagnosis(code)))
        self._wake.set()

    async def _check_gone(self) -> None:
        """Answer `Gone` once nothing is left, `Remains` after giving leftovers time to end by themselves."""
        engine = self._engine
        checks = 0
        while engine is not None and (left := engine.leftovers()):
            checks += 1
            if checks >= GONE_CHECKS_BEFORE_KILL:
                checks = 0
                self._machine, _ = lifecycle.step(self._machine, lifecycle.Remains(left), self._now())
                engine.kill_session()
            await asyncio.sleep(GONE_CHECK_S)
        self._records.write_info(msgspec.structs.replace(self._records.info, server_pid=None, server_start_s=None))
        await self._wait_for_memory()
        self._feed(lifecycle.Gone())
        self._wake.set()

    async def _wait_for_memory(self) -> None:
        """Before another start: GPU memory as free as before the first one, or a word on why not waited longer."""
        held = ""
        async for held in held_memory(self._sampler, self._memory_before):
            if not lifecycle.wants_restart(self._machine) and self._trials.trial is None:
                return
            self._feed(lifecycle.Waiting(f"waiting for GPU memory to be freed: {held}"))
        if held and still_held(self._memory_before, self._sampler.latest().gpus):
            self._note(f"GPU memory is still held after {FREE_TIMEOUT_S:.0f} s: {held}", Level.WARN)

    def _on_health(self, ok: bool, _status: int | None, error: str) -> None:
        if ok and self._machine.status.state in {ServerState.STARTING, ServerState.LOADING} and self._foreign():
            return
        self._feed(lifecycle.HealthOk() if ok else lifecycle.HealthBad(error))

    def _foreign(self) -> bool:
        """Whether another program answered: two vLLM can share a port, since they bind it with SO_REUSEPORT."""
        port = self._spec.profile.serve.port
        foreign = self._engine is not None and process.session_listens(self._engine.pid, port) is False
        if foreign and not self._said_foreign:
            self._said_foreign = True
            self._note(f"another program answers on port {port}; waiting for this server to listen there", Level.WARN)
        return foreign

    def _read_log(self, *, last: bool = False) -> None:
        for update in self._log.read(last=last):
            self._feed(lifecycle.PhaseSeen(update.phase, update.detail, update.progress))

    async def _handle(self, message: ClientMessage, client: int) -> Reply:
        match message:
            case Stop(id=number, drain_timeout_s=drain):
                self._stop_asked = True
                self._trials.interrupt("the server was stopped", stop=True)
                self._feed(lifecycle.StopRequested(drain))
                self._wake.set()
                return Reply(id=number)
            case Restart(id=number) | Try(id=number) if self._spec.place is not None:
                return Reply(id=number, error=f"it is one machine of {self._spec.place.group}, which starts as a whole")
            case GroupNews(id=number, ending=ending):
                self._group_ends |= ending
                if self._spec.timing.told_ready and not ending:
                    self._feed(lifecycle.HealthOk())
                    self._wake.set()
                return Reply(id=number)
            case Restart(id=number, drain_timeout_s=drain):
                self._stop_asked = False
                self._trials.interrupt("a restart was asked for", stop=False)
                self._feed(lifecycle.RestartRequested(drain))
                self._wake.set()
                return Reply(id=number)
            case Postpone(id=number):
                error = self._purse.postpone()
                self._wake.set()
                return Reply(id=number, error=error)
            case Try(id=number) | Hold(id=number) | Keep(id=number) | Revert(id=number):
                error = self._on_trial(message, client)
                trial = self._trials.trial
                data = {"trial": trial.id, "number": trial.highest} if trial is not None else {}
                return Reply(id=number, error=error, data=data)
            case _:
                return Reply(id=0, error="not understood here")

    def _on_trial(self, message: Try | Hold | Keep | Revert, client: int) -> str:
        """What a client says of a trial; returns why it is refused."""
        match message:
            case Try():
                error = self._trials.begin(message, client, self._machine)
            case Keep():
                error = self._trials.keep(message, self._machine)
                if not error:
                    self._settle(self._trials.spec)
            case _:
                error = self._trials.answer(message, client)
        if not error:
            self._save(())
            self._go_on_trying()
            self._wake.set()
        return error

    def _tell(self) -> None:
        """Sample, judge, record and publish one tick."""
        gpus, host, engine, sources = self._sampler.latest()
        now = self._wall()
        for seen in self._sampler.take_xids():
            self._event("xid", xid_text(seen), meaning(seen.number).level, {"gpu": seen.gpu, "xid": seen.number})
        if self._machine.stop is not None and engine is not None:
            self._feed(lifecycle.InFlight((engine.running or 0) + (engine.waiting or 0)))
        status = msgspec.structs.replace(self._machine.status, over=self._machine.over)
        self._purse.tick(time.monotonic(), status, engine, self._hang_watch.own_requests)
        sample = Sample(time_s=now, state=status.state, gpus=gpus, host=host, engine=engine)
        last_s = self._records.last_sample_s
        if last_s is None or abs(now - last_s) >= TICK_S * 0.9:  # a clock that was set back must not stop the samples
            self._records.sample(sample)
            self._judge(sample)
        for source in sources:
            if source.error and self._said_sources.get(source.name) != source.error:
                self._event("source", f"{source.name}: {source.error}", Level.INFO)
            self._said_sources[source.name] = source.error or ""
        self._seq += 1
        self._snapshot = Snapshot(
            seq=self._seq,
            time_s=now,
            status=status,
            gpus=gpus,
            host=host,
            engine=engine,
            sources=(*sources, *self._care.sources()),
            hints=self._firing,
            money=self._purse.money,
            trial=self._trials.status(self._machine),
            log_bytes=self._log.size_bytes,
        )
        self._door.publish(self._snapshot)

    def _judge(self, sample: Sample) -> None:
        before = {hint.id for hint in self._firing if hint.state is HintState.FIRING}
        self._firing = self._hints.update(sample, self._purse.money)
        for hint in self._firing:
            if hint.state is HintState.FIRING and hint.id not in before:
                self._event("hint", f"{hint.title}: {' '.join(hint.evidence)}", hint.level)

    def _event(self, kind: str, text: str, level: Level, data: dict[str, Any] | None = None) -> None:
        event = EventRecord(time_s=self._wall(), kind=kind, text=text, level=level, data=data or {})
        self._records.event(event)
        self._door.announce(event)

    def _note(self, text: str, level: Level) -> None:
        self._event("note", text, level)
