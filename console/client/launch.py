"""Starting a run: a directory, what to do in it, and a supervisor that is left to itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path

from console.client.session import SocketSession, connect
from console.core.command import build_command, redact_argv, redact_env, served_name
from console.core.errors import HardwareError, NotRunningError, StateError
from console.core.lifecycle import Timing
from console.core.models import RunInfo
from console.core.profile import Profile
from console.io.engines import Engine
from console.io.process import listener_of
from console.io.runs import LaunchSpec, RunDir, create_run
from console.io.tinymodel import resolve_model

__all__ = ["base_url", "check_port", "prepare_run", "start_supervisor"]

SUPERVISOR_START_TIMEOUT_S = 20.0


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
            holder = listener_of(port)
            who = f"{holder[1]} (pid {holder[0]}) listens there" if holder else (error.strerror or str(error))
            raise HardwareError(
                f"Port {port} is taken" if holder else f"Cannot listen on {host}:{port}",
                f"{host}:{port}: {who}",
                "Stop it, or choose another port: --set serve.port=8001",
            ) from error


def prepare_run(name: str, profile: Profile, engine: Engine) -> RunDir:
    """Write a run directory that a supervisor can start from.

    Raises:
        StateError: the state directory is not writable.
    """
    model_path = resolve_model(profile.model.id)
    command = build_command(
        profile,
        str(engine.executable),
        model_path if model_path != profile.model.id else None,
        engine.version,
    )
    watch = profile.supervise
    spec = LaunchSpec(
        argv=command.argv,
        env=command.env,
        cwd=str(Path.cwd()),
        url=base_url(profile),
        timing=Timing(
            ready_timeout_s=watch.ready_timeout_s,
            drain_timeout_s=watch.drain_timeout_s,
            stop_timeout_s=watch.stop_timeout_s,
            restart=watch.restart,
        ),
        profile=profile,
        model=served_name(profile),
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
        env=redact_env(command.env),
        engine_name=engine.name,
        engine_version=engine.version,
        created_s=time.time(),
        usd_per_hour=profile.cost.usd_per_hour,
        max_num_seqs=profile.serve.max_num_seqs,
        max_model_len=limit if isinstance(limit, int) else None,
    )
    try:
        run.write_launch(spec)
        run.write_info(info)
    except OSError as error:
        raise StateError(
            "Cannot write the run directory",
            f"{run.path}: {error.strerror}",
            "Free some disk space, or set XDG_STATE_HOME.",
        ) from error
    return run


async def start_supervisor(run: RunDir) -> SocketSession:
    """Start a supervisor for a run, in a session of its own, and open a session with it.

    Raises:
        StateError: it did not come up; the message has the end of its log.
    """
    with run.supervisor_log_path.open("ab") as log:
        # -P keeps the working directory off the module path: it is the operator's, with any names in it.
        child = subprocess.Popen(  # noqa: ASYNC220 - it starts in a few milliseconds and must not be our child's child
            [sys.executable, "-P", "-m", "console.supervisor", str(run.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + SUPERVISOR_START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(NotRunningError):
            session = await connect(run)
            _release(child)
            return session
        # One that ends at once with 0 found another at work, which will answer in a moment.
        if child.poll() not in (None, 0):
            break
        await asyncio.sleep(0.03)
    else:
        child.kill()
    tail = run.supervisor_log_path.read_text(encoding="utf-8", errors="replace")[-2_000:].strip()
    raise StateError(
        "The supervisor did not come up", f"{run.supervisor_log_path}:\n{tail or '(empty)'}", "Report this defect."
    )


def _release(child: subprocess.Popen[bytes]) -> None:
    """Let go of a child that is meant to outlive us, without the interpreter's warning about it."""
    if child.poll() is None:
        child.returncode = 0
