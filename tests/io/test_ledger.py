"""The ledger on disk: bounded, private, and never in the way."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from console.core.ledger import LedgerKey, Measured, key_name
from console.io import ledger

KEY = LedgerKey(checkpoint="m", engine_version="0.32.0", gpu="CPU", gpu_count=0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def file_of(key: LedgerKey) -> Path:
    return ledger.ledger_dir() / f"{key_name(key)}.json"


def test_nothing_is_there_at_first() -> None:
    assert ledger.read(KEY) is None
    assert ledger.entries() == ()


def test_starts_are_kept_under_their_key() -> None:
    ledger.record(KEY, Measured(time_s=1.0, ready_s=20.0))
    ledger.record(KEY, Measured(time_s=2.0, ready_s=30.0))
    ledger.record(replace(KEY, gpu="H200"), Measured(time_s=3.0))
    entry = ledger.read(KEY)
    assert entry is not None
    assert [start.ready_s for start in entry.starts] == [20.0, 30.0]
    assert len(ledger.entries()) == 2
    assert stat.S_IMODE(file_of(KEY).stat().st_mode) == 0o600
    assert stat.S_IMODE(ledger.ledger_dir().stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"key": 1}', b"\xff\xfe\x00", b"[" * 100_000, b"x" * (ledger.FILE_BYTES_MAX + 1)],
    ids=["empty", "cut", "list", "wrong", "bytes", "deep", "huge"],
)
def test_a_damaged_file_is_as_good_as_none_and_is_replaced(data: bytes) -> None:
    ledger.record(KEY, Measured(time_s=1.0))
    file_of(KEY).write_bytes(data)
    (ledger.ledger_dir() / "other.json").write_bytes(data)
    assert ledger.read(KEY) is None
    assert ledger.entries() == ()
    ledger.record(KEY, Measured(time_s=2.0))
    entry = ledger.read(KEY)
    assert entry is not None
    assert [start.time_s for start in entry.starts] == [2.0]


def test_a_file_of_another_key_is_not_taken_for_this_one() -> None:
    ledger.record(KEY, Measured(time_s=1.0))
    other = replace(KEY, gpu="H200")
    file_of(KEY).rename(file_of(other))
    assert ledger.read(other) is None


def test_a_directory_in_its_place_is_no_ledger() -> None:
    ledger.record(KEY, Measured(time_s=1.0))
    file_of(KEY).unlink()
    file_of(KEY).mkdir()
    assert ledger.read(KEY) is None
    assert ledger.entries() == ()


def test_the_keys_written_longest_ago_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "FILES_MAX", 3)
    for number in range(5):
        key = replace(KEY, gpu_count=number)
        ledger.record(key, Measured(time_s=float(number)))
        os.utime(file_of(key), (number, number))
    assert sorted(entry.key.gpu_count for entry in ledger.entries()) == [2, 3, 4]
