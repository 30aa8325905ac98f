"""An endpoint that the console did not start: states, backoff, history, and what is refused, on a scripted answer."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from console.client.api import ChatMessage, ChatOptions, Session
from console.client.fleet import Fleet, with_members
from console.client.session import Inbox
from console.client.watch_session import REFUSAL, Watcher, WatchSession
from console.client.watched import Endpoint, Pace
from console.core.errors import UsageError
from console.core.fleet import FleetState
from console.core.hosts import called_here, machine_row
from console.core.models import HintState, Level, NodePlace, RunInfo, ServerState, Snapshot
from console.core.snooze import Snooze
from console.core.watching import Trouble, target_of, trouble_of
from console.io.http import Health, HttpError, ServedModel
from console.protocol import Happened, History, Pushed
from tests.e2e.world import free_port
from tests.fakes.backend import FakeBackend

FAKE = Path(__file__).parents[1] / "fakes" / "fake_vllm.py"
OK = Health(True, 200, "")
METRICS = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="tiny"} 1.0
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="tiny"} {tokens}
"""


class Member:
    """A source of servers with these runs."""

    def __init__(self, *runs: RunInfo) -> None:
        self._runs = runs

    async def runs(self) -> tuple[RunInfo, ...]:
        return self._runs

    async def attach(self, run_id: str) -> Session:
        raise AssertionError(run_id)


def server(run_id: str, url: str = "", place: NodePlace | None = None) -> RunInfo:
    return RunInfo(id=run_id, profile_name="flash", url=url, place=place)


def part(rank: int) -> NodePlace:
    return NodePlace(group="g", attempt=1, rank=rank, hosts=("a", "b"), addresses=("10.0.0.1", "10.0.0.2"))


async def listed(here: tuple[RunInfo, ...], *members: Member) -> list[str]:
    return [run.id for run in await with_members(FakeBackend(runs=here), members).runs()]


async def test_what_several_sources_have_is_one_server() -> None:
    """A loopback address is another server on each machine; an address that all reach is one."""
    loopback, outer = "http://127.0.0.1:8000", "http://10.0.0.1:8000"
    a = Member(called_here("a", server("1", loopback)), called_here("a", server("2", outer)))
    b = Member(called_here("b", server("1", loopback)), machine_row("b"), machine_row("c"))
    watched = Member(server("watch:x", outer), server("watch:y", "http://localhost:8000"))
    found = await listed((server("0", loopback),), a, b, watched)
    assert found == ["0", "host:a/1", "host:a/2", "host:b/1", "host:b/", "host:c/"]


async def test_a_group_is_one_server_whoever_tells_of_it() -> None:
    head = Member(called_here("a", server("1", "http://10.0.0.1:8000", part(0))))
    other = Member(called_here("b", server("1", "", part(1))))
    assert await listed((), head, other) == ["host:a/1"]
    assert await listed((), other) == ["host:b/1"], "where nobody else tells of it"
    assert await listed((server("g", "http://10.0.0.9:1"),), head, other) == ["g"], "started here: as a whole"


class Scripted:
    """Answers as a test sets them, and keeps the keys that it was asked with."""

    def __init__(self) -> None:
        self.answer: Health = OK
        self.text: str | Exception = METRICS
        self.served: tuple[ServedModel, ...] | Exception = (ServedModel("tiny", "tiny", 1024),)
        self.keys: set[str | None] = set()
        self.calls = 0
        self.tokens = 0

    async def health(self, base_url: str, timeout_s: float, api_key: str | None) -> Health:
        self.calls += 1
        self.keys.add(api_key)
        return self.answer

    async def metrics(self, base_url: str, timeout_s: float, api_key: str | None) -> str:
        if isinstance(self.text, Exception):
            raise self.text
        self.tokens += 50
        return self.text.replace("{tokens}", str(self.tokens))

    async def version(self, base_url: str, api_key: str | None, timeout_s: float) -> str:
        return "0.33.0"

    async def models(self, base_url: str, api_key: str | None, timeout_s: float) -> tuple[ServedModel, ...]:
        if isinstance(self.served, Exception):
            raise self.served
        return self.served


class World:
    """One endpoint and a clock that a test turns."""

    def __init__(self, key_env: str | None = None, **environment: str) -> None:
        self.http = Scripted()
        self.now = 100.0
        self.endpoint = Endpoint(
            target_of("http://a:8000", key_env=key_env, usd_per_hour=14.76),
            self.http,
            clock=lambda: self.now,
            wall=lambda: 1_000_000.0 + self.now,
            environment=environment,
        )

    async def tick(self, seconds: int = 1) -> list[Any]:
        told: list[Any] = []
        for _ in range(seconds):
            self.now += 1.0
            told += await self.endpoint.tick()
        return told

    @property
    def snapshot(self) -> Snapshot:
        assert self.endpoint.snapshot is not None
        return self.endpoint.snapshot


