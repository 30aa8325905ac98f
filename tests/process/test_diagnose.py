"""`dsv4-console diagnose`: any log, from a file, standard input or a run; what is no log is refused in words."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from console.cli import main
from console.core.errors import ExitCode
from console.core.models import Diagnosis, RunInfo
from console.core.troubleshooting import failures_page
from console.io.runs import create_run

LOGS = Path(__file__).parent.parent / "data" / "logs" / "cpu-0.32.0"
HEALTHY = LOGS / "startup-ready-stop.log"
TOO_LONG = LOGS / "fail-context-above-memory.log"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["diagnose", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def document(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code, out, _ = run(capsys, *words, "--json")
    assert code == 0
    found: dict[str, Any] = json.loads(out)
    return found


def test_three_lines_and_the_change(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, str(TOO_LONG))
    assert code == 0
    assert err == ""
    cause, remedy, log, again = out.splitlines()
    assert cause.startswith("cause:  A context of 1024 tokens does not fit into the KV cache")
    assert remedy.startswith("remedy: Lower serve.max_model_len")
    assert log.startswith(f"log:    {TOO_LONG}:67: ValueError: To serve at least one request")
    assert again == "try:    --set serve.max_model_len=96"


def test_json_has_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, str(TOO_LONG))
    assert found["failed"] is True
    assert found["cause"] == "context-above-memory"
    assert found["line"] == 67
    assert found["text"] in TOO_LONG.read_text(encoding="utf-8").splitlines()[66]
    assert found["change"] == [{"key": "serve.max_model_len", "before": 1024, "after": 96}]
    assert set(found) == {"failed", "log", "cause", "title", "why", "remedy", "line", "text", "change"}


def test_a_healthy_log(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, str(HEALTHY))
    assert (found["failed"], found["cause"], found["line"], found["change"]) == (False, None, None, [])
    code, out, _ = run(capsys, str(HEALTHY))
    assert code == 0
    assert out == f"No failure was found in {HEALTHY} (173 lines)\n"


def test_an_unknown_failure_has_no_cause(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text(
        "(EngineCore pid=1) ERROR 11-23 10:39:28 [core.py:1] EngineCore failed to start.\n"
        "(EngineCore pid=1) ERROR 11-23 10:39:28 [core.py:1] RuntimeError: flux compensator\n",
        encoding="utf-8",
    )
    found = document(capsys, str(log))
    assert (found["failed"], found["cause"], found["line"]) == (True, None, 1)
    assert "flux compensator" in found["title"]
    assert "flux compensator" in found["text"]


def test_the_exit_status_counts_where_the_log_is_silent(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("INFO:     fine\n", encoding="utf-8")
    assert document(capsys, str(log), "--exit-code", "137")["cause"] == "exit-9"
    assert document(capsys, str(log))["failed"] is False


def test_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(TOO_LONG.read_bytes().replace(b"\n", b"\r\n")))
    monkeypatch.setattr(sys, "stdin", stdin)
    found = document(capsys, "-")
    assert (found["cause"], found["line"], found["log"]) == ("context-above-memory", 67, "-")


def test_a_run_by_its_name_and_the_last_one(capsys: pytest.CaptureFixture[str]) -> None:
    directory = create_run("cpu-smoke")
    info = RunInfo(id=directory.id, profile_name="cpu-smoke", created_s=1.0, state="failed")
    directory.write_info(info)
    directory.log_path.write_bytes(TOO_LONG.read_bytes())
    for name in (directory.id, "cpu-smoke", "last"):
        assert document(capsys, name)["cause"] == "context-above-memory"
    _, out, _ = run(capsys, "last")
    assert out.splitlines()[-1] == "try:    dsv4-console --profile cpu-smoke --set serve.max_model_len=96"
    told = Diagnosis(title="The server was not ready in time", cause="ready-timeout", remedy="Wait.")
    directory.write_info(RunInfo(id=directory.id, profile_name="cpu-smoke", state="failed", diagnosis=told))
    assert document(capsys, "last")["cause"] == "ready-timeout"


def test_no_run_yet(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "last")
    assert code == 5
    assert "Nothing has been launched yet" in err


def packed(path: Path) -> None:
    path.write_bytes(gzip.compress(TOO_LONG.read_bytes()))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "neither a file here nor a run"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes(b""), "The log is empty"),
        (lambda path: path.write_bytes(b"\n \n"), "The log is empty"),
        (lambda path: path.write_bytes(bytes(range(256)) * 64), "binary data"),
        (packed, "packed with gzip"),
        (lambda path: path.write_bytes("ERROR: x".encode("utf-16")), "UTF-16"),
    ],
    ids=["missing", "directory", "empty", "blank", "binary", "gzip", "utf-16"],
)
def test_what_is_no_log(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, said: str
) -> None:
    make(tmp_path / "a.log")
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "a.log")
    assert code == 2
    assert out == ""
    assert said in err
    assert "→" in err
    _, out, _ = run(capsys, "a.log", "--json")
    assert json.loads(out)["error"]["exit_code"] == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_of_somebody_else(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("x", encoding="utf-8")
    log.chmod(0)
    code, _, err = run(capsys, str(log))
    assert code == 2
    assert "Permission denied" in err


def test_nothing_of_the_log_commands_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(
        b"ValueError: No available memory for the cache blocks. \x1b]52;c;aGk=\x07\x1b[2J\xc2\x9b31m\xe2\x80\xae\xff\n"
    )
    code, out, _ = run(capsys, str(log))
    assert code == 0
    assert all(character.isprintable() or character == "\n" for character in out)
    assert document(capsys, str(log))["text"].isprintable()


def test_a_long_log_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """64 MB of lines, and one line of 64 MB, in less memory than either needs."""
    log = tmp_path / "long.log"
    line = b"(APIServer pid=1) INFO 11-23 10:39:28 [launcher.py:1] " + b"x" * 900 + b"\n"
    with log.open("wb") as file:
        for _ in range(64):
            file.write(line * 1024)
        for _ in range(64):
            file.write(b"y" * 1_000_000)
        file.write(b"\nValueError: No available memory for the cache blocks. Try\n")
    limit = 100 * 1024 * 1024
    done = subprocess.run(
        [sys.executable, "-P", "-m", "console", "diagnose", str(log), "--json"],
        capture_output=True,
        timeout=100,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cause"] == "no-kv-memory"
    assert found["line"] == 64 * 1024 + 2


def test_every_known_failure_as_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "--reference"]) == 0
    page = capsys.readouterr().out
    assert page == failures_page()
    assert main(["diagnose", "--reference", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"markdown": page}
    assert main(["diagnose"]) == ExitCode.USAGE
    assert "diagnose needs a log" in capsys.readouterr().err
