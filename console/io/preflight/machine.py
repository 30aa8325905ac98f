"""Main memory, shared memory, file limits, and what the environment says, without any secret in the answer."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from console.core.preflight import Environment, Limits, Memory, Space

__all__ = ["read_environment", "read_limits", "read_memory", "read_shm"]

SHM = Path("/dev/shm")  # noqa: S108 - only looked at
CGROUPS = Path("/sys/fs/cgroup")
NO_LIMIT = 2**60
"""The first version of control groups writes a huge number for none."""
OFF = frozenset({"", "0", "false", "no", "off"})


def read_memory(cgroups: Path = CGROUPS, membership: Path = Path("/proc/self/cgroup")) -> Memory:
    """Memory of the machine, or of the container where less is left there."""
    memory = psutil.virtual_memory()
    total, available, limited = memory.total, memory.available, False
    for limit, used in _cgroup_limits(cgroups, membership):
        if limit < total:
            total, limited = limit, True
        available = min(available, max(0, limit - used))
    return Memory(total_bytes=total, available_bytes=available, limited=limited)


def _cgroup_limits(cgroups: Path, membership: Path) -> Iterator[tuple[int, int]]:
    """Limit and use, without cache that can be given back, of each group that this process is in."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            root, names = cgroups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = cgroups / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = root / path.lstrip("/")
        # Inside a container the path may be the host's; the container's own group is then the root.
        for folder in {*([group, *group.parents] if group.is_dir() else []), root}:
            if not folder.is_relative_to(root):
                continue
            limit, used = _number(folder / names[0]), _number(folder / names[1])
            if limit is not None and used is not None and limit < NO_LIMIT:
                yield limit, max(0, used - _stat(folder / "memory.stat", names[2]))


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _stat(path: Path, name: str) -> int:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return 0
    return next((int(value) for key, _, value in (line.partition(" ") for line in lines) if key == name), 0)


def read_shm() -> Space:
    """Shared memory.

    Raises:
        OSError: there is none.
    """
    usage = shutil.disk_usage(SHM)
    return Space(path=str(SHM), total_bytes=usage.total, free_bytes=usage.free)


def read_limits() -> Limits:
    """Open files that this process, and so the server, may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    return Limits(soft=None if soft == infinite else soft, hard=None if hard == infinite else hard)


def read_environment(added: Mapping[str, str]) -> Environment:
    """What counts of this process's environment once the profile has `added` its own."""
    env = {**os.environ, **added}
    home = Path(env.get("HF_HOME") or Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface")
    token_file = Path(env.get("HF_TOKEN_PATH") or home / "token").expanduser()
    return Environment(
        api_key=bool(env.get("VLLM_API_KEY")),
        hf_token=bool(env.get("HF_TOKEN") or env.get("HUGGING_FACE_HUB_TOKEN")) or token_file.is_file(),
        hf_offline=_on(env, "HF_HUB_OFFLINE") or _on(env, "TRANSFORMERS_OFFLINE"),
        dev_mode=_on(env, "VLLM_SERVER_DEV_MODE"),
        visible_gpus=env.get("CUDA_VISIBLE_DEVICES"),
        cuda_compat=_on(env, "VLLM_ENABLE_CUDA_COMPATIBILITY") or "/compat" in env.get("LD_LIBRARY_PATH", ""),
    )


def _on(env: Mapping[str, str], name: str) -> bool:
    return env.get(name, "").lower() not in OFF
