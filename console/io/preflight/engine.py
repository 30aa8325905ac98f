"""What an engine is made of, read from its files: importing vLLM takes seven seconds, this takes milliseconds."""

from __future__ import annotations

import re
from pathlib import Path

from console.core.preflight import EngineFacts
from console.io.engines import Engine

__all__ = ["read_engine_facts", "read_flags"]

SOURCE_BYTES_MAX = 4 * 1024 * 1024
FLAGS_MIN = 100
"""`vllm serve` has had more than 150 since 0.14: fewer found means that its source is built in another way."""

_CUDA = re.compile(r"^cuda\b[^=]*=\s*['\"](\d+)\.(\d+)", re.MULTILINE)
_LITERAL = re.compile(r"['\"]--([a-z][a-z0-9-]+)['\"]")
_CLASS = re.compile(r"^class \w*FrontendArgs\b.*?(?=^class |^def |^@|\Z)", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^    ([a-z][a-z0-9_]*)\s*:", re.MULTILINE)


def read_engine_facts(engine: Engine) -> EngineFacts:
    """CUDA and flags of an installed engine."""
    packages = _packages(engine.executable)
    return EngineFacts(
        name=engine.name,
        version=engine.version,
        cuda_version=_cuda_version(packages) if packages else None,
        flags=read_flags(packages / "vllm") if packages else None,
    )


def read_flags(package: Path) -> frozenset[str] | None:
    """Flags of `vllm serve`, without dashes, as its source names them; `None` where they are not found there.

    They stand in two places: as literals in `add_argument("--…")`, and as fields of the front end's dataclasses.
    """
    sources = [package / "engine" / "arg_utils.py", *sorted(package.glob("entrypoints/**/cli_args.py"))]
    found: set[str] = set()
    for path in sources:
        text = _read(path)
        found.update(_LITERAL.findall(text))
        for body in _CLASS.findall(text):
            found.update(name.replace("_", "-") for name in _FIELD.findall(body))
    return frozenset(found) if len(found) >= FLAGS_MIN else None


def _packages(executable: Path) -> Path | None:
    """The site-packages with vLLM in it, of the environment around a `vllm` command."""
    prefix = executable.resolve().parent.parent
    for pattern in ("lib*/python3*/site-packages", "lib*/python3*/dist-packages"):
        for folder in sorted(prefix.glob(pattern)):
            if (folder / "vllm").is_dir():
                return folder
    return None


def _cuda_version(packages: Path) -> tuple[int, int] | None:
    """CUDA that its PyTorch was built with; `None` for a CPU build."""
    match = _CUDA.search(_read(packages / "torch" / "version.py"))
    return (int(match.group(1)), int(match.group(2))) if match else None


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(SOURCE_BYTES_MAX)
    except OSError:
        return ""
