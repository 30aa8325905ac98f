"""What a cache holds of a listing, and what is only in the way."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from console.core.download import HubFile, Listing
from console.io import hubcache

MODEL = "a/flash"
FILES = (("config.json", 2, "c0"), ("m-1.safetensors", 20_000, "e1"), ("m-2.safetensors", 30_000, "e2"))
LISTING = Listing(commit="abc", files=tuple(HubFile(name=n, size_bytes=s, blob=b) for n, s, b in FILES))


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    folder = tmp_path / "models--a--flash" / "blobs"
    folder.mkdir(parents=True)
    return folder


def old(path: Path) -> None:
    os.utime(path, (1e9, 1e9))


def test_whole_files_and_parts_are_counted(tmp_path: Path, blobs: Path) -> None:
    assert hubcache.measure(tmp_path / "none", MODEL, LISTING) == (0, 0)
    (blobs / "c0").write_bytes(b"{}")
    (blobs / "of another commit").write_bytes(bytes(5_000))
    assert hubcache.measure(tmp_path, MODEL, LISTING) == (2, 1)
    (blobs / "e1.incomplete").write_bytes(os.urandom(8_192))
    (blobs / "e2.0123abcd.incomplete").write_bytes(os.urandom(4_096))
    (blobs / "e2.ffff0000.incomplete").write_bytes(os.urandom(12_288))
    assert hubcache.measure(tmp_path, MODEL, LISTING) == (2 + 8_192 + 12_288, 1)
    (blobs / "e1").write_bytes(bytes(20_000))
    assert hubcache.measure(tmp_path, MODEL, LISTING) == (20_002 + 12_288, 2)


def test_holes_of_a_file_written_out_of_order_are_not_here(tmp_path: Path, blobs: Path) -> None:
    with (blobs / "e2.0123abcd.incomplete").open("wb") as file:
        file.truncate(30_000)
    assert hubcache.measure(tmp_path, MODEL, LISTING) == (0, 0)


def test_a_cache_without_links(tmp_path: Path, blobs: Path) -> None:
    snapshot = hubcache.snapshot_path(tmp_path, MODEL, "abc")
    snapshot.mkdir(parents=True)
    (snapshot / "m-1.safetensors").write_bytes(bytes(20_000))
    assert hubcache.measure(tmp_path, MODEL, LISTING) == (20_000, 1)


def test_what_a_killed_download_left_is_swept(tmp_path: Path, blobs: Path) -> None:
    ours, locked, fresh = (blobs / f"e{i}.0123abcd.incomplete" for i in (1, 2, 3))
    resumable = blobs / "e4.incomplete"
    for path in (ours, locked, fresh, resumable):
        path.write_bytes(bytes(4_096))
    for path in (ours, locked, resumable):
        old(path)
    locks = tmp_path / ".locks" / "models--a--flash"
    locks.mkdir(parents=True)
    with (locks / "e2.lock").open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert hubcache.sweep(tmp_path, MODEL) >= 4_096
        assert set(hubcache.incomplete_files(tmp_path, MODEL)) == {locked, fresh, resumable}
    hubcache.sweep(tmp_path, MODEL, frozenset({fresh}))
    assert set(hubcache.incomplete_files(tmp_path, MODEL)) == {fresh, resumable}, "fresh, and not of this download"
    hubcache.sweep(tmp_path, MODEL, frozenset())
    assert set(hubcache.incomplete_files(tmp_path, MODEL)) == {resumable}
