"""Two machines in one: here a console with directories of its own, there a world behind a real `sshd`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.e2e.world import World
from tests.sshd import HOST, Sshd

__all__ = ["HOST", "RemoteWorld"]


class RemoteWorld:
    """A world with an `sshd` in front of it.

    Args:
        here: for the files of this side and of the server; short, as sockets have a path.
        there: the other machine.
    """

    def __init__(self, here: Path, there: World) -> None:
        self.there = there
        self.here = here
        self.bin = here / "bin"
        self.bin.mkdir(parents=True)
        self.command = self.bin / "dsv4-console"
        self.install(f'exec "{sys.executable}" -P -m console "$@"')
        path = there.env["PATH"]
        self.sshd = Sshd(here / "sshd", {**there.env, "PATH": f"{self.bin}:{path}", "HOME": str(there.home)})
        self.env = {
            **there.env,
            **{f"XDG_{kind}_HOME": str(here / kind.lower()) for kind in ("CONFIG", "STATE", "DATA", "CACHE")},
        }

    def install(self, body: str) -> None:
        """What `dsv4-console` is there."""
        self.command.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        self.command.chmod(0o755)

    @property
    def options(self) -> tuple[str, ...]:
        """By which a command here means the other machine."""
        return "--host", HOST, "--ssh-config", str(self.sshd.config)

    def close(self) -> None:
        """End it all."""
        self.sshd.stop()
        self.there.close()
