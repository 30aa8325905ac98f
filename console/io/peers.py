"""Other machines over TCP: whether one answers, and which hold a connection to a port of this one."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from pathlib import Path

from console.core.peers import Reach

__all__ = ["REACH_TIMEOUT_S", "connected_to", "own_address", "reach", "resolved"]

REACH_TIMEOUT_S = 3.0
_ESTABLISHED = "01"
"""Of `st` in /proc/net/tcp (the kernel's include/net/tcp_states.h)."""


async def reach(address: str, port: int, timeout_s: float = REACH_TIMEOUT_S) -> Reach:
    """Try a TCP connection, and close it again without a word."""
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return Reach.REFUSED
    except (OSError, TimeoutError):
        return Reach.SILENT
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return Reach.OPEN


def connected_to(port: int) -> frozenset[str] | None:
    """Addresses of those who hold a connection to this TCP port here; `None` where that cannot be seen."""
    found: set[str] = set()
    seen = False
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/self/net/{name}").read_text(encoding="ascii").splitlines()[1:]
            seen = True
            for line in lines:
                _, local, remote, state, *_ = line.split()
                if state == _ESTABLISHED and int(local.rpartition(":")[2], 16) == port:
                    found.add(_address(remote.rpartition(":")[0]))
    return frozenset(found) if seen else None


def _address(text: str) -> str:
    """`0100007F` to `127.0.0.1`: 32-bit words in the byte order of the machine, which is little-endian wherever vLLM
    runs."""
    words = bytes.fromhex(text)
    packed = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    found = ipaddress.ip_address(packed)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def resolved(host: str) -> str:
    """The first address of a host; itself if there is none."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return host


def own_address(other: str) -> str:
    """The address from which this machine reaches another one; empty if there is no way there. Nothing is sent."""
    try:
        family = socket.getaddrinfo(other, 9, type=socket.SOCK_DGRAM)[0][0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((other, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""