async def test_figures_version_and_model_of_a_healthy_one() -> None:
    world = World()
    await world.tick(3)
    engine = world.snapshot.engine
    assert world.snapshot.status.state is ServerState.READY
    assert engine is not None
    assert (engine.running, engine.waiting, engine.generation_tokens_per_s) == (3, 1, 50.0)
    run = world.endpoint.run
    assert (run.model, run.max_model_len, run.engine_version, run.state) == ("tiny", 1024, "0.33.0", "ready")
    assert run.usd_per_hour == 14.76
    assert world.snapshot.gpus is None
    assert {source.name for source in world.snapshot.sources if not source.ok} == {"gpu", "host"}
    past = world.endpoint.history(2.5)
    assert len(past.samples) == 3
    assert len(world.endpoint.history(0.5).samples) == 1
    assert any(hint.state is HintState.UNJUDGED for hint in world.snapshot.hints)


@pytest.mark.parametrize(
    ("health", "text", "trouble", "says"),
    [
        (Health(False, None, "connection refused"), METRICS, Trouble.UNREACHABLE, "http://a:8000: connection refused"),
        (Health(False, 401, "HTTP 401"), METRICS, Trouble.KEY, "--api-key-env NAME"),
        (Health(False, 404, "HTTP 404"), METRICS, Trouble.FOREIGN, "is not a vLLM server"),
        (OK, "# a node exporter\nnode_load1 1.0\n", Trouble.FOREIGN, "without any vLLM metric"),
        (OK, HttpError("HTTP 404", status=404), Trouble.FOREIGN, "/metrics: HTTP 404"),
        (OK, HttpError("HTTP 403", status=403), Trouble.KEY, "/metrics: HTTP 403"),
    ],
)
async def test_each_trouble_is_told_and_asked_again_later_and_later(
    health: Health, text: str | Exception, trouble: Trouble, says: str
) -> None:
    world = World()
    world.http.answer, world.http.text = health, text
    told = await world.tick()
    assert trouble_of(world.snapshot.sources) is trouble
    assert says in world.snapshot.status.reason
    assert world.snapshot.status.state is ServerState.UNHEALTHY
    assert any(isinstance(update, Happened) for update in told)
    asked = []
    for _ in range(200):
        before = world.http.calls
        await world.tick()
        if world.http.calls > before:
            asked.append(world.now)
    gaps = [after - before for before, after in pairwise(asked)]
    assert gaps[:3] == [4.0, 8.0, 16.0]
    assert gaps[-1] == Pace().backoff_max_s
    world.http.answer, world.http.text = OK, METRICS
    told = await world.tick(int(Pace().backoff_max_s))
    assert world.snapshot.status.state is ServerState.READY
    assert trouble_of(world.snapshot.sources) is None
    assert any(isinstance(update, Happened) and "ready" in update.event.text for update in told)
    before = world.http.calls
    await world.tick(3)
    assert world.http.calls == before + 3, "once a second again"


async def test_figures_that_stop_coming_become_unknown() -> None:
    world = World()
    await world.tick(2)
    world.http.text = HttpError("no answer within 2 s")
    await world.tick(2)
    assert world.snapshot.engine is not None, "not yet too old"
    await world.tick(5)
    assert world.snapshot.engine is None
    assert [each.error for each in world.snapshot.sources if each.name == "metrics"] == ["no answer within 2 s"]
    assert world.snapshot.status.state is ServerState.READY


async def test_a_dead_engine_shows_no_old_figures() -> None:
    world = World()
    await world.tick(2)
    world.http.answer = Health(False, 503, "the engine is dead (HTTP 503)")
    await world.tick()
    assert world.snapshot.engine is None
    assert world.snapshot.status.state is ServerState.UNHEALTHY
    assert trouble_of(world.snapshot.sources) is None


async def test_without_the_key_figures_go_on_and_the_name_comes_from_the_labels() -> None:
    world = World()
    world.http.served = HttpError("the server wants an API key (HTTP 401)", status=401)
    await world.tick(2)
    assert world.snapshot.status.state is ServerState.READY
    assert "--api-key-env NAME" in world.snapshot.status.reason
    assert world.endpoint.run.model == "tiny"


async def test_the_key_comes_from_the_named_variable_and_no_other() -> None:
    world = World(VLLM_API_KEY="other")
    await world.tick()
    assert world.http.keys == {None}
    world = World("MY_KEY", MY_KEY="sesame", VLLM_API_KEY="other")
    await world.tick()
    assert world.http.keys == {"sesame"}
    told = str(world.snapshot) + str(world.endpoint.run) + str(world.endpoint.events)
    assert "sesame" not in told


