"""Processes of vLLM on this machine: whose they are, which of them nobody holds any more, and how to end those.

vLLM overwrites its environment with its titles, so a process is recognised by its title, and belongs to the run whose
`server.log` is its standard output. An orphan is a titled process (`VLLM::EngineCore`, say) whose creator is gone: its
parent is then another session's process, because children made by multiprocessing share their creator's session.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec
import psutil

from console.core.errors import StateError
from console.core.preflight import VllmProcess
from console.io.process import is_same_process, process_start_s
from console.io.runs import RunDir, is_supervised

__all__ = ["Ended", "end_orphans", "find_vllm"]

TERM_WAIT_S = 10.0
"""An orphaned engine ended its workers and itself within 3 s of SIGTERM (vLLM 0.32)."""
KILL_WAIT_S = 5.0
POLL_S = 0.05
TITLE_BYTES_MAX = 4096
PROCESSES_MAX = 512
"""Of vLLM; more are not looked at."""

_TITLE = re.compile(r"\S*::(?:EngineCore|Worker|APIServer|DPCoordinator)")
"""`VLLM::EngineCore_DP0`; the part before the colons is `VLLM_PROCESS_NAME_PREFIX`."""
_SERVER_MODULE = "vllm.entrypoints.openai.api_server"
_RUN_LOG = re.compile(r"(.*/dsv4-console/runs/([^/]+))/server\.log(?: \(deleted\))?")
INITS = frozenset(
    {
        "init",
        "systemd",
        "tini",
        "dumb-init",
        "docker-init",
        "s6-svscan",
        "runit",
        "catatonit",
        "bash",
        "sh",
        "dash",
        "zsh",
    }
    | {"sleep", "tail", "sshd"}
)
"""Names of a container's first process that never made an engine itself."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one orphan."""

    pid: int
    title: str
    how: str
    """`SIGTERM`, `SIGKILL`, `gone already`, or why not."""
    gone: bool


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    pid: int
    title: str
    parent: int
    titled: bool
    """One of vLLM's own processes, not the server that was started."""


def find_vllm() -> tuple[VllmProcess, ...]:
    """All of vLLM's processes, in order of pid."""
    seen = {each.pid: each for each in _scan()}
    return tuple(found for pid in sorted(seen) if (found := _describe(seen[pid], seen)) is not None)


def _scan() -> Iterable[_Seen]:
    count = 0
    for pid in psutil.pids():
        words = _command(pid)
        titled = bool(words) and _TITLE.match(words[0]) is not None
        if not titled and not _is_server(words):
            continue
        with contextlib.suppress(psutil.Error):
            title = words[0] if titled else _server_title(words)
            yield _Seen(pid=pid, title=title, parent=psutil.Process(pid).ppid(), titled=titled)
            count += 1
        if count >= PROCESSES_MAX:
            return


