"""A profile as a service: the unit on disk, and what a service manager hears over its socket."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from console.cli import main
from console.io import paths
from console.io.notify import Notifier
from tests.e2e.world import wait_for
from tests.process.fake_world import FakeWorld

pytestmark = pytest.mark.timeout(100)
Capture = pytest.CaptureFixture[str]


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages: list[str] = []
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._channel.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while data := self._channel.recv(65_536):
            self.messages.append(data.decode())

    @property
    def fields(self) -> list[str]:
        return [line for message in self.messages for line in message.splitlines()]

    def close(self) -> None:
        self._channel.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._channel.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "n") if request.param == "path" else f"@dsv4-test-{uuid.uuid4().hex}"
    manager = Manager(address)
    yield manager
    manager.close()


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeWorld]:
    world = FakeWorld(tmp_path_factory.mktemp("world"))
    yield world
    world.close()


def test_ready_when_ready_and_nothing_left_when_it_ends(world: FakeWorld, manager: Manager) -> None:
    world.fake(load_s=1.0)
    world.env |= {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "600000"}
    run = world.headless()
    run.wait_ready()
    wait_for("READY=1", lambda: "READY=1" in manager.fields, 20)
    before = manager.fields[: manager.fields.index("READY=1")]
    assert any(field.startswith("STATUS=loading") for field in before)
    extended = [int(field.partition("=")[2]) for field in before if field.startswith("EXTEND_TIMEOUT_USEC=")]
    assert extended
    assert extended[0] > 500e6, "the profile's limit for readiness and a little"
    wait_for("three heartbeats", lambda: manager.fields.count("WATCHDOG=1") >= 3, 20)
    for process in world.processes():
        if process.pid != run.child.pid:
            assert "NOTIFY_SOCKET" not in process.environ(), process.cmdline()
    run.interrupt(signal.SIGTERM)
    assert run.wait_end() == 0
    # Here systemd kills what is left of the unit: there must be nothing.
    left = [p for p in world.processes() if p.status() != psutil.STATUS_ZOMBIE]
    assert left == []
    assert "STOPPING=1" in manager.fields
    assert manager.fields.count("READY=1") == 1
    assert "STATUS=ready" in manager.fields


def test_a_failed_start_never_says_ready(world: FakeWorld, manager: Manager) -> None:
    world.fake(load_s=0.2, crash_at="weights", error="oom")
    world.env["NOTIFY_SOCKET"] = manager.address
    run = world.headless()
    assert run.wait_end() == 1
    assert "READY=1" not in manager.fields
    assert any("failed" in field for field in manager.fields)


def test_a_manager_that_does_not_listen_is_no_trouble(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    notifier = Notifier.from_environment()
    assert notifier is not None
    assert notifier.watchdog_s is None, "meant for another process"
    assert "NOTIFY_SOCKET" not in os.environ
    notifier.send(READY=1)


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative/path"])
def test_addresses_that_are_none(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert Notifier.from_environment() is None


def test_a_message_is_one_line_per_field(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "n"))
    Notifier(manager.address).send(STATUS="loading\nREADY=1\n" + "x" * 10_000)
    wait_for("the message", lambda: manager.messages, 10)
    manager.close()
    (field,) = manager.fields
    assert field.startswith("STATUS=loading READY=1 xxx")
    assert len(field) < 600


def installed() -> tuple[Path, Path]:
    config = paths.config_dir()
    name = "dsv4-console-cpu-smoke"
    return config.parent / "systemd" / "user" / f"{name}.service", config / f"{name}.env"


def test_install_show_and_uninstall(capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("console.cli.service.SYSTEM_UNITS", tmp_path / "none")
    unit, environment = installed()
    command = ["service", "install", "--profile", "cpu-smoke"]
    assert main([*command, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "Type=notify" in text
    assert not unit.exists()
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert unit.read_text() == text
    assert f"systemctl --user enable --now {unit.name}" in out
    assert environment.stat().st_mode & 0o777 == 0o600
    assert str(environment) in err
    environment.write_text("VLLM_API_KEY=mine\n")
    assert main(command) == 0, "the same again is no question"
    assert main([*command, "--set", "supervise.drain_timeout_s=99"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main([*command, "--set", "supervise.drain_timeout_s=99", "--yes"]) == 0
    assert environment.read_text() == "VLLM_API_KEY=mine\n"
    assert "TimeoutStopSec=174" in unit.read_text()
    capsys.readouterr()
    assert main(["service", "show"]) == 0
    assert capsys.readouterr().out == f"{unit}\n"
    assert main(["service", "show", "--profile", "cpu-smoke"]) == 0
    assert capsys.readouterr().out == unit.read_text()
    assert main(["service", "uninstall", "--profile", "cpu-smoke"]) == 2
    assert main(["service", "uninstall", "--profile", "cpu-smoke", "--yes"]) == 0
    assert not unit.exists()
    assert environment.exists(), "keys are the operator's"
    assert main(["service", "uninstall", "--profile", "cpu-smoke", "--yes"]) == 5
    assert main(["service", "install", "--profile", "no-such"]) == 2


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("option", ["--user", "--system"])
def test_systemd_accepts_the_unit(option: str, capsys: Capture, tmp_path: Path) -> None:
    odd = tmp_path / "a $b %c.toml"
    shipped = Path(__file__).parents[2] / "profiles" / "cpu-smoke.toml"
    odd.write_bytes(shipped.read_bytes())
    assert main(["service", "install", "--profile", str(odd), option, "--dry-run"]) == 0
    unit = tmp_path / "dsv4-console-x.service"
    unit.write_text(capsys.readouterr().out)
    assert "a $$b %%c.toml" in unit.read_text()
    command = ["systemd-analyze", "verify", *(["--user"] if option == "--user" else []), str(unit)]
    env = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
