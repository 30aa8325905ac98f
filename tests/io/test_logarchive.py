"""A log that is archived while another process writes it: nothing lost, nothing doubled, everything bounded."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.io import logarchive
from console.io.logarchive import LogArchive
from console.io.logindex import archive_path, index_path, read_index
from console.io.logtail import LogTail

WRITER = """
import os, sys
path, count = sys.argv[1], int(sys.argv[2])
log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for number in range(count):
    os.write(log, b"%07d %s\\n" % (number, b"x" * (number % 90)))
"""
KIB = 1024


_opened: list[LogTail] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def tail_of(path: Path) -> LogTail:
    _opened.append(LogTail(path))
    return _opened[-1]


def small(path: Path, total: int = 2**40) -> LogArchive:
    return LogArchive(path, segment_bytes=64 * KIB, spare_bytes=16 * KIB, total_bytes_max=total)


def expected(count: int) -> list[str]:
    return [f"{number:07d} {'x' * (number % 90)}" for number in range(count)]


def read_all(tail: LogTail) -> list[str]:
    lines: list[str] = []
    while page := tail.read():
        if not page.lines:
            return lines
        assert page.first_line == len(lines) + 1
        lines += page.lines
    return lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "server.log"
    path.touch()
    return path


def test_nothing_is_lost_or_doubled_while_a_process_writes_and_others_read(path: Path) -> None:
    count = 60_000
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(count)])
    archive = small(path)
    follower = tail_of(path)
    followed: list[str] = []
    with writer:
        while writer.poll() is None or archive.due():
            if archive.due():
                assert archive.rotate() == ()
            page = follower.read()
            assert not page.lines or page.first_line == len(followed) + 1
            assert page.skipped == 0
            followed += page.lines
    assert writer.returncode == 0
    followed += [line for line in iter(lambda: follower.read().lines, ()) for line in line]
    wanted = expected(count)
    assert followed == wanted
    assert read_all(tail_of(path)) == wanted
    index = read_index(path)
    assert len(index.segments) > 20
    assert index.lines == wanted.index(first_live(path))
    status = path.stat()
    assert status.st_size == sum(len(line) + 1 for line in wanted)
    assert status.st_blocks * 512 < 160 * KIB, "the archived head was freed"


def first_live(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(read_index(path).end_byte)
        return file.readline().decode().rstrip("\n")


def fill(path: Path, count: int) -> None:
    with path.open("ab") as file:
        file.write("".join(f"{line}\n" for line in expected(count)).encode())


def test_the_oldest_go_first_and_that_is_said(path: Path) -> None:
    archive = small(path, total=200 * KIB)
    fill(path, 20_000)
    said = archive.rotate()
    assert said
    assert all("were dropped on" in text for text in said)
    index = read_index(path)
    assert index.dropped is not None
    assert f"lines 1–{index.dropped.lines:,} of server.log" in said[-1]
    assert sum(s.end_byte - s.first_byte for s in index.segments) <= 200 * KIB
    assert {p.name for p in path.parent.glob("*.gz")} == {archive_path(path, s.number).name for s in index.segments}
    tail = tail_of(path)
    page = tail.read()
    assert page.skipped == index.dropped.lines
    assert page.first_line == index.dropped.lines + 1
    assert page.lines[0] == expected(20_000)[index.dropped.lines]
    assert tail.read().skipped == 0


def test_a_reader_that_was_behind_learns_what_it_missed(path: Path) -> None:
    archive = small(path, total=200 * KIB)
    fill(path, 1_000)
    tail = tail_of(path)
    assert tail.read(4 * KIB).first_line == 1
    seen = tail.lines_read
    fill(path, 20_000)
    archive.rotate()
    page = tail.read()
    assert page.first_line == seen + page.skipped + 1
    assert page.skipped > 0


def test_only_the_last_is_read_and_numbers_stay(path: Path) -> None:
    archive = small(path)
    fill(path, 20_000)
    archive.rotate()
    wanted = expected(20_000)
    for left in (10 * KIB, 40 * KIB, 500 * KIB):
        tail = tail_of(path)
        skipped = tail.skip_to_last(left)
        page = tail.read(10**9)
        assert page.skipped == skipped > 0
        assert page.first_line == skipped + 1
        assert list(page.lines) == wanted[skipped:]
        assert sum(len(line) + 1 for line in page.lines) <= left
    tail = tail_of(path)
    assert tail.skip_to_last(10**9) == 0


def test_a_supervisor_that_died_between_entry_and_freeing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = small(path)
    fill(path, 2_500)
    punched = logarchive.punch

    def dies(handle: int, end_byte: int) -> None:
        if end_byte > 4096:
            raise OSError(errno.EIO, "gone")
        punched(handle, end_byte)

    monkeypatch.setattr(logarchive, "punch", dies)
    assert archive.rotate() == ("the log could not be archived and goes on growing: gone",)
    monkeypatch.undo()
    assert read_all(tail_of(path)) == expected(2_500)
    fill(path, 2_500)
    again = small(path)
    assert again.rotate() == ()
    assert read_all(tail_of(path)) == expected(2_500) * 2
    assert path.stat().st_blocks * 512 < 160 * KIB


def test_a_full_disk_loses_nothing_and_is_said_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = small(path)
    fill(path, 2_500)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(logarchive, "_compress", full)
    monkeypatch.setattr(logarchive, "RETRY_S", 0.0)
    assert archive.rotate() == ("the log could not be archived and goes on growing: No space left on device",)
    assert archive.due()
    assert archive.rotate() == ()
    assert sorted(p.name for p in path.parent.iterdir()) == ["server.log"]
    monkeypatch.undo()
    assert archive.rotate() == ()
    assert index_path(path).exists()
    assert read_all(tail_of(path)) == expected(2_500)


def test_where_holes_are_not_known_the_log_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(handle: int, end_byte: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(logarchive, "punch", unsupported)
    archive = small(path)
    fill(path, 2_500)
    assert archive.due()
    (said,) = archive.rotate()
    assert "grows without a limit" in said
    assert not archive.due()
    assert [p.name for p in path.parent.iterdir()] == ["server.log"]


def test_a_log_that_somebody_cut(path: Path) -> None:
    archive = small(path)
    fill(path, 2_500)
    archive.rotate()
    path.write_bytes(b"anew\n")
    assert archive.due()
    (said,) = archive.rotate()
    assert "was cut by another program" in said
    assert read_all(tail_of(path)) == ["anew"]
    fill(path, 2_500)
    archive.rotate()
    assert read_all(tail_of(path)) == ["anew", *expected(2_500)]


def test_one_line_longer_than_a_segment(path: Path) -> None:
    archive = small(path)
    path.write_bytes(b"a" * 300 * KIB + b"\nend\n")
    archive.rotate()
    assert len(read_index(path).segments) >= 3
    tail = tail_of(path)
    first, second = [line for line in iter(lambda: tail.read().lines, ()) for line in line]
    assert first.startswith("a" * 4096)
    assert second == "end"


def test_archives_are_private(path: Path) -> None:
    archive = small(path)
    fill(path, 2_500)
    archive.rotate()
    files = [*path.parent.glob("*.gz"), index_path(path)]
    assert len(files) == 2
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_a_broken_archive_is_an_error_that_names_it(path: Path) -> None:
    archive = small(path)
    fill(path, 2_500)
    archive.rotate()
    archive_path(path, 1).write_bytes(b"no gzip")
    with pytest.raises(OSError, match=r"server\.log\.000001\.gz"):
        tail_of(path).read()
