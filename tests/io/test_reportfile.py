"""Archives from anywhere: what is no report is refused in words, and nothing of one reaches the file system."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from console.core.errors import UsageError
from console.io import reportfile
from console.io.reportfile import read_report

Fill = Callable[[tarfile.TarFile], None]


def add(archive: tarfile.TarFile, name: str, data: bytes = b"{}\n", **fields: object) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    for field, value in fields.items():
        setattr(entry, field, value)
    archive.addfile(entry, io.BytesIO(data))


def make(path: Path, fill: Fill, *, form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w:gz", format=form) as archive:
        add(archive, "dsv4-report-x/run.json")
        fill(archive)
    return path


def test_parts_by_their_names(tmp_path: Path) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        add(archive, "dsv4-report-x/log-head.txt", b"       1  a\n")

    parts, said = read_report(make(tmp_path / "r.tar.gz", fill))
    assert parts == {"run.json": b"{}\n", "log-head.txt": b"       1  a\n"}
    assert said == ()


HOSTILE: dict[str, tuple[str, dict[str, object]]] = {
    "up": ("../../outside.json", {}),
    "up-inside": ("dsv4-report-x/../outside.json", {}),
    "absolute": ("/outside.json", {}),
    "deep": ("dsv4-report-x/a/outside.json", {}),
    "bare": ("outside.json", {}),
    "here": ("./outside.json", {}),
    "twice": ("dsv4-report-x/run.json", {}),
    "symlink": ("dsv4-report-x/outside.json", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd", "size": 0}),
    "hardlink": ("dsv4-report-x/outside.json", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd", "size": 0}),
    "fifo": ("dsv4-report-x/outside.json", {"type": tarfile.FIFOTYPE, "size": 0}),
    "device": ("dsv4-report-x/outside.json", {"type": tarfile.CHRTYPE, "size": 0, "devmajor": 1, "devminor": 5}),
    "control-characters": ("a/b/\x1b[2Joutside.json", {}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_has_no_place_in_a_report_is_passed_over_and_said(case: str, tmp_path: Path) -> None:
    name, fields = HOSTILE[case]
    folder = tmp_path / "in"
    folder.mkdir()
    path = make(folder / "r.tar.gz", lambda archive: add(archive, name, b"" if "size" in fields else b"evil", **fields))
    parts, said = read_report(path)
    assert parts == {"run.json": b"{}\n"}
    assert len(said) == 1
    assert "passed over" in said[0]
    assert said[0].isprintable()
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]
    assert list(folder.iterdir()) == [path]


def test_a_file_with_holes_is_passed_over(tmp_path: Path) -> None:
    """A sparse file of a few bytes can call itself a terabyte."""
    path = tmp_path / "r.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        add(archive, "dsv4-report-x/run.json")
        entry = tarfile.TarInfo("dsv4-report-x/samples.jsonl")
        entry.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "dsv4-report-x/samples.jsonl",
            "GNU.sparse.realsize": str(2**40),
        }
        data = b"1\n0\n1\n".ljust(512, b"\0") + b"x"
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    parts, said = read_report(path)
    assert set(parts) == {"run.json"}
    assert len(said) == 1


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reportfile, "PART_BYTES_MAX", 100_000)
    monkeypatch.setattr(reportfile, "TOTAL_BYTES_MAX", 300_000)
    with pytest.raises(UsageError, match="no report") as one:
        read_report(make(tmp_path / "1.tar.gz", lambda a: add(a, "dsv4-report-x/samples.jsonl", bytes(100_001))))
    assert "100,001 bytes" in one.value.message

    def bomb(archive: tarfile.TarFile) -> None:
        for number in range(10):
            add(archive, f"dsv4-report-x/{number}.txt", bytes(90_000))

    with pytest.raises(UsageError, match="no report") as many:
        read_report(make(tmp_path / "2.tar.gz", bomb))
    assert "unpacks to more than" in many.value.message

    # The bytes of what is passed over count too.
    with pytest.raises(UsageError, match="no report"):
        read_report(make(tmp_path / "3.tar.gz", lambda a: add(a, "../evil", bytes(400_000))))
    monkeypatch.setattr(reportfile, "MEMBERS_MAX", 5)
    with pytest.raises(UsageError, match="no report") as crowd:
        read_report(
            make(tmp_path / "4.tar.gz", lambda a: [add(a, f"dsv4-report-x/{n}.txt") for n in range(9)] and None)
        )
    assert "more than 5 files" in crowd.value.message


def test_headers_are_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name of any length is read into memory before one sees it."""
    monkeypatch.setattr(reportfile, "TOTAL_BYTES_MAX", 300_000)
    with pytest.raises(UsageError, match="no report"):
        read_report(
            make(tmp_path / "r.tar.gz", lambda a: add(a, "dsv4-report-x/" + "n" * 400_000), form=tarfile.GNU_FORMAT)
        )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an archive",
        gzip.compress(b""),
        gzip.compress(b"not a tar" * 100),
        gzip.compress(bytes(10_000))[:20],
        b"\x1f\x8b" + bytes(100),
    ],
    ids=("empty", "text", "gzip of nothing", "gzip of text", "gzip cut off", "gzip's first bytes"),
)
def test_what_is_no_archive_is_refused_with_a_remedy(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.tar.gz"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="no report") as error:
        read_report(path)
    assert "dsv4-console report" in error.value.fix


def test_an_archive_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "r.tar.gz", lambda a: add(a, "dsv4-report-x/log-head.txt", os.urandom(50_000)))
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(UsageError, match="no report"):
        read_report(path)
