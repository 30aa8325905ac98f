"""What all proxies share: the servers behind one, and what has to be true of them."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from console.core.routing import ROUTINGS
from console.core.text import clean

__all__ = ["Balanced", "ProxyError", "ProxySpec", "comment", "plain_address"]


class ProxyError(ValueError):
    """These servers cannot stand behind this proxy. The message is for the operator."""


class Balanced(msgspec.Struct, frozen=True, kw_only=True):
    """One server behind a proxy."""

    name: str
    url: str
    """Without a path at its end, as `http://127.0.0.1:8000`."""
    model: str = ""
    """As clients name it; empty where it is not known."""


class Listen(NamedTuple):
    """Where a proxy listens."""

    host: str
    port: int


class ProxySpec(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy to write."""

    servers: tuple[Balanced, ...]
    listen: str
    """`address:port` of the proxy."""
    routing: str = ROUTINGS[0]

    @property
    def where(self) -> Listen:
        """`listen` in its parts. Raises ProxyError."""
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            raise ProxyError(f"--listen {self.listen}: an address and a port are allowed, as 127.0.0.1:8080")
        return Listen(host.strip("[]"), int(port))


def comment(text: str) -> str:
    """Text from outside on one line, with nothing in it that ends a comment."""
    return clean(text).replace("\n", " ").replace("\r", " ")


def plain_address(server: Balanced) -> str:
    """`host:port` of a server.

    Raises:
        ProxyError: it speaks TLS or has a path, and so stands behind a proxy of its own already.
    """
    parts = urlsplit(server.url)
    if parts.scheme != "http" or parts.path.strip("/"):
        raise ProxyError(
            f"{server.url}: only servers reached by http:// and without a path; this one stands behind a proxy already"
        )
    if not parts.hostname or any(not (c.isalnum() or c in "-._:[]%") for c in parts.netloc):
        raise ProxyError(f"{server.url}: no address that can be written down")
    return parts.netloc if parts.port is not None else f"{parts.netloc}:80"
