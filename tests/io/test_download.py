"""The command that downloads: where it is, which Python runs it, and what is said where it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.core.errors import DownloadError
from console.io import hubcache
from console.io.download import download, find_hf, interpreter_of


def engine(folder: Path, head: str = "#!/opt/engine/bin/python3.12\n") -> Path:
    folder.mkdir(parents=True)
    for name in ("vllm", "hf"):
        (folder / name).write_text(head)
        (folder / name).chmod(0o755)
    return folder / "vllm"


def test_beside_vllm_also_through_a_link(tmp_path: Path) -> None:
    vllm = engine(tmp_path / "engine" / "bin")
    assert find_hf(vllm) == vllm.with_name("hf")
    link = tmp_path / "vllm"
    link.symlink_to(vllm)
    assert find_hf(link) == vllm.with_name("hf")


async def test_an_engine_without_it(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="no download command") as caught:
        await download("a/b", None, tmp_path, tmp_path / "vllm", {}, lambda now: None)
    assert "Launch without it" in caught.value.fix


@pytest.mark.parametrize(
    ("head", "python"),
    [
        ("#!/opt/engine/bin/python3.12\nimport sys\n", "/opt/engine/bin/python3.12"),
        ("#! /opt/engine/bin/python\n", "/opt/engine/bin/python"),
        ("#!/bin/sh\n'''exec' '/a long path/bin/python3' \"$0\" \"$@\"\n' '''\n", "/a long path/bin/python3"),
        ("#!/bin/sh\n'''exec' /opt/bin/python \"$0\" \"$@\"\n' '''\n", "/opt/bin/python"),
        ("#!/usr/bin/env bash\n", "{folder}/python"),
    ],
)
def test_the_python_that_runs_it(tmp_path: Path, head: str, python: str) -> None:
    folder = tmp_path / "bin"
    engine(folder, head)
    assert interpreter_of(folder / "hf") == python.format(folder=folder)


def test_what_is_taken_up_again_tells_its_name() -> None:
    assert hubcache.is_resumable("e1.incomplete")
    assert not hubcache.is_resumable("e1.0123abcd.incomplete")
    assert not hubcache.is_resumable("e1")
