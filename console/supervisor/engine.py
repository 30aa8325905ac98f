"""The server's process as the supervisor holds it: started here, or taken over from a supervisor that was lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from console.io import process
from console.io.runs import LaunchSpec

__all__ = ["EngineProcess", "server_environment"]

WATCH_PERIOD_S = 0.25
"""How often an exit is looked for where the kernel cannot announce it."""


def server_environment(spec: LaunchSpec) -> dict[str, str]:
    """The operator's environment, without the console's own virtual environment, plus what the launch adds.

    The engine's `bin` comes first on PATH: vLLM starts tools such as ninja by name.
    """
    env = {key: value for key, value in os.environ.items() if key not in {"VIRTUAL_ENV", "PYTHONHOME"}}
    env["PATH"] = os.pathsep.join([str(Path(spec.argv[0]).parent), env.get("PATH", os.defpath)])
    env.update(spec.env)
    return env


class EngineProcess:
    """One server process and its session. `on_exit` is called once with its exit code (`None`: not known)."""

    def __init__(self, pid: int, start_s: float | None, child: subprocess.Popen[bytes] | None) -> None:
        self.pid = pid
        self.start_s = start_s
        self._child = child
        self._watcher: asyncio.Task[None] | None = None

    @classmethod
    def spawn(cls, spec: LaunchSpec, log_path: Path) -> EngineProcess:
        """Start the server.

        Raises:
            OSError: it cannot be executed.
        """
        child = process.spawn_server(spec.argv, server_environment(spec), log_path, Path(spec.cwd))
        return cls(child.pid, process.process_start_s(child.pid), child)

    @classmethod
    def adopt(cls, pid: int, start_s: float) -> EngineProcess:
        """Take over a running server."""
        return cls(pid, start_s, None)

    def watch(self, on_exit: Callable[[int | None], None]) -> None:
        """Call `on_exit` when the process has ended."""
        self._watcher = asyncio.create_task(self._watch(on_exit))

    async def _watch(self, on_exit: Callable[[int | None], None]) -> None:
        try:
            handle = os.pidfd_open(self.pid)
        except (OSError, AttributeError):
            while self._runs():
                await asyncio.sleep(WATCH_PERIOD_S)
        else:
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(handle, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(handle)
                os.close(handle)
        on_exit(self._child.wait() if self._child is not None else None)

    def _runs(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return process.is_same_process(self.pid, self.start_s)

    def terminate(self) -> None:
        """SIGTERM to the first process; vLLM passes it on itself."""
        if self._runs():
            process.send_signal(self.pid, signal.SIGTERM)

    def kill_session(self) -> None:
        """SIGKILL to every process of the session."""
        process.kill_session(self.pid)

    def leftovers(self) -> tuple[int, ...]:
        """Processes of the session that are still there, after collecting those that ended."""
        process.reap_session(self.pid)
        return process.session_members(self.pid)

    async def close(self) -> None:
        """Stop watching; the process goes on."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
