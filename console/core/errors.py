"""Every error the operator can meet, as title, message and fix, and the exit code that goes with it."""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "BlockedError",
    "ConflictError",
    "ConsoleError",
    "DownloadError",
    "EngineError",
    "ExitCode",
    "HardwareError",
    "NotReadyError",
    "NotRunningError",
    "ProfileError",
    "RemoteError",
    "ServerFailedError",
    "StateError",
    "UsageError",
]


class ExitCode(IntEnum):
    """Exit codes of every `dsv4-console` command."""

    OK = 0
    """Done as asked."""
    SERVER_FAILED = 1
    """The server did not start, crashed, or could not be stopped."""
    USAGE = 2
    """Unknown option, or a profile that is missing or broken."""
    ENVIRONMENT = 3
    """No engine or a wrong one, directory not writable, port taken in the start, failed download, host not reached."""
    NOT_READY = 4
    """The server was not ready in time."""
    NOT_RUNNING = 5
    """There is no such run, or no server is running."""
    BLOCKED = 6
    """A check before the launch says that it would fail, or that it would expose the server."""
    INTERNAL = 70
    """A defect in this program."""
    INTERRUPTED = 130
    """Ended by SIGINT before the work was done."""
    TERMINATED = 143
    """Ended by SIGTERM before the work was done."""


class ConsoleError(Exception):
    """An error that names what happened, where, and what to do.

    Args:
        title: what happened, in a few words without a full stop.
        message: where and with which figures; may have several lines.
        fix: what the operator can do about it.
    """

    exit_code = ExitCode.SERVER_FAILED

    def __init__(self, title: str, message: str = "", fix: str = "") -> None:
        super().__init__(title)
        self.title = title
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return "\n".join(part for part in (self.title, self.message, self.fix) if part)


class UsageError(ConsoleError):
    """The command line asks for something that is not there."""

    exit_code = ExitCode.USAGE


class ProfileError(ConsoleError):
    """A profile is missing, or has one or more mistakes, all of which are listed in the message."""

    exit_code = ExitCode.USAGE


class ConflictError(ProfileError):
    """A profile's file is not what it was when somebody began to edit it."""


class EngineError(ConsoleError):
    """vLLM is absent, has the wrong version, or could not be installed."""

    exit_code = ExitCode.ENVIRONMENT


class DownloadError(ConsoleError):
    """A model could not be downloaded."""

    exit_code = ExitCode.ENVIRONMENT


class HardwareError(ConsoleError):
    """A GPU, a driver, a port, memory or disk is not as the launch needs it."""

    exit_code = ExitCode.ENVIRONMENT


class StateError(ConsoleError):
    """The state, data or configuration directory cannot be used."""

    exit_code = ExitCode.ENVIRONMENT


class RemoteError(ConsoleError):
    """Another machine cannot be reached, or has not what is asked of it (see `console.core.sshfaults`).

    Args:
        title, message, fix: as of every error.
        cause: the `Cause` behind it, as a word.
    """

    exit_code = ExitCode.ENVIRONMENT

    def __init__(self, title: str, message: str = "", fix: str = "", cause: str = "") -> None:
        super().__init__(title, message, fix)
        self.cause = cause


class BlockedError(ConsoleError):
    """Preflight blocks the launch."""

    exit_code = ExitCode.BLOCKED


class NotReadyError(ConsoleError):
    """The server did not answer `/health` within its time."""

    exit_code = ExitCode.NOT_READY


class NotRunningError(ConsoleError):
    """No run has this name, or its supervisor does not answer."""

    exit_code = ExitCode.NOT_RUNNING


class ServerFailedError(ConsoleError):
    """The server failed to start or crashed."""
