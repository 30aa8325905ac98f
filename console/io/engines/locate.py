"""Finds vLLM commands that this program did not install, and their versions, without running them where possible.

Running `vllm --version` imports PyTorch, which takes 7 to 25 s; the version also stands in the environment's
`vllm-VERSION.dist-info/METADATA`, beside the command.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from functools import lru_cache
from pathlib import Path

from console.core import versions
from console.core.profile import EngineKind
from console.io.engines.records import Engine, Origin

__all__ = ["ASK_TIMEOUT_S", "clean_environment", "engine_at", "find_on_path", "version_in_output"]

ASK_TIMEOUT_S = 120.0
"""Longest wait for `vllm --version`: 25 s were seen on a cold disk."""

METADATA_BYTES_MAX = 65_536

FOREIGN_VARIABLES = ("VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH", "UV_SYSTEM_PYTHON", "UV_PYTHON")
"""They would point one Python environment at another's packages."""


def clean_environment() -> dict[str, str]:
    """This process's environment without what ties a child to this program's own Python."""
    return {key: value for key, value in os.environ.items() if key not in FOREIGN_VARIABLES}


def find_on_path() -> Engine | None:
    """The `vllm` on PATH, or `None` if there is none or it does not tell its version. May take `ASK_TIMEOUT_S`."""
    found = shutil.which("vllm")
    return _engine(Path(found), "path") if found else None


def engine_at(path: Path) -> Engine | None:
    """The engine at `path`, a `vllm` command or its environment's directory. May take `ASK_TIMEOUT_S`."""
    executable = path / "bin" / "vllm" if path.is_dir() else path
    return _engine(executable, "explicit")


def version_in_output(text: str) -> str | None:
    """The version that `vllm --version` printed: its last line that is one, after whatever was logged before."""
    for line in reversed(text.splitlines()):
        words = line.split()
        if words and len(words) <= 2 and versions.normal(words[-1]):
            return words[-1]
    return None


def _engine(executable: Path, origin: Origin) -> Engine | None:
    executable = executable.absolute()
    if not (executable.is_file() and os.access(executable, os.X_OK)):
        return None
    version = _version_on_disk(executable) or _ask(executable, executable.stat().st_mtime_ns)
    if version is None:
        return None
    kind = EngineKind(versions.build(version))
    return Engine(name=str(executable), kind=kind, version=version, executable=executable, origin=origin)


def _version_on_disk(executable: Path) -> str | None:
    """The version that the environment around `executable` describes, `None` unless it is one and the same."""
    prefix = executable.resolve().parent.parent
    described = {
        _metadata_version(metadata)
        for pattern in ("lib*/python3*/site-packages", "lib*/python3*/dist-packages")
        for metadata in prefix.glob(f"{pattern}/vllm-*.dist-info/METADATA")
    }
    return described.pop() if len(described) == 1 else None


def _metadata_version(metadata: Path) -> str | None:
    try:
        with metadata.open(encoding="utf-8", errors="replace") as file:
            head = file.read(METADATA_BYTES_MAX).partition("\n\n")[0]
    except OSError:
        return None
    match = re.search(r"^Version:\s*(\S+)", head, re.MULTILINE)
    return match.group(1) if match else None


@lru_cache(maxsize=16)
def _ask(executable: Path, _changed_ns: int) -> str | None:
    """Run `vllm --version`. Remembered for as long as the command's file is the same."""
    try:
        child = subprocess.Popen(
            [executable, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=clean_environment(),
            start_new_session=True,
        )
    except OSError:
        return None
    with child:
        try:
            output, _ = child.communicate(timeout=ASK_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            return None
    return version_in_output(output.decode(errors="replace")) if child.returncode == 0 else None
