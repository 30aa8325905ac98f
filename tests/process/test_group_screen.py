"""The session that shows a whole group, over a real `sshd` in two network namespaces, with the scripted server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, cast

import pytest

from console.cli.launch import _named
from console.client.api import Lost
from console.client.deferred import DeferredBackend
from console.core.errors import UsageError
from console.core.models import RunInfo, ServerState, Snapshot
from console.group.backend import with_groups
from console.protocol import Happened, History, Pushed
from tests.e2e.world import wait_for
from tests.process.test_groups import LIMIT_S, Groups, groups, over, ready  # noqa: F401 - groups is a fixture

pytestmark = pytest.mark.timeout(400)

BANNER = "Resolved architecture: "


class Watcher:
    """Takes in what the session tells."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.snapshot: Snapshot | None = None
        self.events: list[str] = []
        self.samples = 0
        self.later: list[float] = []
        """Times of the samples that came after the first."""
        self.lost = ""
        self.lines: list[str] = []
        self.reader = session.log()

    async def run(self) -> None:
        """Until it is lost."""
        async for update in self.session.updates(300.0):
            match update:
                case History(samples=samples, events=events):
                    self.later += [sample.time_s for sample in samples if self.samples]
                    self.samples = self.samples or len(samples)
                    self.events += [event.text for event in events]
                case Pushed(snapshot=snapshot):
                    self.snapshot = snapshot
                case Happened(event=event):
                    self.events.append(event.text)
                case Lost(reason=reason):
                    self.lost = reason

    async def wait(self, what: str, check: Callable[[Snapshot], object]) -> None:
        """Until the newest snapshot is so."""
        try:
            async with asyncio.timeout(LIMIT_S):
                while self.snapshot is None or not check(self.snapshot):
                    await asyncio.sleep(0.1)
                    self.lines += self.reader.read().lines
        except TimeoutError:
            raise AssertionError(f"never: {what}\n{self.snapshot}\n{self.events}\n{self.lines[-50:]}") from None


async def shown(groups: Groups) -> None:  # noqa: F811
    backend = with_groups(DeferredBackend())
    (run,) = await backend.runs()
    assert isinstance(run, RunInfo)
    assert run.id == groups.group()["group"]
    assert _named(run.id) == _named("cpu-smoke-2nodes") == run.id, "--attach"
    with pytest.raises(UsageError, match="No setting is tried on a group"):
        await backend.replan(run.id, ())
    session = await backend.attach(run.id)
    watcher = Watcher(session)
    task = asyncio.create_task(watcher.run())
    try:
        await follow(groups, session, watcher)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        watcher.reader.close()
        await session.close()


async def follow(groups: Groups, session: Any, watcher: Watcher) -> None:  # noqa: F811
    def figures(snapshot: Snapshot) -> bool:
        return all(node.reading is not None and node.status.state is ServerState.READY for node in snapshot.nodes)

    await watcher.wait("figures of both machines", figures)
    await watcher.wait("the engine's figures", lambda snapshot: snapshot.engine is not None)
    first = cast("Snapshot", watcher.snapshot)
    assert first.status.state is ServerState.READY
    assert [node.host for node in first.nodes] == ["node-a", "node-b"]
    assert {phase.phase for phase in first.nodes[1].status.phases}, "the phases of the member are its own"
    assert watcher.samples > 0
    assert any(text.startswith("node-a: ") for text in watcher.events)
    assert any(text.startswith("node-b: ") for text in watcher.events)
    await watcher.wait("lines of both", lambda _: {"node-a", "node-b"} <= {hosts(line) for line in watcher.lines})
    assert session.hosts == ("node-a", "node-b")
    groups.member.cut(groups.machines.operator)
    await watcher.wait("one to be cut off", lambda snapshot: snapshot.nodes[1].silent_s is not None)
    assert cast("Snapshot", watcher.snapshot).status.state is ServerState.READY
    assert cast("Snapshot", watcher.snapshot).nodes[0].silent_s is None
    groups.member.restore()
    await watcher.wait("it to be back", lambda snapshot: snapshot.nodes[1].silent_s is None)
    assert groups.head.sshd is not None
    groups.head.sshd.stop()
    await watcher.wait("the head to be cut off", lambda snapshot: snapshot.nodes[0].silent_s is not None)
    off_s = cast("Snapshot", watcher.snapshot).time_s
    await watcher.wait("two seconds of that", lambda snapshot: snapshot.time_s > off_s + 2.0)
    on_s = cast("Snapshot", watcher.snapshot).time_s
    groups.head.sshd.start()
    await watcher.wait("the head to be back", lambda snapshot: snapshot.nodes[0].silent_s is None)
    await watcher.wait("its figures", lambda _: any(off_s <= time_s <= on_s for time_s in watcher.later))
    await session.restart(0.0)
    await watcher.wait("its second start", lambda _: groups.record()["group"]["attempt"] == 2)
    await watcher.wait("all to be ready again", lambda snapshot: snapshot.status.state is ServerState.READY)
    await watcher.wait("figures of this start", figures)
    await watcher.wait("both logs of it", lambda _: begun(watcher) == [2, 2])
    await session.stop(0.0)
    await watcher.wait("the end", lambda snapshot: snapshot.status.over and watcher.lost)
    assert cast("Snapshot", watcher.snapshot).status.state is ServerState.STOPPED
    assert watcher.lost == "the group is over"
    assert begun(watcher) == [2, 2], "no line comes twice"
    await asyncio.to_thread(wait_for, "nobody to be kept by who looks on", groups.nothing_runs, LIMIT_S)


def begun(watcher: Watcher) -> list[int]:
    """How often the first words of a server are in each machine's lines."""
    return [sum(BANNER in line for line in watcher.lines if hosts(line) == host) for host in ("node-a", "node-b")]


def hosts(line: str) -> str:
    """The machine of a line; every line has one."""
    assert line.startswith("(node-"), line
    return line[1:].partition("/")[0]


def test_one_session_sees_all_machines(groups: Groups, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    headless = ready(groups)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        if name in groups.env:
            monkeypatch.setenv(name, groups.env[name])
        else:
            monkeypatch.setenv(name, str(groups.home / name.lower()))
    asyncio.run(shown(groups))
    over(groups, headless)
    assert not list((groups.home / "xdg_cache_home" / "dsv4-console" / "groups").glob("*"))
