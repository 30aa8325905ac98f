"""Recordings as they are found: run directories, reports, the shipped demo; and what the command line says of them."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from console.cli import main
from console.client import recordings
from console.client.replay import ReplaySession
from console.client.replay_backend import ReplayBackend
from console.client.report import write_report
from console.core.errors import ConsoleError, ExitCode, NotRunningError, UsageError
from console.core.lifecycle import Timing
from console.core.models import ChatOptions, EventRecord, HintState, RunInfo
from console.core.recording import Recording
from console.core.timeline import Timeline
from console.io import evidence, runs
from console.io.evidence import MissingError
from console.io.paths import demo_dir
from console.io.runs import LaunchSpec, RunDir
from tests.core.test_recording import BEGIN_S, PROFILE, START, sample
from tests.gpu.demo import check, pack, texts

REPOSITORY = Path(__file__).parents[2]


def recorded(log_lines: int = 40) -> tuple[RunDir, RunInfo]:
    """A run of ninety seconds that is over, as a supervisor leaves it."""
    run = runs.create_run("p")
    info = RunInfo(id=run.id, profile_name="p", created_s=BEGIN_S, state="stopped", max_num_seqs=2)
    run.write_info(info)
    run.write_launch(
        LaunchSpec(argv=("vllm",), env={}, cwd="/", url="http://x", timing=Timing(), profile=PROFILE, model="m")
    )
    for event in (*START, EventRecord(time_s=BEGIN_S + 90, kind="state", text="ready → stopped")):
        run.append_event(event)
    run.append_samples([sample(float(second)) for second in range(40, 90)])
    run.log_path.write_text("".join(f"line {number}\n" for number in range(1, log_lines + 1)), encoding="utf-8")
    return run, info


@pytest.fixture
def no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> str:
        raise MissingError("not here")

    monkeypatch.setattr(evidence, "_run", missing)


def firing(recording: Recording, after_s: float) -> list[str]:
    hints = Timeline(recording).snapshot(recording.begin_s + after_s, 1).hints
    return [hint.id for hint in hints if hint.state is HintState.FIRING]


def test_a_run_is_found_by_name_profile_directory_and_as_the_last() -> None:
    run, info = recorded()
    for name in (info.id, "p", "last", str(run.path)):
        found = recordings.find(name)
        assert found.run.id == info.id
        assert len(found.samples) == 50
        assert found.log.texts[-1] == "line 40"
        assert found.missing == ()
    assert firing(found, 85)
    with pytest.raises(NotRunningError, match="nothing of this name") as error:
        recordings.find("nobody")
    assert "runs list" in error.value.fix


def test_what_is_missing_is_said_and_the_rest_is_played() -> None:
    run, _ = recorded()
    run.launch_path.unlink()
    run.log_path.unlink()
    found = recordings.find(run.id)
    assert [sentence.partition(":")[0] for sentence in found.missing] == ["Hints", "Log"]
    assert Timeline(found).snapshot(BEGIN_S + 60, 1).engine is not None
    run.append_event(EventRecord(time_s=BEGIN_S - 3_600, kind="note", text="an hour before any figure"))
    late = recordings.find(run.id)
    assert "Figures: none of the first 1h00m" in late.missing
    assert late.from_s == BEGIN_S + 40
    run.events_path.unlink()
    assert any(sentence.startswith("Events") for sentence in recordings.find(run.id).missing)


def test_figures_too_far_apart_for_hints_are_said() -> None:
    run = runs.create_run("thin")
    run.write_info(RunInfo(id=run.id, profile_name="thin", created_s=BEGIN_S))
    run.append_samples([sample(60.0 * minute) for minute in range(10)])
    assert any("60 s apart" in sentence for sentence in recordings.find(run.id).missing)


def test_a_run_of_nothing_cannot_be_played() -> None:
    run = runs.create_run("p")
    run.write_info(RunInfo(id=run.id, profile_name="p"))
    with pytest.raises(UsageError, match="nothing to replay"):
        recordings.find(run.id)


def test_of_a_long_log_head_and_end_are_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "HEAD_BYTES", 300_000)
    monkeypatch.setattr(recordings, "TAIL_BYTES", 100_000)
    run, _ = recorded(log_lines=100_000)
    found = recordings.find(run.id)
    assert found.log.numbers[0] == 1
    assert found.log.numbers[-1] == 100_000
    assert found.log.texts[-1] == "line 100000"
    assert len(found.log.numbers) < 70_000
    assert any(sentence.startswith("Log: ") and "are not here" in sentence for sentence in found.missing)


@pytest.mark.usefixtures("no_machine")
def test_a_report_plays_what_the_run_plays(tmp_path: Path) -> None:
    run, info = recorded(log_lines=9_000)
    target = tmp_path / "r.tar.gz"
    write_report(run, info, target)
    whole, found = recordings.find(run.id), recordings.find(str(target))
    assert found.run.id == info.id
    assert found.samples == whole.samples
    assert found.events == whole.events
    assert (found.log.numbers[0], found.log.numbers[-1]) == (1, 9_000)
    assert len(found.log.numbers) == 7_000, "head and tail, and the gap between them is known"
    assert any("2,000 of its 9,000 lines" in sentence for sentence in found.missing)
    assert firing(found, 85) == firing(whole, 85) != []


def test_a_report_from_elsewhere_is_read_with_care(tmp_path: Path) -> None:
    def pack(parts: dict[str, bytes]) -> Path:
        path = tmp_path / "r.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, data in parts.items():
                entry = tarfile.TarInfo(f"dsv4-report-x/{name}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        return path

    info = msgspec.json.encode(RunInfo(id="x\x1b[2J", profile_name="p", created_s=1e300))
    good = msgspec.json.encode(sample(50))
    gpus = b'{"time_s":%d,"state":"ready","gpus":[%s]}' % (BEGIN_S, b",".join([b'{"index":0}'] * 500))
    bad = (
        b'{"time_s":1e300,"state":"ready"}',
        b'{"time_s":-5,"state":"ready"}',
        b'{"time_s":%d,"state":"ready","engine":{"kv_cache_tokens":%s}}' % (BEGIN_S, b"9" * 400),
        b'{"time_s":%d,"state":"ready","engine":{"prompt_tokens_per_s":1e300}}' % BEGIN_S,
        b'{"time_s":%d,"state":"ascended"}' % BEGIN_S,
        gpus,
        b"[" * 100_000,
        b"\xff\xfe",
        b"",
    )
    found = recordings.from_report(
        pack(
            {
                "run.json": info,
                "launch.json": b'{"argv": 5}',
                "samples.jsonl": b"\n".join((*bad, good)),
                "log-head.txt": b"       1  \x1b]0;owned\x07a\n no number\n99999999999999999  x\n       2  b\n",
            }
        )
    )
    assert [s.time_s for s in found.samples] == [BEGIN_S + 50]
    assert found.log.texts == ("a", "b")
    assert found.begin_s == found.end_s == BEGIN_S + 50
    assert any(sentence.startswith("Hints") for sentence in found.missing)
    Timeline(found).snapshot(BEGIN_S + 50, 1)
    for name, data in (("launch.json", b"{}"), ("run.json", b"{"), ("run.json", b"[" * 200_000), ("run.json", info)):
        with pytest.raises(UsageError):
            recordings.from_report(pack({name: data}))


def test_the_demo_opens_within_a_second_has_its_hint_and_its_gain() -> None:
    began = time.process_time()
    before, after = recordings.demo()
    ReplaySession((before, after), label="DEMO")
    assert time.process_time() - began < 1.0
    assert (before.run.max_num_seqs, after.run.max_num_seqs) == (2, 64)
    assert before.missing == after.missing == ()
    assert before.end_s <= after.begin_s
    named = next(event for event in before.events if event.kind == "hint")
    assert "raise-max-num-seqs" in firing(before, named.time_s - before.begin_s + 1)
    assert firing(before, named.time_s - before.begin_s - 2) == []

    def output(recording: Recording) -> float:
        return max(s.engine.generation_tokens_per_s or 0 for s in recording.samples if s.engine)

    assert output(after) > 10 * output(before)


def test_the_demo_is_small_and_holds_nothing_of_the_machine_it_ran_on() -> None:
    assert 0 < check(demo_dir()) <= 400_000
    told = dict(texts(demo_dir()))
    assert len(told) == 2 * 5
    for name, text in told.items():
        assert len(text) > 500, name
        assert not re.search(r'"(?:uuid|server_pid|supervisor_pid|guardian_pid|processes)"', text), name


def test_packing_refuses_what_belongs_to_a_machine(tmp_path: Path) -> None:
    run, _ = recorded()
    run.append_event(EventRecord(time_s=BEGIN_S + 91, kind="note", text="see /home/somebody/notes.txt"))
    target = tmp_path / "demo"
    pack(run, RunDir(target / run.id))
    with pytest.raises(SystemExit, match="must not be in it"):
        check(target)


def test_the_demo_is_in_the_wheel(tmp_path: Path) -> None:
    done = subprocess.run(
        ["uv", "build", "-q", "--wheel", "--python", sys.executable, "-o", str(tmp_path), str(REPOSITORY)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "UV_NO_PROGRESS": "1"},
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = [name for name in packed.namelist() if name.startswith("console/_demo/")]
        there = {f"console/_demo/{path.relative_to(demo_dir())}" for path in demo_dir().rglob("*") if path.is_file()}
        assert set(names) == there != set()


async def test_everything_that_needs_a_server_is_refused() -> None:
    run, _ = recorded()
    session = ReplaySession((recordings.find(run.id),), paused=True)
    backend = ReplayBackend(session)
    attempts: list[Callable[[], object]] = [
        session.stop,
        session.restart,
        lambda: backend.plan("p"),
        lambda: backend.replan(run.id, ()),
        lambda: backend.save_changes("p", ()),
    ]
    for attempt in attempts:
        with pytest.raises(UsageError, match="Not in a recording") as error:
            await attempt()  # type: ignore[misc]
        assert "recording" in error.value.message
    answers = [delta async for delta in session.chat((), ChatOptions())]
    assert [(delta.done, bool(delta.error)) for delta in answers] == [(True, True)]
    assert await backend.attach(run.id) is session
    assert await backend.recover() == ()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--replay", "nobody"], ExitCode.NOT_RUNNING, "nothing of this name"),
        (["--replay", "x", "--demo"], ExitCode.USAGE, "exclude one another"),
        (["--demo", "--attach", "x"], ExitCode.USAGE, "exclude one another"),
        (["--demo", "--profile", "cpu-smoke"], ExitCode.USAGE, "is for the terminal UI"),
        (["--demo"], ExitCode.USAGE, "needs a terminal"),
        (["--demo", "status"], ExitCode.USAGE, "does not belong to"),
    ],
)
def test_the_command_line(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == code
    assert said in capsys.readouterr().err


def test_a_report_that_is_none_is_refused_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.tar.gz"
    path.write_bytes(b"no archive")
    assert main(["--replay", str(path)]) == ExitCode.USAGE
    assert "no report that can be played" in capsys.readouterr().err


def test_a_demo_that_is_not_there_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(recordings, "demo_dir", lambda: tmp_path / "none")
    with pytest.raises(ConsoleError, match="not installed"):
        recordings.demo()
