"""The CPU engine from the package index, for real: with uv, and with pip alone. Each takes about a minute."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from console.core.profile import EngineKind, EngineSection
from console.io import engines, paths

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("with_uv", [True, False], ids=["uv", "pip"])
async def test_install_the_cpu_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_uv: bool) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    if not with_uv:
        without = [entry for entry in os.environ["PATH"].split(os.pathsep) if not (Path(entry) / "uv").exists()]
        monkeypatch.setenv("PATH", os.pathsep.join(without))
        monkeypatch.setitem(sys.modules, "uv", None)
    steps: list[tuple[float, str]] = []
    began = time.monotonic()
    engine = await engines.install(
        None, EngineKind.CPU, lambda step, fraction: steps.append((time.monotonic() - began, step))
    )
    print("\n".join(f"{seconds:6.1f} s  {step}" for seconds, step in steps))
    assert any("fetching it with pip" in step for _, step in steps) is not with_uv
    assert [path.name for path in paths.engines_dir().iterdir()] == [engine.name]
    said = subprocess.run([engine.executable, "--version"], capture_output=True, text=True, check=True, timeout=300)
    assert said.stdout.splitlines()[-1] == engine.version == "0.32.0+cpu"
    found = engines.engine_at(engine.executable)
    assert found is not None
    assert found.version == engine.version
    assert engines.choose(EngineSection(kind=EngineKind.CPU)) == engine
    engines.remove(engine.name)
    assert list(paths.engines_dir().iterdir()) == []
