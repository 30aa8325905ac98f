"""Every flag is real: each shipped command is read by the argument parsers of the vLLM versions that it is for."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

from console.core import versions
from console.core.catalogue.parsers import PARSED_BY, parser_note
from console.core.command import build_command
from console.core.nodes import Node
from console.core.profile import EngineKind
from console.core.profile_read import read_profile
from console.io.engines.recipe import find_uv

ROOT = Path(__file__).parents[2]
FAKES = ROOT / "tests" / "fakes"
ENGINE_VERSION = "0.32.0"
"""Of the CPU engine, which is used as it is."""
PROFILES = {
    path.stem: read_profile(path.read_text(encoding="utf-8"), path.name)
    for path in sorted((ROOT / "profiles").glob("*.toml"))
}
BROKEN: dict[str, dict[str, Any]] = {
    "unknown flag": {"argv": ["/m", "--no-such-flag", "1"], "env": []},
    "bad choice": {"argv": ["/m", "--dtype", "fp8"], "env": []},
    "bad number": {"argv": ["/m", "--max-num-seqs", "many"], "env": []},
    "unknown parser": {"argv": ["/m", "--tool-call-parser", "deepseek_v5"], "env": []},
    "unknown method": {"argv": ["/m", "--speculative-config", '{"method":"guess"}'], "env": []},
    "unknown variable": {"argv": ["/m"], "env": ["VLLM_NO_SUCH_VARIABLE"]},
}
"""What each parser must refuse, so that its silence means something."""


def test_each_range_begins_at_a_version_that_is_checked() -> None:
    for name, profile in PROFILES.items():
        inside = [version for version in PARSED_BY if versions.satisfies(version, profile.engine.vllm)]
        lowest = [s.version for s in SpecifierSet(profile.engine.vllm) if s.operator == ">="]
        assert lowest == [inside[0].removesuffix(".0")], name
        assert inside[-1] == PARSED_BY[-1], name


def test_a_profile_says_what_was_checked() -> None:
    profile = PROFILES["8xb200-native-v4-pro"]
    note = parser_note(profile, shipped=True)
    assert (
        note == "read by the parsers of vLLM 0.28.0, 0.30.0, 0.32.0, 0.33.0; other versions of >=0.28,<0.34 not checked"
    )
    assert "not checked" in parser_note(profile, shipped=False)
    assert "image" in parser_note(next(p for p in PROFILES.values() if p.engine.kind is EngineKind.ROCM), shipped=True)


def commands(version: str) -> dict[str, dict[str, Any]]:
    """The shipped commands for one version, without the executable, and vLLM's variables in their environment."""
    found = {}
    for name, profile in PROFILES.items():
        if versions.satisfies(version, profile.engine.vllm):
            for rank in range(profile.hardware.nodes):
                command = build_command(profile, "vllm", "/models/x", version, Node(rank=rank))
                found[named(name, rank)] = {
                    "argv": command.argv[2:],
                    "env": [variable for variable in command.env if variable.startswith("VLLM_")],
                }
    return found


def named(name: str, rank: int) -> str:
    """A command of a profile: the first machine's has the profile's name."""
    return f"{name}, node {rank}" if rank else name


def ask(engine: Path, sources: dict[str, Path | None]) -> dict[str, dict[str, list[str]]]:
    """What each version's parser says of its commands and of the broken ones."""
    asked = {
        version: {"sources": None if path is None else str(path), "commands": commands(version) | BROKEN}
        for version, path in sources.items()
    }
    answer = subprocess.run(
        [engine / "bin" / "python", FAKES / "vllm_parser.py"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env=os.environ | {"VLLM_LOGGING_LEVEL": "ERROR", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    line = next((line for line in answer.stdout.splitlines() if line.startswith("ANSWERS ")), "")
    assert line, answer.stderr[-3000:]
    result: dict[str, dict[str, list[str]]] = json.loads(line.removeprefix("ANSWERS "))
    return result


def unpacked(engine: Path, version: str, directory: Path) -> Path | None:
    """The Python files of a released vLLM, from its source distribution; `None` for the engine's own version."""
    if version == ENGINE_VERSION:
        return None
    target = directory / version
    argv = [*(find_uv() or ("uv",)), "pip", "install", "--quiet", "--python", str(engine / "bin" / "python")]
    argv += ["--no-build-isolation", "--no-deps", "--no-binary", "vllm", "--target", str(target)]
    # A cache of its own: what is built here is no vLLM that anything else should find.
    argv += ["--cache-dir", str(directory / "cache"), f"vllm=={version}"]
    done = subprocess.run(
        argv,
        env=os.environ | {"PYTHONPATH": str(FAKES / "sources")},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, f"{version}: {done.stderr[-2000:]}"
    return target


@pytest.mark.real
@pytest.mark.timeout(900)
def test_the_real_parsers_take_every_shipped_command(cpu_engine: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(max_workers=len(PARSED_BY)) as pool:
        sources = dict(zip(PARSED_BY, pool.map(lambda v: unpacked(cpu_engine, v, tmp_path), PARSED_BY), strict=True))
    answers = ask(cpu_engine, sources)
    for version, found in answers.items():
        refused = {name: wrong for name, wrong in found.items() if wrong and name not in BROKEN}
        assert refused == {}, version
        assert all(found[name] for name in BROKEN), (version, {name: found[name] for name in BROKEN})
        assert "invalid choice: 'fp8'" in found["bad choice"][0]
    asked = {named(name, rank) for name, profile in PROFILES.items() for rank in range(profile.hardware.nodes)}
    assert set().union(*answers.values()) == asked | set(BROKEN)
