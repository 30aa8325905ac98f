"""The far end by itself, over a socket pair: calls, functions of the caller, cancelling, a line that ends."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import inspect
import socket
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.cli.remote import without_host
from console.client.api import Backend
from console.client.remote import far as far_module
from console.client.remote.far import Far
from console.client.remote.mirror import Mirror
from console.client.remote.wire import (
    Answer,
    Asked,
    Call,
    Cancel,
    Failure,
    FarFiles,
    LogPiece,
    Ready,
    Result,
    Told,
    encode,
    encode_value,
    error_of,
    failure_of,
    from_far,
    signature,
    value_of,
)
from console.core import errors
from console.core.errors import ConflictError, ConsoleError, RemoteError
from console.core.models import ProfileChange, RunInfo
from console.core.tune_report import Step, TuneReport
from console.core.tuning import Workload
from console.io import paths
from console.io.logindex import Dropped, LogIndex, Segment, archive_path, index_path
from console.io.logtail import LogTail
from console.io.runs import RunDir
from tests.fakes.backend import FakeBackend

CHANGE = ProfileChange(key="serve.max_num_seqs", before=1, after=[2, "x", None])
REPORT = TuneReport(id="a", created_s=1.0, run_id="r", profile_name="p", workload=Workload(concurrency=1, requests=1))


def names() -> list[str]:
    parts = [*vars(FarFiles), *(name for part in Backend.__mro__[:-3] for name in vars(part))]
    return [name for name in parts if not name.startswith("_") and name not in ("attach", "launch")]


@pytest.mark.parametrize("name", names())
def test_every_call_has_types_that_can_be_sent(name: str) -> None:
    kinds = signature(name)
    for kind in [*kinds.plain.values(), kinds.result, *(pair[0] for pair in kinds.functions.values())]:
        with contextlib.suppress(msgspec.ValidationError):
            value_of(msgspec.Raw(b'"?"'), kind)  # a type that cannot be read raises TypeError


def test_nothing_else_can_be_called() -> None:
    for name in ("attach", "launch", "_engine", "__init__", "no_such", "entry"):
        with pytest.raises(RemoteError):
            signature(name)


class Acting(FakeBackend):
    """What a caller's functions are for."""

    cancelled = False

    async def experiment(self, run_id: str, changes: Any, tell: Any, progress: Any, agree: Any) -> TuneReport:
        tell(Step(kind="note", text=f"{run_id} {changes}"))
        progress(0.5)
        return msgspec.structs.replace(REPORT, kept=await agree(REPORT))

    async def bench_results(self, run_id: str | None = None) -> Any:
        try:
            await asyncio.sleep(600)
        finally:
            self.cancelled = True

    async def save_changes(self, name: str, changes: Any) -> Path:
        assert changes == [CHANGE]
        return Path("/a") / name

    async def kept_edit(self, name: str) -> Any:
        raise ConflictError("it is not", "what it was", "look")

    async def recover(self) -> Any:
        raise ZeroDivisionError("a defect")


