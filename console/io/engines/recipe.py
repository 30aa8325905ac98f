"""The commands that make an engine, as argument lists, and the CPU engine's repair. Nothing is started here.

uv does the work: it alone can leave out requirements (`--overrides`) and pick the PyTorch build for the driver
(`--torch-backend`). pip can do neither, so where uv is absent pip's part is to fetch uv into a scratch environment.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from console.core import versions
from console.core.profile import EngineKind
from console.io.engines.records import RECIPES, Recipe

__all__ = [
    "ASK_PACKAGES",
    "bootstrap_commands",
    "engine_name",
    "find_uv",
    "has_nvidia_driver",
    "install_argv",
    "overrides_text",
    "rename_package",
    "venv_argv",
]

OVERRIDES_FILE = "left-out.txt"


def engine_name(kind: EngineKind, version: str) -> str:
    """`vllm-0.33.0`, `vllm-0.32.0-cpu`."""
    return f"vllm-{version}{RECIPES[kind].suffix}"


def find_uv() -> tuple[str, ...] | None:
    """The command that runs uv, if this machine has one: on PATH, or in this program's own environment."""
    if found := shutil.which("uv"):
        return (found,)
    return (sys.executable, "-m", "uv") if importlib.util.find_spec("uv") else None


def bootstrap_commands(tools: Path) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """The commands that put uv into the directory `tools` by venv and pip, and the command that then runs it."""
    python = str(tools / "bin" / "python")
    return (
        ((sys.executable, "-m", "venv", str(tools)), (python, "-m", "pip", "install", "--progress-bar=off", "uv")),
        (python, "-m", "uv"),
    )


def venv_argv(uv: tuple[str, ...], recipe: Recipe, directory: Path) -> tuple[str, ...]:
    """Make the environment. This program's own Python serves where it is of the right version; uv finds or fetches
    another.
    """
    own = ".".join(str(part) for part in sys.version_info[:2])
    wanted = recipe.python if recipe.python[0] in "<>=" else f"=={recipe.python}"
    python = sys.executable if versions.satisfies(own, wanted) else recipe.python
    return (*uv, "venv", "--color=never", "--no-project", "--python", python, str(directory))


def install_argv(
    uv: tuple[str, ...], recipe: Recipe, version: str, directory: Path, env: Mapping[str, str]
) -> tuple[str, ...]:
    """Install vLLM into `directory`. Index settings come from the environment, which the child inherits.

    A CPU PyTorch comes from find-links where the machine sets them, in uv's variable or in pip's, which uv does not
    read, and from PyTorch's own index elsewhere. uv's `auto` reads the driver; without one it would take a CPU PyTorch,
    with which a CUDA build of vLLM cannot run, so PyTorch then comes from the package index as vLLM asks for it.
    """
    argv = [*uv, "pip", "install", "--color=never", "--compile-bytecode", "--python", str(directory / "bin" / "python")]
    if recipe.leave_out:
        argv += ["--overrides", str(directory / OVERRIDES_FILE)]
    links = () if env.get("UV_FIND_LINKS") else tuple(env.get("PIP_FIND_LINKS", "").split())
    local_torch = recipe.torch_backend == "cpu" and (links or env.get("UV_FIND_LINKS"))
    if local_torch:
        for link in links:
            argv += ["--find-links", os.path.abspath(link) if Path(link).is_dir() else link]  # noqa: PTH100 - of a URL too
    elif not env.get("UV_TORCH_BACKEND") and (recipe.torch_backend != "auto" or has_nvidia_driver()):
        argv += ["--torch-backend", recipe.torch_backend]
    return (*argv, f"{recipe.package}=={version}")


ASK_PACKAGES = "import importlib.metadata as m, torch; print(m.version('vllm'))"
"""For the engine's Python: prints vLLM's version if PyTorch can be loaded."""


def has_nvidia_driver() -> bool:
    """Whether an NVIDIA kernel driver is loaded, or its tools are there."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def overrides_text(recipe: Recipe) -> str:
    """uv's overrides that keep requirements out: a marker that is true nowhere."""
    return "".join(f"{name}; sys_platform == 'never'\n" for name in recipe.leave_out)


def rename_package(directory: Path, recipe: Recipe, version: str) -> str:
    """Describe the package a second time under the name `vllm` with `+cpu` in its version, and return that version.

    The `vllm` command asks for a distribution of its own name, and finds no device unless the version says `cpu`.

    Raises:
        OSError: the package's description is not where it should be, or cannot be copied.
    """
    stem = recipe.package.replace("-", "_")
    found = sorted(directory.glob(f"lib/python3*/site-packages/{stem}-*.dist-info/METADATA"))
    if not found:
        raise FileNotFoundError(2, "No such file", f"{stem}-{version}.dist-info/METADATA")
    marked = f"{version}+cpu"
    text = found[0].read_text(encoding="utf-8")
    text = re.sub(r"^Name:.*$", "Name: vllm", text, count=1, flags=re.MULTILINE)
    text = re.sub(r"^Version:.*$", f"Version: {marked}", text, count=1, flags=re.MULTILINE)
    target = found[0].parent.with_name(f"vllm-{marked}.dist-info")
    target.mkdir(exist_ok=True)
    (target / "METADATA").write_text(text, encoding="utf-8")
    return marked
