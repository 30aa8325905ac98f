"""When a launch offers to download weights, who is asked, and what is said where nobody can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from console.cli.download import offered
from console.cli.output import Output
from console.client import download
from console.client.api import DownloadOffer, LaunchPlan
from console.core.errors import EngineError, UsageError
from console.core.profile import ModelSection, Profile, ProfileSection, ServeSection
from console.io.preflight import cache_of
from tests.fakes.backend import FakeBackend

GB = 10**9
OFFER = DownloadOffer(model="a/flash", path="/cache", bytes_total=173e9, bytes_present=20 * GB)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "hub"


def plan(model: str = "a/flash", *, serve: dict[str, Any] | None = None, **about: Any) -> LaunchPlan:
    profile = Profile(
        profile=ProfileSection(title="x"),
        model=ModelSection(id=model, **about),
        serve=ServeSection(**(serve or {})),
    )
    return LaunchPlan(
        profile_name="flash",
        profile=profile,
        argv=("vllm",),
        env={},
        command_line="",
        engine_name=None,
        engine_version=None,
    )


def snapshot(cache: Path, size: int) -> None:
    folder = cache / "models--a--flash"
    (folder / "snapshots" / "c0").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("c0")
    with (folder / "snapshots" / "c0" / "m.safetensors").open("wb") as file:
        file.truncate(size)


def test_offered_is_what_vllm_would_download(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = download.offer(plan(weights_gb=0.01))
    assert found is not None
    assert (found.path, found.bytes_total, found.bytes_present) == (str(cache), 0.01 * GB, 0)
    assert found.text == f"a/flash (9.5 MiB) is not here: {cache}"
    assert download.offer(plan("generated:tiny")) is None
    assert download.offer(plan(str(tmp_path))) is None
    assert download.offer(plan("s3://bucket/flash")) is None
    assert download.offer(plan(serve={"load_format": "dummy"})) is None
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert download.offer(plan()) is None
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("VLLM_USE_MODELSCOPE", "true")
    assert download.offer(plan()) is None


def test_weights_that_are_here_are_not_offered(cache: Path) -> None:
    snapshot(cache, 9_900_000)
    assert download.offer(plan(weights_gb=0.01)) is None
    assert download.offer(plan()) is None, "the size is not known, and something is here"
    partly = download.offer(plan(weights_gb=0.02))
    assert partly is not None
    assert "has only 9.4 MiB here" in partly.text
    assert download.offer(plan(weights_gb=0.01, revision="v2")) is not None, "that one is not here"


def test_the_cache_is_where_vllm_looks(cache: Path) -> None:
    assert cache_of(plan().profile) == cache
    assert cache_of(replace(plan().profile, env={"HF_HUB_CACHE": "/large"})) == Path("/large")
    assert cache_of(plan(serve={"extra": {"download-dir": "/other"}}).profile) == Path("/other")


async def test_a_download_needs_a_repository_and_an_engine() -> None:
    with pytest.raises(UsageError, match="nothing to download"):
        await download.download(plan("generated:tiny"), lambda now: None)
    with pytest.raises(EngineError, match="needs an engine"):
        await download.download(plan(), lambda now: None)


def test_where_nobody_can_be_asked_vllm_downloads(capsys: pytest.CaptureFixture[str]) -> None:
    backend = FakeBackend()
    output = Output(json=False)
    assert not offered(backend, plan(), output, yes=True), "nothing is missing"
    assert capsys.readouterr().err == ""
    backend.offer = OFFER
    assert offered(backend, plan(), output, yes=True)
    assert not offered(backend, plan(), output, yes=False)
    said = capsys.readouterr().err
    assert "a/flash (161 GiB) has only 18.6 GiB here" in said
    assert "vLLM downloads it at its start" in said
    assert "dsv4-console download flash, or add --yes" in said
