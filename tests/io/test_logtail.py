"""Following a log file."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.core.models import LogPage
from console.io.logtail import LogTail


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def test_pages_continue(path: Path) -> None:
    tail = LogTail(path)
    assert tail.read() == LogPage(lines=(), offset=0, first_line=1)
    append(path, b"one\ntwo\nthr")
    assert tail.read() == LogPage(lines=("one", "two"), offset=8, first_line=1)
    assert tail.partial == "thr"
    assert tail.read() == LogPage(lines=(), offset=8, first_line=3)
    append(path, b"ee\n")
    assert tail.read() == LogPage(lines=("three",), offset=14, first_line=3)
    append(path, b"last")
    assert tail.read(flush=True) == LogPage(lines=("last",), offset=18, first_line=4)
    assert tail.lines_read == 4
    tail.close()


def test_page_limit(path: Path) -> None:
    path.write_bytes(b"".join(b"%06d\n" % number for number in range(30_000)))
    tail = LogTail(path)
    lines: list[str] = []
    while page := tail.read(70_000):
        if not page.lines:
            break
        assert page.first_line == len(lines) + 1
        assert len(page.lines) <= 10_001
        lines += page.lines
        assert page.offset == 7 * len(lines)
    assert lines == [f"{number:06d}" for number in range(30_000)]
    tail.close()


def test_truncation_starts_over(path: Path) -> None:
    path.write_bytes(b"a\nb\nunfinished")
    tail = LogTail(path)
    assert tail.read().lines == ("a", "b")
    path.write_bytes(b"c\n")
    page = tail.read()
    assert page.lines == ("unfinished", "c")
    assert (page.first_line, page.offset) == (3, 2)
    tail.close()


def test_rotation_reads_the_rest_and_goes_on(path: Path) -> None:
    path.write_bytes(b"a\n")
    tail = LogTail(path)
    assert tail.read().lines == ("a",)
    append(path, b"b\n")
    path.rename(path.with_suffix(".1"))
    assert tail.read().lines == ("b",)
    path.write_bytes(b"c, longer than before\n")
    page = tail.read()
    assert page.lines == ("c, longer than before",)
    assert page.first_line == 3
    tail.close()


def test_bars_bad_bytes_and_huge_lines(path: Path) -> None:
    path.write_bytes(b"\rbar 1%\rbar 100%\n\xff\x00\n" + b"x" * 1_000_000 + b"\n\x1b[2Jend\n")
    tail = LogTail(path)
    lines: list[str] = []
    while page := tail.read():
        if not page.lines:
            break
        lines += page.lines
    assert lines[:2] == ["bar 100%", "\ufffd␀"]
    assert lines[2].endswith(" … [995,904 cut]")
    assert len(lines[2]) < 5000
    assert lines[3] == "end"
    tail.close()


def test_a_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="director"):
        LogTail(tmp_path).read()
