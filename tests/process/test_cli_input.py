"""What can be wrong with what the operator gives: each is told with what, where and what to do, and its exit code."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from console.cli import main
from console.cli.parser import build, parse
from console.core.errors import ExitCode
from console.io import paths
from console.io.engines import Engine
from tests.io.test_engines_install import UV
from tests.process.fake_world import ENGINE, FakeWorld, install_fake, write_vllm

ROOT = Path(__file__).parents[2]

Capture = pytest.CaptureFixture[str]
BROKEN = """
[profile]
title = "mine"
[hardware]
gpu = "H200"
cuont = 4
[model]
id = 7
"""


@pytest.fixture(autouse=True)
def _no_vllm_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


@pytest.fixture
def installed() -> Path:
    return install_fake(paths.data_dir().parent)


def made() -> list[Path]:
    """Whatever the commands of this test made, apart from the engine that was there before."""
    folders = (paths.config_dir(), paths.data_dir(), paths.state_dir())
    before = paths.engines_dir() / ENGINE
    return [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path not in before.parents and not path.is_relative_to(before)
    ]


@pytest.mark.parametrize("json_too", [False, True], ids=["words", "json"])
@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        ("frobnicate", 2, ["frobnicate", "status", "dsv4-console --help"]),
        ("--profil=cpu-smoke", 2, ["Unrecognized arguments: --profil"]),
        ("engine", 2, ["COMMAND", "dsv4-console engine --help"]),
        ("--profile cpu-smoke status", 2, ["--profile", "does not belong"]),
        ("--set serve.port=1 profiles show cpu-smoke", 2, ["--set", "does not belong"]),
        ("--dry-run", 2, ["--dry-run needs --profile"]),
        ("--detach", 2, ["--detach needs --profile"]),
        ("--ready-timeout 5", 2, ["--ready-timeout needs --profile"]),
        ("--profile cpu-smoke --attach x", 2, ["--attach is for the terminal UI"]),
        ("--profile cpu-smoke --drain-timeout soon", 2, ["'soon'", "seconds from 0 to 86400"]),
        ("--profile cpu-smoke --drain-timeout nan", 2, ["'nan'", "seconds from 0 to 86400"]),
        ("logs -n 0", 2, ["'0'", "a whole number from 1"]),
        ("chat hello --temperature hot", 2, ["'hot'", "a number from 0 to 10"]),
        ("--profile cpu-smok", 2, ["'cpu-smok'", "Nearest: cpu-smoke", "profiles list"]),
        ("--profile ./no/such.toml", 2, ["no/such.toml", "No such file"]),
        ("profiles show cpu-smok", 2, ["Nearest: cpu-smoke"]),
        ("profiles check cpu-smok", 2, ["Nearest: cpu-smoke"]),
        ("--profile cpu-smoke --set serve.port", 2, ["KEY=VALUE", "'serve.port'"]),
        (
            "--profile cpu-smoke --set serve.max_num_seq=3 --set serve.port=abc",
            2,
            ["serve.max_num_seq", "serve.max_num_seqs", "serve.port", '"abc"', "65535"],
        ),
        ("--profile cpu-smoke --engine nowhere", 3, ["'nowhere'", ENGINE, "engine install --cpu"]),
        ("--force", 2, ["--force needs --profile"]),
        ("--force status", 2, ["--force stands before a command"]),
        ("doctor nothing", 2, ["nothing", "profiles list"]),
        ("doctor --set serve.port=1", 2, ["--set needs a profile"]),
        ("engine install one", 3, ["'one'", "0.33.0"]),
        ("engine remove nothing --yes", 3, ["'nothing'", ENGINE]),
        ("status", 5, ["Nothing has been launched yet", "--profile NAME"]),
        ("status nope", 5, ["'nope'", "runs"]),
        ("logs nope", 5, ["'nope'"]),
        ("stop nope", 5, ["'nope'"]),
        ("chat hello --run nope", 5, ["'nope'"]),
    ],
)
def test_a_mistake_is_named_with_its_remedy(
    installed: Path, capsys: Capture, arguments: str, code: int, parts: list[str], json_too: bool
) -> None:
    words = [*arguments.split(), *(["--json"] if json_too else [])]
    assert main(words) == code
    out, err = capsys.readouterr()
    assert err.startswith("dsv4-console: error: ")
    assert "Traceback" not in err
    for part in parts:
        assert part in err
    if json_too:
        assert json.loads(out)["error"]["exit_code"] == code
    else:
        assert out == ""
        assert "  → " in err or "status" in arguments or "→" in err, "what to do is said"
    assert not [path for path in made() if path.is_file()]


def test_exit_codes_are_documented() -> None:
    help_text = build().format_help()
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    documented = page[page.index("| code | meaning |") :].split("\n\n")[0]
    for code in ExitCode:
        assert f"{int(code)} " in help_text.partition("exit codes:")[2].partition("Without")[0]
        assert f" {int(code)}" in documented


def test_what_the_parser_notes_takes_no_commands_own_argument() -> None:
    def destinations(parser: argparse.ArgumentParser) -> set[str]:
        found = {action.dest for action in parser._actions}
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                found |= set().union(*map(destinations, action.choices.values()))
        return found

    assert not destinations(build()) & {"typed", "command", "function"}
    assert parse(["apply", "cap", "run", "--auto"]).words == ["cap", "run"]


def test_no_terminal_for_the_ui(capsys: Capture) -> None:
    assert main([]) == 2
    assert "--profile NAME" in capsys.readouterr().err


def test_a_dry_run_runs_and_makes_nothing(installed: Path, capsys: Capture) -> None:
    (installed / "bin" / "vllm").write_text("#!/bin/sh\nexit 9\n")
    assert main(["--profile", "cpu-smoke", "--dry-run", "--set", "serve.max_num_seqs=64"]) == 0
    out, err = capsys.readouterr()
    assert f"{installed}/bin/vllm serve " in out
    assert "--max-num-seqs 64" in out
    assert "VLLM_CPU_KVCACHE_SPACE=1" in out
    assert err == ""
    assert main(["--profile", "cpu-smoke", "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["engine"] == ENGINE
    assert document["argv"][1] == "serve"
    assert not made()


def test_without_an_engine_the_exact_command_is_offered(capsys: Capture) -> None:
    assert main(["--profile", "cpu-smoke"]) == 3
    err = capsys.readouterr().err
    assert "No engine for this profile is installed" in err
    assert "Run: dsv4-console engine install --cpu, or add --yes" in err
    assert main(["--profile", "cpu-smoke", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert "vllm serve" in out
    assert "engine install --cpu" in err
    assert main(["engine", "list"]) == 0
    assert "engine install" in capsys.readouterr().err
    assert not made()


@pytest.mark.parametrize(("version", "why"), [("0.19.0+cpu", "0.19.0"), ("0.33.0", "CUDA")], ids=["version", "kind"])
def test_an_engine_of_the_wrong_version_or_kind(tmp_path: Path, capsys: Capture, version: str, why: str) -> None:
    vllm = write_vllm(tmp_path / "env" / "bin" / "vllm", version)
    for name in (vllm, vllm.parent.parent):
        assert main(["--profile", "cpu-smoke", "--engine", str(name)]) == 3
        err = capsys.readouterr().err
        assert "The engine does not fit the profile" in err
        assert str(vllm) in err
        assert why in err
        assert ">=0.32,<0.34" in err
        assert "engine install --cpu" in err
    assert not made()


def test_a_broken_profile_of_ones_own(capsys: Capture) -> None:
    folder = paths.user_profiles_dir()
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text(BROKEN)
    (folder / "torn.toml").write_text("[profile\n")
    (folder / "good.toml").write_text((ROOT / "profiles" / "cpu-smoke.toml").read_text(encoding="utf-8"))

    assert main(["profiles", "list"]) == 0
    out, err = capsys.readouterr()
    assert "cpu-smoke" in out
    assert "good*" in out
    assert "mine cannot be used" in err
    assert "torn cannot be used" in err
    assert main(["profiles", "list", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {problem["name"] for problem in document["problems"]} == {"mine", "torn"}
    assert {"cpu-smoke", "good"} <= {profile["name"] for profile in document["profiles"]}

    for command in (["profiles", "check"], ["profiles", "check", "mine"], ["profiles", "check", str(folder)]):
        assert main(command) == 2
        out = capsys.readouterr().out
        for part in ("hardware.cuont", "hardware.count", "model.id", "✖ mine"):
            assert part in out, "all mistakes at once"
    assert main(["profiles", "check", "good", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["profiles"][0]["errors"] == []
    for command in (["--profile", "mine"], ["profiles", "show", "mine"]):
        assert main(command) == 2
        err = capsys.readouterr().err
        assert "hardware.cuont" in err
        assert "model.id" in err


def test_a_profile_is_shown_with_its_settings(installed: Path, capsys: Capture) -> None:
    assert main(["profiles", "show", "cpu-smoke", "--set", "serve.max_num_seqs=64"]) == 0
    out = capsys.readouterr().out
    assert "--max-num-seqs 64" in out
    assert f"engine     {ENGINE}" in out
    assert main(["profiles", "show", "cpu-smoke", "--json", "--set", "serve.max_num_seqs=64"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["profile"]["serve"]["max_num_seqs"] == 64
    assert document["fit"]["verdict"] == "fits"


def test_a_broken_configuration(installed: Path, capsys: Capture) -> None:
    paths.config_dir().mkdir(parents=True)
    file = paths.config_dir() / "config.toml"
    file.write_text("engin = 3\n")
    assert main(["--profile", "cpu-smoke", "--dry-run"]) == 2
    err = capsys.readouterr().err
    assert f"{file}: engin: no such key; nearest known key: engine" in err
    file.write_text('engine = "nowhere"\n')
    assert main(["--profile", "cpu-smoke", "--dry-run"]) == 3
    assert "'nowhere' (from the configuration)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "arguments", "code"),
    [
        ("STATE", "--profile cpu-smoke --set serve.port={port}", 3),
        ("STATE", "status", 3),
        ("STATE", "stop", 3),
        ("STATE", "engine install --cpu --force", 3),
        ("DATA", "engine install --cpu", 3),
        ("DATA", "--profile cpu-smoke --set serve.port={port} --engine {vllm}", 3),
        ("CONFIG", "--profile cpu-smoke --set serve.port={port}", 3),
        ("CONFIG", "profiles check", 2),
    ],
)
def test_a_directory_that_cannot_be_used(
    installed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    kind: str,
    arguments: str,
    code: int,
) -> None:
    vllm = write_vllm(tmp_path / "vllm")
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv(f"XDG_{kind}_HOME", str(blocked))
    port = FakeWorld(tmp_path, installed=False).port
    assert main([word.format(vllm=vllm, port=port) for word in arguments.split()]) == code
    out, err = capsys.readouterr()
    assert str(blocked) in out + err
    assert "Not a directory" in out + err
    assert "Traceback" not in err


def test_a_disk_that_fills_up_leaves_no_half_a_run(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("console.io.runs.write_atomic", full)
    port = FakeWorld(tmp_path, installed=False).port
    assert main(["--profile", "cpu-smoke", "--set", f"serve.port={port}"]) == 3
    assert "No space left on device" in capsys.readouterr().err
    assert list(paths.runs_dir().iterdir()) == []


def test_a_defect_is_one_line_and_a_file(monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path) -> None:
    secret = "planted-0123456789"
    monkeypatch.setenv("VLLM_API_KEY", secret)

    def defect(*_arguments: object) -> None:
        raise KeyError(f"no {secret}")

    monkeypatch.setattr("console.io.runs.list_runs", defect)
    assert main(["status"]) == 70
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dsv4-console: error: This is a defect in dsv4-console\n  KeyError: 'no •••'\n  → ")
    (file,) = (paths.state_dir() / "defects").iterdir()
    assert str(file) in err
    text = file.read_text(encoding="utf-8")
    assert "Traceback" in text
    assert secret not in text
    assert file.parent.stat().st_mode & 0o077 == 0

    assert main(["status", "--json"]) == 70
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 70
    blocked = tmp_path / "a file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    assert main(["status"]) == 70
    assert "Traceback" in capsys.readouterr().err, "where there is no file, the text itself is shown"


def test_engines_install_launch_and_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(UV)
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{uv.parent}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("FAKE_UV", "fail")
    assert main(["engine", "install", "--cpu"]) == 3
    err = capsys.readouterr().err
    assert "The engine could not be installed" in err
    assert "Free disk space" in err
    assert "  Log: " in err
    assert main(["--profile", "cpu-smoke", "--yes", "--json"]) == 3
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last)["error"]["title"] == "The engine could not be installed"

    monkeypatch.delenv("FAKE_UV")
    assert main(["engine", "install", "--cpu", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["name"] == ENGINE
    lines = [line.split("%")[-1].strip() for line in err.splitlines()]
    assert len(lines) == len(set(lines)), "no step is told twice"
    assert all(len(line) < 100 for line in lines)
    assert main(["engine", "list"]) == 0
    assert capsys.readouterr().out.startswith(ENGINE)
    assert main(["engine", "remove", ENGINE]) == 2
    assert "Add --yes" in capsys.readouterr().err
    assert main(["engine", "remove", ENGINE, "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": ENGINE}
    assert main(["engine", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"engines": []}


def test_a_vllm_on_path_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    vllm = write_vllm(tmp_path / "env" / "bin" / "vllm", "0.33.0")
    monkeypatch.setenv("PATH", f"{vllm.parent}:/usr/bin:/bin")
    assert main(["engine", "list", "--json"]) == 0
    (engine,) = json.loads(capsys.readouterr().out)["engines"]
    assert (engine["version"], engine["origin"], engine["kind"]) == ("0.33.0", "path", "cuda")
    assert Engine(**{**engine, "executable": vllm}).executable == vllm


def test_a_working_directory_with_names_like_ours(tmp_path: Path) -> None:
    world = FakeWorld(tmp_path / "world")
    here = tmp_path / "work"
    (here / "console").mkdir(parents=True)
    for name in ("console/__init__.py", "select.py", "signal.py", "httpx.py", "vllm.py", "msgspec.py"):
        (here / name).write_text("raise SystemExit('the operator\\'s own file was imported')\n")
    script = Path(sys.executable).parent / "dsv4-console"
    try:
        done = subprocess.run(
            [script, "--profile", "cpu-smoke", "--set", f"serve.port={world.port}", "--detach"],
            cwd=here,
            env=world.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    finally:
        world.close()
