"""A run on another machine, through a real `sshd`: figures, log, events, launch, drop and return."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from console.client.api import Away, ChatMessage, ChatOptions, Lost, Session, Update
from console.client.remote.backend import RemoteBackend
from console.client.remote.line import Line
from console.client.remote.session import RemoteSession
from console.core.bench import BenchPlan
from console.core.errors import NotRunningError, ProfileError, RemoteError, ServerFailedError
from console.core.models import Level, ProfileChange, ServerState
from console.core.snooze import Snooze
from console.core.sshfaults import Cause
from console.io.logtail import LogTail
from console.io.ssh import SshTarget
from console.protocol import Happened, History, Pushed
from tests.process.fake_world import FakeWorld
from tests.remote_world import HOST, RemoteWorld
from tests.sshd import need_sshd

pytestmark = pytest.mark.timeout(300)
WAIT_S = 90.0
UNNOTICED_S = 10.0
"""A line that falls silent is not given up earlier."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[RemoteWorld]:
    need_sshd()
    (tmp_path / "there").mkdir()
    remote = RemoteWorld(tmp_path / "here", FakeWorld(tmp_path / "there"))
    try:
        yield remote
    finally:
        remote.close()


@contextlib.asynccontextmanager
async def connected(world: RemoteWorld) -> AsyncIterator[tuple[RemoteBackend, Line]]:
    """The backend of a console that has just logged in."""
    line = Line(SshTarget(HOST, world.sshd.config))
    await asyncio.to_thread(line.open)
    try:
        yield RemoteBackend(line), line
    finally:
        await line.close()
        assert not line.ssh.is_alive


