"""The supervisor's socket against real clients: many, slow, hostile and of other versions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from console.client.session import SocketSession, connect
from console.core.errors import NotRunningError, UsageError
from console.core.models import EventRecord, RunInfo, Sample, ServerState, ServerStatus, Snapshot
from console.io import paths, runs
from console.io.runs import RunDir
from console.protocol import (
    ClientMessage,
    Happened,
    Hello,
    History,
    Pushed,
    Reply,
    Restart,
    Stop,
    decode_server,
    encode,
)
from console.supervisor import door as door_module
from console.supervisor.door import Door


async def one_sample(seconds: float) -> History:
    """A past in which one sample has the time that was asked for."""
    return History(samples=(Sample(time_s=seconds, state=ServerState.READY),))


async def nothing(_: float) -> History:
    return History()


class World:
    def __init__(self, path: Path) -> None:
        self.run = RunDir(path)
        self.asked: list[ClientMessage] = []
        self.door = Door(
            self.run,
            info=lambda: RunInfo(id="r", profile_name="p"),
            history=one_sample,
            handle=self.handle,
        )

    async def handle(self, message: ClientMessage, _client: int) -> Reply:
        self.asked.append(message)
        assert isinstance(message, Stop | Restart)
        return Reply(id=message.id, error="not now" if isinstance(message, Restart) else "")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.door.open()
    yield world
    await world.door.close()


def snapshot(seq: int) -> Snapshot:
    return Snapshot(seq=seq, time_s=float(seq), status=ServerStatus(reason="x" * 1_000))


async def until(check: object, what: str) -> None:
    async with asyncio.timeout(10):
        while not check():  # type: ignore[operator]
            await asyncio.sleep(0.01)
    assert check(), what  # type: ignore[operator]


async def test_history_comes_first_then_snapshots_and_events(world: World) -> None:
    session = await connect(world.run)
    assert session.run.id == "r"
    updates = session.updates(3_600.0)
    first = await anext(updates)
    assert isinstance(first, History)
    assert first.samples[0].time_s == 3_600.0
    world.door.publish(snapshot(1))
    assert await anext(updates) == Pushed(snapshot=snapshot(1))
    event = EventRecord(time_s=1.0, kind="note", text="[/b]\x1b[2J")
    world.door.announce(event)
    assert await anext(updates) == Happened(event=event)
    await session.close()


async def test_requests_reach_the_supervisor_and_refusals_the_client(world: World) -> None:
    session = await connect(world.run)
    await session.stop(5.0)
    assert world.asked == [Stop(id=1, drain_timeout_s=5.0)]
    with pytest.raises(UsageError, match="refused"):
        await session.restart()
    await session.close()


async def test_many_front_ends_at_once(world: World) -> None:
    sessions = [await connect(world.run) for _ in range(10)]
    streams = [session.updates() for session in sessions]
    for stream in streams:
        assert isinstance(await anext(stream), History)
    world.door.publish(snapshot(7))
    for stream in streams:
        assert await anext(stream) == Pushed(snapshot=snapshot(7))
    for session in sessions:
        await session.close()
    await until(lambda: world.door.client_count == 0, "all gone")


async def test_a_client_that_does_not_read_is_cut_off_and_holds_nobody_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "QUEUE_MESSAGES_MAX", 50)
    with world.run.reachable_socket() as path:
        stuck_reader, stuck_writer = await asyncio.open_unix_connection(path, limit=1_024)
    stuck_writer.write(encode(Hello()) + b'{"type":"subscribe","id":1}\n')
    session: SocketSession = await connect(world.run)
    updates = session.updates()
    await anext(updates)
    await until(lambda: world.door.client_count == 2, "both attached")
    event = EventRecord(time_s=1.0, kind="note", text="x" * 50_000)
    for number in range(400):
        world.door.publish(snapshot(number))
        world.door.announce(event)
        assert await anext(updates)
    await until(lambda: world.door.client_count == 1, "the stuck one is gone")
    await session.close()
    stuck_writer.close()
    with contextlib.suppress(ConnectionError):
        await stuck_writer.wait_closed()
    del stuck_reader


async def test_a_slow_reader_sees_the_newest_snapshot_not_all(world: World) -> None:
    session = await connect(world.run)
    updates = session.updates()
    await anext(updates)
    for number in range(200):
        world.door.publish(snapshot(number))
        await asyncio.sleep(0)
    await asyncio.sleep(0.2)
    seen = []
    async with asyncio.timeout(10):
        while not seen or seen[-1] != 199:
            update = await anext(updates)
            assert isinstance(update, Pushed)
            seen.append(update.snapshot.seq)
    assert len(seen) < 50
    await session.close()


@pytest.mark.parametrize("version", [0, 2, 99])
async def test_another_protocol_version_is_told_who_is_older(world: World, version: int) -> None:
    with world.run.reachable_socket() as path:
        reader, writer = await asyncio.open_unix_connection(path)
    writer.write(encode(Hello(version=version)))
    answer = decode_server(await reader.readline())
    assert isinstance(answer, Reply)
    older = "this console is the older" if version < 1 else "the supervisor is the older"
    assert older in answer.error
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_a_console_says_which_side_is_the_older(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "PROTOCOL_VERSION", 2)
    with pytest.raises(UsageError) as caught:
        await connect(world.run)
    assert caught.value.title == "The supervisor is of another version"
    assert "speaks protocol 2 and this console 1: this console is the older one" in caught.value.message


@pytest.mark.parametrize("line", [b"\n", b"GET / HTTP/1.1\r\n", b"\xff\xfe\n", b'{"type":"stop","id":1}\n', b"{}\n"])
async def test_what_is_no_greeting_is_refused(world: World, line: bytes) -> None:
    with world.run.reachable_socket() as path:
        reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line)
    answer = decode_server(await reader.readline())
    assert isinstance(answer, Reply)
    assert answer.error
    assert await reader.read() == b""
    assert world.asked == []
    writer.close()
    await writer.wait_closed()


async def test_nonsense_after_the_greeting_gets_an_answer_and_the_line_stays(world: World) -> None:
    session = await connect(world.run)
    session._writer.write(b"nonsense\n")
    await session.stop()
    assert len(world.asked) == 1
    await session.close()


async def test_the_socket_is_private_and_an_old_one_is_replaced(world: World) -> None:
    assert stat.S_IMODE(world.run.socket_path.stat().st_mode) == 0o600
    other = Door(world.run, info=lambda: RunInfo(id="s", profile_name="p"), history=nothing, handle=world.handle)
    await other.open()
    session = await connect(world.run)
    assert session.run.id == "s"
    await session.close()
    await other.close()
    with pytest.raises(NotRunningError):
        await connect(world.run)


async def test_the_end_of_the_supervisor_is_told_once(world: World) -> None:
    session = await connect(world.run)
    updates = session.updates()
    await anext(updates)
    await world.door.close()
    rest = [update async for update in updates]
    assert len(rest) == 1
    with pytest.raises(NotRunningError):
        await session.stop()
    await session.close()


async def test_one_too_many_is_told_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "CLIENTS_MAX", 2)
    sessions = [await connect(world.run) for _ in range(2)]
    with pytest.raises(UsageError) as caught:
        await connect(world.run)
    assert caught.value.title == "The supervisor takes no more front ends"
    assert "2 front ends are attached already" in caught.value.message
    await sessions.pop().close()
    await until(lambda: world.door.client_count == 1, "room again")
    sessions.append(await connect(world.run))
    for session in sessions:
        await session.close()


async def test_a_stuck_client_costs_twenty_others_nothing_and_little_memory(world: World) -> None:
    with world.run.reachable_socket() as path:
        _, stuck = await asyncio.open_unix_connection(path, limit=1_024)
    stuck.transport.pause_reading()  # type: ignore[attr-defined]
    stuck.write(encode(Hello()) + b'{"type":"subscribe","id":1}\n')
    sessions = [await connect(world.run) for _ in range(20)]
    streams = [session.updates() for session in sessions]
    for stream in streams:
        assert isinstance(await anext(stream), History)
    await until(lambda: world.door.client_count == 21, "all attached")
    big = msgspec.structs.replace(snapshot(0), status=ServerStatus(reason="x" * 200_000))
    for number in range(1, 40):
        world.door.publish(msgspec.structs.replace(big, seq=number))
        for stream in streams:
            update = await anext(stream)
            assert isinstance(update, Pushed)
            assert update.snapshot.seq == number, "nobody waits for the stuck one"
    held = [client for client in world.door._clients if client.writer.transport.get_write_buffer_size() > 0]
    assert len(held) == 1
    assert held[0].writer.transport.get_write_buffer_size() <= door_module.WRITE_BUFFER_BYTES + 400_000
    assert not held[0]._queue, "of snapshots only the newest waits"
    for session in sessions:
        await session.close()
    stuck.transport.abort()


async def test_a_client_is_cut_off_by_bytes_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "QUEUE_BYTES_MAX", 3_000_000)
    with world.run.reachable_socket() as path:
        _, stuck = await asyncio.open_unix_connection(path, limit=1_024)
    stuck.transport.pause_reading()  # type: ignore[attr-defined]
    stuck.write(encode(Hello()) + b'{"type":"subscribe","id":1}\n')
    await until(lambda: any(client.subscribed for client in world.door._clients), "attached")
    for _ in range(10):
        world.door.announce(EventRecord(time_s=1.0, kind="note", text="x" * 500_000))
    await until(lambda: world.door.client_count == 0, "the stuck one is gone")
    stuck.transport.abort()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777 & ~0o700])
async def test_socket_and_directory_are_private_whatever_the_umask(
    mask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = paths.runs_dir()
    root.mkdir(parents=True)
    root.chmod(0o777)
    before = os.umask(mask)
    try:
        run = runs.create_run("p")
        door = Door(run, info=lambda: RunInfo(id="r", profile_name="p"), history=nothing, handle=None)  # type: ignore[arg-type]
        await door.open()
        run.append_event(EventRecord(time_s=1.0, kind="note", text="x"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(run.socket_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(root.stat().st_mode) == 0o700, "made private again"
    await door.close()


async def test_a_run_directory_that_was_opened_to_others_is_closed_again(tmp_path: Path) -> None:
    run = runs.create_run("p")
    run.path.chmod(0o755)
    door = Door(run, info=lambda: RunInfo(id="r", profile_name="p"), history=nothing, handle=None)  # type: ignore[arg-type]
    await door.open()
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    await door.close()
