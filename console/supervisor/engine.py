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


NOTED_EXIT_CHECKS = 10
NOTED_EXIT_PERIOD_S = 0.1
"""The guardian notes an exit within milliseconds; after a second it is not going to."""


class EngineProcess:
    """One server process and its session. `on_exit` is called once with its exit code (`None`: not known)."""

    def __init__(
        self,
        pid: int,
        start_s: float | None,
        child: subprocess.Popen[bytes] | None,
        exit_code: Callable[[int], int | None] | None = None,
    ) -> None:
        self.pid = pid
        self.start_s = start_s
        self._child = child
        self._exit_code = exit_code
        self._foreign = False
        """Nothing is left of the server, and the pid may belong to somebody else."""
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
    def adopt(
        cls, pid: int, start_s: float | None, log_path: Path, exit_code: Callable[[int], int | None]
    ) -> EngineProcess:
        """Take over a server that runs, or what is left of one.

        Args:
            pid: leader of its session, which may be dead.
            start_s: the leader's start time since boot.
            log_path: where it writes.
            exit_code: tells how a process ended that another one collected; `None` while that is not known.
        """
        adopted = cls(pid, start_s, None, exit_code)
        adopted._foreign = not process.owned_session(pid, start_s, log_path)
        return adopted

    def watch(self, on_exit: Callable[[int | None], None]) -> None:
        """Call `on_exit` when the process has ended."""
        self._watcher = asyncio.create_task(self._watch(on_exit))

    async def _watch(self, on_exit: Callable[[int | None], None]) -> None:
        await self._ended()
        on_exit(self._child.wait() if self._child is not None else await self._noted_exit())

    async def _ended(self) -> None:
        try:
            handle = os.pidfd_open(self.pid)
        except (OSError, AttributeError):
            while self._runs():
                await asyncio.sleep(WATCH_PERIOD_S)
            return
        if self._child is None and not self._runs():
            os.close(handle)  # the pid belongs to another process by now
        else:
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(handle, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(handle)
                os.close(handle)

    async def _noted_exit(self) -> int | None:
        """How an adopted server ended, once its guardian has noted it."""
        for _ in range(NOTED_EXIT_CHECKS):
            if self._exit_code is None or (code := self._exit_code(self.pid)) is not None:
                return code if self._exit_code is not None else None
            await asyncio.sleep(NOTED_EXIT_PERIOD_S)
        return None

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
        if not self._foreign:
            process.kill_session(self.pid)

    def leftovers(self) -> tuple[int, ...]:
        """Processes of the session that are still there, after collecting those that ended."""
        if self._foreign:
            return ()
        process.reap_session(self.pid)
        return process.session_members(self.pid)

    async def close(self) -> None:
        """Stop watching; the process goes on."""
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
