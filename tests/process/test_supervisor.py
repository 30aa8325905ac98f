"""The supervisor as its own process, with a scripted server for faults that the real one cannot be made to show."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from console.client.api import Lost
from console.client.backend import LocalBackend
from console.client.launch import start_supervisor
from console.client.session import SocketSession
from console.core.errors import NotRunningError
from console.core.lifecycle import Timing
from console.core.models import Phase, RunInfo, ServerState, Snapshot
from console.core.profile import (
    EngineKind,
    EngineSection,
    ModelSection,
    Profile,
    ProfileSection,
    RestartPolicy,
    ServeSection,
)
from console.io import process, runs
from console.io.runs import LaunchSpec, RunDir
from console.protocol import Happened, Pushed
from tests.e2e.world import free_port

FAKE = Path(__file__).parents[1] / "fakes" / "fake_vllm.py"
WAIT_S = 40.0
PROFILE = Profile(
    profile=ProfileSection(title="fake"),
    model=ModelSection(id="m"),
    engine=EngineSection(kind=EngineKind.CPU),
)


class Started:
    """One supervised fake server, and everything its supervisor told."""

    def __init__(self, run: RunDir, session: SocketSession) -> None:
        self.run = run
        self.session = session
        self.snapshots: list[Snapshot] = []
        self.events: list[str] = []
        self.lost = False
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for update in self.session.updates():
            match update:
                case Pushed(snapshot=snapshot):
                    self.snapshots.append(snapshot)
                case Happened(event=event):
                    self.events.append(f"{event.kind}: {event.text}")
                case Lost():
                    self.lost = True
                case _:
                    pass
            self._changed.set()

    @property
    def last(self) -> Snapshot:
        return self.snapshots[-1]

    @property
    def info(self) -> RunInfo:
        return self.run.read_info()

    async def until(self, check: Callable[[Snapshot], object], what: str) -> Snapshot:
        async with asyncio.timeout(WAIT_S):
            while not (self.snapshots and check(self.last)):
                self._changed.clear()
                await self._changed.wait()
        assert self.snapshots, what
        return self.last

    async def state(self, state: ServerState) -> Snapshot:
        return await self.until(lambda s: s.status.state is state, f"state {state}")

    async def over(self) -> Snapshot:
        return await self.until(lambda s: s.status.over and s.status.started_s is not None, "the end")

    async def close(self) -> None:
        """Detach. May be called twice."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self.session.close()


class Lab:
    """Starts fake servers and sees to it that nothing of them is left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._started: list[Started] = []
        self._sessions: set[int] = set()
        self.runs: list[RunDir] = []

    async def start(
        self,
        timing: Timing | None = None,
        executable: str | None = None,
        port: int | None = None,
        **fake: object,
    ) -> Started:
        for name, value in fake.items():
            self._monkeypatch.setenv(f"FAKE_VLLM_{name.upper()}", str(value))
        run = runs.create_run("fake")
        self.runs.append(run)
        port = port or free_port()
        url = f"http://127.0.0.1:{port}"
        command = [executable] if executable else [sys.executable, str(FAKE)]
        spec = LaunchSpec(
            argv=(*command, "serve", "m", "--host", "127.0.0.1", "--port", str(port)),
            env={},
            cwd=str(run.path),
            url=url,
            timing=timing or Timing(drain_timeout_s=1.0, stop_timeout_s=2.0),
            profile=msgspec.structs.replace(PROFILE, serve=ServeSection(port=port)),
            model="m",
        )
        run.write_launch(spec)
        run.write_info(RunInfo(id=run.id, profile_name="fake", url=url, model="m", max_num_seqs=8))
        return await self.follow(run, await start_supervisor(run))

    async def follow(self, run: RunDir, session: SocketSession) -> Started:
        started = Started(run, session)
        self._started.append(started)
        return started

    async def close(self) -> None:
        for started in self._started:
            await started.close()
        for run in self.runs:
            info = run.read_info()
            for pid in (info.guardian_pid, info.server_pid):
                if pid is not None:
                    process.kill_session(pid)
        async with asyncio.timeout(WAIT_S):
            while any(runs.is_live(run.read_info()) for run in self.runs):
                await asyncio.sleep(0.05)


@pytest.fixture
async def lab(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    lab = Lab(monkeypatch)
    try:
        yield lab
    finally:
        await lab.close()


def lose(info: RunInfo) -> None:
    """Kill supervisor and guardian, so that nobody replaces the one before the other is gone."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (info.guardian_pid, info.supervisor_pid):
            assert pid is not None
            os.kill(pid, number)


def family(info: RunInfo) -> tuple[int, ...]:
    assert info.server_pid is not None
    return process.session_members(info.server_pid)


