"""The searching process: hits, bad patterns, patterns that take for ever; and files that are never written over."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from console.core.errors import UsageError
from console.io import logexport
from console.io.logsearch import LogSearcher


def packed(*lines: str) -> bytes:
    return zlib.compress("\n".join(lines).encode())


async def test_blocks_are_searched_one_after_another() -> None:
    searcher = await LogSearcher.begin("b+", regex=True)
    try:
        lines, spans = await searcher.look(100, packed("abb", "x", "B"))
        assert list(lines) == [100, 102]
        assert list(spans) == [1 << 16 | 3, 0 << 16 | 1]
        lines, spans = await searcher.look(1, packed("nothing"))
        assert not lines
        assert not spans
    finally:
        await searcher.close()


async def test_a_bad_pattern_says_why() -> None:
    searcher = await LogSearcher.begin("(", regex=True)
    try:
        with pytest.raises(UsageError, match="unterminated subpattern"):
            await searcher.look(1, packed("x"))
    finally:
        await searcher.close()


async def test_a_pattern_that_takes_for_ever_is_stopped() -> None:
    searcher = await LogSearcher.begin("(a+)+$", regex=True)
    try:
        with pytest.raises(UsageError, match="stopped after 2 s near line 7"):
            await searcher.look(7, packed("a" * 60 + "b"))
    finally:
        await searcher.close()


def test_files_are_new_and_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(logexport.time, "strftime", lambda _: "now")
    first, count = logexport.write_lines("run", "log", ["a", "b"])
    second, _ = logexport.write_lines("run", "log", iter(["c"]))
    assert (first.name, second.name, count) == ("run-log-now.log", "run-log-now-2.log", 2)
    assert (first.read_text(), second.read_text()) == ("a\nb\n", "c\n")
    assert first.stat().st_mode & 0o777 == 0o600

    def broken() -> object:
        yield "x"
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        logexport.write_lines("run", "log", broken())  # type: ignore[arg-type]
    assert len(list(logexport.exports_dir().iterdir())) == 2, "nothing is left of it"
