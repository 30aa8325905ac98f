"""`export systemd|compose|kubernetes PROFILE` and profiles of several machines, as the command line has them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import yaml

from console.cli import main
from console.core.ledger import Measured, gpu_name, ledger_key
from console.io import ledger, profiles
from tests.e2e.world import wait_for

Capture = pytest.CaptureFixture[str]
VERIFY = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
GROUP = "2x8xh100-native-v4-pro"


def said(capsys: Capture, *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    done = capsys.readouterr()
    return code, done.out, done.err


def scripts(folder: Path) -> dict[str, str]:
    """The shell scripts of all units below, as systemd hands them over."""
    found = {}
    for path in folder.rglob("*.service"):
        for line in path.read_text().splitlines():
            for key in ("ExecStart=/bin/bash -c ", "ExecStartPost=/bin/sh -c "):
                if line.startswith(key):
                    words = line.removeprefix(key)[1:-1]
                    found[path.name] = words.replace('\\"', '"').replace("$$", "$").replace("%%", "%")
    return found


def stand_in(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_launch_of_several_machines_is_refused_with_what_to_do(capsys: Capture) -> None:
    code, _, err = said(capsys, "--profile", "cpu-smoke-2nodes")
    assert code == 2
    assert "spans 2 machines" in err
    assert "export systemd|compose|kubernetes" in err
    assert "--dry-run --node-rank 0 to 1" in err
    code, _, err = said(capsys, "service", "install", "--profile", GROUP, "--dry-run")
    assert (code, "spans 2 machines" in err) == (2, True)


def test_each_machine_s_command_is_printed(capsys: Capture) -> None:
    code, first, note = said(capsys, "--profile", GROUP, "--dry-run")
    assert (code, "--node-rank 0" in first, "network.address" in note) == (0, True, True)
    options = ("--profile", GROUP, "--dry-run", "--node-rank", "1", "--set", "network.address=10.0.0.1")
    code, second, note = said(capsys, *options)
    assert (code, "--node-rank 1" in second, "10.0.0.1" in second, "network.address" in note) == (0, True, True, False)
    assert "--headless" in second


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--profile", GROUP, "--dry-run", "--node-rank", "2"), "There is no machine 2"),
        (("--profile", "cpu-smoke", "--dry-run", "--node-rank", "1"), "is for one"),
        (("--profile", GROUP, "--node-rank", "1"), "--node-rank is for --dry-run"),
        (("--node-rank", "1"), "--node-rank needs --profile"),
        (("export", "compose"), "Which profile to export"),
        (("export", "compose", "cpu-smoke", "--csv"), "are for samples"),
        (("export", "last", "cpu-smoke"), "a second word is for export systemd|compose|kubernetes"),
        (("export", "grafana", "--image", "x"), "--image is for export"),
        (("export", "kubernetes", "cpu-smoke", "--hosts", "a,b"), "--hosts names 2 machines"),
        (("export", "compose", GROUP), "There are 2 files"),
        (("export", "systemd", GROUP), "--vllm /opt/vllm/bin/vllm"),
        (("export", "systemd", GROUP, "--vllm", "bin/vllm"), "Where vllm lies"),
        (("export", "kubernetes", "no-such"), "no-such"),
        (("profiles", "fit", GROUP, "--count", "8"), "--count is for profiles of one machine"),
    ],
)
def test_mistakes_are_named(words: tuple[str, ...], says: str, capsys: Capture) -> None:
    code, out, err = said(capsys, *words)
    assert (code, out) == (2, "")
    assert says in err


def test_one_file_goes_to_stdout_or_to_a_file(capsys: Capture, tmp_path: Path) -> None:
    code, text, _ = said(capsys, "export", "kubernetes", GROUP, "--namespace", "ai", "--image", "me/vllm:1")
    assert code == 0
    kinds = {each["kind"]: each for each in yaml.safe_load_all(text)}
    assert set(kinds) == {"PersistentVolumeClaim", "LeaderWorkerSet", "Service", "ServiceMonitor"}
    assert {each["metadata"]["namespace"] for each in kinds.values()} == {"ai"}
    assert text.count("me/vllm:1") == 2
    target = tmp_path / "new" / "all.yaml"
    options = ("--namespace", "ai", "--image", "me/vllm:1", "-o", str(target))
    assert said(capsys, "export", "kubernetes", GROUP, *options)[:2] == (0, f"{target}\n")
    assert target.read_text() == text


def test_several_files_go_into_a_directory_or_into_json(capsys: Capture, tmp_path: Path) -> None:
    hosts = ("--hosts", "10.0.0.1, 10.0.0.2")
    code, out, _ = said(capsys, "export", "compose", GROUP, *hosts, "-o", str(tmp_path))
    assert code == 0
    assert [Path(line).name for line in out.splitlines()] == ["compose.node0.yaml", "compose.node1.yaml"]
    code, out, _ = said(capsys, "export", "compose", GROUP, *hosts, "--json")
    files = json.loads(out)["files"]
    assert files == {path.name: path.read_text() for path in tmp_path.iterdir()}


def test_overrides_are_exported(capsys: Capture) -> None:
    _, out, _ = said(capsys, "export", "compose", "8xh200-native-v4-pro", "--set", "serve.port=9000")
    assert yaml.safe_load(out)["services"]["vllm"]["ports"] == ["127.0.0.1:9000:9000"]


def test_a_start_period_comes_from_the_starts_that_were_seen_here(capsys: Capture) -> None:
    def period() -> str:
        service = yaml.safe_load(said(capsys, "export", "compose", "cpu-smoke")[1])["services"]["vllm"]
        return str(service["healthcheck"]["start_period"])

    assert period() == "600s", "supervise.ready_timeout_s"
    profile = profiles.load("cpu-smoke").profile
    ledger.record(ledger_key(profile, "0.32.0+cpu", gpu_name(profile, None)), Measured(time_s=1.0, ready_s=31.0))
    assert period() == "62s"


def test_one_machine_s_unit_is_that_of_the_service(capsys: Capture) -> None:
    _, exported, _ = said(capsys, "export", "systemd", "cpu-smoke", "--set", "serve.port=9000")
    _, installed, _ = said(
        capsys, "service", "install", "--profile", "cpu-smoke", "--set", "serve.port=9000", "--system", "--dry-run"
    )
    assert exported == installed


@VERIFY
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("name", [GROUP, "2x8xh200-native-v4-pro-dep", "cpu-smoke-2nodes"])
def test_systemd_accepts_the_units_of_a_group(name: str, host: str, capsys: Capture, tmp_path: Path) -> None:
    options = ("--vllm", "/bin/true", "-o", str(tmp_path), "--set", f"serve.host={host}")
    odd = ("--set", "env.ODD=a $b %c \"d\" 'e'", "--set", "supervise.restart=on-failure")
    assert said(capsys, "export", "systemd", name, *options, *odd)[0] == 0
    units = sorted(str(path) for path in tmp_path.rglob("*.service"))
    assert len(units) in (2, 3)
    env = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    for folder in ("node0", "node1"):
        mine = [unit for unit in units if f"/{folder}/" in unit]
        done = subprocess.run(
            ["systemd-analyze", "verify", *mine], env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_a_watch_waits_for_the_server_and_acts_when_it_has_gone(capsys: Capture, tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        sets = ("--set", f"network.master_port={server.getsockname()[1]}", "--set", "network.address=127.0.0.1")
        restart = ("--set", "supervise.restart=always", "--vllm", "/bin/true", "-o", str(tmp_path))
        assert said(capsys, "export", "systemd", GROUP, *sets, *restart)[0] == 0
        stand_in(tmp_path, "systemctl", f'echo "$@" > {tmp_path}/called')
        stand_in(tmp_path, "sleep", f"echo . >> {tmp_path}/slept; exec /bin/sleep 0.05")
        script = scripts(tmp_path)[f"dsv4-{GROUP}-node1-watch.service"]
        env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        with subprocess.Popen(["/bin/bash", "-c", script], env=env) as watch:
            slept = tmp_path / "slept"
            wait_for("a look at a closed port", lambda: slept.exists() and len(slept.read_text().split()) > 2)
            server.listen(1024)
            count = len(slept.read_text().split())
            wait_for("looks at an open port", lambda: len(slept.read_text().split()) > count + 3)
            assert watch.poll() is None
            assert not (tmp_path / "called").exists()
            server.close()
            assert watch.wait(30) == 0
    assert (tmp_path / "called").read_text().split() == ["--no-block", "restart", f"dsv4-{GROUP}-node1.service"]


def test_a_start_ends_when_it_answers_and_when_the_server_has_gone(capsys: Capture, tmp_path: Path) -> None:
    options = ("--vllm", "/bin/true", "-o", str(tmp_path))
    assert said(capsys, "export", "systemd", GROUP, *options)[0] == 0
    script = scripts(tmp_path)[f"dsv4-{GROUP}-node0.service"]
    stand_in(tmp_path, "sleep", "exit 0")
    stand_in(tmp_path, "curl", f'echo "$@" > {tmp_path}/asked; exit $ANSWER')
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "MAINPID": str(os.getpid()), "ANSWER": "0"}
    assert subprocess.run(["/bin/sh", "-c", script], env=env, timeout=30, check=False).returncode == 0
    assert (tmp_path / "asked").read_text().split()[-1] == "http://127.0.0.1:8000/health"
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    env |= {"MAINPID": str(gone.pid), "ANSWER": "7"}
    assert subprocess.run(["/bin/sh", "-c", script], env=env, timeout=30, check=False).returncode == 1