class Watcher:
    """Takes in everything that a session tells."""

    def __init__(self, session: Session) -> None:
        self.updates: list[Update] = []
        self.task = asyncio.create_task(self._watch(session))

    async def _watch(self, session: Session) -> None:
        async for update in session.updates(3600.0):
            self.updates.append(update)

    async def until(self, what: str, condition: Callable[[], Any]) -> None:
        try:
            async with asyncio.timeout(WAIT_S):
                while not condition():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            kinds = [type(update).__name__ for update in self.updates[-20:]]
            raise AssertionError(
                f"never: {what}; {kinds}; {self.of(Away)[-1:]}; {self.of(Lost)}; {self.state}; {self.events[-8:]}"
            ) from None

    def of(self, kind: type) -> list[Any]:
        return [update for update in tuple(self.updates) if isinstance(update, kind)]

    @property
    def state(self) -> ServerState | None:
        pushed = self.of(Pushed)
        return pushed[-1].snapshot.status.state if pushed else None

    @property
    def events(self) -> list[str]:
        """Texts of all events, in the order in which they were told."""
        texts: list[str] = []
        for update in tuple(self.updates):
            if isinstance(update, History):
                texts += [event.text for event in update.events]
            elif isinstance(update, Happened):
                texts.append(update.event.text)
        return texts

    async def end(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


def read_all(session: Session) -> list[str]:
    """The log as the pane would read it."""
    reader = session.log()
    lines: list[str] = []
    while page := reader.read().lines:
        lines += page
    reader.close()
    return lines


def log_there(world: RemoteWorld) -> list[str]:
    (path,) = world.there.runs.glob("*/server.log")
    tail = LogTail(path)
    lines = tail.read().lines
    tail.close()
    return list(lines)


def begins_with(session: Session, lines: list[str]) -> bool:
    return read_all(session)[: len(lines)] == lines


async def test_launch_look_chat_drop_return_and_stop(world: RemoteWorld) -> None:
    there = world.there
    assert isinstance(there, FakeWorld)
    async with connected(world) as (backend, line):
        assert await backend.runs() == ()
        with pytest.raises(ProfileError, match="no-such"):
            await backend.plan("no-such")
        entries, problems = await backend.profiles()
        assert "cpu-smoke" in {entry.name for entry in entries}
        assert problems == ()
        plan = await backend.plan("cpu-smoke", {"serve.port": there.port})
        assert plan.engine_version == "0.32.0+cpu"
        assert (await backend.preflight(plan)).blocked == ()
        attempt = await backend.attempt("cpu-smoke", plan.profile)
        assert attempt.plan is not None
        assert attempt.plan.profile == plan.profile
        assert attempt.entry.suitability == next(e for e in entries if e.name == "cpu-smoke").suitability
        source = await backend.profile_source("cpu-smoke")
        assert source.name == "cpu-smoke"
        change = ProfileChange(key="serve.max_num_seqs", after=4)
        await backend.keep_edit("cpu-smoke", (change,))
        assert await backend.kept_edit("cpu-smoke") == (change,)
        await backend.keep_edit("cpu-smoke", ())
        kept = await backend.keep_command("cpu-smoke", plan.command_line)
        assert kept.is_relative_to(os.environ["XDG_STATE_HOME"]), "what is copied is here"
        session = await backend.launch(plan)
        assert isinstance(session, RemoteSession)
        watcher = Watcher(session)
        await watcher.until("ready", lambda: watcher.state is ServerState.READY)

        answer = [d async for d in session.chat([ChatMessage(role="user", content="hello")], ChatOptions(max_tokens=4))]
        assert answer[-1].done
        assert answer[-1].error == ""
        assert "".join(delta.text for delta in answer)

        # The scripted server has no benchmark: what it says to that comes here as the error that it is there.
        with pytest.raises(ServerFailedError, match="The benchmark failed"):
            await backend.bench(session.run.id, BenchPlan(concurrency=(1,), requests=2), lambda _: None)
        assert await backend.bench_results(session.run.id) == ()

        new = Snooze(hint="a", level=Level.WARN, since_s=1.0, until_s=1801.0)
        assert await session.snooze(new) == (new,)
        lines = log_there(world)
        assert lines
        await watcher.until("the whole log here", lambda: begins_with(session, lines))

        before = len(read_all(session))
        world.sshd.stop()
        await watcher.until("a second attempt", lambda: any(a.attempt > 1 for a in watcher.of(Away)))
        away = watcher.of(Away)[-1]
        assert "reach" in away.reason
        with pytest.raises(RemoteError, match=f"no connection to {HOST}"):
            await session.stop()
        # Meanwhile there: requests, and an event.
        there.post("/v1/chat/completions", {"model": "tiny", "messages": [], "max_tokens": 2})
        assert there.run("restart").returncode == 0
        missed = log_there(world)
        assert len(missed) > before
        world.sshd.start()
        await watcher.until("the event of the return", lambda: any("out of reach" in text for text in watcher.events))
        await watcher.until("the log of the gap", lambda: begins_with(session, missed))
        told = watcher.events
        (events_file,) = there.runs.glob("*/events.jsonl")
        assert [text for text in told if "out of reach" not in text] == [
            text for text in _texts(events_file) if text in told
        ], "each once, in order"
        assert told.count("loading → ready") == 2, "\n".join(told)
        assert session.snoozes() == (new,)

        await watcher.until("ready again", lambda: watcher.state is ServerState.READY)
        await session.stop(0.0)
        await watcher.until("the end", lambda: watcher.state is ServerState.STOPPED)
        assert not watcher.of(Lost)
        await watcher.end()
        await session.close()
        assert line.ssh.is_alive
        await watcher.until("nobody left there", lambda: not there.status()["supervised"])
        with pytest.raises(NotRunningError, match="The run is over"):
            await backend.attach("cpu-smoke")


def _texts(path: Path) -> list[str]:
    import msgspec

    from console.core.models import EventRecord

    return [msgspec.json.decode(line, type=EventRecord).text for line in path.read_bytes().splitlines()]


async def test_a_killed_connection_and_a_second_console(world: RemoteWorld) -> None:
    there = world.there
    assert isinstance(there, FakeWorld)
    run_id = there.detached()["run"]["id"]
    async with connected(world) as (backend, line):
        session = await backend.attach("cpu-smoke")
        other = await backend.attach(run_id)
        watcher = Watcher(session)
        await watcher.until("figures", lambda: watcher.state is ServerState.READY)
        lines = log_there(world)
        await watcher.until("both logs", lambda: begins_with(session, lines) and begins_with(other, lines))
        connection = line.connection
        world.sshd.drop()
        await watcher.until("it is away", lambda: watcher.of(Away))
        await watcher.until("it is back", lambda: any("out of reach" in text for text in watcher.events))
        assert line.connection > connection
        count = len(watcher.of(Pushed))
        await watcher.until("new figures", lambda: len(watcher.of(Pushed)) > count)
        away = len(watcher.of(Away))
        world.sshd.freeze()
        await watcher.until("silence is noticed", lambda: len(watcher.of(Away)) > away)
        assert time.time() - watcher.of(Away)[away].since_s > UNNOTICED_S, "it counts from the last word"
        await watcher.until("it is back again", lambda: len([t for t in watcher.events if "out of reach" in t]) == 2)
        assert not watcher.of(Lost)
        await watcher.end()
        await session.close()
        await other.close()
    async with connected(world) as (backend, _):
        again = await backend.attach(run_id)
        assert begins_with(again, lines), "the copy of before is there at once"
        await again.close()


def open_line(world: RemoteWorld) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        Line(SshTarget(HOST, world.sshd.config)).open()
    return caught.value


def test_what_is_wrong_there_is_said_before_the_screen(world: RemoteWorld) -> None:
    world.install('echo \'{"type":"ready","protocol":99,"version":"9.9"}\'')
    error = open_line(world)
    assert (error.cause, "9.9 (protocol 99)" in error.message) == (Cause.OTHER_VERSION, True)
    world.install("echo usage >&2; exit 2")
    assert open_line(world).cause == Cause.OTHER_VERSION
    world.install("echo a greeting; echo oh no >&2; exit 1")
    assert "oh no" in open_line(world).message
    world.command.unlink()
    error = open_line(world)
    assert error.cause == Cause.NOT_INSTALLED
    assert "--remote-command" in error.fix
    world.sshd.know(world.sshd.make_key("other"))
    assert open_line(world).cause == Cause.HOST_KEY_CHANGED


def test_commands_run_there_with_their_exit_code(world: RemoteWorld) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            world.there.command(*arguments),
            env=world.env,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=False,
        )

    done = run(*world.options, "status")
    assert (done.returncode, "Nothing has been launched yet" in done.stderr) == (5, True)
    port = f"serve.port={world.there.port}"
    done = run(*world.options, "--profile", "cpu-smoke", "--set", port, "--detach")
    assert done.returncode == 0, done.stderr
    done = run("status", "--json", *world.options)
    assert done.returncode == 0
    assert json.loads(done.stdout)["state"] == "ready"
    assert run("logs", "-n", "1", *world.options).stdout.strip()
    assert run("stop", *world.options).returncode == 0
    assert run("status").returncode == 5, "here there is nothing"
    done = run("--ssh-config", "x", "status")
    assert (done.returncode, "needs --host" in done.stderr) == (2, True)
    done = run(*world.options, "--demo")
    assert (done.returncode, "Leave --host out" in done.stderr) == (2, True)
    done = run(*world.options, "keys")
    assert (done.returncode, "about this machine" in done.stderr) == (2, True)
    world.command.unlink()
    done = run(*world.options, "status")
    assert (done.returncode, "dsv4-console is not there" in done.stderr) == (3, True)
    world.sshd.stop()
    done = run(*world.options, "status")
    assert (done.returncode, "cannot be reached" in done.stderr) == (3, True)
