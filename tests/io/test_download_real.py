"""Downloads with the real `hf` of the CPU engine, from a hub on 127.0.0.1 that refuses, breaks off and stalls."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from console.core.download import DownloadProgress, DownloadResult
from console.core.errors import DownloadError
from console.io import hubcache, paths
from console.io.download import download
from tests.fakes.hub import COMMIT, Hub, Repository

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
SECRET = "hf_thisIsATokenOfTheTests"
SMALL, LARGE = 300_000, 6_000_000


def content(size: int) -> bytes:
    """The same bytes each time, other ones for another size."""
    return random.Random(size).randbytes(size)


def model(**changes: object) -> Repository:
    """Weights in two files, and what is not wanted."""
    files = {
        "config.json": b"{}",
        "model-1.safetensors": content(SMALL),
        "model-2.safetensors": content(LARGE),
        "original/all.pth": content(50_000),
    }
    return Repository(files=files, **changes)  # type: ignore[arg-type]


WANTED_BYTES = SMALL + LARGE + 2


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that is this test's own, for plain HTTP."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hf" / "hub"


@contextlib.contextmanager
def hub_with(monkeypatch: pytest.MonkeyPatch, **repositories: Repository) -> Iterator[Hub]:
    with Hub(**repositories) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


async def fetch(
    cache: Path, engine: Path, name: str = "a/flash", revision: str | None = None
) -> tuple[DownloadResult, list[DownloadProgress]]:
    told: list[DownloadProgress] = []
    return await download(name, revision, cache, engine / "bin" / "vllm", {}, told.append), told


async def test_all_of_it_and_then_nothing_more(cache: Path, cpu_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flash = model()
    with hub_with(monkeypatch, a__flash=flash):
        result, told = await fetch(cache, cpu_engine)
        snapshot = Path(result.path)
        assert snapshot == cache / "models--a--flash" / "snapshots" / COMMIT
        assert (snapshot / "model-2.safetensors").read_bytes() == content(LARGE)
        assert not (snapshot / "original").exists()
        assert (result.bytes_total, result.bytes_downloaded) == (WANTED_BYTES, WANTED_BYTES)
        assert (told[0].bytes_done, told[0].files_done, told[0].files_total) == (0, 0, 3)
        assert (told[-1].bytes_done, told[-1].files_done) == (WANTED_BYTES, 3)
        assert (cache / "models--a--flash" / "refs" / "main").read_text() == COMMIT, "what vLLM looks up"
        served = flash.served_bytes
        again, _ = await fetch(cache, cpu_engine)
        assert again.bytes_downloaded == 0
        assert flash.served_bytes == served == WANTED_BYTES


async def test_a_cut_connection_is_told_and_a_second_run_goes_on(
    cache: Path, cpu_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flash = model(cut_after_bytes=SMALL)
    with hub_with(monkeypatch, a__flash=flash):
        with pytest.raises(DownloadError, match="The connection to the hub failed") as caught:
            await fetch(cache, cpu_engine)
        assert "peer closed connection" in caught.value.message
        assert f"{SMALL / 1024:.0f} KiB are here and stay; the same command goes on" in caught.value.fix
        flash.cut_after_bytes = None
        flash.served.clear()
        result, told = await fetch(cache, cpu_engine)
        assert flash.served == {"model-2.safetensors": LARGE}, "whole files do not come twice"
        assert told[0].bytes_done == SMALL + 2
        assert result.bytes_downloaded == LARGE
        assert hubcache.incomplete_files(cache, "a/flash") == ()


async def test_cancelled_in_the_middle_nothing_runs_on_and_whole_files_stay(
    cache: Path, cpu_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flash = model(hold_after_bytes=2_000_000)
    with hub_with(monkeypatch, a__flash=flash):
        going = asyncio.ensure_future(fetch(cache, cpu_engine))
        while flash.served_bytes < 2_000_000 or not (cache / "models--a--flash" / "snapshots" / COMMIT).is_dir():
            assert not going.done()
            await asyncio.sleep(0.05)
        with pytest.raises(DownloadError, match="being downloaded already"):
            await fetch(cache, cpu_engine)
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        hf = str(cpu_engine / "bin" / "hf")
        assert not [child for child in psutil.Process().children(recursive=True) if hf in child.cmdline()]
        assert hubcache.incomplete_files(cache, "a/flash") == (), "what nobody takes up again is in the way"
        flash.hold_after_bytes = None
        result, _ = await fetch(cache, cpu_engine)
        assert result.bytes_downloaded >= LARGE


async def test_what_is_refused_is_explained(cache: Path, cpu_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_with(monkeypatch, a__flash=model(), a__gated=model(gated=True, token=SECRET)) as hub:
        for name, revision, title, remedy in (
            ("a/gated", None, "The model is gated", "https://huggingface.co/a/gated"),
            ("a/none", None, "There is no such model repository", "spelling"),
            ("a/flash", "v9", "no such revision", "--revision"),
        ):
            with pytest.raises(DownloadError, match=title) as caught:
                await fetch(cache, cpu_engine, name, revision)
            assert remedy in caught.value.fix
            assert name in caught.value.message
        monkeypatch.setenv("HF_TOKEN", SECRET)
        result, _ = await fetch(cache, cpu_engine, "a/gated")
        assert result.bytes_total == WANTED_BYTES
        assert f"Bearer {SECRET}" in hub.authorizations
    for log in (paths.state_dir() / "downloads").glob("*.log"):
        assert SECRET not in log.read_text()
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(DownloadError, match="The connection to the hub failed"):
        await fetch(cache, cpu_engine, "a/none")


DRIVER = """
import asyncio, json, subprocess, sys
from pathlib import Path
from console.core.errors import DownloadError
from console.io.download import download
from tests.fakes.hub import Hub
from tests.io.test_download_real import model

