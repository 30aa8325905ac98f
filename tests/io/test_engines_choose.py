"""Finding, choosing and removing engines. Every `vllm` here is a shell script."""

from __future__ import annotations

from pathlib import Path

import pytest

from console.core.errors import EngineError
from console.core.profile import EngineKind, EngineSection
from console.io import engines, paths
from console.io.engines import locate
from console.io.engines.records import ENGINE_FILE, EngineRecord, write_record

CUDA = EngineSection(kind=EngineKind.CUDA, vllm=">=0.25,<0.34")
CPU = EngineSection(kind=EngineKind.CPU, vllm=">=0.25,<0.34")


@pytest.fixture(autouse=True)
def _own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    locate._ask.cache_clear()


def script(path: Path, body: str = "exit 1") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def environment(prefix: Path, version: str, folder: str = "lib/python3.12/site-packages") -> Path:
    """An environment whose `vllm` fails if run, so that its version can only have been read."""
    described = prefix / folder / f"vllm-{version}.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text(f"Metadata-Version: 2.4\nName: vllm\nVersion: {version}\n\nVersion: 9.9\n")
    return script(prefix / "bin" / "vllm")


def installed(name: str, kind: EngineKind, version: str) -> Path:
    directory = paths.engines_dir() / name
    script(directory / "bin" / "vllm")
    write_record(directory, EngineRecord(name=name, kind=kind, version=version, python="3.12.1", created_s=1.0))
    return directory


def on_path(monkeypatch: pytest.MonkeyPatch, command: Path) -> None:
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")


def refusal(section: EngineSection, **named: str) -> EngineError:
    with pytest.raises(EngineError) as caught:
        engines.choose(section, **named)
    return caught.value


def test_list_is_newest_first_and_skips_what_is_no_engine() -> None:
    assert engines.list_engines() == ()
    installed("vllm-0.9.2", EngineKind.CUDA, "0.9.2")
    installed("vllm-0.33.0", EngineKind.CUDA, "0.33.0")
    installed("vllm-0.32.0-cpu", EngineKind.CPU, "0.32.0+cpu")
    (paths.engines_dir() / "half" / "bin").mkdir(parents=True)
    (installed("broken", EngineKind.CUDA, "0.33.1") / ENGINE_FILE).write_text("{")
    (installed("hollow", EngineKind.CUDA, "0.33.2") / "bin" / "vllm").unlink()
    (paths.engines_dir() / "file").write_text("")
    assert [engine.name for engine in engines.list_engines()] == ["vllm-0.33.0", "vllm-0.32.0-cpu", "vllm-0.9.2"]


@pytest.mark.parametrize(
    ("version", "kind"),
    [("0.33.0", EngineKind.CUDA), ("0.32.0+cpu", EngineKind.CPU), ("0.33.0+cu129", EngineKind.CUDA)],
)
@pytest.mark.parametrize("folder", ["lib/python3.12/site-packages", "lib/python3/dist-packages"])
def test_the_one_on_path_is_read_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, kind: EngineKind, folder: str
) -> None:
    on_path(monkeypatch, environment(tmp_path / "env", version, folder))
    found = engines.find_on_path()
    assert found is not None
    assert (found.version, found.kind, found.origin) == (version, kind, "path")
    assert found.executable == tmp_path / "env" / "bin" / "vllm"


def test_a_link_on_path_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = tmp_path / "bin" / "vllm"
    link.parent.mkdir()
    link.symlink_to(environment(tmp_path / "env", "0.30.0"))
    on_path(monkeypatch, link)
    found = engines.find_on_path()
    assert found is not None
    assert found.version == "0.30.0"


def test_one_that_describes_itself_nowhere_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = tmp_path / "asked"
    on_path(monkeypatch, script(tmp_path / "bin" / "vllm", f"echo x >>{asked}; echo 'INFO 1.2 noise'; echo 0.31.0"))
    first, second = engines.find_on_path(), engines.find_on_path()
    assert first is not None
    assert first.version == "0.31.0"
    assert second == first
    assert asked.read_text() == "x\n"


def test_two_descriptions_are_settled_by_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment(tmp_path / "env", "0.30.0", "lib/python3.11/site-packages")
    command = environment(tmp_path / "env", "0.31.0", "lib/python3.12/site-packages")
    on_path(monkeypatch, script(command, "echo 0.31.0"))
    found = engines.find_on_path()
    assert found is not None
    assert found.version == "0.31.0"


