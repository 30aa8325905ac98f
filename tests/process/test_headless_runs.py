"""`--profile` as its own process on the scripted server: ends, signals at each stage, and a lost supervisor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.world import wait_for
from tests.io.test_engines_install import UV
from tests.process.fake_world import FakeWorld

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FakeWorld]:
    world = FakeWorld(tmp_path)
    yield world
    world.close()


def test_a_whole_life_for_people(world: FakeWorld) -> None:
    """Without `--json` stdout stays empty, and a port held by SIGINT's first run is free for the next."""
    child = world.spawn(["--profile", "cpu-smoke", "--set", f"serve.port={world.port}", "--status-interval", "1"])
    wait_for("ready", lambda: (world.status() or {}).get("state") == "ready")
    time.sleep(2.5)  # figures come with time alone
    child.send_signal(signal.SIGINT)
    out, said = child.communicate(timeout=30.0)
    lines = said.decode().splitlines()
    assert (child.returncode, out) == (0, b"")
    # What is said before is of this machine: another test's orphans, say.
    begin = next(number for number, text in enumerate(lines) if text.startswith("run "))
    log = lines[begin + 1]
    assert log.startswith("log ")
    assert Path(log.removeprefix("log ")).is_file()
    assert sum("ready: " in line for line in lines) == 1
    assert 2 <= sum("KV cache" in line and "running" in line for line in lines) <= 6
    assert lines[-2].endswith("stopped")
    assert lines[-1].startswith("this run: ")
    assert not world.engine_processes()


def test_every_line_is_json_with_json(world: FakeWorld) -> None:
    headless = world.headless()
    headless.wait_ready()
    wait_for("a status line", lambda: headless.of("status"))
    headless.interrupt(signal.SIGTERM)
    assert headless.wait_end() == 0
    assert [json.loads(line) for line in headless.raw] == headless.lines
    assert next(line["type"] for line in headless.lines if line["type"] != "preflight") == "run"
    assert headless.states()[-2:] == ["stopping", "stopped"]
    assert headless.of("note")[0]["text"].startswith("SIGTERM: stopping the server")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_it_is_ready(world: FakeWorld, number: signal.Signals, code: int) -> None:
    world.fake(hang_at="weights")
    headless = world.headless(options=("--detach",) if number is signal.SIGTERM else ())
    wait_for("weights", lambda: "weights" in headless.said)
    headless.interrupt(number)
    assert headless.wait_end() == code
    assert not world.engine_processes()


def test_a_signal_at_once_leaves_nothing(world: FakeWorld) -> None:
    """Wherever in the first half second it comes, no server stays behind."""
    for number, delay_s in ((signal.SIGINT, 0.25), (signal.SIGTERM, 0.4), (signal.SIGINT, 0.55), (signal.SIGTERM, 0.7)):
        headless = world.headless()
        time.sleep(delay_s)
        headless.interrupt(number)
        code = headless.wait_end()
        # Before Python has come up, a signal ends it as any program.
        assert code in {130 if number is signal.SIGINT else 143, -number}, headless.said
        assert "Traceback" not in headless.said or code == -number
        wait_for("nothing to be left", lambda: not world.engine_processes(), 20.0)
    wait_for("no supervisor to be left", lambda: not world.processes(), 20.0)


def test_the_second_signal_does_not_wait_for_requests(world: FakeWorld) -> None:
    world.fake(tokens_per_s=2)
    headless = world.headless("supervise.drain_timeout_s=60", "supervise.stop_timeout_s=2")
    headless.wait_ready()
    chat = world.spawn(["chat", "count", "--max-tokens", "500"])
    world.in_flight()
    headless.interrupt(signal.SIGINT)
    wait_for("the drain to be told", lambda: headless.of("drain"))
    assert headless.of("drain")[0]["in_flight"] == 1
    assert 50 < headless.of("drain")[0]["left_s"] <= 60
    began = time.monotonic()
    headless.interrupt(signal.SIGINT)
    assert headless.wait_end() == 0
    assert time.monotonic() - began < 15
    assert "SIGINT again: not waiting for requests" in headless.said
    chat.communicate(timeout=10.0)
    assert not world.engine_processes()


def test_a_drain_has_its_limit(world: FakeWorld) -> None:
    world.fake(tokens_per_s=2)
    headless = world.headless(options=("--drain-timeout", "1"))
    headless.wait_ready()
    chat = world.spawn(["chat", "count", "--max-tokens", "500"])
    world.in_flight()
    headless.interrupt(signal.SIGTERM)
    assert headless.wait_end() == 0
    chat.communicate(timeout=10.0)
    assert chat.returncode == 1