def _command(pid: int) -> list[str]:
    try:
        with Path(f"/proc/{pid}/cmdline").open("rb") as file:
            text = file.read(TITLE_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return []
    return [word.strip() for word in text.split("\0") if word.strip()]


def _is_server(words: list[str]) -> bool:
    """`vllm serve …`, also as `python …/vllm serve …` and as a title in one word, or the old module."""
    head = " ".join(words[:4]).split()
    started = any(Path(first).name == "vllm" and second == "serve" for first, second in itertools.pairwise(head))
    return started or _SERVER_MODULE in head


def _server_title(words: list[str]) -> str:
    head = " ".join(words).split()
    start = next((i for i, word in enumerate(head) if word in ("serve", _SERVER_MODULE)), 0)
    return " ".join(["vllm serve", *head[start + 1 : start + 2]])


def _describe(each: _Seen, seen: Mapping[int, _Seen]) -> VllmProcess | None:
    start_s = process_start_s(each.pid)
    if start_s is None:
        return None
    run_id, supervised = _run_of(each.pid)
    try:
        process = psutil.Process(each.pid)
        memory = process.memory_info().rss
        age_s = max(0.0, time.time() - process.create_time())
        user = process.username()
    except (psutil.Error, KeyError):
        memory, age_s, user = None, None, ""
    return VllmProcess(
        pid=each.pid,
        start_s=start_s,
        title=each.title,
        age_s=age_s,
        memory_bytes=memory,
        run_id=run_id,
        supervised=supervised,
        orphan=each.titled and not supervised and _is_orphan(each, seen),
        user="" if _is_mine(each.pid) else user,
    )


def _is_mine(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}").stat().st_uid == os.getuid()
    except OSError:
        return False


def _run_of(pid: int) -> tuple[str, bool]:
    """The run whose log a process writes to, and whether a supervisor has it; of any state directory."""
    try:
        match = _RUN_LOG.fullmatch(str(Path(f"/proc/{pid}/fd/1").readlink()))
    except OSError:
        return "", False
    if match is None:
        return "", False
    try:
        return match.group(2), is_supervised(RunDir(Path(match.group(1))).read_info())
    except StateError:
        return match.group(2), False


def _is_orphan(each: _Seen, seen: Mapping[int, _Seen]) -> bool:
    """Whether the topmost of vLLM's processes above it has lost its creator."""
    top = each
    for _ in range(len(seen)):
        above = seen.get(top.parent)
        if above is None:
            break
        if not above.titled:
            return False
        top = above
    try:
        apart = os.getsid(top.parent) != os.getsid(top.pid)
        # In a container the first process may share the session of what it started.
        return apart or (top.parent == 1 and psutil.Process(1).name() in INITS)
    except ProcessLookupError:
        return _reparented(top.pid)
    except (PermissionError, psutil.Error):
        return False


def _reparented(pid: int) -> bool:
    """Its parent went while we looked, or is outside the container's view: orphaned if it has the first process."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).ppid() in (0, 1)
    return False


def end_orphans(orphans: Iterable[VllmProcess]) -> tuple[Ended, ...]:
    """SIGTERM, and after `TERM_WAIT_S` SIGKILL, to each orphan and what it has started. Each is looked at again
    first: a pid that means another process by now is left alone."""
    targets = tuple(orphans)
    family = {each.pid: each for each in targets}
    offspring: dict[int, float] = {}
    for each in targets:
        if is_same_process(each.pid, each.start_s):
            offspring |= _descendants(each.pid)
    refused: dict[int, str] = {}
    before = {each.pid for each in targets if not is_same_process(each.pid, each.start_s)}
    _signal(_alive(family), signal.SIGTERM, refused)
    _wait(lambda: not [pid for pid in _alive(family) if pid not in refused], TERM_WAIT_S)
    killed = [pid for pid in _alive(family) if pid not in refused]
    _signal(killed, signal.SIGKILL, refused)
    _signal([pid for pid, start_s in offspring.items() if is_same_process(pid, start_s)], signal.SIGKILL, refused)
    _wait(lambda: not [pid for pid in _alive(family) if pid not in refused], KILL_WAIT_S)
    left = set(_alive(family))
    return tuple(
        Ended(
            pid=each.pid, title=each.title, how=_how(each.pid, before, killed, refused, left), gone=each.pid not in left
        )
        for each in targets
    )


def _how(pid: int, before: set[int], killed: list[int], refused: Mapping[int, str], left: set[int]) -> str:
    if pid in before:
        return "gone already"
    if pid in refused:
        return refused[pid]
    if pid in left:
        return f"still there {KILL_WAIT_S:g} s after SIGKILL: it waits in the kernel, perhaps for a driver"
    return "SIGKILL" if pid in killed else "SIGTERM"


def _alive(family: Mapping[int, VllmProcess]) -> list[int]:
    return [pid for pid, each in family.items() if is_same_process(pid, each.start_s)]


def _descendants(pid: int) -> dict[int, float]:
    found: dict[int, float] = {}
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            start_s = process_start_s(child.pid)
            if start_s is not None:
                found[child.pid] = start_s
    return found


def _signal(pids: Iterable[int], number: signal.Signals, refused: dict[int, str]) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
        except PermissionError:
            refused[pid] = "no permission: it is another user's"


def _wait(done: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not done() and time.monotonic() < deadline:
        time.sleep(POLL_S)
