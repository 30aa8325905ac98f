"""Tells a service manager how it goes: sd_notify(3), over the datagram socket that `NOTIFY_SOCKET` names."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

__all__ = ["Notifier"]

SEND_TIMEOUT_S: Final = 1.0
STATUS_CHARS_MAX: Final = 500


class Notifier:
    """Sends states. A manager that does not listen costs nothing but the message.

    Args:
        address: a path, or `@` and the name of an abstract socket.
        watchdog_s: half of the time after which the manager wants to have heard of us; `None` if it does not.
    """

    def __init__(self, address: str, watchdog_s: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls) -> Notifier | None:
        """As this process's environment says, or `None`. Takes it out of there: it is not meant for children."""
        address = os.environ.pop("NOTIFY_SOCKET", "")
        wanted_us = os.environ.pop("WATCHDOG_USEC", "")
        wanted_of = os.environ.pop("WATCHDOG_PID", "")
        if not address.startswith(("/", "@")):
            return None
        watchdog_s = None
        if wanted_us.isdecimal() and int(wanted_us) > 0 and wanted_of in ("", str(os.getpid())):
            watchdog_s = int(wanted_us) / 1e6 / 2
        return cls(address, watchdog_s)

    def send(self, **fields: str | int) -> None:
        """Send assignments, for example `READY=1`."""
        text = "\n".join(f"{name}={_one_line(str(value))}" for name, value in fields.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.settimeout(SEND_TIMEOUT_S)
            channel.sendto(text.encode("utf-8", "replace"), self._address)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:STATUS_CHARS_MAX]