async def test_a_session_refuses_every_change_and_keeps_snoozes_to_itself() -> None:
    world = World()
    await world.tick()
    session = WatchSession(world.endpoint, Inbox(), lambda: None)
    for call in (session.stop, session.restart, session.postpone):
        with pytest.raises(UsageError) as found:
            await call()
        assert found.value.message == REFUSAL
        assert found.value.fix
    snooze = Snooze(hint="answers-cut", level=Level.INFO, since_s=1.0, until_s=2.0)
    assert await session.snooze(snooze) == (snooze,)
    assert await session.wake("answers-cut") == ()
    page = session.log().read()
    assert len(page.lines) == 1
    assert "on its own machine" in page.lines[0]


async def first(session: WatchSession, count: int) -> list[Any]:
    got: list[Any] = []
    async for update in session.updates(300.0):
        got.append(update)
        if len(got) == count:
            return got
    return got


async def test_all_who_look_share_one_asker_which_ends_with_the_last() -> None:
    http = Scripted()
    target = target_of("http://a:8000")
    watcher = Watcher(
        (target,), lambda: http, lambda target, http: Endpoint(target, http, pace=Pace(tick_s=0.02, deadline_s=1.0))
    )
    assert [run.id for run in await watcher.runs()] == [target.id]
    one, two = await watcher.attach(target.id), await watcher.attach(target.id)
    got = await first(one, 4)
    assert isinstance(got[0], History)
    assert isinstance(got[1], Pushed)
    await one.close()
    calls = http.calls
    await first(two, 4)
    assert http.calls > calls, "the other one still looks"
    await two.close()
    await asyncio.sleep(0)
    calls = http.calls
    await asyncio.sleep(0.1)
    assert http.calls == calls, "nobody looks any more"
    again = await watcher.attach(target.id)
    past = (await first(again, 1))[0]
    assert len(past.samples) >= 4, "what was seen is still known"
    await watcher.close()


async def test_a_fleet_of_this_machine_and_of_endpoints_is_one_list() -> None:
    http = Scripted()
    watcher = Watcher((target_of("http://a:8000"), target_of("http://localhost:8000")), lambda: http)
    from tests.fakes.backend import RUN, attached, snapshot

    backend, session = attached(snapshot(), run=RUN)
    both: Any = with_members(backend, (watcher,))
    assert [run.id for run in await both.runs()] == [RUN.id, "watch:a:8000"], "a server that runs here counts once"
    assert (await both.machine()).cpu_count
    for call in (both.bench("watch:a:8000", None), both.replan("watch:a:8000", ())):
        with pytest.raises(UsageError, match="watched endpoint"):
            await call
    assert await both.bench_results("watch:a:8000") == ()
    fleet = Fleet(both)
    following = asyncio.create_task(fleet.run())
    async with asyncio.timeout(30):
        while not fleet.heard(1):
            await asyncio.sleep(0.01)
    assert {row.id: row.state for row in fleet.rows()} == {
        RUN.id: FleetState.READY,
        "watch:a:8000": FleetState.READY,
    }
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert session.closed
    await watcher.close()


async def test_a_fleet_of_nothing() -> None:
    backend: Any = FakeBackend()
    fleet = Fleet(with_members(backend, ()))
    following = asyncio.create_task(fleet.run())
    async with asyncio.timeout(30):
        while not fleet.heard(1):
            await asyncio.sleep(0.01)
    assert fleet.rows() == ()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


@pytest.fixture
async def keyed() -> AsyncIterator[str]:
    """The scripted server with an API key."""
    port = free_port()
    child = subprocess.Popen(
        [sys.executable, "-I", str(FAKE), "serve", "tiny", "--port", str(port)],
        env={**os.environ, "VLLM_API_KEY": "sesame", "FAKE_VLLM_LOAD_S": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(60), httpx.AsyncClient(trust_env=False) as client:
            while True:
                try:
                    if (await client.get(f"{url}/health")).status_code == 200:
                        break
                except httpx.HTTPError:
                    await asyncio.sleep(0.05)
        yield url
    finally:
        child.terminate()
        child.wait(30)


@pytest.mark.timeout(120)
async def test_chat_with_the_key_of_the_variable_and_without(keyed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAST_KEY", "sesame")
    watcher = Watcher((target_of(keyed, name="with", key_env="EAST_KEY"),))
    session = await watcher.attach("watch:with")
    assert session.run.model == "tiny"
    question = [ChatMessage(role="user", content="Say hi.")]
    deltas = [delta async for delta in session.chat(question, ChatOptions(max_tokens=4))]
    assert deltas[-1].done
    assert not deltas[-1].error
    assert "".join(delta.text for delta in deltas)
    await session.close()
    await watcher.close()
    watcher = Watcher((target_of(keyed, name="without"),))
    session = await watcher.attach("watch:without")
    assert session.run.state == "ready"
    assert "wants an API key" in session.run.reason
    deltas = [delta async for delta in session.chat(question, ChatOptions(max_tokens=4))]
    assert "API key" in deltas[-1].error
    await session.close()
    await watcher.close()
