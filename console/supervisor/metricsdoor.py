"""The supervisor's Prometheus endpoint: `GET /metrics` on 127.0.0.1, off unless a port is set.

A small HTTP/1.1 server of its own, since a scrape a few times a minute needs no more: one answer per connection, with
limits on connections, time and size, so that nothing on this machine can slow the supervisor down through it. A port
that is taken is said and costs the endpoint, never the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from console.io.exposition import CONTENT_TYPE

__all__ = ["HOST", "MetricsDoor"]

HOST: Final = "127.0.0.1"
CLIENTS_MAX: Final = 8
REQUEST_BYTES_MAX: Final = 8 * 1024
"""Of the first line with all headers."""
TIMEOUT_S: Final = 5.0
"""For a client to ask, and again to take the answer."""

PLAIN: Final = "text/plain; charset=utf-8"
HOME: Final = b"dsv4-console: metrics for Prometheus are at /metrics\n"


class MetricsDoor:
    """Answers scrapes.

    Args:
        text: makes the exposition; `None` before the first tick.
    """

    def __init__(self, text: Callable[[], bytes | None]) -> None:
        self._text = text
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int | None:
        """Where it listens; `None` while it does not."""
        return self._server.sockets[0].getsockname()[1] if self._server and self._server.sockets else None

    async def open(self, port: int, *, server_port: int) -> str:
        """Start to listen.

        Args:
            port: to listen on.
            server_port: of vLLM, which must stay free for it.

        Returns:
            Why it could not, in a sentence; empty if it listens.
        """
        if port == server_port:
            return f"no metrics endpoint: port {port} is the server's own; choose another supervise.metrics_port"
        try:
            self._server = await asyncio.start_server(self._accept, HOST, port, limit=REQUEST_BYTES_MAX)
        except OSError as error:
            return (
                f"no metrics endpoint: cannot listen on {HOST}:{port}: {error.strerror or error}; "
                "choose another supervise.metrics_port"
            )
        return ""

    async def close(self) -> None:
        """Stop to listen and cut all connections."""
        if self._server is None:
            return
        self._server.close()
        for task in tuple(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._clients) >= CLIENTS_MAX:
            writer.write(_answer(503, PLAIN, b"too many connections\n"))
            writer.close()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await self._read(reader)
            async with asyncio.timeout(TIMEOUT_S):
                writer.write(answer)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # it went away, or was too slow; it may come again
        finally:
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _answer(431, PLAIN, b"the request is too long\n")
        method, _, rest = request.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        target = rest.partition(" ")[0].partition("?")[0]
        if method not in {"GET", "HEAD"}:
            return _answer(405, PLAIN, b"only GET\n", "Allow: GET, HEAD")
        body, status, kind = HOME, 200, PLAIN
        if target == "/metrics":
            text = self._text()
            body, status, kind = (text, 200, CONTENT_TYPE) if text is not None else (b"not yet\n", 503, PLAIN)
        elif target != "/":
            body, status = b"not found; metrics are at /metrics\n", 404
        return _answer(status, kind, body, head=method == "HEAD")


REASONS: Final = {
    200: "OK",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


def _answer(status: int, kind: str, body: bytes, *more: str, head: bool = False) -> bytes:
    lines = (
        f"HTTP/1.1 {status} {REASONS[status]}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "X-Content-Type-Options: nosniff",
        *more,
    )
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + (b"" if head else body)
