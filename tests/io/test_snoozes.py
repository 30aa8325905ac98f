"""`snoozed.json`: written, read by another console, and never in the way when it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.core.errors import StateError
from console.core.models import Level
from console.core.snooze import Snooze
from console.io.runs import RunDir
from console.io.snoozes import FILE_NAME, read_snoozes, write_snoozes

SNOOZES = (
    Snooze(hint="kv-fp8", level=Level.WARN, since_s=1.0, until_s=1801.0),
    Snooze(hint="thermal", level=Level.BAD, since_s=2.0, started_s=0.5),
)


def test_it_is_kept_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    write_snoozes(RunDir(tmp_path), SNOOZES)
    assert read_snoozes(RunDir(tmp_path)) == SNOOZES
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("data", [b"", b"[", b'{"a": 1}', b'[{"hint": 3}]', b"\xff" * 100])
def test_a_damaged_file_hides_nothing(tmp_path: Path, data: bytes) -> None:
    assert read_snoozes(RunDir(tmp_path)) == ()
    (tmp_path / FILE_NAME).write_bytes(data)
    assert read_snoozes(RunDir(tmp_path)) == ()


def test_what_cannot_be_written_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=FILE_NAME):
        write_snoozes(RunDir(tmp_path / "missing"), SNOOZES)
