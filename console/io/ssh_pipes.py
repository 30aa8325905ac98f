"""What a connection by OpenSSH is made of on this side: pipes, what `ssh` says on stderr, and a private directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Final

from console.core.errors import RemoteError
from console.io.process import process_start_s

__all__ = ["END_TIMEOUT_S", "Conversation", "Said", "pipe_of", "private_directory"]

END_TIMEOUT_S: Final = 2.0
"""For the end of a process that was told to end."""
SOCKET_PATH_BYTES_MAX: Final = 60
"""Of the directory: a Unix address has 108 bytes at most, and `ssh` adds 17 to a name while it makes one."""
SHORT_DIRECTORY: Final = "/tmp"  # noqa: S108 - only for a new directory with a random name and mode 0700
SAID_BYTES_MAX: Final = 64 * 1024
_PREFIX: Final = "dsv4-ssh-"


class Conversation:
    """A command there with its stdin and stdout as one socket here. Ends with `close`."""

    def __init__(self, process: subprocess.Popen[bytes], sock: socket.socket) -> None:
        self._process = process
        self.socket = sock
        self._said = Said(pipe_of(process.stderr), aloud=False)

    def ended(self) -> tuple[int | None, str]:
        """Exit status, if it has one, and what it said on stderr. Waits a moment for both."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_TIMEOUT_S)
        return self._process.poll(), self._said.text()

    def close(self) -> None:
        """Hang up."""
        self.socket.close()
        self._process.terminate()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Said:
    """What a master writes on stderr: kept, and shown for as long as the terminal is the operator's."""

    def __init__(self, stream: IO[bytes], *, aloud: bool) -> None:
        self._stream = stream
        self._aloud = aloud
        self._kept = b""
        self._thread = threading.Thread(target=self._read, name="ssh-stderr", daemon=True)
        self._thread.start()

    def quiet(self) -> None:
        """Only keep it from now on."""
        self._aloud = False

    def text(self, *, wait: bool = False) -> str:
        """All of it; with `wait` once the process has ended."""
        if wait:
            self._thread.join(END_TIMEOUT_S)
        return self._kept.decode(errors="replace")

    def _read(self) -> None:
        with self._stream as stream, contextlib.suppress(OSError, ValueError):
            while data := os.read(stream.fileno(), 4096):
                self._kept = (self._kept + data)[-SAID_BYTES_MAX:]
                if self._aloud:
                    sys.stderr.write(data.decode(errors="replace"))
                    sys.stderr.flush()


def pipe_of(stream: IO[bytes] | None) -> IO[bytes]:
    """A stream that was asked for as a pipe."""
    if stream is None:
        raise ValueError("not a pipe")
    return stream


def private_directory() -> Path:
    """A new directory that this user alone can enter, with a short path."""
    candidates = (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), SHORT_DIRECTORY)
    usable = (each for each in candidates if each and len(each) < SOCKET_PATH_BYTES_MAX and os.access(each, os.W_OK))
    root = Path(next(usable, SHORT_DIRECTORY))
    _remove_left(root)
    try:
        return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=root))
    except OSError as error:
        raise RemoteError(
            "Cannot make a directory for the connection", f"{root}: {error.strerror}", "Make it writable."
        ) from error


def _remove_left(root: Path) -> None:
    """What killed consoles left: directories of this user whose process is gone."""
    with contextlib.suppress(OSError):
        for path in root.glob(f"{_PREFIX}*"):
            pid = path.name.removeprefix(_PREFIX).partition("-")[0]
            if pid.isdigit() and path.stat().st_uid == os.getuid() and process_start_s(int(pid)) is None:
                shutil.rmtree(path, ignore_errors=True)
