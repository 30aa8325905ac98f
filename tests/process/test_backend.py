"""Ports, run directories and the start of a supervisor, as front ends use them."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import msgspec
import psutil
import pytest

from console.client import launch
from console.client.backend import LocalBackend
from console.client.launch import base_url, check_port, prepare_run, start_supervisor
from console.core.errors import HardwareError, NotRunningError, ProfileError, StateError
from console.core.models import ProfileChange
from console.core.profile import Profile
from console.io import paths, profiles, runs
from console.io.engines import choose
from tests.e2e.world import free_port
from tests.process.fake_world import install_fake


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch) -> Profile:
    """`cpu-smoke` on the scripted server and a free port."""
    install_fake(paths.data_dir().parent)
    monkeypatch.setenv("FAKE_VLLM_LOAD_S", "0.1")
    return on_port(profiles.load("cpu-smoke").profile, "127.0.0.1", free_port())


def on_port(profile: Profile, host: str, port: int) -> Profile:
    return msgspec.structs.replace(profile, serve=msgspec.structs.replace(profile.serve, host=host, port=port))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9"),
        ("0.0.0.0", "http://127.0.0.1:9"),
        ("::", "http://[::1]:9"),
        ("fe80::1", "http://[fe80::1]:9"),
        ("node7", "http://node7:9"),
    ],
)
def test_where_clients_on_this_machine_reach_it(profile: Profile, host: str, url: str) -> None:
    assert base_url(on_port(profile, host, 9)) == url


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_taken_port(profile: Profile, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        taken = on_port(profile, host, port)
        with pytest.raises(HardwareError, match=f"Port {port} is taken") as caught:
            check_port(taken)
        assert f"(pid {os.getpid()}) listens there" in caught.value.message
        proposed = int(caught.value.fix.rpartition("=")[2])
        check_port(on_port(profile, host, proposed))
        monkeypatch.setattr(launch, "listener_of", lambda port: None)
        with pytest.raises(HardwareError, match="is taken") as caught:
            check_port(taken)
        assert "cannot see" in caught.value.message
    check_port(taken)


def test_an_address_that_is_not_ours(profile: Profile) -> None:
    for host in ("203.0.113.7", "no such host"):
        with pytest.raises(HardwareError, match="Cannot listen on"):
            check_port(on_port(profile, host, 8000))


def test_a_working_directory_that_was_deleted(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    run = prepare_run("cpu-smoke", profile, choose(profile.engine))
    assert run.read_launch().cwd == str(Path.home())


async def test_a_run_is_planned_again_with_its_own_settings_and_a_change(profile: Profile) -> None:
    run = prepare_run("cpu-smoke", profile, choose(profile.engine))
    change = ProfileChange(key="serve.max_model_len", before=1024, after=96)
    plan = await LocalBackend().replan(run.id, (change,))
    assert plan.profile_name == "cpu-smoke"
    assert plan.profile.serve.max_model_len == 96
    assert plan.profile.serve.port == profile.serve.port, "an override of that run"
    assert "96" in plan.argv
    with pytest.raises(ProfileError, match="cannot be used"):
        await LocalBackend().replan(run.id, (ProfileChange(key="serve.max_model_len", after=-1),))
    with pytest.raises(NotRunningError):
        await LocalBackend().replan("none", (change,))


async def test_a_change_is_written_to_the_own_profile() -> None:
    change = ProfileChange(key="serve.max_model_len", before=1024, after=96)
    path = await LocalBackend().save_changes("cpu-smoke", (change,))
    assert path.parent == paths.user_profiles_dir()
    assert profiles.load("cpu-smoke").profile.serve.max_model_len == 96
    assert (await LocalBackend().plan("cpu-smoke")).profile.serve.max_model_len == 96


async def test_a_supervisor_that_does_not_come_up_shows_its_log(profile: Profile) -> None:
    run = prepare_run("cpu-smoke", profile, choose(profile.engine))
    run.launch_path.write_text("{}")
    with pytest.raises(StateError, match="did not come up") as caught:
        await start_supervisor(run)
    assert str(run.supervisor_log_path) in caught.value.message
    assert "launch.json" in caught.value.message


async def test_a_launch_that_is_cancelled_leaves_no_supervisor(
    profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepare_run("cpu-smoke", profile, choose(profile.engine))
    connecting = asyncio.Event()

    async def connect(_run: object) -> None:
        connecting.set()
        raise NotRunningError("not yet")

    monkeypatch.setattr(launch, "connect", connect)
    task = asyncio.create_task(start_supervisor(run))
    await connecting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    def left() -> list[psutil.Process]:
        return [
            child
            for child in psutil.Process().children(recursive=True)
            if child.status() != psutil.STATUS_ZOMBIE and str(run.path) in " ".join(child.cmdline())
        ]

    async with asyncio.timeout(20):
        while left():
            await asyncio.sleep(0.05)
    assert not runs.is_live(run.read_info())


async def test_what_is_over_cannot_be_attached_to(profile: Profile) -> None:
    run = prepare_run("cpu-smoke", profile, choose(profile.engine))
    with pytest.raises(NotRunningError, match="The run is over") as caught:
        await LocalBackend().attach(run.id)
    assert run.id in caught.value.fix
    assert await LocalBackend().runs() == ()


async def test_a_plan_is_what_a_launch_does(profile: Profile) -> None:
    backend = LocalBackend()
    plan = await backend.plan("cpu-smoke", {"serve.port": profile.serve.port, "serve.max_num_seqs": 3})
    session = await backend.launch(plan)
    try:
        assert session.run.argv == plan.argv
        assert session.run.max_num_seqs == 3
        assert [info.id for info in await backend.runs()] == [session.run.id]
        other = await backend.attach(session.run.id)
        await other.stop(0.0)
        await other.close()
    finally:
        info = session.run_dir.read_info()
        await session.close()
    async with asyncio.timeout(30):
        while runs.is_live(session.run_dir.read_info()):
            await asyncio.sleep(0.05)
    assert info.profile_name == "cpu-smoke"