class Speaker:
    """The caller's side, message by message."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def call(self, number: int, name: str, /, *listens: str, **arguments: Any) -> None:
        raw = {key: encode_value(value) for key, value in arguments.items()}
        self.writer.write(encode(Call(id=number, name=name, arguments=raw, listens=listens)))

    async def hear(self) -> Any:
        async with asyncio.timeout(60):
            return from_far(await self.reader.readline())


@contextlib.asynccontextmanager
async def speaking(backend: Any) -> AsyncIterator[tuple[Speaker, asyncio.Task[None]]]:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    far_reader, far_writer = await asyncio.open_connection(sock=theirs)
    task = asyncio.create_task(far_module._serve(Far(backend), far_reader, far_writer))
    speaker = Speaker(reader, writer)
    assert isinstance(await speaker.hear(), Ready)
    try:
        yield speaker, task
    finally:
        writer.close()
        async with asyncio.timeout(60):
            await task
        far_writer.close()


async def test_functions_of_the_caller() -> None:
    async with speaking(Acting()) as (speaker, _):
        speaker.call(7, "experiment", "tell", "progress", "agree", run_id="r", changes=[CHANGE])
        told = await speaker.hear()
        assert isinstance(told, Told)
        assert "serve.max_num_seqs" in value_of(told.value, Step).text
        assert (await speaker.hear()).name == "progress"
        asked = await speaker.hear()
        assert isinstance(asked, Asked)
        assert value_of(asked.value, TuneReport) == REPORT
        speaker.writer.write(encode(Answer(number=asked.number, value=encode_value(True))))
        result = await speaker.hear()
        assert value_of(result.value, TuneReport).kept


async def test_values_errors_and_defects() -> None:
    async with speaking(Acting()) as (speaker, _):
        speaker.call(1, "save_changes", name="x", changes=[CHANGE])
        result = await speaker.hear()
        assert isinstance(result, Result)
        assert value_of(result.value, Path) == Path("/a/x")
        speaker.call(2, "kept_edit", name="x")
        failure = await speaker.hear()
        error = error_of(failure, "box")
        assert (type(error), error.title, error.message, error.fix) == (
            ConflictError,
            "it is not",
            "what it was",
            "look",
        )
        speaker.call(3, "recover")
        error = error_of(await speaker.hear(), "box")
        assert isinstance(error, RemoteError)
        assert "ZeroDivisionError: a defect" in error.message
        speaker.call(4, "rm")
        assert isinstance(await speaker.hear(), Failure)
        speaker.call(5, "save_changes", name=5, changes=[])
        assert isinstance(await speaker.hear(), Failure)


async def test_cancelling_and_hanging_up_give_up_what_is_done() -> None:
    backend = Acting()
    async with speaking(backend) as (speaker, _):
        speaker.call(1, "bench_results", run_id=None)
        speaker.call(2, "save_changes", name="x", changes=[CHANGE])
        await speaker.hear()
        speaker.writer.write(encode(Cancel(id=1)))
        speaker.call(3, "save_changes", name="x", changes=[CHANGE])
        await speaker.hear()
        assert backend.cancelled
    backend = Acting()
    async with speaking(backend) as (speaker, _):
        speaker.call(1, "bench_results", run_id=None)
        speaker.call(2, "save_changes", name="x", changes=[CHANGE])
        await speaker.hear()
        assert not backend.cancelled
    assert backend.cancelled


async def test_silence_and_nonsense_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with speaking(Acting()) as (speaker, task):
        speaker.writer.write(b"hello?\n")
        async with asyncio.timeout(60):
            await task
    monkeypatch.setattr(far_module, "SILENCE_S", 0.1)
    async with speaking(Acting()) as (_, task):
        async with asyncio.timeout(60):
            await task


def test_every_error_comes_back_as_what_it_was() -> None:
    for kind in vars(errors).values():
        if inspect.isclass(kind) and issubclass(kind, ConsoleError):
            back = error_of(failure_of(1, kind("a", "b", "c")), "box")
            assert type(back) is kind
            assert (back.title, back.message, back.fix) == ("a", "b", "c")


def make_run(log: bytes) -> RunDir:
    run = RunDir(paths.make_private_dir(paths.runs_dir()) / "20260101-000000-x")
    run.path.mkdir()
    run.write_info(RunInfo(id=run.id, profile_name="x"))
    run.log_path.write_bytes(log)
    return run


async def copy(far: Far, mirror: Mirror, run: RunDir) -> list[str]:
    """Until there is no more; gives the lines of the copy."""
    while True:
        piece: LogPiece = await far.log(run.id, mirror.next_byte, 0.0)
        if piece.end_byte == mirror.next_byte:
            break
        mirror.add(piece)
    tail = LogTail(mirror.run.log_path)
    lines: list[str] = []
    while page := tail.read().lines:
        lines += page
    tail.close()
    return lines


async def test_a_copy_of_a_long_log_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "very-secret-value")
    lines = [f"line {number} of very-secret-value and grün \x1b[31mred" for number in range(60_000)]
    run = make_run("\n".join(lines).encode() + b"\nnot yet en")
    far: Any = Far(Acting())  # type: ignore[arg-type]
    first = Mirror("box", run.id)
    shown = await copy(far, first, run)
    assert len(shown) == 60_000
    assert shown[-1] == "line 59999 of ••• and grün red"
    assert b"very-secret" not in first.run.log_path.read_bytes()
    assert first.run.path.stat().st_mode & 0o77 == 0
    second = Mirror("box", run.id)
    assert second.run.path != first.run.path, "two consoles have two copies"
    second.close()
    assert not second.run.path.exists()
    first.close()
    with run.log_path.open("ab") as file:
        file.write(b"ded\nmore\n")
    with first.run.log_path.open("ab") as file:
        file.write(b"written, and then killed before it was noted down")
    again = Mirror("box", run.id)
    assert again.next_byte > 1_000_000, "nothing is fetched twice"
    assert (await copy(far, again, run))[-2:] == ["not yet ended", "more"]
    again.close()
    far.close()


async def test_archived_and_dropped_parts() -> None:
    parts = [b"".join(b"%d.%d\n" % (part, line) for line in range(100)) for part in range(4)]
    ends = [sum(map(len, parts[: n + 1])) for n in range(4)]
    run = make_run(b"\0" * ends[1] + parts[2])
    segment = Segment(number=2, first_byte=ends[0], end_byte=ends[1], lines=100)
    archive_path(run.log_path, 2).write_bytes(gzip.compress(parts[1]))
    dropped = Dropped(end_byte=ends[0], lines=100, at_s=1.0)
    index_path(run.log_path).write_bytes(msgspec.json.encode(LogIndex(segments=(segment,), dropped=dropped)))
    far: Any = Far(Acting())  # type: ignore[arg-type]
    mirror = Mirror("box", run.id)
    assert (await copy(far, mirror, run)) == (parts[1] + parts[2]).decode().splitlines()
    tail = LogTail(mirror.run.log_path)
    page = tail.read()
    assert (page.first_line, page.skipped) == (101, 100), "numbers are those of there"
    # While nobody looked, all of it was dropped and more came.
    dropped = Dropped(end_byte=ends[3], lines=400, at_s=2.0)
    index_path(run.log_path).write_bytes(msgspec.json.encode(LogIndex(dropped=dropped)))
    with run.log_path.open("ab") as file:
        file.write(parts[3] + b"after\n")
    piece = await far.log(run.id, mirror.next_byte, 0.0)
    assert (piece.first_byte, piece.lines_before, zlib.decompress(piece.packed)) == (ends[3], 400, b"after\n")
    mirror.add(piece)
    page = tail.read()
    assert (page.first_line, page.skipped, page.lines) == (401, 100, ("after",))
    tail.close()
    mirror.close()
    far.close()


def test_what_is_handed_on() -> None:
    words = ["--host", "box", "logs", "--ssh-config=x", "-n", "5", "--remote-command", "a b", "--", "--host"]
    assert without_host(words) == ["logs", "-n", "5", "--", "--host"]


def test_a_run_is_named_and_not_a_path() -> None:
    with pytest.raises(ConsoleError):
        far_module._run("../../etc")