@pytest.mark.parametrize("body", ["exit 3", "echo no version here at all", "sleep 60 & wait"])
def test_one_that_does_not_tell_its_version_is_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setattr(locate, "ASK_TIMEOUT_S", 0.3)
    on_path(monkeypatch, script(tmp_path / "bin" / "vllm", body))
    assert engines.find_on_path() is None


def test_nothing_on_path() -> None:
    assert engines.find_on_path() is None


def test_the_order_of_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(monkeypatch, environment(tmp_path / "path", "0.30.0"))
    assert engines.choose(CUDA).origin == "path"
    installed("vllm-0.28.0", EngineKind.CUDA, "0.28.0")
    installed("vllm-0.29.0", EngineKind.CUDA, "0.29.0")
    installed("vllm-0.34.0", EngineKind.CUDA, "0.34.0")
    installed("vllm-0.32.0-cpu", EngineKind.CPU, "0.32.0+cpu")
    assert engines.choose(CUDA).name == "vllm-0.29.0"
    assert engines.choose(CPU).name == "vllm-0.32.0-cpu"
    assert engines.choose(CUDA, configured="vllm-0.28.0").name == "vllm-0.28.0"
    other = environment(tmp_path / "other", "0.27.0")
    for path in (other, other.parent.parent):
        chosen = engines.choose(CUDA, explicit=str(path), configured="vllm-0.28.0")
        assert (chosen.executable, chosen.version, chosen.origin) == (other, "0.27.0", "explicit")
    named = EngineSection(vllm=">=0.25", name="vllm-0.28.0")
    assert engines.choose(named, explicit=str(other)).name == "vllm-0.28.0"


def test_no_engine_offers_the_install_command() -> None:
    assert refusal(CUDA).fix == "Run: dsv4-console engine install 0.33.0"
    assert refusal(CPU).fix == "Run: dsv4-console engine install --cpu"
    assert refusal(EngineSection(vllm="==0.26.0")).fix == "Run: dsv4-console engine install 0.26.0"
    assert refusal(EngineSection(kind=EngineKind.CPU, vllm="==0.31.0")).fix.endswith("install 0.31.0 --cpu")
    assert refusal(EngineSection(vllm="<0.26")).fix.endswith("install VERSION")


def test_a_wrong_version_names_engine_version_range_and_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed("mine", EngineKind.CUDA, "0.24.0")
    for error in (refusal(CUDA), refusal(CUDA, explicit="mine"), refusal(EngineSection(vllm=CUDA.vllm, name="mine"))):
        for part in ("mine", "0.24.0", CUDA.vllm):
            assert part in error.message
        assert error.fix == "Run: dsv4-console engine install 0.33.0"
    command = environment(tmp_path / "path", "0.40.0")
    on_path(monkeypatch, command)
    assert f"{command} is a CUDA build of vLLM 0.40.0" in refusal(CUDA).message


def test_a_wrong_kind_is_refused() -> None:
    installed("vllm-0.32.0-cpu", EngineKind.CPU, "0.32.0+cpu")
    error = refusal(CUDA, explicit="vllm-0.32.0-cpu")
    assert "a CPU build of vLLM 0.32.0+cpu, not a CUDA build" in error.message


def test_a_named_engine_that_is_not_there(tmp_path: Path) -> None:
    installed("mine", EngineKind.CUDA, "0.30.0")
    error = refusal(CUDA, explicit="yours")
    assert "'yours' (from --engine)" in error.message
    assert "installed: mine" in error.message
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refusal(CUDA, configured=str(empty)).title == "No vLLM there"


def test_a_broken_range_is_the_profiles_fault() -> None:
    assert "'newest'" in refusal(EngineSection(vllm="newest")).message


def test_remove() -> None:
    installed("vllm-0.33.0", EngineKind.CUDA, "0.33.0")
    kept = installed("kept", EngineKind.CUDA, "0.30.0")
    engines.remove("vllm-0.33.0")
    assert list(paths.engines_dir().iterdir()) == [kept]


@pytest.mark.parametrize("name", ["", ".", "..", "../outside", "absent", "/", "foreign", "link"])
def test_remove_refuses_what_is_not_an_engine_of_its_own(tmp_path: Path, name: str) -> None:
    installed("kept", EngineKind.CUDA, "0.30.0")
    outside = paths.engines_dir().parent / "outside"
    paths.engines_dir().joinpath("kept").rename(outside)
    installed("kept", EngineKind.CUDA, "0.30.0")
    (paths.engines_dir() / "foreign").mkdir()
    (paths.engines_dir() / "link").symlink_to(outside)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(EngineError, match="No such engine") as caught:
        engines.remove(name)
    assert "kept" in caught.value.message
    assert sorted(tmp_path.rglob("*")) == before