def test_a_start_that_fails(world: FakeWorld) -> None:
    world.fake(crash_at="memory", error="context-too-long")
    headless = world.headless()
    assert headless.wait_end() == 1
    cause, remedy, log, again = headless.narration[-4:]
    assert cause.startswith("  cause:  A context of")
    assert remedy.startswith("  remedy: Lower serve.max_model_len")
    path, number, _ = log.removeprefix("  log:    ").split(":", 2)
    assert b"max seq len" in Path(path).read_bytes().split(b"\n")[int(number) - 1]
    assert again.startswith("  try:    dsv4-console --profile ")
    assert again.endswith(" --set serve.max_model_len=348160")
    assert headless.of("failure")[0]["diagnosis"]["why"]
    status = world.run("status")
    assert status.returncode == 5
    assert "failed – vllm serve exited with code 1" in status.stdout
    assert str(world.runs) in status.stdout
    assert world.status()["state"] == "failed"


def test_not_ready_in_time(world: FakeWorld) -> None:
    world.fake(hang_at="compile")
    headless = world.headless(options=("--ready-timeout", "2", "--detach"))
    assert headless.wait_end() == 4
    assert headless.of("failure")[0]["diagnosis"]["cause"] == "ready-timeout"
    assert not world.engine_processes()


def test_a_crash_while_it_serves(world: FakeWorld) -> None:
    headless = world.headless()
    headless.wait_ready()
    world.post("/fake", {"crash": "illegal-access"})
    assert headless.wait_end() == 1
    assert headless.states()[-1] == "crashed"
    assert "illegal memory access" in headless.said


def test_stopped_by_somebody_else_before_it_was_ready(world: FakeWorld) -> None:
    world.fake(hang_at="weights")
    headless = world.headless(options=("--detach",))
    wait_for("weights", lambda: "weights" in headless.said)
    assert world.run("stop").returncode == 0
    assert headless.wait_end() == 1
    assert "somebody stopped it before it was ready" in headless.said


def test_a_lost_supervisor_is_replaced(world: FakeWorld) -> None:
    headless = world.headless()
    headless.wait_ready()
    info = world.status()["run"]
    psutil.Process(info["supervisor_pid"]).kill()
    wait_for("a new supervisor", lambda: "attached again" in headless.said, 30.0)
    now = world.status()
    assert now["run"]["server_pid"] == info["server_pid"]
    assert now["supervised"]
    headless.interrupt()
    assert headless.wait_end() == 0
    assert not world.engine_processes()


def test_a_terminal_that_vanishes_leaves_the_server(world: FakeWorld) -> None:
    headless = world.headless()
    headless.wait_ready()
    headless.interrupt(signal.SIGHUP)
    assert headless.wait_end() == 0
    assert world.status()["state"] == "ready"
    assert world.run("stop", "--drain-timeout", "0").returncode == 0


def test_nohup_is_respected(world: FakeWorld) -> None:
    child = subprocess.Popen(
        ["nohup", *world.command("--profile", "cpu-smoke", "--set", f"serve.port={world.port}")],
        env=world.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for("ready", lambda: (world.status() or {}).get("state") == "ready")
    child.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    assert child.wait(30.0) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
@pytest.mark.parametrize("arguments", [("engine", "install", "--cpu"), ("--profile", "cpu-smoke", "--yes")])
def test_a_signal_while_an_engine_is_installed_leaves_nothing(
    tmp_path: Path, number: signal.Signals, code: int, arguments: tuple[str, ...]
) -> None:
    world = FakeWorld(tmp_path, installed=False)
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(UV)
    uv.chmod(0o755)
    pids = tmp_path / "pids"
    world.env |= {
        "PATH": f"{uv.parent}:/usr/bin:/bin",
        "FAKE_UV": "hang",
        "FAKE_CALLS": str(tmp_path / "calls"),
        "FAKE_PIDS": str(pids),
    }
    child = world.spawn([*arguments])
    wait_for("the installer to hang", lambda: pids.exists() and len(pids.read_text().split()) >= 2)
    os.kill(child.pid, number)
    os.kill(child.pid, number)  # an impatient second one does not cut the cleaning up
    _, said = child.communicate(timeout=30.0)
    assert child.returncode == code, said.decode()
    assert b"Traceback" not in said
    assert list((tmp_path / "data" / "dsv4-console" / "engines").iterdir()) == []
    for pid in map(int, pids.read_text().split()):
        wait_for(f"{pid} to end", lambda pid=pid: not psutil.pid_exists(pid) or _is_zombie(pid), 10.0)
    world.close()


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
