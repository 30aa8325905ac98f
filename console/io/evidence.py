"""What programs of this machine tell about it: driver, GPUs, kernel messages, packages of an engine. For reports.

Each is asked for a bounded time and a bounded answer; what cannot be had is an `OSError` or `Missing` that says why.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import psutil

from console.core.units import bytes_text

__all__ = ["MissingError", "gpu_text", "host_text", "kernel_text", "package_versions"]

COMMAND_TIMEOUT_S: Final = 15.0
TEXT_CHARS_MAX: Final = 2 * 1024 * 1024
KERNEL_LINES_MAX: Final = 2_000
"""Of those that matter; the newest."""
_KERNEL: Final = re.compile(
    r"xid|nvrm|nvidia|nvlink|nvswitch|oom|out of memory|killed process|segfault|general protection|mce|hardware error"
    r"|pcie|aer:|hung_task|blocked for more|soft lockup|vllm|python|i/o error|no space",
    re.IGNORECASE,
)
_PACKAGES: Final = re.compile(
    r"(vllm|torch|triton|transformers|flashinfer|xgrammar|nccl|nvidia|cuda|deep_gemm|deep_ep|compressed|numpy|ray|fastapi"
    r"|uvicorn|huggingface)",
    re.IGNORECASE,
)


class MissingError(Exception):
    """It cannot be had here; the text says why."""


def _run(command: Sequence[str]) -> str:
    """What a program prints.

    Raises:
        MissingError: it is not there, refuses, or takes too long.
    """
    name = command[0]
    if shutil.which(name) is None:
        raise MissingError(f"{name} is not installed")
    try:
        done = subprocess.run(
            list(command),
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        )
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"{name} did not answer within {COMMAND_TIMEOUT_S:.0f} s") from error
    except OSError as error:
        raise MissingError(f"{name}: {error.strerror}") from error
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        said = (done.stderr.decode("utf-8", "replace") or text).strip().splitlines()
        raise MissingError(f"{name} ended with {done.returncode}: {said[-1] if said else 'and said nothing'}")
    return text[-TEXT_CHARS_MAX:]


def gpu_text() -> str:
    """`nvidia-smi` in short, its topology, and in full."""
    short = _run(["nvidia-smi"])
    topology = _or_why(lambda: _run(["nvidia-smi", "topo", "-m"]))
    full = _or_why(lambda: _run(["nvidia-smi", "-q"]))
    return f"$ nvidia-smi\n{short}\n$ nvidia-smi topo -m\n{topology}\n$ nvidia-smi -q\n{full}"


def kernel_text() -> str:
    """Kernel messages on GPUs (Xid), memory, hardware and killed processes; the newest last."""
    reasons = []
    for command in (["journalctl", "-k", "-b", "--no-pager", "-o", "short-iso", "-n", "50000"], ["dmesg", "-T"]):
        try:
            lines = _run(command).splitlines()
        except MissingError as error:
            reasons.append(str(error))
            continue
        found = [line for line in lines if _KERNEL.search(line)]
        if lines and "No journal files" not in lines[0]:
            return f"$ {' '.join(command)}\n({len(found)} of {len(lines)} lines)\n" + "\n".join(
                found[-KERNEL_LINES_MAX:]
            )
        reasons.append(f"{command[0]} has no messages")
    raise MissingError("; ".join(reasons))


def host_text() -> str:
    """The machine, its memory and its disks."""
    memory = psutil.virtual_memory()
    lines = [
        f"{platform.platform()}",
        f"processors {psutil.cpu_count()} ({psutil.cpu_count(logical=False)} cores)",
        f"memory {bytes_text(memory.total)}, {bytes_text(memory.available)} available",
        f"load {' '.join(f'{value:.2f}' for value in os.getloadavg())}",
    ]
    for path in ("/", "/dev/shm", str(Path.home())):  # noqa: S108 - looked at, not written
        try:
            usage = shutil.disk_usage(path)
        except OSError as error:
            lines.append(f"disk {path}: {error.strerror}")
        else:
            lines.append(f"disk {path}: {bytes_text(usage.total)}, {bytes_text(usage.free)} free")
    return "\n".join(lines)


def package_versions(executable: Path) -> tuple[str, ...]:
    """Names and versions of an engine's packages that matter, without starting it.

    Raises:
        MissingError: its environment cannot be found.
    """
    folders = list(executable.parent.parent.glob("lib/python3*/site-packages"))
    if not folders:
        raise MissingError(f"{executable} is in no virtual environment that can be seen")
    names = [path.name.removesuffix(".dist-info") for folder in folders for path in folder.glob("*.dist-info")]
    return tuple(sorted(name.replace("-", " ") for name in names if _PACKAGES.match(name)))


def _or_why(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except MissingError as error:
        return f"({error})"
