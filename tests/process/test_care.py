"""Floods and full disks as the supervisor meets them: bounded, and said."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.core.models import Level, RunInfo
from console.io.logarchive import LogArchive
from console.io.runs import RunDir
from console.supervisor import care as module
from console.supervisor import logwatch
from console.supervisor.care import Care, disk_trouble
from console.supervisor.logwatch import LogWatch
from console.supervisor.records import Records

MIB = 2**20
LINE = b"(APIServer pid=1) INFO 11-23 11:00:00 [loggers.py:335] Engine 000: Avg prompt throughput: 512.0 tokens/s\n"


_open: list[LogWatch] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _open:
        _open.pop().close()


class Desk:
    """A `Care` with a clock and a disk of its own."""

    def __init__(self, path: Path, **archive: int) -> None:
        self.now = 0.0
        self.free = 10**12
        self.said: list[tuple[Level, str]] = []
        self.run = RunDir(path)
        self.watch = LogWatch(self.run.log_path)
        _open.append(self.watch)
        self.records = Records(self.run, RunInfo(id="r", profile_name="p"))
        self.care = Care(
            path,
            self.watch,
            self.records,
            lambda text, level: self.said.append((level, text)),
            archive=LogArchive(self.run.log_path, **archive),
            free_bytes=lambda _: self.free,
            clock=lambda: self.now,
        )

    def tick(self, seconds: float = 5.0) -> list[tuple[Level, str]]:
        self.now += seconds
        self.said.clear()
        self.care.tick()
        return list(self.said)


@pytest.mark.parametrize(
    ("free", "before", "trouble"),
    [
        (10**12, "", ""),
        (300 * MIB, "", "low"),
        (700 * MIB, "", ""),
        (700 * MIB, "low", "low"),
        (1_100 * MIB, "low", ""),
        (0, "", "full"),
        (MIB + 1, "", "low"),
        (MIB + 1, "full", "full"),
    ],
)
def test_disk_figures(free: int, before: str, trouble: str) -> None:
    assert disk_trouble(free, before) == trouble


async def test_a_disk_that_fills_and_is_emptied(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    assert desk.tick() == []
    assert desk.care.sources() == ()
    desk.free = 100 * MIB
    ((level, text),) = desk.tick()
    assert (level, "nearly full: 100 MiB free" in text) == (Level.WARN, True)
    desk.free = 0
    ((level, text),) = desk.tick()
    assert level is Level.BAD
    assert "serving goes on. Free some space" in text
    (source,) = desk.care.sources()
    assert (source.name, source.ok) == ("disk", False)
    assert desk.tick() == [], "said once"
    desk.free = 10**12
    ((level, text),) = desk.tick()
    assert (level, "room again" in text) == (Level.OK, True)
    assert desk.care.sources() == ()


async def test_losses_are_counted_at_once_and_then_seldom(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.records.lost, desk.records.last_error = 7, "No space left on {device}"
    ((_, text),) = desk.tick()
    assert text == "7 records could not be written: No space left on {device}"
    desk.records.lost = 1_234
    assert desk.tick() == []
    ((_, text),) = desk.tick(module.SAY_PERIOD_S)
    assert text.startswith("1,234 records")


async def test_a_log_is_archived_beside_the_other_work(tmp_path: Path) -> None:
    desk = Desk(tmp_path, segment_bytes=64 * 1024, spare_bytes=16 * 1024, total_bytes_max=128 * 1024)
    desk.run.log_path.write_bytes(LINE * 5_000)
    assert desk.tick() == [], "nothing waits for the archive"
    async with asyncio.timeout(20):
        while not any("were dropped on" in text for _, text in desk.tick(0.1)):
            await asyncio.sleep(0.01)
    assert desk.run.log_path.stat().st_size == len(LINE) * 5_000
    await desk.care.close()


def test_a_flood_is_skipped_counted_and_said_and_its_end_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logwatch, "BEHIND_BYTES_MAX", 400_000)
    monkeypatch.setattr(logwatch, "LAST_BYTES", 100_000)
    desk = Desk(tmp_path)
    log = desk.run.log_path
    log.write_bytes(LINE * 100)
    list(desk.watch.read())
    assert desk.watch.skipped_lines == 0
    with log.open("ab") as file:
        file.write(LINE * 100_000)
        file.write(b"(EngineCore pid=2) ERROR 11-23 11:00:01 [core.py:1] RuntimeError: the last words\n")
    list(desk.watch.read(last=True))
    assert desk.watch.skipped_lines > 90_000
    ((_, text),) = desk.tick()
    assert text.startswith(f"{desk.watch.skipped_lines:,} lines of the log were not looked at")
    diagnosis = desk.watch.diagnosis(1)
    assert diagnosis is not None
    assert "the last words" in diagnosis.title
    assert diagnosis.line == 100_101, "numbers are those of the file"


@pytest.mark.parametrize(
    "piece",
    [
        b"x" * MIB,
        b"\xff\xfe\x80" * 100_000,
        b"\rLoading 1%" * 100_000,
        b"\x1b[31mred\x1b[0m\x1b]0;t\x07" * 30_000,
        b"\x1b[" * 200_000,
        b"\x00" * 300_000,
    ],
    ids=["1 MB", "no utf-8", "bars", "ansi", "unfinished ansi", "nul"],
)
def test_ugly_lines_are_cut_and_the_next_one_is_whole(piece: bytes, tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.run.log_path.write_bytes(piece + b"\nEND\n")
    list(desk.watch.read(last=True))
    tail = desk.watch._tail
    assert tail.lines_read == 2
    from console.io.logtail import LogTail

    again = LogTail(desk.run.log_path)
    lines = [line for page in iter(lambda: again.read().lines, ()) for line in page]
    again.close()
    assert lines[1] == "END"
    assert len(lines[0]) < 5_000
    assert lines[0].isprintable()


def test_an_endless_line_costs_bounded_memory(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    with desk.run.log_path.open("wb") as file:
        for _ in range(8):
            file.write(b"y" * MIB)
            file.flush()
            list(desk.watch.read())
            assert len(desk.watch._tail._splitter._held) <= 64 * 1024