cache, engine, size_mib, fill = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4] == "fill"
cache.mkdir(parents=True)
subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "none", str(cache)], check=True)
flash = model(hold_after_bytes=1_000_000) if fill else model()
filled = False

with Hub(a__flash=flash) as hub:
    import os
    os.environ["HF_ENDPOINT"] = hub.url

    def progress(now):
        global filled
        if fill and not filled and flash.served_bytes >= 1_000_000:
            filled = True
            with open(cache / "filler", "wb", buffering=0) as file:
                try:
                    while file.write(bytes(4096)):
                        pass
                except OSError:
                    pass
            flash.hold_after_bytes = None
            hub.release.set()

    try:
        asyncio.run(download("a/flash", None, cache, engine / "bin" / "vllm", {}, progress))
    except DownloadError as error:
        print(json.dumps({"title": error.title, "message": error.message, "fix": error.fix, "filled": filled,
                          "served": flash.served_bytes}))
"""


def _namespaces() -> bool:
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not _namespaces(), reason="this user may make no mount namespace")
@pytest.mark.parametrize(("size_mib", "how"), [("4", "leave"), ("8", "fill")], ids=["too small", "fills up meanwhile"])
def test_a_full_disk(cache: Path, cpu_engine: Path, size_mib: str, how: str) -> None:
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", DRIVER, str(cache), str(cpu_engine), size_mib, how],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout)
    assert "HF_HOME" in answer["fix"]
    if how == "fill":
        assert answer["filled"]
        assert answer["title"] == "The disk is full"
        assert "No space left on device" in answer["message"]
    else:
        assert answer["title"] == "Not enough disk space"
        assert "6.0 MiB to download, 4.0 MiB free" in answer["message"]
        assert answer["served"] == 0, "nothing is begun that cannot end"


PROFILE = """
[profile]
title = "a small one"
[model]
id = "a/flash"
weights_gb = 0.0063
[engine]
kind = "cpu"
vllm = ">=0.25"
"""


def command(home: Path, *words: str) -> list[str]:
    folder = home / "config" / "dsv4-console" / "profiles"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "small.toml").write_text(PROFILE)
    return [sys.executable, "-P", "-m", "console", *words]


def test_the_command_interrupted_and_again(
    cache: Path, data_home: Path, own_directories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(data_home))
    monkeypatch.setenv("HF_TOKEN", SECRET)
    flash = model(hold_after_bytes=2_000_000)
    argv = command(own_directories, "download", "small")
    with hub_with(monkeypatch, a__flash=flash):
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            while flash.served_bytes < 2_000_000:
                assert child.poll() is None
            words = [word for each in psutil.Process(child.pid).children(recursive=True) for word in each.cmdline()]
            assert any(word.endswith("/bin/hf") for word in words)
            assert not any(SECRET in word for word in words)
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=30)
        assert child.returncode == 130
        assert out == ""
        assert "whole files stay" in err
        assert "→ Go on with: dsv4-console download small" in err
        flash.hold_after_bytes = None
        done = subprocess.run([*argv, "--json"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["type"] == "download"
    assert lines[-1]["type"] == "downloaded"
    assert lines[-1]["bytes_total"] == WANTED_BYTES
    assert Path(lines[-1]["path"], "model-1.safetensors").read_bytes() == content(SMALL)
    assert SECRET not in err + done.stdout + done.stderr
