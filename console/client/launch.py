"""Starting a run: a directory, what to do in it, and a supervisor that is left to itself."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from console.client.session import SocketSession, connect
from console.core.command import build_command, served_name
from console.core.errors import HardwareError, NotRunningError, StateError
from console.core.ledger import Expectation
from console.core.lifecycle import Timing
from console.core.models import NodePlace, RunInfo
from console.core.nodes import Node
from console.core.profile import Profile, RestartPolicy
from console.core.text import redact, redact_argv
from console.io.config import read_configuration
from console.io.engines import Engine
from console.io.process import listener_of
from console.io.pruning import prune_runs, pruned_event
from console.io.runs import LaunchSpec, RunDir, create_run
from console.io.tinymodel import resolve_model

__all__ = ["base_url", "check_port", "node_of", "prepare_run", "start_supervisor"]

SUPERVISOR_START_TIMEOUT_S = 60.0
"""It takes half a second; 20 s were seen on a machine with seven times more work than cores."""
LOG_TAIL_CHARS = 2_000
PORTS_TRIED = 100
"""How far a free port is looked for, to propose it."""


def base_url(profile: Profile) -> str:
    """Where clients on this machine reach the server."""
    host = profile.serve.host
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - read, not bound
    if ":" in reachable and not reachable.startswith("["):
        reachable = f"[{reachable}]"
    return f"http://{reachable}:{profile.serve.port}"


def check_port(profile: Profile) -> None:
    """Make sure that the profile's port is free.

    Raises:
        HardwareError: somebody listens there, named where it can be seen; or the address is not this machine's.
    """
    host, port = profile.serve.host, profile.serve.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise HardwareError(
                    f"Cannot listen on {host}:{port}",
                    error.strerror or str(error),
                    "Choose another address or port: --set serve.host=127.0.0.1 --set serve.port=8001",
                ) from error
            holder = listener_of(port)
            who = f"{holder[1]} (pid {holder[0]}) listens there" if holder else "by a process that this user cannot see"
            raise HardwareError(
                f"Port {port} is taken",
                f"{host}:{port}: {who}",
                f"Stop it, or choose another port: --set serve.port={_next_free(host, port)}",
            ) from error


def _next_free(host: str, port: int) -> int:
    """A port that can be proposed: the next one that is free, or just the next one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port + 1, min(port + PORTS_TRIED, 65_535)):
        with socket.socket(family, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.bind((host, candidate))
            return candidate
    return port + 1 if port < 65_535 else 8000


def prepare_run(
    name: str,
    profile: Profile,
    engine: Engine,
    expected: Expectation | None = None,
    place: NodePlace | None = None,
) -> RunDir:
    """Write a run directory that a supervisor can start from.

    Args:
        expected: how long earlier starts like this one took.
        place: of this machine, where it is one of a group. The group restarts as a whole, so it does not by itself.

    Raises:
        StateError: the state directory is not writable.
    """
    model_path = resolve_model(profile.model.id)
    command = build_command(
        profile,
        str(engine.executable),
        model_path if model_path != profile.model.id else None,
        engine.version,
        node_of(place),
    )
    behind = place is not None and place.rank > 0
    url = "" if behind else base_url(profile)
    watch = profile.supervise
    spec = LaunchSpec(
        argv=command.argv,
        env=command.env,
        cwd=_working_directory(),
        url=url,
        timing=Timing(
            ready_timeout_s=watch.ready_timeout_s,
            drain_timeout_s=watch.drain_timeout_s,
            stop_timeout_s=watch.stop_timeout_s,
            restart=watch.restart if place is None else RestartPolicy.NEVER,
            hang_timeout_s=watch.hang_timeout_s,
            canary_s=0.0 if behind else watch.canary_s,
            told_ready=behind,
        ),
        profile=profile,
        model=served_name(profile),
        place=place,
    )
    run = create_run(name)
    limit = profile.serve.max_model_len
    info = RunInfo(
        id=run.id,
        profile_name=name,
        profile_title=profile.profile.title,
        model=spec.model,
        url=spec.url,
        argv=redact_argv(command.argv),
        env=redact(command.env),
        engine_name=engine.name,
        engine_version=engine.version,
        created_s=time.time(),
        usd_per_hour=None if behind else profile.cost.usd_per_hour,
        max_num_seqs=profile.serve.max_num_seqs,
        max_model_len=limit if isinstance(limit, int) else None,
        ttft_target_s=profile.targets.ttft_s,
        tpot_target_s=profile.targets.tpot_s,
        expected=expected.phases if expected else (),
        expected_ready_s=expected.ready_s if expected else None,
        place=place,
    )
    try:
        if (pruned := pruned_event(prune_runs(read_configuration()))) is not None:
            run.append_event(pruned)
        run.write_launch(spec)
        run.write_info(info)
    except OSError as error:
        shutil.rmtree(run.path, ignore_errors=True)
        raise StateError(
            "Cannot write the run directory",
            f"{run.path}: {error.strerror}",
            "Free some disk space, or set XDG_STATE_HOME.",
        ) from error
    return run


def node_of(place: NodePlace | None) -> Node | None:
    """A machine of a group as its command names it."""
    if place is None:
        return None
    return Node(rank=place.rank, address=place.addresses[0], own_address=place.addresses[place.rank])


def _working_directory() -> str:
    """Where the server runs: here, as model paths may be relative, or at home if here was deleted."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return str(Path.home())


async def start_supervisor(run: RunDir) -> SocketSession:
    """Start a supervisor for a run, in a session of its own, and open a session with it.

    Cancelled meanwhile, or if it takes too long, it ends the supervisor again if that one was to start the server;
    one that was to take over a running server is left to do so.

    Raises:
        StateError: it did not come up; the message has the end of its log.
    """
    launching = run.read_info().server_pid is None
    child = _spawn(run)
    session = None
    try:
        session = await _reach(run, child)
    finally:
        if session is None and launching and child.poll() is None:
            child.terminate()  # it stops what it has started
        _release(child)
    if session is not None:
        return session
    tail = run.supervisor_log_path.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL_CHARS:].strip()
    raise StateError(
        "The supervisor did not come up", f"{run.supervisor_log_path}:\n{tail or '(empty)'}", "Report this defect."
    )


def _spawn(run: RunDir) -> subprocess.Popen[bytes]:
    try:
        with run.supervisor_log_path.open("ab") as log:
            os.fchmod(log.fileno(), 0o600)
            # -P keeps the working directory off the module path: it is the operator's, with any names in it.
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "console.supervisor", str(run.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise StateError(
            "Cannot start a supervisor",
            f"{error.filename or sys.executable}: {error.strerror}",
            "Check disk and memory.",
        ) from error


async def _reach(run: RunDir, child: subprocess.Popen[bytes]) -> SocketSession | None:
    """A session with the supervisor once it listens; `None` if it ended or did not come up in time."""
    deadline = time.monotonic() + SUPERVISOR_START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(NotRunningError):
            return await connect(run)
        # One that ends at once with 0 found another at work, which will answer in a moment.
        if child.poll() not in (None, 0):
            return None
        await asyncio.sleep(0.03)
    return None


def _release(child: subprocess.Popen[bytes]) -> None:
    """Let go of a child that is meant to outlive us, without the interpreter's warning about it."""
    if child.poll() is None:
        child.returncode = 0
