"""What happens when guardian, supervisor and server are killed in every order, with a scripted server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from console.client.backend import LocalBackend
from console.client.recovery import recover
from console.core.lifecycle import Timing
from console.core.models import RunInfo, ServerState
from console.core.profile import RestartPolicy
from console.io import process, runs
from console.supervisor.guardian import RESTARTS_MAX
from tests.process.test_supervisor import WAIT_S, Lab, Started, family, lab

__all__ = ["lab"]

PATIENT = Timing(drain_timeout_s=20.0, stop_timeout_s=20.0)


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not check():
            await asyncio.sleep(0.02)


def kill(*pids: int | None) -> None:
    """SIGKILL to all of these, so fast that none can react to the end of another."""
    for pid in pids:
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        assert pid is not None
        os.kill(pid, signal.SIGKILL)


async def replaced(lab: Lab, fake: Started, before: RunInfo) -> Started:
    """The run once another supervisor has it."""
    await until(lambda: fake.lost)
    await until(lambda: runs.is_supervised(fake.info) and fake.info.supervisor_pid != before.supervisor_pid)
    return await lab.follow(fake.run, await LocalBackend().attach(fake.run.id))


def told(fake: Started, words: str) -> bool:
    return any(words in event.text for event in fake.run.events())


async def test_a_killed_supervisor_is_back_by_itself_and_knows_the_server(lab: Lab) -> None:
    fake = await lab.start()
    ready = await fake.state(ServerState.READY)
    before = fake.info
    assert before.guardian_pid is not None
    kill(before.supervisor_pid)
    again = await replaced(lab, fake, before)
    state = await again.until(lambda s: True, "a snapshot")
    assert state.status.state is ServerState.READY
    assert state.status.ready_s == ready.status.ready_s
    assert again.info.server_pid == before.server_pid
    assert again.info.guardian_pid == before.guardian_pid
    await again.session.stop()
    end = await again.over()
    assert (end.status.state, end.status.exit_code) == (ServerState.STOPPED, 0)


async def test_without_its_guardian_the_supervisor_goes_on(lab: Lab) -> None:
    fake = await lab.start()
    await fake.state(ServerState.READY)
    kill(fake.info.guardian_pid)
    seen = len(fake.snapshots)
    await fake.until(lambda s: len(fake.snapshots) > seen + 2, "more snapshots")
    assert not fake.lost
    await fake.session.stop()
    assert (await fake.over()).status.state is ServerState.STOPPED


async def test_guardian_and_supervisor_killed_the_next_console_takes_over(lab: Lab) -> None:
    fake = await lab.start()
    await fake.state(ServerState.READY)
    before = fake.info
    kill(before.guardian_pid, before.supervisor_pid)
    await until(lambda: not runs.is_supervised(fake.info))
    assert runs.is_serving(fake.info)
    (sentence,) = await recover()
    assert "went on serving" in sentence
    assert await recover() == ()
    again = await replaced(lab, fake, before)
    await again.state(ServerState.READY)
    assert again.info.server_pid == before.server_pid


async def test_supervisor_and_server_killed_leaves_nothing_and_the_exit_code_is_known(lab: Lab) -> None:
    fake = await lab.start(workers=2, stubborn=1)
    await fake.state(ServerState.READY)
    before = fake.info
    members = family(before)
    kill(before.supervisor_pid, before.server_pid)
    again = await replaced(lab, fake, before)
    end = await again.over()
    assert end.status.state is ServerState.CRASHED
    assert "SIGKILL" in end.status.reason
    assert not any(process.process_start_s(pid) for pid in members)


async def test_all_three_killed_the_workers_are_ended_by_the_next_console(lab: Lab) -> None:
    fake = await lab.start(workers=2, stubborn=1)
    await fake.state(ServerState.READY)
    before = fake.info
    members = family(before)
    kill(before.guardian_pid, before.supervisor_pid, before.server_pid)
    await until(lambda: not runs.is_supervised(fake.info) and not runs.is_serving(fake.info))
    assert before.server_pid is not None
    assert process.session_members(before.server_pid), "engine and workers outlive the API server"
    assert runs.is_live(fake.info)
    (sentence,) = await recover()
    assert "being ended" in sentence
    await until(lambda: not any(process.process_start_s(pid) for pid in members))
    await until(lambda: fake.info.state == "crashed")
    await until(lambda: fake.info.server_pid is None)


async def test_everything_killed_the_run_says_so(lab: Lab) -> None:
    fake = await lab.start()
    await fake.state(ServerState.READY)
    before = fake.info
    kill(before.guardian_pid, before.supervisor_pid, *family(before))
    await until(lambda: not runs.is_live(fake.info))
    (sentence,) = await recover()
    assert "without a word" in sentence
    assert fake.info.state == "crashed"
    assert "without a word" in fake.info.reason
    assert told(fake, "without a word")
    assert await recover() == ()


async def test_killed_during_start_the_start_goes_on(lab: Lab) -> None:
    fake = await lab.start(load_s=6.0)
    await fake.state(ServerState.LOADING)
    before = fake.info
    kill(before.supervisor_pid)
    again = await replaced(lab, fake, before)
    ready = await again.state(ServerState.READY)
    assert again.info.server_pid == before.server_pid
    phases = [time.phase for time in ready.status.phases]
    assert len(phases) == len(set(phases))


async def test_killed_during_a_stop_the_stop_is_finished(lab: Lab) -> None:
    fake = await lab.start(Timing(drain_timeout_s=1.0, stop_timeout_s=4.0), ignore_term=-1, stubborn=1)
    await fake.state(ServerState.READY)
    before = fake.info
    await fake.session.stop()
    await fake.state(ServerState.STOPPING)
    kill(before.supervisor_pid)
    await until(lambda: fake.info.state == "stopped")
    assert before.server_pid is not None
    assert process.session_members(before.server_pid) == ()
    await until(lambda: not runs.is_live(fake.info))


async def test_killed_during_a_restart_the_restart_is_finished(lab: Lab) -> None:
    fake = await lab.start(Timing(drain_timeout_s=1.0, stop_timeout_s=3.0), ignore_term=-1, stubborn=1)
    await fake.state(ServerState.READY)
    before = fake.info
    await fake.session.restart()
    await fake.state(ServerState.STOPPING)
    kill(before.supervisor_pid)
    again = await replaced(lab, fake, before)
    await again.until(lambda s: s.status.state is ServerState.READY and s.status.pid != before.server_pid, "ready")
    assert before.server_pid is not None
    assert process.session_members(before.server_pid) == ()


async def test_killed_while_it_waits_to_restart_it_still_restarts(lab: Lab) -> None:
    fake = await lab.start(Timing(restart=RestartPolicy.ON_FAILURE, stop_timeout_s=2.0))
    await fake.state(ServerState.READY)
    before = fake.info
    kill(before.server_pid)
    await fake.until(lambda s: s.status.state is ServerState.CRASHED and s.status.deadline_s, "a wait")
    kill(fake.info.supervisor_pid)
    again = await replaced(lab, fake, before)
    await again.state(ServerState.READY)
    assert again.info.server_pid not in {None, before.server_pid}


async def test_killed_between_start_and_note_of_the_server(lab: Lab) -> None:
    fake = await lab.start()
    await fake.state(ServerState.READY)
    before = fake.info
    saved = fake.run.read_state()
    assert saved is not None
    kill(before.guardian_pid, before.supervisor_pid)
    await until(lambda: not runs.is_supervised(fake.info))
    _rewind_to_the_start(fake)
    assert runs.orphaned_session(fake.info) == before.server_pid
    await recover()
    again = await replaced(lab, fake, before)
    await again.state(ServerState.READY)
    assert again.info.server_pid == before.server_pid


def _rewind_to_the_start(fake: Started) -> None:
    """Records as they are in the moment after the server was started."""
    import msgspec

    from console.core import lifecycle
    from console.core.resume import Saved

    now = lifecycle.Now(time.monotonic(), time.time())
    machine, effects = lifecycle.step(lifecycle.initial(PATIENT), lifecycle.Launch(), now)
    fake.run.write_state(Saved(machine=machine, saved_s=now.mono_s, pending=effects))
    fake.run.write_info(msgspec.structs.replace(fake.info, state="starting", server_pid=None, server_start_s=None))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_the_guardian_stops_the_server(lab: Lab, number: signal.Signals) -> None:
    fake = await lab.start()
    await fake.state(ServerState.READY)
    guardian = fake.info.guardian_pid
    assert guardian is not None
    os.kill(guardian, number)
    assert (await fake.over()).status.state is ServerState.STOPPED
    await fake.close()
    await until(lambda: process.process_start_s(guardian) is None)


async def test_a_foreign_process_with_the_servers_pid_is_left_alone(lab: Lab, tmp_path: Path) -> None:
    import msgspec

    fake = await lab.start()
    await fake.state(ServerState.READY)
    before = fake.info
    kill(before.guardian_pid, before.supervisor_pid, *family(before))
    await until(lambda: not runs.is_live(fake.info))
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        fake.run.write_info(msgspec.structs.replace(fake.info, server_pid=stranger.pid))
        assert not runs.is_live(fake.info)
        await recover()
        assert stranger.poll() is None
        stranger.kill()


GUARD = """
import os, sys, pathlib
from console.supervisor.guardian import Guardian
counter = pathlib.Path(sys.argv[1])
def life():
    with counter.open("a") as file:
        file.write("x")
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), 9)
    return int(sys.argv[2])