async def test_a_whole_life(lab: Lab) -> None:
    fake = await lab.start(load_s=1.0, workers=2)
    ready = await fake.state(ServerState.READY)
    assert ready.status.phases[0].phase is Phase.CONFIG
    assert len(family(fake.info)) == 4
    figures = await fake.until(lambda s: s.engine is not None, "figures")
    assert figures.log_bytes > 0
    server = fake.info.server_pid
    await fake.session.stop()
    end = await fake.over()
    assert end.status.state is ServerState.STOPPED
    assert end.status.exit_code == 0
    await asyncio.sleep(1.5)
    assert runs.is_supervised(fake.info), "it stays while somebody looks on"
    await fake.close()
    async with asyncio.timeout(WAIT_S):
        while runs.is_supervised(fake.info):
            await asyncio.sleep(0.05)
    assert server is not None
    assert process.session_members(server) == ()
    assert fake.info.state == "stopped"
    assert fake.info.server_pid is None
    kinds = {event.partition(":")[0] for event in fake.events}
    assert {"state", "phase", "stop"} <= kinds
    assert [event.kind for event in fake.run.events()].count("state") >= 5
    assert not fake.run.socket_path.exists()


async def test_a_server_that_ignores_sigterm_is_killed_with_its_children(lab: Lab) -> None:
    fake = await lab.start(ignore_term=-1, stubborn=1)
    await fake.state(ServerState.READY)
    server = fake.info.server_pid
    await fake.session.stop(0.0)
    end = await fake.over()
    assert end.status.state is ServerState.STOPPED
    assert end.status.exit_code == -signal.SIGKILL
    assert server is not None
    assert process.session_members(server) == ()
    assert any("SIGKILL" in event for event in fake.events)


async def test_children_that_outlive_a_killed_parent_are_ended(lab: Lab) -> None:
    fake = await lab.start(workers=2, stubborn=1)
    await fake.state(ServerState.READY)
    members = family(fake.info)
    server = fake.info.server_pid
    assert server is not None
    os.kill(server, signal.SIGKILL)
    end = await fake.over()
    assert end.status.state is ServerState.CRASHED
    assert "SIGKILL" in end.status.reason
    assert len(members) == 4
    assert process.session_members(server) == ()


async def test_a_failed_start_has_its_diagnosis(lab: Lab) -> None:
    fake = await lab.start(crash_at="memory", error="oom")
    end = await fake.over()
    assert end.status.state is ServerState.FAILED
    diagnosis = end.status.diagnosis
    assert diagnosis is not None
    assert diagnosis.cause is not None
    assert diagnosis.line is not None
    line = fake.run.log_path.read_bytes().decode(errors="replace").split("\n")[diagnosis.line - 1]
    assert "out of memory" in line
    assert fake.info.diagnosis == diagnosis


async def test_an_unasked_exit_with_code_0_is_a_crash(lab: Lab) -> None:
    fake = await lab.start(exit_after_s=4)
    end = await fake.over()
    assert end.status.state is ServerState.CRASHED
    assert end.status.exit_code == 0


async def test_a_command_that_cannot_be_started_has_failed(lab: Lab) -> None:
    fake = await lab.start(executable="/nonexistent/vllm")
    end = await fake.over()
    assert end.status.state is ServerState.FAILED
    assert "/nonexistent/vllm" in end.status.reason


async def test_not_ready_in_time(lab: Lab) -> None:
    fake = await lab.start(Timing(ready_timeout_s=2.0, stop_timeout_s=2.0), hang_at="weights")
    end = await fake.over()
    assert end.status.state is ServerState.FAILED
    assert end.status.diagnosis is not None
    assert end.status.diagnosis.cause == "ready-timeout"


async def test_health_that_fails_for_long_is_unhealthy(lab: Lab) -> None:
    fake = await lab.start(unhealthy_after_s=4)
    await fake.state(ServerState.READY)
    sick = await fake.state(ServerState.UNHEALTHY)
    assert "503" in sick.status.reason


async def test_restart_makes_a_new_server_after_the_old_one_is_gone(lab: Lab) -> None:
    fake = await lab.start()
    await fake.state(ServerState.READY)
    before = fake.info.server_pid
    await fake.session.restart(0.0)
    await fake.state(ServerState.STARTING)
    await fake.state(ServerState.READY)
    assert fake.info.server_pid not in {None, before}
    assert before is not None
    assert process.session_members(before) == ()
    supervisor = psutil.Process(fake.info.supervisor_pid)
    assert not [child for child in supervisor.children() if child.status() == psutil.STATUS_ZOMBIE]


