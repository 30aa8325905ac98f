"""Hangs, restarts and drains with a scripted server, as its supervisor handles them."""

from __future__ import annotations

import os
import signal

import httpx

from console.client.backend import LocalBackend
from console.core.lifecycle import Timing
from console.core.models import ServerState, Snapshot
from console.core.profile import RestartPolicy
from console.io import process
from tests.process.test_supervisor import Lab, family, lab

__all__ = ["lab"]


async def tell_server(url: str, **settings: object) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=10.0) as http:
        await http.post(f"{url}/fake", json=settings)


async def test_a_hang_under_load_is_unhealthy_and_recovers(lab: Lab) -> None:
    fake = await lab.start(Timing(hang_timeout_s=3.0, stop_timeout_s=2.0))
    await fake.state(ServerState.READY)
    await tell_server(fake.info.url, running=3, waiting=1)
    sick = await fake.state(ServerState.UNHEALTHY)
    assert "the engine has 4 requests, and no token and no KV cache block moved" in sick.status.reason
    await tell_server(fake.info.url, running=0, waiting=0)
    await fake.state(ServerState.READY)


async def test_a_hang_is_restarted_by_policy(lab: Lab) -> None:
    fake = await lab.start(
        Timing(hang_timeout_s=3.0, stop_timeout_s=2.0, drain_timeout_s=1.0, restart=RestartPolicy.ON_FAILURE)
    )
    await fake.state(ServerState.READY)
    before = fake.info.server_pid
    await tell_server(fake.info.url, running=3)
    waiting = await fake.until(lambda s: s.status.restart, "a planned restart")
    assert waiting.status.state is ServerState.CRASHED
    assert waiting.status.diagnosis is not None
    assert waiting.status.diagnosis.cause == "hang"
    assert "it hung: the engine has 3 requests" in waiting.status.reason
    assert waiting.status.reason.endswith("restart 1 of 5")
    ready = await fake.state(ServerState.READY)
    assert ready.status.pid != before


async def test_a_stopped_process_is_seen_even_when_idle(lab: Lab) -> None:
    fake = await lab.start(workers=2)
    await fake.state(ServerState.READY)
    worker = max(family(fake.info))
    os.kill(worker, signal.SIGSTOP)
    try:
        sick = await fake.state(ServerState.UNHEALTHY)
        assert f"(pid {worker})" in sick.status.reason
    finally:
        os.kill(worker, signal.SIGCONT)
    await fake.state(ServerState.READY)


async def test_a_planned_restart_counts_down_and_can_be_had_now_or_given_up(lab: Lab) -> None:
    fake = await lab.start(Timing(restart=RestartPolicy.ON_FAILURE, stop_timeout_s=2.0))

    async def crash(number: int) -> Snapshot:
        ready = await fake.until(lambda s: s.status.state is ServerState.READY and s.status.pid != last, "ready")
        assert ready.status.pid is not None
        os.kill(ready.status.pid, signal.SIGKILL)
        return await fake.until(lambda s: s.status.restart == number, f"restart {number}")

    last: int | None = None
    for number in (1, 2):
        waiting = await crash(number)
        assert waiting.status.deadline_s is not None
        assert waiting.status.deadline_s - waiting.time_s <= 2.0**number
        last = waiting.status.pid
    again = await LocalBackend().attach(fake.run.id)
    await again.restart()
    await again.close()
    waiting = await crash(1)
    await fake.session.stop()
    end = await fake.over()
    assert end.status.state is ServerState.STOPPED
    assert "not restarted, as it was asked to stop" in end.status.reason


async def test_a_configuration_error_is_never_retried(lab: Lab) -> None:
    fake = await lab.start(Timing(restart=RestartPolicy.ALWAYS), crash_at="memory", error="oom")
    end = await fake.over()
    assert end.status.state is ServerState.FAILED
    assert end.status.reason.endswith("not restarted: it would fail the same way again")


async def test_a_drain_that_reaches_its_limit_says_how_many_it_cut(lab: Lab) -> None:
    fake = await lab.start(Timing(drain_timeout_s=2.0, stop_timeout_s=1.0), ignore_term=-1)
    await fake.state(ServerState.READY)
    await tell_server(fake.info.url, running=3, waiting=1, tokens_per_s=10)
    await fake.until(lambda s: s.engine is not None and s.engine.running == 3, "requests")
    await fake.session.stop()
    draining = await fake.until(lambda s: s.status.in_flight == 4, "requests in flight")
    assert draining.status.state is ServerState.STOPPING
    end = await fake.over()
    assert end.status.cut == 4
    assert "4 requests were cut off after" in end.status.reason
    assert any("the drain reached its limit: 4 requests were cut off" in event for event in fake.events)


async def test_a_drain_that_is_done_in_time_cuts_nothing(lab: Lab) -> None:
    fake = await lab.start(Timing(drain_timeout_s=30.0, stop_timeout_s=2.0), ignore_term=1)
    await fake.state(ServerState.READY)
    await tell_server(fake.info.url, running=2, tokens_per_s=10)
    await fake.until(lambda s: s.engine is not None and s.engine.running == 2, "requests")
    await fake.session.stop()
    await fake.until(lambda s: s.status.in_flight == 2, "requests in flight")
    await tell_server(fake.info.url, running=0)
    await fake.until(lambda s: s.status.in_flight == 0, "none in flight")
    assert fake.info.server_pid is not None
    process.send_signal(fake.info.server_pid, signal.SIGTERM)
    end = await fake.over()
    assert end.status.cut == 0
    assert end.status.reason == ""
    assert any("all requests in flight were finished" in event for event in fake.events)