raise SystemExit(Guardian(life, counter.with_name("exits")).run())
"""


@pytest.mark.parametrize(
    ("end", "lives", "code"), [("0", 1, 0), ("3", 1, 3), ("kill", RESTARTS_MAX + 1, 137), ("70", RESTARTS_MAX + 1, 70)]
)
def test_how_often_a_supervisor_is_started_again(tmp_path: Path, end: str, lives: int, code: int) -> None:
    counter = tmp_path / "lives"
    done = subprocess.run(
        [sys.executable, "-P", "-c", GUARD, str(counter), end], check=False, capture_output=True, timeout=60
    )
    assert (done.returncode, len(counter.read_text())) == (code, lives)
    assert (b"next start of dsv4-console" in done.stderr) == (lives > 1)


def test_the_guardian_is_small() -> None:
    program = "import sys, console.supervisor.__main__; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", program], check=True, capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"asyncio", "msgspec", "psutil", "httpx", "pynvml", "subprocess"}


async def test_a_jump_of_the_wall_clock_changes_nothing(lab: Lab, tmp_path: Path) -> None:
    """A supervisor whose wall clock jumps a day ahead, and back, each second."""
    fake = await lab.start(load_s=0.2)
    await fake.state(ServerState.READY)
    before = fake.info
    kill(before.guardian_pid, before.supervisor_pid)
    await until(lambda: fake.lost and not runs.is_supervised(fake.info))
    program = (
        "import pathlib, sys, time\n"
        "true = time.time\n"
        "time.time = lambda: true() + (86400 if int(time.monotonic()) % 2 else -86400)\n"
        "from console.supervisor.__main__ import supervise\n"
        "raise SystemExit(supervise(pathlib.Path(sys.argv[1])))\n"
    )
    with (tmp_path / "jumping.log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", program, str(fake.run.path)], stdout=log, stderr=log, start_new_session=True
        )
    try:
        again = await replaced(lab, fake, before)
        await again.state(ServerState.READY)
        count = len(again.snapshots)
        await again.until(lambda s: len(again.snapshots) > count + 4, "snapshots over some seconds")
        days = {round((s.time_s - again.snapshots[0].time_s) / 86_400) for s in again.snapshots}
        assert len(days) > 1, "the clock did jump"
        assert {s.status.state for s in again.snapshots} == {ServerState.READY}
        assert again.info.server_pid == before.server_pid
        await again.session.stop()
        assert (await again.over()).status.state is ServerState.STOPPED
        await again.close()
        await asyncio.to_thread(child.wait, 20.0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        child.wait()


async def test_a_supervisor_that_takes_over_what_is_over_leaves_soon(lab: Lab) -> None:
    fake = await lab.start(crash_at="memory")
    await fake.state(ServerState.FAILED)
    await fake.over()
    before = fake.info
    kill(before.supervisor_pid)
    await until(lambda: fake.lost)
    await until(lambda: fake.info.supervisor_pid is None)
    assert fake.info.state == ServerState.FAILED
    await until(lambda: process.process_start_s(before.guardian_pid or 0) is None)


async def test_a_supervisor_that_crashes_leaves_its_stack(lab: Lab) -> None:
    """Seen once beside two H200: killed by signal 11, and nothing said where."""
    fake = await lab.start()
    await fake.state(ServerState.READY)
    before = fake.info
    assert before.supervisor_pid is not None
    os.kill(before.supervisor_pid, signal.SIGSEGV)
    again = await replaced(lab, fake, before)
    said = (fake.run.path / "supervisor.log").read_text(encoding="utf-8")
    assert "Fatal Python error: Segmentation fault" in said
    assert 'File "' in said
    assert "guardian: the supervisor was killed by signal 11; starting another" in said
    await again.session.stop()
    await again.over()