async def test_a_crash_restarts_by_policy(lab: Lab) -> None:
    fake = await lab.start(Timing(restart=RestartPolicy.ON_FAILURE, stop_timeout_s=2.0))
    await fake.state(ServerState.READY)
    before = fake.info.server_pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    waiting = await fake.until(lambda s: s.status.state is ServerState.CRASHED and s.status.deadline_s, "a wait")
    assert not waiting.status.over
    await fake.state(ServerState.READY)
    assert fake.info.server_pid != before


async def test_a_lost_supervisor_leaves_the_server_and_the_next_console_takes_over(lab: Lab) -> None:
    fake = await lab.start()
    await fake.state(ServerState.READY)
    info = fake.info
    assert info.supervisor_pid is not None
    assert info.server_pid is not None
    lose(info)
    async with asyncio.timeout(WAIT_S):
        while not fake.lost:
            await asyncio.sleep(0.05)
    assert process.is_same_process(info.server_pid, info.server_start_s)

    backend = LocalBackend()
    assert [run.id for run in await backend.runs()] == [info.id]
    again = await lab.follow(fake.run, await backend.attach(info.id))
    await again.state(ServerState.READY)
    assert again.info.server_pid == info.server_pid
    assert any("took over" in event.text for event in fake.run.events())
    await again.session.stop()
    end = await again.over()
    assert end.status.state is ServerState.STOPPED
    assert process.session_members(info.server_pid) == ()


async def test_two_consoles_that_take_over_at_once_share_one_supervisor(lab: Lab) -> None:
    fake = await lab.start()
    await fake.state(ServerState.READY)
    info = fake.info
    assert info.supervisor_pid is not None
    lose(info)
    psutil.wait_procs([psutil.Process(info.supervisor_pid)] if psutil.pid_exists(info.supervisor_pid) else [], 5.0)
    sessions = await asyncio.gather(*(LocalBackend().attach(info.id) for _ in range(3)))
    followers = [await lab.follow(fake.run, session) for session in sessions]
    for follower in followers:
        await follower.state(ServerState.READY)
    async with asyncio.timeout(WAIT_S):  # those that came second leave as soon as they find that
        while sorted(_supervisors(fake)) != sorted([fake.info.guardian_pid or 0, fake.info.supervisor_pid or 0]):
            await asyncio.sleep(0.05)


def _supervisors(fake: Started) -> list[int]:
    commands = ((found.pid, " ".join(_cmdline(found))) for found in psutil.process_iter())
    return [pid for pid, command in commands if "console.supervisor" in command and str(fake.run.path) in command]


def _cmdline(found: psutil.Process) -> list[str]:
    try:
        return found.cmdline() if found.status() != psutil.STATUS_ZOMBIE else []
    except psutil.Error:
        return []


async def test_a_run_that_is_over_cannot_be_attached_to(lab: Lab) -> None:
    fake = await lab.start(crash_at="config")
    await fake.over()
    await fake.close()
    async with asyncio.timeout(WAIT_S):
        while runs.is_live(fake.info):
            await asyncio.sleep(0.1)
    with pytest.raises(NotRunningError):
        await LocalBackend().attach(fake.run.id)
    assert await LocalBackend().runs() == ()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_the_supervisor_stops_the_server(lab: Lab, number: signal.Signals) -> None:
    fake = await lab.start()
    await fake.state(ServerState.READY)
    info = fake.info
    assert info.supervisor_pid is not None
    assert info.server_pid is not None
    os.kill(info.supervisor_pid, number)
    end = await fake.over()
    assert end.status.state is ServerState.STOPPED
    assert process.session_members(info.server_pid) == ()


async def test_hostile_output_never_reaches_a_front_end_raw(lab: Lab) -> None:
    fake = await lab.start(noise="ansi,long,invalid,markup,nul", log_storm=200)
    await fake.state(ServerState.READY)
    reader = fake.session.log()
    lines: list[str] = []
    async with asyncio.timeout(WAIT_S):
        while len(lines) < 300:
            lines += reader.read().lines
            await asyncio.sleep(0.05)
    reader.close()
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for line in lines for char in line)
    assert max(map(len, lines)) < 5_000


async def test_another_server_on_the_port_does_not_make_it_ready(lab: Lab, tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    sleeper = tmp_path / "vllm"
    sleeper.write_text("#!/bin/sh\nexec sleep 600\n")
    sleeper.chmod(0o755)
    foreign = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = foreign.sockets[0].getsockname()[1]
    fake = await lab.start(executable=str(sleeper), port=port)
    async with asyncio.timeout(WAIT_S):
        while not any("another program answers" in event.text for event in fake.run.events()):
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.5)
    assert fake.last.status.state is ServerState.STARTING
    foreign.close()
    await foreign.wait_closed()
